# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The journal of one operation: one JSON object a line, on disk before the deed.

Intent is written and fsynced before a step touches anything. Evidence may ride
with the next intent's fsync: evidence lost to a power cut only means that the
step is asked again, which every resumed run does anyway.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    COMMITTED,
    DONE,
    ROLLED_BACK,
    SCHEMA_VERSION,
    History,
    Record,
    fold,
)

PROGRESS_INTERVAL = 1.0
"""Seconds between two progress records; they are for people and are not fsynced."""


BALLAST = "ballast"
BALLAST_BYTES = 1 << 20


def take_ballast(directory: str) -> None:
    """Hold space beside a journal, to be let go when the file system is full."""
    handle = os.open(os.path.join(directory, BALLAST), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(os.urandom(BALLAST_BYTES))  # nothing that a file system could compress
        stream.flush()
        os.fsync(stream.fileno())


def drop_ballast(directory: str) -> bool:
    """Let the held space go; tell whether there was any."""
    try:
        os.unlink(os.path.join(directory, BALLAST))
    except FileNotFoundError:
        return False
    return True


def parse(raw: bytes) -> list[Record]:
    """Return the records of a journal; a torn last line (power cut) is left out.

    A damaged line anywhere else is not tolerated: it is evidence that we no
    longer know, and raises ValueError.
    """
    lines = raw.split(b"\n")
    records: list[Record] = []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        if number == len(lines):
            break  # torn, even where it reads well: the next record is written over it
        try:
            entry = json.loads(line)
        except ValueError:
            raise ValueError(f"line {number} of the journal is damaged") from None
        if entry.get("schema_version", SCHEMA_VERSION) > SCHEMA_VERSION:
            raise ValueError("the journal was written by a newer version of the collection")
        records.append(
            Record(what=entry["what"], at=entry["at"], step=entry.get("step", ""), data=entry.get("data", {}))
        )
    return records


class Journal:
    """Appends to ``path``; reading never needs an open journal."""

    def __init__(self, path: str, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._last_progress = 0.0

    @property
    def path(self) -> str:
        return self._path

    def records(self) -> list[Record]:
        try:
            with open(self._path, "rb") as handle:
                return parse(handle.read())
        except FileNotFoundError:
            return []
        except ValueError as error:
            raise StatefulError(
                f"{self._path} cannot be read: {error}.",
                state="as the operation left it: only its journal knows how far it came, and nothing was changed now",
                safe_to_rerun=False,
                next_command=f"look at {self._path}; keep a copy of it before it is touched",
            ) from error

    def history(self, proving: frozenset[str] = frozenset()) -> History:
        return fold(self.records(), proving)

    def began(self, step: str) -> float:
        """Return when ``step`` began for the last time, in seconds since the epoch; 0 where it never did."""
        return max((r.at for r in self.records() if r.what == "intent" and r.step == step), default=0.0)

    def state(self, state: str) -> None:
        self._append("state", data={"state": state}, durable=True)
        if state in (DONE, COMMITTED, ROLLED_BACK):
            self.let_space_go()

    def let_space_go(self) -> None:
        """Free what is held beside the journal: for the way back, which must not fail for want of some kilobytes."""
        drop_ballast(os.path.dirname(self._path))

    def intent(self, step: str) -> None:
        self._append("intent", step, durable=True)

    def evidence(self, step: str, data: Mapping[str, Any], *, durable: bool = False) -> None:
        self._append("evidence", step, data, durable=durable)

    def failure(self, step: str, reason: str) -> None:
        self._append("failure", step, {"reason": reason}, durable=True)

    def undoing(self, reason: str) -> None:
        self._append("undoing", data={"reason": reason}, durable=True)

    def undo_refused(self, reason: str) -> None:
        self._append("undo-refused", data={"reason": reason}, durable=True)

    def undone(self, step: str, data: Mapping[str, Any]) -> None:
        self._append("undone", step, data, durable=True)

    def removed(self, path: str) -> None:
        self._append("removed", data={"path": path}, durable=True)

    def progress(self, phase: str, step: str, done_bytes: int, total_bytes: int) -> None:
        now = time.monotonic()
        if done_bytes < total_bytes and now - self._last_progress < PROGRESS_INTERVAL:
            return
        self._last_progress = now
        data = {"phase": phase, "done_bytes": done_bytes, "total_bytes": total_bytes}
        self._append("progress", step, data, durable=False)

    def _append(self, what: str, step: str = "", data: Mapping[str, Any] | None = None, *, durable: bool) -> None:
        entry: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "what": what, "at": self._clock()}
        if step:
            entry["step"] = step
        if data:
            entry["data"] = data
        line = json.dumps(entry, sort_keys=True).encode() + b"\n"
        try:
            self._write(line, durable=durable)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            if what == "progress":
                return  # for people; what is held is for the way back
            # That has to be noted even on the file system that has just run full.
            if not drop_ballast(os.path.dirname(self._path)):
                raise
            self._write(line, durable=durable)

    def _write(self, line: bytes, *, durable: bool) -> None:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            line = self._mended(handle) + line
            written = 0
            while written < len(line):
                written += os.write(handle, line[written:])
            if durable:
                os.fsync(handle)
        finally:
            os.close(handle)

    @staticmethod
    def _mended(handle: int) -> bytes:
        """Cut a torn last line off, so that the next record starts on a line of its own."""
        size = os.fstat(handle).st_size
        if size == 0 or os.pread(handle, 1, size - 1) == b"\n":
            return b""
        tail = os.pread(handle, min(size, 1 << 20), max(0, size - (1 << 20)))
        os.ftruncate(handle, size - (len(tail) - (tail.rfind(b"\n") + 1)))
        return b""
