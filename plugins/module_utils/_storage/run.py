# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Carry a request out: find what is open, plan, run in a session of its own, and report.

What is asked for (that data moves, that another image serves it) is a
:class:`Journey`; how one is begun, resumed and waited for is the same for all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Services
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import AGAIN, Blocker, StatefulError, refusal
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.detached import run_detached
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Handlers
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    DONE,
    ROLLED_BACK,
    Goal,
    History,
    Plan,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.report import to_end
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import report
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import remove_leftover_helpers
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World

ATTEMPTS = 3
"""One that resumes, one that begins anew after an undone resume, and one after waiting for somebody else's run."""


class Observed(Protocol):
    """What a journey looked at. ``unfinished`` is the open operation that has its very goal, or empty."""

    @property
    def project(self) -> Services: ...

    @property
    def unfinished(self) -> str: ...


@dataclass(frozen=True)
class Planned:
    """A plan with what forbids it; ``plan`` is None where nothing is to be done."""

    plan: Plan | None
    blockers: tuple[Blocker, ...] = ()
    warnings: tuple[str, ...] = ()


Seen = TypeVar("Seen", bound=Observed)


class Journey(Protocol[Seen]):
    """One kind of request. Questions change nothing; a plan's ``facts`` hold ``compose`` and ``diff``."""

    def observe(self, world: World, operations: OperationStore) -> Seen:
        """Look at the project; raises :class:`InvalidInput` for a request that does not fit it."""

    def plan(self, world: World, observed: Seen, operations: OperationStore) -> Planned:
        """Plan what is left to do."""

    def unchanged(self, observed: Seen) -> dict[str, Any]:
        """Return what a result says where nothing is to be done: ``plan``, ``plan_text``, ``mounts``."""

    def outcome(self, operation: Operation, steps: Mapping[str, float]) -> dict[str, Any]:
        """Return what a result says of an operation that ran, beside what is said of each."""


@dataclass(frozen=True)
class Task(Generic[Seen]):
    """One call of the module. ``connect`` opens fresh connections, because sockets do not survive a fork."""

    connect: Callable[[], World]
    operations: OperationStore
    handlers: Handlers[World]
    journey: Journey[Seen]
    check_mode: bool = False
    stop_before: str = ""


def carry_out(task: Task[Seen]) -> dict[str, Any]:
    """Return the module's result; raises StatefulError."""
    waited_for = ""
    for _attempt in range(ATTEMPTS):
        world = task.connect()
        observed = task.journey.observe(world, task.operations)
        project = observed.project.name
        world = world.of(observed.project)
        if task.check_mode:
            return _checked(task, world, observed)
        with task.operations.locked(project, wait=False) as taken:
            if taken:
                ended = _ended_meanwhile(task, waited_for)
                result = _result(task, ended, {}, ()) if ended else _run_locked(task, world, observed)
                if result is not None:
                    return result
                continue
        # A run that lost its connection goes on by itself: wait for it, then look again.
        running = task.operations.open_for(project)
        waited_for = running.id if running else ""
        task.operations.wait_until_free(project)
    raise StatefulError(
        "The project was changed by other runs over and over while this one was looking at it.",
        next_command="run the same task again when the others have ended",
    )


def refuse_ended(observed: Observed) -> None:
    """Raise where an operation was open at the look and is not any more: nobody asked for the data then."""
    if observed.unfinished:
        raise StatefulError(
            f"The operation {observed.unfinished} was open when this run looked at the project, and has ended since.",
            state="as that operation left it",
            next_command=AGAIN,
        )


def _plan(task: Task[Seen], world: World, observed: Seen) -> Planned:
    refuse_ended(observed)
    return task.journey.plan(world, observed, task.operations)


def _ended_meanwhile(task: Task[Seen], operation_id: str) -> Operation | None:
    """Return the operation that this run waited for, if another made it to its end."""
    operation = task.operations.get(operation_id) if operation_id else None
    ended = operation is not None and operation.history().state == DONE and not operation.is_open
    return operation if ended else None


def _run_locked(task: Task[Seen], world: World, observed: Seen) -> dict[str, Any] | None:
    """Run or resume under the project's lock; None means: look again and begin anew."""
    project = observed.project.name
    operation = task.operations.open_for(project)
    resumed = operation is not None
    warnings: Sequence[str] = ()
    if operation is None and observed.unfinished:
        return None  # it ended between the look and the lock
    if operation is None:
        planned = _plan(task, world, observed)
        if planned.plan is None:
            return _unchanged(task, observed, planned.warnings)
        if planned.blockers:
            raise blocked(planned.plan, planned.blockers)
        operation = task.operations.begin(planned.plan)
        warnings = planned.warnings
    try:
        outcome = _detached(task, operation)
    except StatefulError as failure:
        # A run that was killed half-way could not go on and was undone: the
        # service runs, and the same goal deserves a fresh attempt.
        if resumed and failure.facts.get("rolled_back"):
            return None
        raise
    if outcome["state"] == ROLLED_BACK:
        return None
    return _result(task, operation, outcome, warnings)


