# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A program that was started in a container and is ended from here: the engine has no call for that.

https://github.com/moby/moby/issues/9098. It says under which number this host knows the process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell

GRACE = 5.0
"""Seconds that a program gets to end by itself, and after that to be gone."""
POLL = 0.02
Inspect = Callable[[], Mapping[str, Any]]


class OutOfTime(StatefulError):
    """A program had not ended after the time that it was given."""

    @classmethod
    def after(cls, seconds: float, program: str, pid: int) -> OutOfTime:
        return cls(f"{program} had not ended after {seconds:g} s.", **_what_is_left(program, pid))


class Unheard(StatefulError):
    """An end of a stream on this host failed, and the program goes on that was to be ended for it."""

    @classmethod
    def by(cls, cause: BaseException, program: str, pid: int) -> Unheard:
        return cls(f"An end of the stream on this host failed: {cause!r}.", **_what_is_left(program, pid))


def _what_is_left(program: str, pid: int) -> dict[str, Any]:
    if pid:
        return {
            "state": f"{program} could not be ended and goes on, as process {pid} of the engine's host",
            "safe_to_rerun": False,
            "next_command": shell("kill", str(pid)),
        }
    return {"state": f"{program} was ended; what it had done by then is done"}


def end(inspect: Inspect) -> int:
    """End the process of an exec, which ``inspect`` asks the engine about, with all that it has begun.

    Returns 0 once it has ended, and else the number under which this host knows it.
    """
    pid = _begun(inspect)
    container_id = str(inspect().get("ContainerID") or "") if pid else ""
    # Before it ends: those whose parent is gone belong to nobody that can be told.
    begun = _descendants(pid, container_id)
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not pid or not _sent(pid, number, inspect):
            break
        _tell(begun, number, container_id)
        ends = time.monotonic() + GRACE
        while pid and time.monotonic() < ends:
            time.sleep(POLL)
            pid = _running(inspect)
    left = _running(inspect)
    if not left:
        _tell(begun, signal.SIGKILL, container_id)
    return left


def _descendants(pid: int, container_id: str) -> set[int]:
    """Return the numbers of what a process has begun, directly or not, as far as it is of the same container."""
    parents = {}
    for name in os.listdir("/proc") if pid else ():
        with (
            contextlib.suppress(OSError, ValueError),
            open(f"/proc/{int(name)}/stat", encoding="utf-8", errors="replace") as file,
        ):
            parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
    found, before = {pid}, 0
    while len(found) != before:
        before = len(found)
        found |= {each for each, parent in parents.items() if parent in found}
    return {each for each in found - {pid} if _belongs(each, container_id)}


def _tell(pids: set[int], number: signal.Signals, container_id: str) -> None:
    for pid in pids:
        if _belongs(pid, container_id):
            with contextlib.suppress(OSError):
                os.kill(pid, number)


def _belongs(pid: int, container_id: str) -> bool:
    try:
        return bool(container_id) and is_in(pid, container_id)
    except OSError:  # it has ended
        return False


def _begun(inspect: Inspect) -> int:
    """Return the number of a process, 0 once it has ended; one that is only being started is waited for.

    Left alone, it would begin after all, and take the end of the connection for that of its input.
    """
    ends = time.monotonic() + GRACE
    while True:
        found = inspect()
        starting = not found.get("Pid") if found["Running"] else found.get("ExitCode", 0) is None
        if not starting or time.monotonic() >= ends:
            return _number_in(found)
        time.sleep(POLL)


def _running(inspect: Inspect) -> int:
    return _number_in(inspect())


def _number_in(found: Mapping[str, Any]) -> int:
    return int(found.get("Pid") or 0) if found["Running"] else 0


def _sent(pid: int, number: signal.Signals, inspect: Inspect) -> bool:
    """Send a signal to that very process; False where this user may not, or it cannot be told from another."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except (AttributeError, OSError):  # a kernel before 5.3
        handle = -1
    try:
        # Asked while it is held: a number that is taken anew by then leads to another process than this.
        if _running(inspect) != pid or not is_in(pid, inspect()["ContainerID"]):
            return False
        if handle < 0:
            os.kill(pid, number)
        else:
            signal.pidfd_send_signal(handle, number)
    except (ProcessLookupError, FileNotFoundError):
        return True
    except OSError:
        return False
    finally:
        if handle >= 0:
            os.close(handle)
    return True


def is_in(pid: int, container_id: str) -> bool:
    """Tell whether a process of this host belongs to a container: an engine elsewhere has numbers of its own.

    Raises OSError where there is no such process.
    """
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
        return container_id in file.read()
