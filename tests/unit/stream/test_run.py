# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file bears its name once all of it is on the disk and is what was expected; till then nothing is touched."""

from __future__ import annotations

import errno
import fcntl
import gc
import gzip
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import EngineRefused
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.ending import OutOfTime
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import ExecResult
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._stream import files, growing, run
from ansible_collections.selfhost.stateful.plugins.module_utils._stream.run import JSON, NOT_EMPTY, Request
from tests.unit.postgresql.fakes import a_container

ARGV = ("ccadmin", "dump")


@dataclass
class Program:
    """Says ``pieces``, and ends with ``rc``; what it read is in ``given``."""

    pieces: tuple[bytes, ...] = ()
    rc: int = 0
    said: bytes = b""
    given: bytes = b""
    watched: list[Any] = field(default_factory=list)
    watch: Callable[[], Any] = lambda: None
    fails: StatefulError | None = None

    def stream(
        self, _container_id: str, argv: tuple[str, ...], *, stdout: Callable[[bytes], object],
        stdin: Iterator[bytes] | None = None, **_more: Any,
    ) -> ExecResult:  # fmt: skip
        self.given = b"".join(stdin or ())
        for piece in self.pieces:
            stdout(piece)
            self.watched.append(self.watch())
        if self.fails is not None:
            raise self.fails
        return ExecResult(argv, self.rc, b"", self.said)


def streamed(program: Program, **asked: Any) -> run.Streamed:
    return run.carry_out(program, a_container(), Request(ARGV, **asked))  # type: ignore[arg-type]


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "entities.json"


def test_a_file_appears_whole_and_private(there: Path) -> None:
    program = Program((b'{"entities":', b" {}}"), watch=there.exists)
    found = streamed(program, stdout_path=str(there), expect=JSON)
    assert program.watched == [False, False]
    assert there.read_bytes() == b'{"entities": {}}'
    assert there.stat().st_mode & 0o777 == 0o600
    assert (found.bytes_written, found.sha256) == (16, hashlib.sha256(there.read_bytes()).hexdigest())
    assert [path.name for path in there.parent.iterdir()] == [there.name]


@pytest.mark.parametrize(
    ("program", "expect", "words"),
    [
        (Program((b"{}",), rc=2, said=b"no connection\n"), JSON, "ended with 2:\nno connection"),
        (Program(said=b"error: EOF\n"), NOT_EMPTY, "wrote nothing:\nerror: EOF"),
        (Program((b'{"entities": {"a": ',)), JSON, "no JSON: it ends in the middle"),
        (Program((b"usage: ccadmin",)), JSON, "no JSON: 'u"),
    ],
)
def test_what_fails_leaves_what_was_there(there: Path, program: Program, expect: str, words: str) -> None:
    there.write_text("before")
    with pytest.raises(StatefulError) as caught:
        streamed(program, stdout_path=str(there), expect=expect)
    assert words in caught.value.msg
    assert "as it was before" in caught.value.state
    assert there.read_text() == "before"
    assert [path.name for path in there.parent.iterdir()] == [there.name]


def failing(call: Callable[..., Any], number: int, *, at: int = 1) -> Callable[..., Any]:
    """Return a system call that fails once, the time that is named; what other threads of the run do is not counted."""
    left, ours = [at], threading.get_ident()

    def instead(*args: Any) -> Any:
        if threading.get_ident() != ours:
            return call(*args)
        left[0] -= 1
        if left[0] == 0:
            raise OSError(number, os.strerror(number))
        return call(*args)

    return instead


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(("call", "number"), [("fsync", errno.EIO), ("write", errno.EIO), ("write", errno.ENOSPC)])
def test_an_error_of_the_disk_that_is_told_once_is_not_lost(
    there: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, compressed: bool
) -> None:
    there.write_text("before")
    program = Program((os.urandom(1 << 20), b"and more"))
    monkeypatch.setattr(os, call, failing(getattr(os, call), number))
    with pytest.raises(StatefulError, match=os.strerror(number)) as caught:
        streamed(program, stdout_path=str(there), stdout_compressed=compressed)
    assert "as it was before" in caught.value.state
    assert there.read_text() == "before"
    assert [path.name for path in there.parent.iterdir()] == [there.name]


