# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a storage operation ends: committed, or rolled back."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Services
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import (
    StatefulError,
    refusal,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.detached import run_detached
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.ending import check_state, copies_now
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Handlers
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    COMMITTED,
    DONE,
    OPEN_STATES,
    ROLLED_BACK,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.report import to_end
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import report
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.commit import (
    carry_out_commit,
    kept_containers,
    let_images_go,
    plan_commit,
    refuse_kept_before,
    remove_keepers,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import remove_leftover_helpers
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import Request
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.rollback import (
    WayBack,
    in_use_by_the_file_alone,
    mark_rolled_back,
    plan_way_back,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.rollback_plan import rollback_goal
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.run import of_operation
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.discarding import (
    forward_or_back,
    giving_up,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import transfers_of_plan
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World

PlanWayBack = Callable[[World, Operation, Request, str], WayBack]


@dataclass(frozen=True)
class StorageEnding:
    """``connect`` opens fresh connections for what the operation journaled about its project."""

    operations: OperationStore
    handlers: Handlers[World]
    connect: Callable[[Mapping[str, Any]], World]
    make_request: Callable[[Services], Request]
    check_mode: bool = False
    ways_back: Mapping[str, PlanWayBack] = field(default_factory=dict)
    """By the module of an operation, how its way back is planned where that is not the one of a move."""
    proofs: Mapping[str, Callable[[World, Operation], None]] = field(default_factory=dict)
    """By the module of an operation, what raises where its original is not to be removed, beside what a move asks."""
    back_once_proved: Collection[str] = ()
    """The modules whose operations are taken back also where what follows the proof was not finished."""

    def world(self, operation: Operation) -> World:
        return of_operation(self.connect(operation.plan.facts["compose"]), operation)

    def roll_back(self, operation: Operation) -> dict[str, Any]:
        return roll_back(self, operation)

    def commit(self, operation: Operation, *, min_age_days: float, remove_backups: bool) -> dict[str, Any]:
        return commit(self, operation, min_age_days=min_age_days, remove_backups=remove_backups)


def commit(ending: StorageEnding, operation: Operation, *, min_age_days: float, remove_backups: bool) -> dict[str, Any]:
    project = operation.plan.goal.project
    # What was decided before the lock would be of before whatever this has waited for.
    with nullcontext() if ending.check_mode else ending.operations.locked(project, wait=True):
        open_one = ending.operations.open_for(project)
        others = ending.operations.of_project(project)
        removal = plan_commit(
            operation, open_one, min_age_days=min_age_days, with_backups=remove_backups, others=others
        )
        moved = {path: copy.path for path, copy in copies_now(operation, others).items() if path != copy.path}
        done = operation.history().state == DONE
        pending = done or bool(removal.copies)
        kept: Sequence[Container] = ()
        if pending:
            world, later = ending.world(operation), ending.operations.done_since(operation)
            kept = kept_containers(world, operation) if done else ()
            refuse_kept_before(world, operation, others)
            prove = ending.proofs.get(operation.plan.goal.module)
            if not ending.check_mode:
                if prove is not None and done:
                    prove(world, operation)
                carry_out_commit(world, operation, removal, later)
                for path, now in moved.items():
                    if not os.path.lexists(now):
                        operation.journal.removed(path)  # by the name that it was journaled by
    names = [*(copy.path for copy in removal.copies), *(f"the container {each.name}" for each in kept)]
    left = operation.plan.facts.get("left", ()) if done else ()
    lines = [*(f"  removes {name}" for name in names), *(f"  with the last of {each}" for each in left)]
    text = f"Commit {operation.id}: frees {report.size_text(removal.bytes)} in {len(names)} places"
    return {
        "changed": pending,
        "operation": operation.id,
        "plan_text": "\n".join([text, *lines]),
        "removed": [copy.as_dict() for copy in removal.copies],
        "removed_containers": [{"id": each.id, "name": each.name} for each in kept],
        "copies": [copy.as_dict() for copy in operation.history().copies()],
    }


def roll_back(ending: StorageEnding, operation: Operation) -> dict[str, Any]:
    with ending.operations.locked(operation.plan.goal.project, wait=True):
        state = operation.history().state
        if state == ROLLED_BACK:
            return {
                "changed": False,
                "operation": operation.id,
                "plan_text": f"{operation.id} is rolled back.",
                "copies": [],
            }
        carried = _carried_back(ending.operations, operation)
        if carried is not None:
            # A run that was killed between the last step and the note of it.
            if not ending.check_mode:
                _note_rolled_back(ending, operation, carried)
            return _rolled_back(operation, carried, {})
        carrying = _open_rollback(ending.operations, operation)
        if carrying is None:
            newest, module = ending.operations.newest_done(operation.plan.goal.project), operation.plan.goal.module
            check_state(operation, newest, once_proved=module in ending.back_once_proved)
        if state in OPEN_STATES:
            return _undo(ending, operation)
        return _carry_back(ending, operation, carrying)


def _carried_back(operations: OperationStore, operation: Operation) -> Operation | None:
    """Return the roll back of ``operation`` that was made to its end."""
    mine = (o for o in operations.of_project(operation.plan.goal.project) if o.plan.reverts == operation.id)
    return next((o for o in mine if o.history().state in (DONE, COMMITTED)), None)


def _open_rollback(operations: OperationStore, operation: Operation) -> Operation | None:
    open_one = operations.open_for(operation.plan.goal.project)
    if open_one is None or open_one.id == operation.id:
        return None
    if open_one.plan.reverts == operation.id:
        return open_one
    raise StatefulError(
        f"The operation {open_one.id} is open on the project {operation.plan.goal.project}; {operation.id} cannot be"
        " rolled back before it has ended.",
        next_command=to_end(open_one),
        operation=open_one.id,
    )


def _undo(ending: StorageEnding, operation: Operation) -> dict[str, Any]:
    text = f"{operation.id} is unfinished ({operation.history().current_step or 'not begun'}): what it did is undone."
    if not ending.check_mode:

        def work() -> dict[str, Any]:
            world = ending.world(operation)
            remove_leftover_helpers(world.engine, operation.id)
            try:
                execute.undo(operation, ending.handlers, world, reason="It was rolled back on request.")
            except execute.UndoRefused as refusal:
                # What is proved is refused for what was written to it since, and says itself what may be done.
                if operation.history().proved:
                    raise
                forward = f"run the task of {operation.id} again, which goes on; then roll it back"
                offered = giving_up(operation) in refusal.next_command
                refusal.next_command = forward_or_back(operation, forward) if offered else forward
                raise
            return {}

        run_detached(work, result_path=operation.result_path, log_path=operation.worker_log)
    return _taken_back(operation, text)


def _taken_back(operation: Operation, text: str) -> dict[str, Any]:
    return {
        "changed": True,
        "operation": operation.id,
        "plan_text": text,
        "copies": [copy.as_dict() for copy in operation.history().copies()],
        "warnings": [f"{each[:1].upper()}{each[1:]}." for each in execute.told_by_undo(operation)],
    }


def _carry_back(ending: StorageEnding, operation: Operation, carrying: Operation | None) -> dict[str, Any]:
    if carrying is None and not transfers_of_plan(operation.plan):
        return _undo_steps(ending, operation)
    if carrying is not None and ending.check_mode:
        step = carrying.history().current_step or "the first"
        text = f"{carrying.plan.text}\n  Unfinished: the next run goes on at the step '{step}'."
        return {"changed": True, "operation": operation.id, "plan_text": text, "copies": []}
    if carrying is None:
        world = ending.world(operation)
        project = world.maker.observe(world.engine)
        goal = rollback_goal(operation.plan.goal.project, operation.id)
        plan_back = ending.ways_back.get(operation.plan.goal.module, plan_way_back)
        back = plan_back(world, operation, ending.make_request(project), ending.operations.next_id(goal))
        if back.blockers:
            raise refusal(back.blockers, plan_text=back.plan.text, operation=operation.id)
        if ending.check_mode:
            return {"changed": True, "operation": operation.id, "plan_text": back.plan.text, "copies": []}
        facts = {**back.plan.facts, "compose": dict(operation.plan.facts["compose"])}
        carrying = ending.operations.begin(replace(back.plan, facts=facts))
    outcome = _run(ending, carrying, operation)
    if outcome["state"] == ROLLED_BACK:
        raise StatefulError(
            "An interrupted roll back was undone: the data is where it was before it.",
            state="the services run on the bind mounts",
            next_command="run the same task again to begin anew",
            operation=operation.id,
        )
    return _rolled_back(operation, carrying, outcome["steps"])


def _note_rolled_back(ending: StorageEnding, operation: Operation, carried: Operation) -> None:
    world = ending.world(operation)
    remove_keepers(world, operation)
    let_images_go(world.engine, operation)
    mark_rolled_back(operation)
    if carried.history().state == DONE and not any(copy.role == "original" for copy in carried.history().copies()):
        carried.journal.state(COMMITTED)  # it left nothing behind that somebody would have to free


def _rolled_back(operation: Operation, carried: Operation, steps: Mapping[str, float]) -> dict[str, Any]:
    return {
        "changed": True,
        "operation": operation.id,
        "rollback": carried.id,
        "plan": dict(carried.plan.summary),
        "plan_text": carried.plan.text,
        **report.outcome(carried.history(), transfers_of_plan(carried.plan), steps),
    }


def _undo_steps(ending: StorageEnding, operation: Operation) -> dict[str, Any]:
    """Take an operation back that moved nothing by a transfer, step by step, as it would have been undone."""
    stranded = in_use_by_the_file_alone(operation)
    if stranded:
        raise refusal(stranded, operation=operation.id)
    steps = ", ".join(step.name for step in reversed(operation.plan.steps))
    text = f"{operation.id} is taken back, step by step: {steps}."
    if not ending.check_mode:

        def work() -> dict[str, Any]:
            world = ending.world(operation)
            execute.undo(operation, ending.handlers, world, reason="It was rolled back on request.")
            let_images_go(world.engine, operation)
            return {}

        run_detached(work, result_path=operation.result_path, log_path=operation.worker_log)
    return _taken_back(operation, text)


def _run(ending: StorageEnding, carrying: Operation, reverted: Operation) -> dict[str, Any]:
    def work() -> dict[str, Any]:
        world = ending.world(carrying)
        remove_leftover_helpers(world.engine, carrying.id)
        outcome = execute.run(carrying, ending.handlers, world)
        if outcome.state == DONE:
            # Here and not in the process that waits: that one dies with its connection.
            _note_rolled_back(ending, reverted, carrying)
        return {"state": outcome.state, "steps": dict(outcome.steps)}

    return run_detached(work, result_path=carrying.result_path, log_path=carrying.worker_log)
