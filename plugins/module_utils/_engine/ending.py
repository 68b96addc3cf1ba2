# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A program that was started in a container and is ended from here: the engine has no call for that.

https://github.com/moby/moby/issues/9098. It says under which number this host knows the process.
"""

from __future__ import annotations

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
    return {"state": f"{program} was ended; what it had done by then is done, and what it started itself may go on"}


def end(inspect: Inspect) -> int:
    """End the one process of an exec, which ``inspect`` asks the engine about; what it has started is left alone.

    Returns 0 once it has ended, and else the number under which this host knows it.
    """
    pid = _running(inspect)
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not pid or not _sent(pid, number, inspect):
            break
        ends = time.monotonic() + GRACE
        while pid and time.monotonic() < ends:
            time.sleep(POLL)
            pid = _running(inspect)
    return _running(inspect)


def _running(inspect: Inspect) -> int:
    found = inspect()
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
        if _running(inspect) != pid or not _is_in(pid, inspect()["ContainerID"]):
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


def _is_in(pid: int, container_id: str) -> bool:
    """Tell whether a process of this host belongs to a container: an engine elsewhere has numbers of its own."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
        return container_id in file.read()
