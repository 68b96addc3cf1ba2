# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A program is ended with what it has begun, and no other process that has its number."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine import ending

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
WILLING = "import time; print(flush=True); time.sleep(60)"


BEGINS = (
    "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
    "print(child.pid, flush=True); time.sleep(60)"
)


class Exec:
    """What the engine says of a process of ours."""

    def __init__(self, program: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline().decode().strip()

    def __call__(self) -> Mapping[str, Any]:
        return {"Running": self.process.poll() is None, "Pid": self.process.pid, "ContainerID": "c0ffee"}


@pytest.fixture(params=[WILLING])
def program(request: pytest.FixtureRequest) -> Iterator[Exec]:
    made = Exec(request.param)
    with made.process:
        yield made
        made.process.kill()


@pytest.fixture(autouse=True)
def in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "GRACE", 0.5)
    monkeypatch.setattr(ending, "is_in", lambda _pid, container: container == "c0ffee")


@pytest.mark.parametrize("program", [WILLING, DEAF], indirect=True)
@pytest.mark.parametrize("old", [False, True], ids=["", "a kernel before 5.3"])
def test_it_ends_whether_it_listens_or_not(program: Exec, monkeypatch: pytest.MonkeyPatch, old: bool) -> None:
    if old:
        monkeypatch.delattr(os, "pidfd_open")
    assert ending.end(program) == 0
    assert program.process.poll() is not None


@pytest.mark.parametrize("program", [BEGINS], indirect=True)
def test_what_it_has_begun_ends_with_it(program: Exec) -> None:
    child = int(program.said)
    assert ending.end(program) == 0
    ends = time.monotonic() + 10
    while (state := state_of(child)) not in ("", "Z") and time.monotonic() < ends:
        time.sleep(0.02)
    assert state in ("", "Z")


def state_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def test_a_process_of_another_container_or_host_is_left_alone(program: Exec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert ending.end(program) == program.process.pid
    assert program.process.poll() is None


def test_a_number_that_is_taken_anew_is_left_alone(program: Exec) -> None:
    answers = iter([program()])
    assert ending.end(lambda: next(answers, {"Running": False})) == 0
    assert program.process.poll() is None


def test_a_user_who_may_not_is_told_what_goes_on(program: Exec, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(ending.signal, "pidfd_send_signal", refuse)
    pid = ending.end(program)
    assert pid == program.process.pid
    error = ending.OutOfTime.after(60, "pg_dump in db", pid)
    assert (error.safe_to_rerun, error.next_command) == (False, f"kill {pid}")


def test_what_is_only_being_started_is_waited_for(program: Exec) -> None:
    before = iter([{"Running": False, "ExitCode": None, "Pid": 0}, {"Running": True, "ExitCode": None, "Pid": 0}])
    assert ending.end(lambda: next(before, None) or program()) == 0
    assert program.process.poll() is not None


def test_what_is_never_started_is_not_waited_for_without_end() -> None:
    assert ending.end(lambda: {"Running": True, "ExitCode": None, "Pid": 0}) == 0


def test_what_has_ended_is_no_matter() -> None:
    assert ending.end(lambda: {"Running": False}) == 0
