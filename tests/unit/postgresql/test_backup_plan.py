# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import staging
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup import live, record, run
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup.files import copy_files
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup.live import Look, Tables
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup.model import (
    SCRATCH_BYTES,
    Facts,
    Place,
    Record,
    Wanted,
    changes_since,
    closed_databases,
    not_dumped_in_words,
    plan_backup,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.model import (
    Database,
    Fingerprint,
    Sequence,
    Table,
)

FACTS = Facts((), (), size_bytes=1000, database_bytes=800)
ROOM = Place("/backups", free_bytes=1 << 40)
RECORD = Record(
    format="physical",
    moment="2026-01-01T00:00:00.000+00:00",
    server_version="17.2",
    server_version_num=170002,
    major="17",
    system_identifier="1",
    superuser="postgres",
    image="postgres:17",
    image_id="sha256:1",
    source="db",
    bytes=10,
    files=2,
    tablespaces=({"oid": 1, "name": "fast", "location": "/fast"},),
    prove="verify",
    proof="read",
    evidence={"manifest_sha256": "abc"},
)


@pytest.mark.parametrize(
    "wanted, physical, logical, chosen, blocked",
    [
        ("auto", (), (), "physical", ""),
        ("auto", ("no manifest",), (), "logical", ""),
        ("auto", ("no manifest",), ("no driver",), "logical", "no driver"),
        ("physical", ("no manifest",), (), "physical", "no manifest. Set format: auto"),
        ("logical", (), ("no driver",), "logical", "no driver. Set format: auto"),
    ],
)
def test_the_format(
    wanted: str, physical: tuple[str, ...], logical: tuple[str, ...], chosen: str, blocked: str
) -> None:
    facts = replace(FACTS, against_physical=physical, against_logical=logical)
    plan = plan_backup(Wanted("/backups/b", wanted), facts, ROOM, None, "db")
    assert plan.format == chosen
    assert [blocked in blocker.text for blocker in plan.blockers] == [True] * bool(blocked)


@pytest.mark.parametrize(
    "wanted, prove, needed",
    [
        ("physical", "verify", 1000),
        ("physical", "restore", 2000 + SCRATCH_BYTES),
        ("logical", "verify", 800),
        ("logical", "restore", 1800 + SCRATCH_BYTES),
    ],
)
def test_the_room(wanted: str, prove: str, needed: int) -> None:
    asked = Wanted("/backups/b", wanted, prove)
    fits = plan_backup(asked, FACTS, Place("/backups", needed - 5, reclaimed=5), None, "db")
    assert (fits.needed_bytes, fits.blockers) == (needed, ())
    (blocker,) = plan_backup(asked, FACTS, Place("/backups", needed - 5, reclaimed=4), None, "db").blockers
    assert "1 bytes are missing" in blocker.text
    assert blocker.command == "df -h /backups"


def test_where_nothing_can_be_written() -> None:
    (blocker,) = plan_backup(Wanted("/b"), FACTS, replace(ROOM, read_only=True), None, "db").blockers
    assert "read-only" in blocker.text


def test_unlogged_tables_are_told_of_files_alone() -> None:
    facts = replace(FACTS, unlogged_tables=2)
    assert "2 unlogged tables" in plan_backup(Wanted("/b"), facts, ROOM, None, "db").warnings[0]
    assert plan_backup(Wanted("/b", "logical"), facts, ROOM, None, "db").warnings == ()


def test_closed_databases_are_told_of_a_dump_alone() -> None:
    facts = replace(FACTS, closed=closed_databases(("template0", "archive")))
    assert plan_backup(Wanted("/b"), facts, ROOM, None, "db").warnings == ()
    (warning,) = plan_backup(Wanted("/b", "logical"), facts, ROOM, None, "db").warnings
    assert warning.startswith("archive will not be in a logical backup")
    assert not_dumped_in_words({"not_dumped": ["template0"]}) == not_dumped_in_words({}) == ""
    assert "not in it: archive" in not_dumped_in_words({"not_dumped": ["template0", "archive"]})


@pytest.mark.parametrize(
    "prove, proved, action",
    [("verify", "verify", "nothing"), ("verify", "restore", "nothing"), ("restore", "restore", "nothing"),
     ("restore", "verify", "prove")],
)  # fmt: skip
def test_a_second_run(prove: str, proved: str, action: str) -> None:
    plan = plan_backup(Wanted("/b", prove=prove), FACTS, ROOM, replace(RECORD, prove=proved), "db")
    assert plan.action == action


def test_the_record_is_read_back_and_is_no_part_of_the_backup(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one").write_text("12345")
    record.write(str(tmp_path), RECORD)
    assert record.read(str(tmp_path)) == RECORD
    assert RECORD.id == "abc"
    assert record.measure(str(tmp_path)) == (1, 5)
    assert changes_since(RECORD, files=1, size=5) == ["it has 1 files and had 2", "its files hold 5 bytes and held 10"]
    assert changes_since(RECORD, files=2, size=10) == []


@pytest.mark.parametrize("content", ["", "{}", "[]", json.dumps({"schema_version": 99})])
def test_a_directory_that_is_no_backup_of_ours(tmp_path: Path, content: str) -> None:
    with pytest.raises(InvalidInput, match=r"no finished backup|no directory"):
        record.read(str(tmp_path))
    (tmp_path / "backup.json").write_text(content)
    with pytest.raises(InvalidInput, match="cannot be understood"):
        record.read(str(tmp_path))


# -- the live server, before and after -------------------------------------------

STILL = "700:700:"


def tables(**relations: dict[int, str]) -> Tables:
    databases = {int(key[1:]): found for key, found in relations.items()}
    return Tables(dict.fromkeys(databases, "app"), databases, frozenset({("app", "public.u")}))


def content(**rows: int) -> Fingerprint:
    tables = {f"public.{name}": Table(number, exact=True) for name, number in rows.items()}
    return Fingerprint(170002, "then", databases={"app": Database(tables=tables)})


@pytest.mark.parametrize(
    "before, after, still",
    [(STILL, STILL, True), (STILL, "700:701:", False), ("699:700:699", "699:700:699", False),
     (STILL, "701:701:", False)],
)  # fmt: skip
def test_whether_anything_was_written(before: str, after: str, still: bool) -> None:
    assert live.is_still(before, after) is still


def test_a_server_that_stood_still_has_to_come_back_row_by_row() -> None:
    before = Look(content(t=5, u=9), tables(d1={1: "public.t"}), STILL)
    same = live.judge(before, before.tables, STILL, before.tables, content(t=5, u=0))
    assert (same.still, same.lost, same.moved) == (True, (), ())
    assert "nothing that the live server had is missing" in live.in_words(same, content(t=5))
    less = live.judge(before, before.tables, STILL, before.tables, content(t=4, u=0))
    assert less.lost == ("app: public.t has 4 rows, 5 before",)


def test_the_sequence_of_an_unlogged_table_begins_anew_in_a_copy() -> None:
    class Session:
        """Has one database with an unlogged table and its sequence, and a sequence that is logged."""

        def rows(self, query: str) -> list[tuple[Any, ...]]:
            if "pg_database" in query:
                return [(1, "app")]
            found = [(2, "public", "u", True, "r"), (3, "public", "u_seq", True, "S"), (4, "public", "s", False, "S")]
            return found if "c.relkind::text" in query else [row[:-1] for row in found]

        def sibling(self, _name: str) -> Session:
            return self

        def __enter__(self) -> Session:
            return self

        def __exit__(self, *_error: object) -> None:
            return None

    def with_sequences(last_value: int) -> Fingerprint:
        sequences = {name: Sequence(last_value, True) for name in ("public.u_seq", "public.s")}
        return Fingerprint(170002, "then", databases={"app": Database(sequences=sequences)})

    there = live.tables_of(Session())  # type: ignore[arg-type]
    judged = live.judge(Look(with_sequences(100), there, STILL), there, STILL, there, with_sequences(1))
    assert judged.lost == ("app: sequence public.s is set back: next is 2, 101 before",)


def test_a_server_that_was_written_to_may_differ_but_lacks_no_table_that_was_there_all_the_time() -> None:
    before = Look(content(t=5), tables(d1={1: "public.t", 2: "public.gone", 3: "public.anew"}), STILL)
    after = tables(d1={1: "public.t", 4: "public.anew"})
    moved = live.judge(before, after, "700:702:", tables(d1={1: "public.t"}), content(t=4))
    assert (moved.still, moved.lost) == (False, ())
    assert moved.moved == ("app: public.t has 4 rows, 5 before",)
    assert "1 differences" in live.in_words(moved, content(t=4))
    lacking = live.judge(before, after, "700:702:", tables(d1={}), content())
    assert lacking.lost == ("app: public.t is missing",)


def test_a_database_that_was_made_anew_is_another_one() -> None:
    before = Look(content(t=5), tables(d1={1: "public.t"}), STILL)
    assert live.judge(before, tables(d2={1: "public.t"}), "700:702:", tables(), content()).lost == ()
    assert live.judge(before, tables(d1={}), "700:702:", tables(), content()).lost == ("the database app is missing",)


def test_files_are_copied_with_modes_and_links_and_without_what_is_left(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "base" / "1").mkdir(parents=True)
    (source / "base" / "1" / "t").write_bytes(b"x" * 10000)
    (source / "base" / "1" / "t").chmod(0o640)
    (source / "link").symlink_to("/nowhere/at all")
    (source / "PG_VERSION").write_text("17\n")
    target.mkdir()
    status = source.stat()
    copy_files(str(source), str(target), (status.st_uid, status.st_gid), leave=("PG_VERSION",))
    assert (target / "base" / "1" / "t").read_bytes() == b"x" * 10000
    assert (target / "base" / "1" / "t").stat().st_mode & 0o777 == 0o640
    assert (target / "link").readlink() == Path("/nowhere/at all")
    assert not (target / "PG_VERSION").exists()


def test_a_partial_backup_with_another_date_is_told(tmp_path: Path) -> None:
    for name, ours in (("monday.partial", True), ("tuesday.partial", True), ("other.partial", False), ("done", True)):
        (tmp_path / name).mkdir()
        if ours:
            (tmp_path / name / staging.MARKER).touch()
    told = [text.split()[0] for text in run._left_beside(str(tmp_path / "tuesday"))]
    assert told == [str(tmp_path / "monday.partial")]
    assert list(run._left_beside(str(tmp_path / "absent" / "x"))) == []
