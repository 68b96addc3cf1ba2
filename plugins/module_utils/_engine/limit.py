# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ends a program in a container that takes longer than it may, with all that it began."""

from __future__ import annotations

import contextlib
import os
import signal
import socket as socketlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.exchange import exchange
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.frames import BrokenOff, frames
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError

GRACE = 10.0
"""Seconds from the request to end to the end."""
POLL = 0.2


class TookTooLong(StatefulError):
    """It did not end in the time that it was given, and was ended."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(f"{what} took longer than {seconds:g} s, and was ended.")


@dataclass(frozen=True)
class Limit:
    """Seconds that the program ``what`` gets, 0 for no limit; ``pid`` returns its number on this host."""

    what: str
    seconds: float
    pid: Callable[[], int]


def exchange_within(
    limit: Limit, raw: socketlib.socket, stdin: Iterator[bytes] | None, stdout: Callable[[bytes], object]
) -> bytes:
    """Do as :func:`exchange` over the connection ``raw``; raises :class:`TookTooLong`.

    The connection is closed then: what has left the program's family may hold it open.
    """
    if not limit.seconds:
        return exchange(raw, frames(raw), stdin, stdout)
    reached = threading.Event()

    def end() -> None:
        reached.set()
        try:
            end_family(limit.pid())
        finally:
            with contextlib.suppress(OSError):
                raw.shutdown(socketlib.SHUT_RDWR)

    timer = threading.Timer(limit.seconds, end)
    timer.daemon = True
    timer.start()
    try:
        said = exchange(raw, frames(raw), stdin, stdout)
    except BrokenOff:
        if not reached.is_set():
            raise
    finally:
        timer.cancel()
    if reached.is_set():
        raise TookTooLong(limit.what, limit.seconds)
    return said


def end_family(first: int, grace: float = GRACE) -> None:
    """Ask a process and its descendants to end, and kill those that do not."""
    if first <= 0:
        return
    asked = _signal(family_of(first), signal.SIGTERM)
    ends = time.monotonic() + grace
    while any(_runs(pid) for pid in asked) and time.monotonic() < ends:
        time.sleep(POLL)
    _signal({*(pid for pid in asked if _runs(pid)), *family_of(first)}, signal.SIGKILL)


def family_of(first: int) -> set[int]:
    """Return the number of a process that runs and those of its descendants."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (state := _state(int(name))) is not None and state[0] != "Z":
            parents[int(name)] = state[1]
    found, before = ({first} if first in parents else set()), -1
    while len(found) != before:
        before = len(found)
        found |= {pid for pid, parent in parents.items() if parent in found}
    return found


def _runs(pid: int) -> bool:
    state = _state(pid)
    return state is not None and state[0] != "Z"


def _state(pid: int) -> tuple[str, int] | None:
    """Return the state and the parent of a process; None where there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[1])


def _signal(pids: set[int], number: signal.Signals) -> set[int]:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
    return pids
