# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a program writes into a pipe comes whole and ends; one that never began is told from one that said nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine import pipe
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.frames import BrokenOff
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.pipe import Draining, OutputPipe

MUCH = 5 << 20
AT_ONCE = 10.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a directory with a place for a pipe."""
    tmp_path.joinpath(*pipe.PLACE).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def made(root: Path) -> Iterator[OutputPipe]:
    with contextlib.ExitStack() as stack:
        handle = os.open(root, os.O_PATH)
        stack.callback(os.close, handle)
        yield pipe.made_in(handle, stack)


def begun(made: OutputPipe, root: Path, *argv: str) -> subprocess.Popen[bytes]:
    """Begin a program as a container's shell does."""
    environment = {**os.environ, pipe.VARIABLE: str(root) + made.path}
    return subprocess.Popen([*pipe.BEGIN, *argv], stderr=subprocess.PIPE, env=environment)


class Heard:
    """What came by a pipe, drained as an exchange drains it."""

    def __init__(self, made: OutputPipe) -> None:
        self.output = bytearray()
        self.stopped = threading.Event()
        self.causes: list[BaseException] = []
        self.goes_on: Callable[[], bool] = lambda: False
        self.draining = Draining(made, self.take, stopped=self.why, failed=self.causes.append, runs=self.runs)

    def take(self, piece: bytes) -> None:
        self.output += piece

    def runs(self) -> bool:
        return self.goes_on()

    def why(self) -> bool | None:
        return True if self.stopped.is_set() else None


def test_all_that_is_written_comes_and_the_program_ends_as_it_ends(made: OutputPipe, root: Path) -> None:
    heard = Heard(made)
    program = begun(made, root, "sh", "-c", f"head -c {MUCH} /dev/zero; echo beside >&2; exit 3")
    _out, beside = program.communicate(timeout=60)
    heard.draining.join()
    assert (program.returncode, beside, heard.output) == (3, b"beside\n", bytes(MUCH))
    assert made.opened


def test_what_is_written_after_the_program_has_ended_is_waited_for(made: OutputPipe, root: Path) -> None:
    heard = Heard(made)
    begun(made, root, "sh", "-c", "(sleep 0.5; echo late) 2>/dev/null & exit 0").communicate(timeout=60)
    heard.draining.join()
    assert made.opened
    assert heard.output == b"late\n"


def test_what_others_hold_in_silence_is_not_taken_for_whole(
    made: OutputPipe, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipe, "SILENCE", 0.3)
    heard = Heard(made)
    held = root / "held"
    program = begun(made, root, "sh", "-c", f"echo half; sleep 60 2>/dev/null & echo $! >{held}")
    program.communicate(timeout=60)
    try:
        heard.draining.join()
        assert (heard.output, [type(cause) for cause in heard.causes]) == (b"half\n", [BrokenOff])
    finally:
        os.kill(int(held.read_text()), signal.SIGKILL)


def test_a_program_that_has_closed_its_errors_may_be_silent_while_it_runs(
    made: OutputPipe, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipe, "SILENCE", 0.2)
    heard = Heard(made)
    program = begun(made, root, "sh", "-c", "exec 2>/dev/null; echo first; sleep 1; echo late")
    heard.goes_on = lambda: program.poll() is None
    if program.stderr is not None:
        assert program.stderr.read() == b""  # all that the engine sees of it, and its end long before the program's
    heard.draining.join()
    assert (bytes(heard.output), heard.causes) == (b"first\nlate\n", [])
    assert program.wait(AT_ONCE) == 0


def test_a_program_may_be_silent_for_as_long_as_it_runs(
    made: OutputPipe, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipe, "SILENCE", 0.1)
    heard = Heard(made)
    begun(made, root, "sh", "-c", "sleep 0.6; echo late").communicate(timeout=60)
    heard.draining.join()
    assert (heard.output, heard.causes) == (b"late\n", [])


@pytest.mark.parametrize("argv", [("true",), ("/no/such/program",)])
def test_a_program_that_says_nothing_or_is_missing_was_begun(
    made: OutputPipe, root: Path, argv: tuple[str, ...]
) -> None:
    heard = Heard(made)
    begun(made, root, *argv).communicate(timeout=60)
    heard.draining.join()
    assert made.opened
    assert heard.output == b""


def test_a_program_whose_pipe_cannot_be_opened_is_not_begun(made: OutputPipe, root: Path) -> None:
    heard = Heard(made)
    program = begun(made, root / "elsewhere", "touch", str(root / "ran"))  # as where it must not be opened
    program.communicate(timeout=60)
    heard.draining.join()
    assert program.returncode != 0
    assert not made.opened
    assert not (root / "ran").exists()


