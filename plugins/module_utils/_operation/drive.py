# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Drive a request to its end: find what is open, plan, run in a session of its own, resume, wait for others.

What is asked for, and of what, is a domain's: it gives the questions and the verbs of :class:`Drive`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import AGAIN, Blocker, StatefulError, refusal
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.detached import run_detached
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    DONE,
    ROLLED_BACK,
    Goal,
    History,
    Plan,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.report import to_end
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore

ATTEMPTS = 3
"""One that resumes, one that begins anew after an undone resume, and one after waiting for somebody else's run."""


@dataclass(frozen=True)
class Planned:
    """A plan with what forbids it; ``plan`` is None where nothing is to be done."""

    plan: Plan | None
    blockers: tuple[Blocker, ...] = ()
    warnings: tuple[str, ...] = ()


class Looked(Protocol):
    """What was looked at. ``unfinished`` is the open operation that has the very goal, or empty."""

    @property
    def unfinished(self) -> str: ...


S = TypeVar("S", bound=Looked)


@dataclass(frozen=True)
class Drive(Generic[S]):
    """The questions and verbs of one request.

    ``look`` opens fresh connections, because sockets do not survive a fork, and returns the project's name with what
    it saw. ``run`` carries an operation out, in the detached child. ``unchanged`` and ``result`` are what is returned
    where nothing is to be done, and where an operation ran, beside what is said of each.
    """

    operations: OperationStore
    look: Callable[[], tuple[str, S]]
    plan: Callable[[S], Planned]
    run: Callable[[Operation], execute.Outcome]
    unchanged: Callable[[S], Mapping[str, Any]]
    result: Callable[[Operation, Mapping[str, float]], Mapping[str, Any]]
    warnings: Callable[[History], Sequence[str]] = lambda _history: ()
    check_mode: bool = False


def to_its_end(drive: Drive[S]) -> dict[str, Any]:
    """Return the module's result; raises StatefulError."""
    undone: list[str] = []
    try:
        return _to_its_end(drive, undone)
    except StatefulError as failure:
        failure.msg = " ".join([*undone, failure.msg])
        raise


def _to_its_end(drive: Drive[S], undone: list[str]) -> dict[str, Any]:
    """Do so; ``undone`` is where it is told what of an earlier run could only be undone."""
    waited_for = ""
    for _attempt in range(ATTEMPTS):
        project, seen = drive.look()
        if drive.check_mode:
            return _checked(drive, project, seen)
        with drive.operations.locked(project, wait=False) as taken:
            if taken:
                ended = _ended_meanwhile(drive, waited_for)
                result = _result(drive, ended, {}, ()) if ended else _run_locked(drive, project, seen)
                if isinstance(result, _Undone):
                    undone.append(result.sentence())
                elif result is not None:
                    changed = bool(undone) or result["changed"]
                    return {**result, "changed": changed, "warnings": [*undone, *result["warnings"]]}
                continue
        # A run that lost its connection goes on by itself: wait for it, then look again.
        running = drive.operations.open_for(project)
        waited_for = running.id if running else ""
        drive.operations.wait_until_free(project)
    raise StatefulError(
        "The project was changed by other runs over and over while this one was looking at it.",
        next_command="run the same task again when the others have ended",
    )


def refuse_ended(seen: Looked) -> None:
    """Raise where an operation was open at the look and is not any more: nobody asked for the data then."""
    if seen.unfinished:
        raise StatefulError(
            f"The operation {seen.unfinished} was open when this run looked at the project, and has ended since.",
            state="as that operation left it",
            next_command=AGAIN,
        )


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


def blocked(plan: Plan, blockers: Sequence[Blocker]) -> StatefulError:
    """Return the error that names everything in the way, with the plan beside it."""
    return refusal(blockers, plan=dict(plan.summary), plan_text=plan.text, plan_complete=True)


def _plan(drive: Drive[S], seen: S) -> Planned:
    refuse_ended(seen)
    return drive.plan(seen)


def _ended_meanwhile(drive: Drive[S], operation_id: str) -> Operation | None:
    """Return the operation that this run waited for, if another made it to its end."""
    operation = drive.operations.get(operation_id) if operation_id else None
    ended = operation is not None and operation.history().state == DONE and not operation.is_open
    return operation if ended else None


@dataclass(frozen=True)
class _Undone:
    """An operation that an earlier run had left open, and that this run could only undo."""

    operation: Operation

    def sentence(self) -> str:
        # Whoever prepared it hours ago sees another operation now, and wants to know what became of the first.
        history = self.operation.history()
        kept = [copy.path for copy in history.copies() if os.path.lexists(copy.path)]
        told = "".join(f"; {each}" for each in execute.told_by_undo(self.operation))
        return (
            f"The operation {self.operation.id}, begun by an earlier run, could not go on and was undone"
            f" ({history.failure.rstrip('.')}){told}; this run looked again, to begin anew."
            + (f" It keeps {', '.join(kept)}." if kept else "")
        )


def _run_locked(drive: Drive[S], project: str, seen: S) -> dict[str, Any] | _Undone | None:
    """Run or resume under the project's lock; anything but a result means: look again and begin anew."""
    operation = drive.operations.open_for(project)
    resumed = operation is not None
    warnings: Sequence[str] = ()
    if operation is None and seen.unfinished:
        return None  # it ended between the look and the lock
    if operation is None:
        planned = _plan(drive, seen)
        if planned.plan is None:
            return _unchanged(drive, project, seen, planned.warnings)
        if planned.blockers:
            raise blocked(planned.plan, planned.blockers)
        operation = drive.operations.begin(planned.plan)
        warnings = planned.warnings
    try:
        outcome = _detached(drive, operation)
    except StatefulError as failure:
        # A run that was killed half-way could not go on and was undone: the
        # service runs, and the same goal deserves a fresh attempt.
        if resumed and failure.facts.get("rolled_back"):
            return _Undone(operation)
        raise
    if outcome["state"] == ROLLED_BACK:
        return _Undone(operation)
    return _result(drive, operation, outcome, warnings)


def _detached(drive: Drive[S], operation: Operation) -> dict[str, Any]:
    def work() -> dict[str, Any]:
        try:
            outcome = drive.run(operation)
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


def _checked(drive: Drive[S], project: str, seen: S) -> dict[str, Any]:
    operation = drive.operations.open_for(project)
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
    planned = _plan(drive, seen)
    if planned.plan is None:
        return _unchanged(drive, project, seen, planned.warnings)
    if planned.blockers:
        raise blocked(planned.plan, planned.blockers)
    return {
        "changed": True,
        "operation": drive.operations.next_id(planned.plan.goal),
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


def _unchanged(drive: Drive[S], project: str, seen: S, warnings: Sequence[str]) -> dict[str, Any]:
    done = drive.operations.newest_done(project)
    return {
        "changed": False,
        "operation": done.id if done else "",
        **drive.unchanged(seen),
        "plan_complete": True,
        "copies": retained(drive.operations, project),
        "warnings": list(warnings),
        "diff": [],
    }


def _result(
    drive: Drive[S], operation: Operation, outcome: Mapping[str, Any], warnings: Sequence[str]
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
        **drive.result(operation, outcome.get("steps", {})),
        "warnings": [*warnings, *drive.warnings(history)],
    }


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
