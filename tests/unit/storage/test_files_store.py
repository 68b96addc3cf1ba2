# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A backup of plain files is of one moment, or refused."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Copy
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import files_store
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.files_store import ROUNDS, FilesStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import FILES, StoreFacts
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import BackupRequest
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import prove, settle
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.errors import CopyDamaged
from tests.unit.redis.fakes import a_container

RUNNING, STOPPED = a_container(), a_container(status="exited", pid=0)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a tree that has to stand still for a moment only: longer than a tick of the kernel's clock."""
    (tmp_path / "data" / "below").mkdir(parents=True)
    (tmp_path / "data" / "db.sqlite").write_bytes(b"before" * 1000)
    (tmp_path / "data" / "below" / "db.sqlite-wal").write_bytes(b"before" * 1000)
    monkeypatch.setattr(files_store, "RACY_MARGIN_NS", 50_000_000)
    monkeypatch.setattr(files_store, "QUIET_NS", 150_000_000)
    return tmp_path / "data"


def after(monkeypatch: pytest.MonkeyPatch, module: object, name: str, act: Callable[[int], None]) -> list[int]:
    """Have ``act`` called, with the number of the call, each time that a function of ``module`` has returned."""
    original, calls = getattr(module, name), []

    def watched(*given: object, **named: object) -> object:
        result = original(*given, **named)
        calls.append(len(calls))
        act(calls[-1])
        return result

    monkeypatch.setattr(module, name, watched)
    return calls


def backup(source: Path, container: Container = RUNNING, pauses: list[float] | None = None) -> Copy:
    request = BackupRequest("op", "web", str(source), str(source.parent / "backups" / "web"), "auto")

    def pause(seconds: float) -> None:
        time.sleep(seconds)
        if pauses is not None:
            pauses.append(seconds)

    facts = StoreFacts(FILES, "", "/data")
    return FilesStore(pause).backup(None, container, facts, request, lambda _done, _total: None)  # type: ignore[arg-type]


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_files_that_stand_still_are_copied_once(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = after(monkeypatch, settle, "settle", lambda _number: None)
    copy = backup(source)
    assert contents(Path(copy.path)) == contents(source)
    assert len(calls) == 1
    assert os.listdir(source.parent / "backups") == ["web"]


def test_files_that_were_written_just_now_are_given_time(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = iter([time.time_ns() + 10**12])
    monkeypatch.setattr(files_store.still, "last_change", lambda _source: (next(changes, 0), "x"))
    pauses: list[float] = []
    backup(source, pauses=pauses)
    assert pauses == [files_store.QUIET_NS / 1e9]


@pytest.mark.parametrize("moment", ["settle", "prove_settled"])
def test_a_change_after_its_file_was_settled_is_seen(
    source: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def write(number: int) -> None:
        if number == 0:
            (source / "db.sqlite").write_bytes(b"after!" * 1000)
            (source / "below" / "db.sqlite-wal").unlink()

    calls = after(monkeypatch, settle if moment == "settle" else prove, moment, write)
    copy = backup(source)
    assert len(calls) > 1
    assert contents(Path(copy.path)) == contents(source) == {"db.sqlite": b"after!" * 1000}


def test_files_that_change_all_the_time_are_refused(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = after(monkeypatch, settle, "settle", lambda number: (source / f"upload-{number}").touch())
    # Two of them may bear the same tick of the kernel's clock.
    with pytest.raises(StatefulError, match=r"change all the time \(upload-\d was the last\)") as refused:
        backup(source)
    assert len(calls) == ROUNDS
    assert "docker stop app-redis-1" in refused.value.next_command
    assert not (source.parent / "backups" / "web").exists()


def test_a_file_that_is_removed_at_the_top_is_a_change(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source / "goes").touch()
    after(monkeypatch, prove, "prove_settled", lambda number: (source / "goes").unlink() if not number else None)
    assert "goes" not in contents(Path(backup(source).path))


@pytest.fixture
def mapped(source: Path) -> Iterator[mmap.mmap]:
    """Return a page of the database through which a program writes without a change of the file's times."""
    with open(source / "db.sqlite", "r+b") as file, mmap.mmap(file.fileno(), 0) as page:
        page[0:5] = b"dirty"
        yield page


def test_a_store_through_a_mapping_is_seen(source: Path, mapped: mmap.mmap, monkeypatch: pytest.MonkeyPatch) -> None:
    def store(number: int) -> None:
        if number == 0:
            before = os.stat(source / "db.sqlite")
            mapped[0:5] = b"later"
            os.utime(source / "db.sqlite", ns=(before.st_atime_ns, before.st_mtime_ns))

    monkeypatch.setattr(files_store.still, "last_change", lambda _source: (0, ""))
    calls = after(monkeypatch, prove, "prove_settled", store)
    assert contents(Path(backup(source).path))["db.sqlite"][:5] == b"later"
    assert len(calls) == 2


def test_damage_is_told_from_a_change(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_given: object, **_named: object) -> None:
        raise CopyDamaged("one file differs")

    monkeypatch.setattr(prove, "prove_settled", damaged)
    with pytest.raises(CopyDamaged):
        backup(source)


def test_what_nobody_writes_to_is_compared_whole(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    assert contents(Path(backup(source, STOPPED, pauses).path)) == contents(source)
    assert pauses == []
