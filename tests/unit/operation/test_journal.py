# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The journal: what it says after a power cut, and what it refuses to guess."""

from __future__ import annotations

import errno
import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import journal as journals
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.journal import (
    BALLAST,
    Journal,
    parse,
    take_ballast,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    COMMITTED,
    DONE,
    PLANNED,
    ROLLED_BACK,
    RUNNING,
    SCHEMA_VERSION,
    Progress,
    Record,
    fold,
)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    ticks = itertools.count(100)
    return Journal(str(tmp_path / "journal.jsonl"), clock=lambda: float(next(ticks)))


def raw_of(journal: Journal) -> bytes:
    return Path(journal.path).read_bytes()


def test_an_absent_journal_says_nothing(journal: Journal) -> None:
    assert journal.records() == []
    assert journal.history().state == PLANNED


def test_every_line_is_one_json_object_with_the_schema(journal: Journal) -> None:
    journal.state(RUNNING)
    journal.intent("stop")
    journal.evidence("stop", {"at": "ü\n"})
    lines = raw_of(journal).splitlines()
    assert [json.loads(line)["what"] for line in lines] == ["state", "intent", "evidence"]
    assert {json.loads(line)["schema_version"] for line in lines} == {SCHEMA_VERSION}
    assert [record.at for record in journal.records()] == [100, 101, 102]


def test_only_root_reads_it(journal: Journal) -> None:
    journal.state(RUNNING)
    assert os.stat(journal.path).st_mode & 0o777 == 0o600


def test_what_was_written_is_folded(journal: Journal) -> None:
    journal.state(RUNNING)
    journal.intent("copy")
    journal.progress("prepare", "copy", 5, 5)
    journal.evidence("copy", {"n": 1})
    journal.intent("prove")
    history = journal.history(frozenset({"prove"}))
    assert (history.state, history.proved, history.intents) == (RUNNING, False, ("copy", "prove"))
    assert history.evidence == {"copy": {"n": 1}}
    assert history.progress == Progress("prepare", "copy", 5, 5)
    assert history.current_step == "prove"
    assert (history.started_at, history.changed_at) == (100.0, 104.0)
    journal.evidence("prove", {})
    history = journal.history(frozenset({"prove"}))
    assert history.proved
    assert history.current_step == "prove"


@pytest.mark.parametrize("state", [DONE, COMMITTED, ROLLED_BACK])
def test_an_end_ends_the_undoing(state: str) -> None:
    records = [Record("undoing", 1.0, data={"reason": "why"}), Record("state", 2.0, data={"state": state})]
    history = fold(records)
    assert (history.undoing, history.failure, history.state) == (False, "why", state)


def test_a_refused_undo_is_no_undoing_any_more() -> None:
    history = fold([Record("undoing", 1.0, data={"reason": "a"}), Record("undo-refused", 2.0, data={"reason": "b"})])
    assert (history.undoing, history.failure) == (False, "b")


def test_of_two_evidences_the_later_counts() -> None:
    history = fold([Record("evidence", 1.0, "a", {"n": 1}), Record("evidence", 2.0, "b"),
                    Record("evidence", 3.0, "a", {"n": 2})])  # fmt: skip
    assert list(history.evidence) == ["b", "a"]
    assert history.evidence["a"] == {"n": 2}


def copy(path: str, role: str = "original") -> dict[str, Any]:
    return {"role": role, "service": "db", "path": path, "moment": "2026-01-01T00:00:00Z"}


def test_copies_are_those_of_the_evidence_that_are_still_there() -> None:
    records = [
        Record("evidence", 1.0, "backup", {"copies": [copy("/b", "backup")]}),
        Record("evidence", 2.0, "keep", {"copies": [copy("/k"), copy("/gone")]}),
        Record("evidence", 3.0, "other", {"copies": [copy("/undone")]}),
        Record("undone", 4.0, "backup"),
        Record("undone", 5.0, "other"),
        Record("removed", 6.0, data={"path": "/gone"}),
    ]
    assert [each.path for each in fold(records).copies()] == ["/b", "/k"], "a backup outlives the undoing"


def test_a_step_that_was_undone_and_made_again_has_its_copies_again() -> None:
    made = Record("evidence", 1.0, "keep", {"copies": [copy("/k")]})
    assert fold([made, Record("undone", 2.0, "keep")]).copies() == []
    assert [each.path for each in fold([made, Record("undone", 2.0, "keep"), made]).copies()] == ["/k"]


# -- torn and damaged ----------------------------------------------------------


@pytest.fixture
def three(journal: Journal) -> Journal:
    journal.state(RUNNING)
    journal.intent("stop")
    journal.evidence("stop", {"text": "ü" * 10})
    return journal


def test_a_line_torn_anywhere_is_as_if_it_had_never_been_written(three: Journal) -> None:
    whole = raw_of(three)
    before = whole[: whole[:-1].rindex(b"\n") + 1]
    for cut in range(len(before), len(whole)):
        records = parse(whole[:cut])
        assert [record.what for record in records] == ["state", "intent"], cut