def _detached(task: Task[Seen], operation: Operation) -> dict[str, Any]:
    def work() -> dict[str, Any]:
        world = of_operation(task.connect(), operation)
        remove_leftover_helpers(world.engine, operation.id)
        try:
            outcome = execute.run(operation, task.handlers, world, stop_before=task.stop_before)
        except execute.UndoneFailure as failure:
            failure.facts["rolled_back"] = True
            raise
        return {
            "state": outcome.state,
            "changed": outcome.changed,
            "steps": dict(outcome.steps),
            "stopped_before": outcome.stopped_before,
        }

    return run_detached(work, result_path=operation.result_path, log_path=operation.worker_log)


def of_operation(world: World, operation: Operation) -> World:
    """Return ``world`` for the operation's project, as that was reached when it began."""
    maker = world.maker.resumed(operation.plan.facts["compose"])
    return replace(world, project=operation.plan.goal.project, maker=maker)


def blocked(plan: Plan, blockers: Sequence[Blocker]) -> StatefulError:
    """Return the error that names everything in the way, with the plan beside it."""
    return refusal(blockers, plan=dict(plan.summary), plan_text=plan.text, plan_complete=True)


def _checked(task: Task[Seen], world: World, observed: Seen) -> dict[str, Any]:
    operation = task.operations.open_for(observed.project.name)
    if operation is not None:
        return {
            "changed": True,
            "operation": operation.id,
            "resumes_in": operation.plan.phase_reached(operation.history()),
            "plan": dict(operation.plan.summary),
            "plan_text": f"{operation.plan.text}\n  Unfinished: {_what_follows(operation.history())}",
            "plan_complete": True,
            "diff": list(operation.plan.facts.get("diff", ())),
        }
    planned = _plan(task, world, observed)
    if planned.plan is None:
        return _unchanged(task, observed, planned.warnings)
    if planned.blockers:
        raise blocked(planned.plan, planned.blockers)
    return {
        "changed": True,
        "operation": task.operations.next_id(planned.plan.goal),
        "plan": dict(planned.plan.summary),
        "plan_text": planned.plan.text,
        "plan_complete": True,
        "warnings": list(planned.warnings),
        "diff": list(planned.plan.facts.get("diff", ())),
    }


def _what_follows(history: History) -> str:
    step = history.current_step or "the first"
    if history.undoing:
        return f"it was being undone ({history.failure}); the next run undoes the rest, and begins anew."
    return f"the next run goes on at the step '{step}'."


def _unchanged(task: Task[Seen], observed: Seen, warnings: Sequence[str]) -> dict[str, Any]:
    done = task.operations.newest_done(observed.project.name)
    return {
        "changed": False,
        "operation": done.id if done else "",
        **task.journey.unchanged(observed),
        "plan_complete": True,
        "copies": retained(task.operations, observed.project.name),
        "warnings": list(warnings),
        "diff": [],
    }


def _result(
    task: Task[Seen], operation: Operation, outcome: Mapping[str, Any], warnings: Sequence[str]
) -> dict[str, Any]:
    history = operation.history()
    return {
        "changed": True,
        "operation": operation.id,
        "operation_state": history.state,
        "stopped_before": outcome.get("stopped_before", ""),
        "plan": dict(operation.plan.summary),
        "plan_text": operation.plan.text,
        "plan_complete": True,
        "diff": list(operation.plan.facts.get("diff", ())),
        **task.journey.outcome(operation, outcome.get("steps", {})),
        "warnings": [*warnings, *report.fewer_warnings(history)],
    }


def refuse_other_goal(store: OperationStore, project: str, wanted: Callable[[Goal], bool], asked: str) -> None:
    """Raise where an operation is open on the project whose goal is not the ``wanted`` one; ``asked`` says that."""
    open_one = store.open_for(project)
    if open_one is None or wanted(open_one.plan.goal):
        return
    raise StatefulError(
        f"The operation {open_one.id} is open on the project {project} ({_shown(open_one.plan.goal)}); it has to end"
        f" before another ({asked}) can begin.",
        state=f"the operation {open_one.id} stands at the step '{open_one.history().current_step or 'none'}'",
        next_command=to_end(open_one),
        operation=open_one.id,
    )


def _shown(goal: Goal) -> str:
    wants = dict(goal.wants.get("mounts", goal.wants))
    return ", ".join(f"{key} → {value}" for key, value in wants.items()) or goal.module


def retained(operations: OperationStore, project: str) -> list[dict[str, Any]]:
    """Return the copies that earlier operations of the project keep: every later run mentions them."""
    kept = []
    for operation in operations.of_project(project):
        history = operation.history()
        if history.state == DONE:
            kept += [
                {**copy.as_dict(), "operation": operation.id} for copy in history.copies() if os.path.exists(copy.path)
            ]
    return kept