def test_a_shell_that_ends_between_the_pipe_and_its_word_has_begun_nothing(made: OutputPipe, root: Path) -> None:
    heard = Heard(made)
    with open(str(root) + made.path, "w"):
        pass
    heard.draining.join()
    assert not made.opened
    assert heard.output == b""


def test_the_name_goes_before_the_program_says_anything(made: OutputPipe, root: Path) -> None:
    heard = Heard(made)
    place = root.joinpath(*pipe.PLACE)
    script = f'while [ -n "$(ls -A {place})" ]; do sleep 0.05; done; echo "gone ${{{pipe.VARIABLE}-}}"'
    begun(made, root, "sh", "-c", script).communicate(timeout=60)
    heard.draining.join()
    assert heard.output == b"gone \n"


def test_no_file_is_made_in_the_place_of_a_pipe_that_is_gone(made: OutputPipe, root: Path) -> None:
    heard = Heard(made)
    os.unlink(str(root) + made.path)
    program = begun(made, root, "touch", str(root / "ran"))
    program.communicate(timeout=60)
    heard.draining.join()
    assert (program.returncode, made.opened, (root / "ran").exists()) == (126, False, False)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("PGDATA", True),
        ("_a1", True),
        ("a.b", False),
        ("a-b", False),
        ("1a", False),
        ("IFS", False),
        ("BASH_XTRACEFD", False),
    ],
)
def test_names_that_a_shell_may_not_hand_on_are_known(name: str, plain: bool) -> None:
    assert pipe.hands_on(["PATH", name]) is plain


def test_who_does_not_listen_any_more_does_not_wait(made: OutputPipe, root: Path) -> None:
    heard = Heard(made)
    program = begun(made, root, "yes")
    try:
        heard.stopped.set()
        heard.draining.join()
    finally:
        program.kill()
        program.communicate(timeout=60)


def test_what_cannot_be_taken_is_told(made: OutputPipe, root: Path) -> None:
    def full(_piece: bytes) -> NoReturn:
        raise OSError(errno.ENOSPC, "full")

    causes: list[BaseException] = []
    draining = Draining(made, full, stopped=lambda: None, failed=causes.append, runs=lambda: False)
    program = begun(made, root, "sh", "-c", "echo a line; exec sleep 60")
    try:
        draining.join()
        assert [getattr(cause, "errno", None) for cause in causes] == [errno.ENOSPC]
    finally:
        program.kill()
        program.communicate(timeout=60)


def test_others_may_write_and_not_read_and_nothing_is_left(root: Path) -> None:
    place = root.joinpath(*pipe.PLACE)
    with contextlib.ExitStack() as stack:
        handle = os.open(root, os.O_PATH)
        stack.callback(os.close, handle)
        made = pipe.made_in(handle, stack)
        path = Path(str(root) + made.path)
        assert stat.S_ISFIFO(path.stat().st_mode)
        assert [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)] == [0o622, 0o711]
    assert list(place.iterdir()) == []


def test_a_device_in_its_place_is_not_opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "mkfifo", lambda name, _mode, *, dir_fd: os.close(os.open(name, os.O_CREAT, dir_fd=dir_fd)))
    with contextlib.ExitStack() as stack:
        handle = os.open(root, os.O_PATH)
        stack.callback(os.close, handle)
        with pytest.raises(FileNotFoundError):
            pipe.made_in(handle, stack)
    assert list(root.joinpath(*pipe.PLACE).iterdir()) == []


@pytest.mark.parametrize("part", range(len(pipe.PLACE)))
def test_a_link_in_the_container_does_not_lead_into_this_host(tmp_path: Path, part: int) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    outside.joinpath(*pipe.PLACE).mkdir(parents=True)
    inside.joinpath(*pipe.PLACE[:part]).mkdir(parents=True)
    inside.joinpath(*pipe.PLACE[: part + 1]).symlink_to(outside.joinpath(*pipe.PLACE[: part + 1]))
    with contextlib.ExitStack() as stack:
        handle = os.open(inside, os.O_PATH)
        stack.callback(os.close, handle)
        with pytest.raises(OSError, match=r"."):
            pipe.made_in(handle, stack)
    assert list(outside.joinpath(*pipe.PLACE).iterdir()) == []


@pytest.mark.parametrize("pid", [0, -1, None], ids=["none", "no number", "our own"])
def test_there_is_none_in_what_is_not_that_container(pid: int | None) -> None:
    with pipe.made(os.getpid() if pid is None else pid, "c0ffee" * 10) as found:
        assert found is None
