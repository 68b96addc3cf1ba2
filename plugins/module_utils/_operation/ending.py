# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How an operation ends on request: committed, or rolled back.

Which of a project's may end, and when, is the same for every domain. So is the
whole way of :class:`Stepwise` operations, which are rolled back as they would
have been undone; those that carry data back by a plan of their own meet
:class:`Ending` themselves.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.detached import run_detached
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Handlers
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    COMMITTED,
    DONE,
    OPEN_STATES,
    ROLLED_BACK,
    Copy,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.report import rolling_back, to_end
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore

DAY = 86400.0
ORIGINAL, BACKUP = "original", "backup"
W = TypeVar("W")


class Ending(Protocol):
    """What one kind of operation does when it is to end. Both return the module's result, or raise StatefulError."""

    def roll_back(self, operation: Operation) -> dict[str, Any]: ...

    def commit(self, operation: Operation, *, min_age_days: float, remove_backups: bool) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Removal:
    """What a commit frees."""

    copies: tuple[Copy, ...]

    @property
    def bytes(self) -> int:
        return sum(copy.size_bytes for copy in self.copies)


def find(operations: OperationStore, operation_id: str, project: str) -> Operation:
    """Return the operation to roll back; of a project, the one that is open, else the newest that is done."""
    if operation_id:
        return operations.get(operation_id)
    mine = [operation for operation in operations.of_project(project) if operation.plan.reverts is None]
    found = next((o for o in mine if o.history().state in OPEN_STATES), None) or operations.newest_done(project)
    if found is None and mine:
        return mine[-1]
    if found is None:
        raise InvalidInput(
            f"There is no operation of the project {project} in {operations.directory}.",
            next_command=shell("ls", "-l", operations.directory),
        )
    return found


def find_ended(operations: OperationStore, operation_id: str, project: str) -> Operation:
    """Return the operation to commit; of a project the newest that is done, a roll back that left data included."""
    done = [o for o in operations.of_project(project) if o.history().state == DONE]
    if operation_id or not done:
        return find(operations, operation_id, project)
    return max(done, key=lambda o: o.history().changed_at)


def check_state(operation: Operation, newest: Operation | None, *, once_proved: bool = False) -> None:
    """Raise where this operation is not the one that can be rolled back; ``newest`` is the project's newest done.

    ``once_proved``: also one that is proved and not finished.
    """
    state = operation.history().state
    if state == COMMITTED:
        raise InvalidInput(
            f"The operation {operation.id} is committed: what it retained is gone, and there is no way back.",
            next_command="leave it as it is; selfhost.stateful.operation_info lists the backups that are left",
        )
    if state == DONE and newest is not None and newest.id != operation.id:
        raise InvalidInput(
            f"Only the newest operation of a project can be rolled back, and that is {newest.id}.",
            next_command=f"{rolling_back(newest)}, and then the same with {operation.id}",
        )
    if state in OPEN_STATES and operation.history().proved and not once_proved:
        raise InvalidInput(
            f"The operation {operation.id} is proved and unfinished; it can be rolled back once it is finished.",
            next_command=f"run the task of the operation {operation.id} again, then roll it back",
        )


def copies_now(operation: Operation, others: Sequence[Operation]) -> dict[str, Copy]:
    """Return the copies that are there, by the path that was journaled, each as it lies now.

    What an operation moves (``moves`` among its facts, pairs of paths) takes along what earlier ones keep in there,
    and where it is taken back, what it kept itself.
    """
    history, found = operation.history(), {}
    for copy in history.copies():
        places = [copy.path]
        for each in sorted(others, key=lambda one: one.history().started_at):
            stands = each.history().state in (DONE, COMMITTED) and each.plan.reverts is None
            if stands and each.history().started_at > history.started_at:
                places.append(_after(places[-1], each.plan.facts.get("moves", ())))
        if history.state == ROLLED_BACK:
            places.append(_after(copy.path, [(new, old) for old, new in operation.plan.facts.get("moves", ())]))
        there = next((path for path in places if os.path.lexists(path)), "")
        # Elsewhere only the very directory is believed.
        if there == copy.path or (there and copy.inode and os.lstat(there).st_ino == copy.inode):
            found[copy.path] = replace(copy, path=there)
    return found


def _after(path: str, moves: Sequence[Sequence[str]]) -> str:
    for old, new in moves:
        if path == old or path.startswith(f"{old}/"):
            return new + path[len(old) :]
    return path


