# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Carry an upgrade of the dogu out: find what is open, plan, run in a session of its own, and report."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu import planner, steps, survey
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.ces import Host
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.model import (
    DOWN,
    EQUAL,
    Seen,
    Version,
    way,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.upgrade import Upgrade
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.detached import run_detached
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Handlers
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import ROLLED_BACK, Goal, Plan
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import remove_leftover_helpers
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.run import (
    blocked,
    refuse_other_goal,
    retained,
)

MODULE = "cloudogu_dogu"
ATTEMPTS = 2
"""One that resumes, and one that begins anew where what was resumed had to be undone."""

HANDLERS: Handlers[Host] = {
    planner.KEEP: steps.KeepImage(),
    planner.BACKUP: steps.BackUp(),
    planner.WARM: steps.WarmCopy(),
    planner.QUIET: steps.Quiet(),
    planner.ORIGINAL: steps.Original(),
    planner.UPGRADE: Upgrade(),
    planner.PROVE: steps.Prove(),
    planner.DEPENDENTS: steps.Dependents(),
}


@dataclass(frozen=True)
class Request:
    """What is wanted. ``connect`` opens fresh connections, because sockets do not survive a fork.

    ``version`` None is the newest that the host offers.
    """

    name: str
    version: Version | None
    connect: Callable[[], Host] = field(repr=False)
    subject: Mapping[str, Any] = field(default_factory=dict)
    dependents: Sequence[str] = (survey.AUTO,)
    backup: str = "auto"
    backup_dir: str = ""
    stop_before: str = ""


@dataclass(frozen=True)
class Planned:
    plan: Plan | None
    blockers: tuple[Blocker, ...]
    seen: Seen


def goal_of(name: str, version: Version) -> Goal:
    return Goal(MODULE, name, {"version": str(version)})


def plan(request: Request, host: Host, operations: OperationStore) -> Planned:
    """Look, and plan what is left to do; changes nothing."""
    seen = survey.see(host, request.dependents)
    wanted = request.version or seen.available or seen.version
    how = way(seen.version, wanted)
    if how == DOWN:
        raise InvalidInput(
            f"{seen.version} runs in {seen.name}, and {wanted} is older: there is no way down but a roll back."
        )
    if how == EQUAL:
        # Where nothing is to be done, what an earlier upgrade left is in the way all the same.
        left = planner.blockers_of(seen, wanted, backups=os.sep, free_for_backups=1 << 62, same_disk=False)
        if seen.stuck and left:
            raise blocked(Plan(goal_of(seen.name, wanted), ()), left)
        return Planned(None, (), seen)
    goal = goal_of(seen.name, wanted)
    operation = operations.next_id(goal)
    backup_path = os.path.join(request.backup_dir, operation)
    original = f"{backup_path}-original"
    existing = _existing(request.backup_dir)
    blockers = planner.blockers_of(
        seen,
        wanted,
        backups=os.path.realpath(request.backup_dir),
        free_for_backups=shutil.disk_usage(existing).free,
        same_disk=os.stat(existing).st_dev == os.stat(seen.volume).st_dev,
    )
    if host.at_work():
        blockers.insert(0, Blocker(f"A cesapp upgrades {seen.name} now: wait until it has ended."))
    made = planner.steps_of(seen, wanted, backup=request.backup, backup_path=backup_path, original=original)
    summary = {
        "name": seen.name,
        "from": str(seen.version),
        "to": str(wanted),
        "kind": how,
        "volume": seen.volume,
        "data_directory": seen.data,
        "dependents": [each.name for each in seen.dependents if each.running],
        "steps": [step.name for step in made],
    }
    text = planner.text_of(seen, wanted, backup_path=backup_path, original=original, blockers=blockers)
    facts = {"subject": dict(request.subject), "original": original}
    return Planned(Plan(goal, made, facts=facts, summary=summary, text=text), tuple(blockers), seen)


def _existing(path: str) -> str:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def carry_out(request: Request, operations: OperationStore, *, check_mode: bool) -> dict[str, Any]:
    """Return the module's result; raises StatefulError."""
    if check_mode:
        return _checked(request, operations)
    for _attempt in range(ATTEMPTS):
        with operations.locked(request.name, wait=True):
            result = _run_locked(request, operations)
        if result is not None:
            return result
    raise StatefulError(
        "What an earlier run had begun was undone, over and over.",
        state="the old version runs on the old data",
        next_command="look at the operations of this host (selfhost.stateful.operation_info)",
    )


def _is_mine(request: Request) -> Callable[[Goal], bool]:
    # Without a version whatever is open is gone on with: what was the newest then may be another now.
    return lambda goal: (
        goal.module == MODULE and (request.version is None or goal == goal_of(request.name, request.version))
    )


def _run_locked(request: Request, operations: OperationStore) -> dict[str, Any] | None:
    refuse_other_goal(operations, request.name, _is_mine(request), str(request.version or "the newest version"))
    operation = operations.open_for(request.name)
    resumed = operation is not None
    if operation is None:
        planned = plan(request, request.connect(), operations)
        if planned.plan is None:
            return _unchanged(request, operations, planned.seen)
        if planned.blockers:
            raise blocked(planned.plan, planned.blockers)
        operation = operations.begin(planned.plan)
    try:
        outcome = _detached(request, operation)
    except StatefulError as failure:
        if resumed and failure.facts.get("rolled_back"):
            return None
        raise
    if outcome["state"] == ROLLED_BACK:
        return None
    return _result(operation, outcome)


def _detached(request: Request, operation: Operation) -> dict[str, Any]:
    def work() -> dict[str, Any]:
        host = request.connect()
        remove_leftover_helpers(host.engine, operation.id)
        try:
            outcome = execute.run(operation, HANDLERS, host, stop_before=request.stop_before)
        except execute.UndoneFailure as failure:
            failure.facts["rolled_back"] = True
            raise
        return {
            "state": outcome.state,
            "steps": dict(outcome.steps),
            "stopped_before": outcome.stopped_before,
        }

    return run_detached(work, result_path=operation.result_path, log_path=operation.worker_log)


def _checked(request: Request, operations: OperationStore) -> dict[str, Any]:
    refuse_other_goal(operations, request.name, _is_mine(request), str(request.version or "the newest version"))
    operation = operations.open_for(request.name)
    if operation is not None:
        step = operation.history().current_step or "the first"
        return {
            "changed": True,
            "operation": operation.id,
            "resumes_in": operation.plan.phase_reached(operation.history()),
            "plan": dict(operation.plan.summary),
            "plan_text": f"{operation.plan.text}\n  Unfinished: the next run goes on at the step '{step}'.",
            "version": operation.plan.summary["from"],
        }
    planned = plan(request, request.connect(), operations)
    if planned.plan is None:
        return _unchanged(request, operations, planned.seen)
    if planned.blockers:
        raise blocked(planned.plan, planned.blockers)
    return {
        "changed": True,
        "operation": operations.next_id(planned.plan.goal),
        "plan": dict(planned.plan.summary),
        "plan_text": planned.plan.text,
        "version": str(planned.seen.version),
    }


def _unchanged(request: Request, operations: OperationStore, seen: Seen) -> dict[str, Any]:
    done = operations.newest_done(request.name)
    return {
        "changed": False,
        "operation": done.id if done else "",
        "version": str(seen.version),
        "plan": {"name": seen.name, "from": str(seen.version), "to": str(seen.version), "kind": EQUAL, "steps": []},
        "plan_text": f"Dogu {seen.name}: nothing to do, {seen.version} runs.",
        "copies": retained(operations, request.name),
    }


def _result(operation: Operation, outcome: Mapping[str, Any]) -> dict[str, Any]:
    history = operation.history()
    evidence = history.evidence
    began, ended = evidence.get("quiet", {}).get("began"), evidence.get("start the dependents", {}).get("ended")
    upgraded, proved = evidence.get("upgrade", {}), evidence.get("prove", {})
    return {
        "changed": True,
        "operation": operation.id,
        "operation_state": history.state,
        "stopped_before": outcome["stopped_before"],
        "version": operation.plan.summary["to" if upgraded else "from"],
        "plan": dict(operation.plan.summary),
        "plan_text": operation.plan.text,
        "resolved": list(upgraded.get("resolved", ())),
        "verification": {
            key: proved[key] for key in ("databases", "tables", "rows", "roles", "markers") if key in proved
        },
        "downtime_seconds": round(ended - began, 2) if began and ended else 0.0,
        "phases": dict(outcome["steps"]),
        "copies": [copy.as_dict() for copy in history.copies()],
    }