@pytest.mark.parametrize("compressed", [False, True])
def test_what_broke_off_writes_nothing_later_to_another_file(
    there: Path, monkeypatch: pytest.MonkeyPatch, compressed: bool
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(os, "write", failing(os.write, errno.ENOSPC))
        with pytest.raises(StatefulError):
            streamed(Program((os.urandom(1 << 20),)), stdout_path=str(there), stdout_compressed=compressed)
    with (there.parent / "other").open("w+b", buffering=0) as other:  # it takes the number that has just become free
        gc.collect()
        assert os.fstat(other.fileno()).st_size == 0


def test_nothing_but_the_last_call_asks_for_errors_of_the_disk(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(growing, "EVERY", 1000)
    monkeypatch.setattr(growing, "begin_write_back", lambda _handle, at, size: asked.append(f"{at}+{size}"))
    monkeypatch.setattr(os, "fdatasync", lambda _handle: asked.append("fdatasync"))
    monkeypatch.setattr(os, "fsync", lambda handle: asked.append("fsync") if os.fstat(handle).st_size else None)
    streamed(Program((b"a" * 700,) * 4), stdout_path=str(there))
    assert asked[:3] == ["0+1400", "1400+1400", "fsync"]


def test_what_writing_back_says_at_once_is_told(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with there.open("wb") as file:
        file.write(b"a" * 5000)
        file.flush()
        growing.begin_write_back(file.fileno(), 0, 5000)
    with pytest.raises(OSError, match="Bad file descriptor"):
        growing.begin_write_back(-1, 0, 5000)
    ours, theirs = os.pipe()
    growing.begin_write_back(theirs, 0, 5000)  # nothing to bring to a disk
    os.close(ours)
    os.close(theirs)
    monkeypatch.setattr(growing, "_libc", object())
    growing.begin_write_back(-1, 0, 5000)


def test_a_write_that_is_short_is_gone_on_with(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, piece: write(handle, piece[:7]))
    streamed(Program((b"one and another ", b"and so on")), stdout_path=str(there))
    assert there.read_bytes() == b"one and another and so on"


@pytest.mark.parametrize("pid", [0, 17])
def test_a_program_that_was_not_waited_for_leaves_what_was_there(there: Path, pid: int) -> None:
    program = Program((b"[",), fails=OutOfTime.after(60, "ccadmin in 0123", pid))
    with pytest.raises(OutOfTime, match="not ended after 60 s") as caught:
        streamed(program, stdout_path=str(there), timeout=60)
    assert f"{there} is as it was before; ccadmin in 0123 " in caught.value.state
    assert (caught.value.safe_to_rerun, caught.value.next_command) == ((False, "kill 17") if pid else (True, ""))
    assert list(there.parent.iterdir()) == []


UNFOLLOWED = EngineRefused("It cannot be followed.", state="ccadmin may have gone on without being heard")


@pytest.mark.parametrize("fails", [None, UNFOLLOWED])
def test_a_load_that_failed_is_not_repeated_unseen(there: Path, fails: StatefulError | None) -> None:
    there.write_text("[]")
    with pytest.raises(StatefulError) as caught:
        streamed(Program(rc=1, fails=fails), stdin_path=str(there))
    assert not caught.value.safe_to_rerun
    assert caught.value.state.startswith("nothing was written on this host; ")


def test_a_program_that_was_not_followed_to_its_end_leaves_what_was_there(there: Path) -> None:
    with pytest.raises(EngineRefused) as caught:
        streamed(Program((b"[",), fails=UNFOLLOWED), stdout_path=str(there))
    assert caught.value.state == f"{there} is as it was before; {UNFOLLOWED.state}"
    assert caught.value.safe_to_rerun
    assert list(there.parent.iterdir()) == []


def test_a_program_that_was_not_begun_has_taken_nothing(there: Path) -> None:
    there.write_text("[]")
    with pytest.raises(EngineRefused) as caught:
        streamed(Program(fails=EngineRefused("The container is not running.")), stdin_path=str(there))
    assert (caught.value.state, caught.value.safe_to_rerun) == (StatefulError.NOTHING_CHANGED, True)


def test_what_a_killed_run_left_is_written_over(there: Path) -> None:
    (there.parent / ".entities.json.partial").write_text("half of it, and longer than all")
    streamed(Program((b"[]",)), stdout_path=str(there))
    assert there.read_bytes() == b"[]"


def test_two_runs_do_not_write_one_file(there: Path) -> None:
    with (there.parent / ".entities.json.partial").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StatefulError, match="Another run"):
            streamed(Program((b"[]",)), stdout_path=str(there))
    assert not there.exists()


def test_compressed_in_both_directions(there: Path) -> None:
    found = streamed(Program((b"a" * 1000,)), stdout_path=str(there), stdout_compressed=True)
    assert gzip.decompress(there.read_bytes()) == b"a" * 1000
    assert found.sha256 == hashlib.sha256(b"a" * 1000).hexdigest()
    reader = Program()
    assert streamed(reader, stdin_path=str(there), stdin_compressed=True).bytes_read == 1000
    assert reader.given == b"a" * 1000


def test_an_output_without_a_file_is_returned_as_far_as_it_is_kept() -> None:
    found = streamed(Program((b"x" * 50_000, b"y" * 50_000)))
    assert (len(found.stdout), found.bytes_written) == (1 << 16, 100_000)


@pytest.mark.parametrize("path", ["nowhere/file", "/nowhere/at/all/file", "{here}"])
def test_a_place_that_cannot_be_written_is_told_beforehand(tmp_path: Path, path: str) -> None:
    with pytest.raises(InvalidInput):
        files.check_destination(path.format(here=tmp_path))
    with pytest.raises(InvalidInput):
        files.check_source(path.format(here=tmp_path))
