# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where operations live: one directory each, and one lock a project.

A lock is ``flock`` on a file that stays: it ends with the process that holds it,
so there is never a stale lock to remove by hand.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._durable import fsync_directory
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.journal import Journal, take_ballast
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    DONE,
    OPEN_STATES,
    SCHEMA_VERSION,
    Goal,
    History,
    Plan,
)

SYSTEM_DIRECTORY = "/var/lib/selfhost-stateful/operations"


def default_directory() -> str:
    """Return where operations live unless told otherwise: root's place, else the XDG state directory."""
    if os.geteuid() == 0:
        return SYSTEM_DIRECTORY
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(state, "selfhost-stateful", "operations")


def beside(operations_dir: str, name: str) -> str:
    """Return the place next to the journals where ``name`` is kept: ``backups``, ``retained``."""
    return os.path.join(os.path.dirname(os.path.abspath(operations_dir)), name)


@dataclass(frozen=True)
class Operation:
    """An operation as its directory tells it."""

    id: str
    directory: str
    plan: Plan
    boot: str = ""
    """In which boot of the host it was begun."""

    @property
    def in_its_boot(self) -> bool:
        """Whether the host was not restarted since it was begun: device numbers, for one, are given out anew then."""
        return self.boot == this_boot()

    @property
    def journal(self) -> Journal:
        return Journal(os.path.join(self.directory, "journal.jsonl"))

    @property
    def worker_log(self) -> str:
        return os.path.join(self.directory, "worker.log")

    @property
    def result_path(self) -> str:
        return os.path.join(self.directory, "result.json")

    def history(self) -> History:
        return self.journal.history(frozenset(step.name for step in self.plan.steps if step.proves))

    @property
    def is_open(self) -> bool:
        """Whether it is to be gone on with: it has not ended, or a roll back of it was broken off."""
        return _is_open(self.history())


class OperationStore:
    """Finds, opens and locks the operations below one directory."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    @property
    def directory(self) -> str:
        return self._directory

    def all(self) -> list[Operation]:
        """Return every operation, oldest first."""
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return []
        found = [self._read(name) for name in names if not name.startswith(".")]
        return sorted((o for o in found if o is not None), key=lambda o: (o.history().started_at, o.id))

    def get(self, operation_id: str) -> Operation:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", operation_id):
            raise InvalidInput(
                f"{operation_id!r} is not the id of an operation.", next_command=shell("ls", "-l", self._directory)
            )
        operation = self._read(operation_id)
        if operation is None:
            known = ", ".join(o.id for o in self.all()) or "none"
            raise InvalidInput(
                f"There is no operation {operation_id} in {self._directory}; there is: {known}.",
                next_command=shell("ls", "-l", self._directory),
            )
        return operation

    def of_project(self, project: str) -> list[Operation]:
        return [o for o in self.all() if o.plan.goal.project == project]

    def open_for(self, project: str) -> Operation | None:
        """Return the project's one open operation, if there is one; one whose roll back was broken off is open too."""
        return next((o for o in self.of_project(project) if o.is_open), None)

    def newest_done(self, project: str) -> Operation | None:
        """Return the operation on top of the project's stack: the only one that can be rolled back."""
        done = [o for o in self.of_project(project) if o.history().state == DONE and o.plan.reverts is None]
        return max(done, key=lambda o: o.history().changed_at, default=None)

    def done_since(self, operation: Operation) -> list[Operation]:
        """Return the project's operations that were done after this one, and still are."""
        mine, since = self.of_project(operation.plan.goal.project), operation.history().changed_at
        histories = ((each, each.history()) for each in mine if each.plan.reverts is None)
        return [each for each, history in histories if history.state == DONE and history.changed_at > since]

    def next_id(self, goal: Goal) -> str:
        """Return the id that the next attempt at ``goal`` will have."""
        attempt = 1
        while os.path.exists(os.path.join(self._directory, goal.attempt_id(attempt))):
            attempt += 1
        return goal.attempt_id(attempt)

    def begin(self, plan: Plan) -> Operation:
        """Write a new attempt at the plan's goal; the caller holds the project's lock."""
        try:
            return self._begin(plan)
        except OSError as error:
            raise _unwritable(self._directory, error) from error

    def _begin(self, plan: Plan) -> Operation:
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        operation_id, boot = self.next_id(plan.goal), this_boot()
        directory = os.path.join(self._directory, operation_id)
        # The plan is complete on disk before the directory bears its name: an
        # operation either exists whole or not at all.
        draft = os.path.join(self._directory, f".{operation_id}.draft")
        os.makedirs(draft, mode=0o700, exist_ok=True)
        _write_durably(
            os.path.join(draft, "plan.json"),
            json.dumps({"schema_version": SCHEMA_VERSION, "boot": boot, **plan.as_dict()}, indent=1, sort_keys=True),
        )
        take_ballast(draft)
        Journal(os.path.join(draft, "journal.jsonl")).state("planned")
        os.rename(draft, directory)
        fsync_directory(self._directory)
        return Operation(id=operation_id, directory=directory, plan=plan, boot=boot)

    def _read(self, name: str) -> Operation | None:
        directory = os.path.join(self._directory, name)
        try:
            with open(os.path.join(directory, "plan.json"), encoding="utf-8") as handle:
                raw = json.load(handle)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if raw.get("schema_version", 0) > SCHEMA_VERSION:
            raise StatefulError(
                f"The operation {name} in {self._directory} was written by a newer version of this collection.",
                next_command="install that version of selfhost.stateful and run it again",
            )
        return Operation(id=name, directory=directory, plan=Plan.from_dict(raw), boot=raw.get("boot", ""))

    # -- locks -------------------------------------------------------------

    @contextmanager
    def locked(self, project: str, *, wait: bool) -> Iterator[bool]:
        """Hold the project's lock; yields False where ``wait`` is off and somebody else holds it."""
        handle = self._open_lock(project)
        try:
            taken = _flock(handle, wait=wait)
            yield taken
        finally:
            # Closing is enough, and better than LOCK_UN: a detached worker that
            # inherited the descriptor keeps the lock until it ends.
            os.close(handle)

    def busy(self, project: str) -> bool:
        """Tell whether a live process works on the project now."""
        path = self._lock_path(project)
        if not os.path.exists(path):
            return False
        with self.locked(project, wait=False) as taken:
            return not taken

    def wait_until_free(self, project: str, *, poll: float = 0.2) -> None:
        while self.busy(project):
            time.sleep(poll)

    def _lock_path(self, project: str) -> str:
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", project) or "project"
        return os.path.join(self._directory, f".{name}.lock")

    def _open_lock(self, project: str) -> int:
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            return os.open(self._lock_path(project), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unwritable(self._directory, error) from error


def _is_open(history: History) -> bool:
    return history.state in OPEN_STATES or (history.undoing and history.state == DONE)


def this_boot() -> str:
    """Return the kernel's name for the time since it started."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as handle:
        return handle.read().strip()


def _unwritable(directory: str, error: OSError) -> StatefulError:
    return StatefulError(
        f"The journal of operations cannot be written in {directory}: {error.strerror}.",
        next_command="run the task with become: true, or set operations_dir to a directory that can be written",
    )


def _flock(handle: int, *, wait: bool) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def _write_durably(path: str, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