def plan_removal(
    operation: Operation,
    open_one: Operation | None,
    *,
    min_age_days: float,
    with_backups: bool,
    others: Sequence[Operation] = (),
) -> Removal:
    """Return what committing would remove; raises where the operation is not to be committed (yet).

    ``open_one`` is the project's open operation, which may still need what this one keeps; ``others`` are those that
    may have moved it.
    """
    history = operation.history()
    if open_one is not None and open_one.id != operation.id:
        raise InvalidInput(
            f"The operation {open_one.id} is open on the same project: {operation.id} cannot be committed before it"
            " has ended.",
            next_command=to_end(open_one),
        )
    if history.state not in (DONE, ROLLED_BACK, COMMITTED):
        raise InvalidInput(
            f"The operation {operation.id} is {history.state}: only one that has ended can be committed.",
            next_command=to_end(operation),
        )
    if open_one is not None:
        raise InvalidInput(
            f"The roll back of {operation.id} was broken off: what it retains is needed to go on with it.",
            next_command=to_end(operation),
        )
    age = (time.time() - history.changed_at) / DAY
    if age < min_age_days:
        raise InvalidInput(
            f"The operation {operation.id} ended {age:.1f} days ago, less than min_age_days ({min_age_days:g}).",
            next_command="wait, or set min_age_days: 0",
        )
    roles = (ORIGINAL, BACKUP) if with_backups else (ORIGINAL,)
    return Removal(tuple(copy for copy in copies_now(operation, others).values() if copy.role in roles))


def may_go(_operation: Operation) -> None:
    """Forbid nothing: no way back loses anything."""


@dataclass(frozen=True)
class Stepwise(Generic[W]):
    """An operation that is rolled back as it would have been undone, step by step.

    ``open_world`` opens the seams by what the operation journaled, anew each
    time: they do not survive a fork. ``back`` says for people what a roll back
    does, and ``check_back`` raises where it would lose what was written since.
    ``free`` removes the copies of a commit, and what else is only kept for a way
    back, after the proof that nobody needs it. ``back_once_proved``: what follows
    the proof is taken back as well where it was not finished.
    """

    operations: OperationStore
    handlers: Handlers[W]
    open_world: Callable[[Operation], AbstractContextManager[W]]
    back: Callable[[Operation], str]
    free: Callable[[Operation, Sequence[Copy]], None]
    check_back: Callable[[Operation], None] = may_go
    check_mode: bool = False
    back_once_proved: bool = False

    def roll_back(self, operation: Operation) -> dict[str, Any]:
        """Take the operation back; one whose roll back was broken off is gone on with."""
        project, text = operation.plan.goal.project, f"{operation.id}: {self.back(operation)}"
        with self.operations.locked(project, wait=True):
            history = operation.history()
            if history.state == ROLLED_BACK:
                return {"changed": False, "operation": operation.id, "plan_text": text, "copies": []}
            if not history.undoing:
                check_state(operation, self.operations.newest_done(project), once_proved=self.back_once_proved)
                if history.state == DONE or history.proved:
                    self.check_back(operation)
            if not self.check_mode:
                run_detached(
                    lambda: self._undo(operation), result_path=operation.result_path, log_path=operation.worker_log
                )
        return {"changed": True, "operation": operation.id, "plan_text": text, "copies": copies_left(operation)}

    def _undo(self, operation: Operation) -> dict[str, Any]:
        with self.open_world(operation) as world:
            execute.undo(operation, self.handlers, world, reason="It was rolled back on request.")
        return {}

    def commit(self, operation: Operation, *, min_age_days: float, remove_backups: bool) -> dict[str, Any]:
        """Free what the operation retained. Killed half-way, it is run again and goes on."""
        project = operation.plan.goal.project
        # What was decided before the lock would be of before whatever this has waited for.
        with nullcontext() if self.check_mode else self.operations.locked(project, wait=True):
            open_one = self.operations.open_for(project)
            removal = plan_removal(operation, open_one, min_age_days=min_age_days, with_backups=remove_backups)
            pending = operation.history().state == DONE or bool(removal.copies)
            if pending and not self.check_mode:
                self.free(operation, removal.copies)
                if operation.history().state == DONE:
                    operation.journal.state(COMMITTED)
        return {
            "changed": pending,
            "operation": operation.id,
            "plan_text": "\n".join([f"Commit {operation.id}", *(f"  removes {copy.path}" for copy in removal.copies)]),
            "removed": [copy.as_dict() for copy in removal.copies],
            "copies": copies_left(operation),
        }


def copies_left(operation: Operation) -> list[dict[str, Any]]:
    """Return the copies of an operation that are there."""
    return [copy.as_dict() for copy in operation.history().copies() if os.path.lexists(copy.path)]