def test_a_line_that_lacks_only_its_end_is_torn_too(three: Journal) -> None:
    """The next record is written over it, so nothing may be concluded from it."""
    Path(three.path).write_bytes(raw_of(three)[:-1])
    assert [record.what for record in three.records()] == ["state", "intent"]
    three.failure("stop", "why")
    assert [record.what for record in three.records()] == ["state", "intent", "failure"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(min_value=1, max_value=60), rubbish=st.sampled_from([b"", b"\0\0\0\0", b"\xff\xfe", b'{"what"']))
def test_after_a_torn_line_the_journal_goes_on(tmp_path: Path, cut: int, rubbish: bytes) -> None:
    journal = Journal(str(tmp_path / "j"))
    Path(journal.path).write_bytes(b"")
    journal.state(RUNNING)
    kept = raw_of(journal)
    journal.intent("stop" * 20)
    Path(journal.path).write_bytes(kept + raw_of(journal)[len(kept) :][:cut] + rubbish)
    journal.intent("again")
    assert [record.what for record in journal.records()] == ["state", "intent"]
    assert journal.history().intents == ("again",)


def test_a_journal_that_is_all_torn_begins_anew(journal: Journal) -> None:
    Path(journal.path).write_bytes(b'{"what": "sta')
    journal.state(RUNNING)
    assert journal.history().state == RUNNING


@pytest.mark.parametrize("rubbish", [b"{", b"\0\0\0\0", b"\xff"])
def test_a_damaged_line_in_the_middle_is_refused(three: Journal, rubbish: bytes) -> None:
    lines = raw_of(three).splitlines(keepends=True)
    Path(three.path).write_bytes(lines[0] + rubbish + b"\n" + lines[2])
    with pytest.raises(StatefulError, match="line 2 of the journal is damaged") as caught:
        three.records()
    assert three.path in caught.value.msg
    assert not caught.value.safe_to_rerun


def test_a_newer_schema_is_refused(three: Journal) -> None:
    newer = json.dumps({"schema_version": SCHEMA_VERSION + 1, "what": "state", "at": 1.0}).encode()
    Path(three.path).write_bytes(raw_of(three) + newer + b"\n")
    with pytest.raises(StatefulError, match="newer version"):
        three.records()


# -- what is on disk when ------------------------------------------------------


def test_a_deed_comes_after_its_intent_is_on_disk(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr(journals.os, "fsync", lambda handle: synced.append(raw_of(journal)))

    def durable(write: Any, *arguments: Any, **more: Any) -> bool:
        synced.clear()
        write(*arguments, **more)
        return bool(synced) and synced[-1] == raw_of(journal)

    assert durable(journal.state, RUNNING)
    assert durable(journal.intent, "stop")
    assert not durable(journal.evidence, "stop", {})
    assert durable(journal.evidence, "prove", {}, durable=True)
    assert durable(journal.failure, "stop", "why")
    assert durable(journal.undoing, "why")
    assert durable(journal.undo_refused, "why")
    assert durable(journal.undone, "stop", {})
    assert durable(journal.removed, "/path")
    assert not durable(journal.progress, "prepare", "copy", 1, 1)


def test_progress_is_written_once_a_second_and_at_the_end(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(journals.time, "monotonic", lambda: now)
    for done in range(1, 100):
        now += journals.PROGRESS_INTERVAL / 10
        journal.progress("prepare", "copy", done, 100)
    journal.progress("prepare", "copy", 100, 100)
    seen = [record.data["done_bytes"] for record in journal.records()]
    assert seen == [1, 11, 21, 31, 41, 51, 61, 71, 81, 91, 100]


# -- a full file system --------------------------------------------------------


@pytest.fixture
def full(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Journal:
    """Return a journal that has begun on a file system that is full now, but for the ballast."""
    directory = os.path.dirname(journal.path)
    journal.state(RUNNING)
    take_ballast(directory)
    write = os.write

    def refused(handle: int, line: bytes) -> int:
        if os.path.exists(os.path.join(directory, BALLAST)):
            write(handle, line[:5])  # torn, as it comes in the real world
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, line)

    monkeypatch.setattr(journals.os, "write", refused)
    return journal


def test_the_way_back_is_noted_on_a_full_file_system(full: Journal) -> None:
    full.failure("settle", "No space left on device")
    full.undoing("No space left on device")
    assert [record.what for record in full.records()] == ["state", "failure", "undoing"]


def test_progress_leaves_the_ballast_to_the_way_back(full: Journal) -> None:
    full.progress("prepare", "copy", 1, 1)
    assert os.path.exists(os.path.join(os.path.dirname(full.path), BALLAST))
    full.failure("copy", "why")
    assert [record.what for record in full.records()] == ["state", "failure"]


def test_without_ballast_it_is_an_error(full: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "drop_ballast", lambda directory: False)
    with pytest.raises(OSError, match="No space left"):
        full.intent("stop")


@pytest.mark.parametrize("state, held", [(RUNNING, True), (DONE, False), (ROLLED_BACK, False)])
def test_the_ballast_goes_with_the_end(journal: Journal, state: str, held: bool) -> None:
    take_ballast(os.path.dirname(journal.path))
    journal.state(state)
    assert os.path.exists(os.path.join(os.path.dirname(journal.path), BALLAST)) is held
