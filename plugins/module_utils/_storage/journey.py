# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole way of ``compose_storage``: observe, plan, run or resume, and say what was reached."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Project, observe_project
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.drive import Planned, refuse_other_goal
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import DONE, SWITCH, Goal, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import planner, preflight, report
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.find import (
    declared_target,
    find_data,
    with_sources,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    DataPath,
    Findings,
    MountRequest,
    Move,
    Request,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.observe import reached
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.strategy import choose
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.survey import survey, survey_files
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import transfers_of_plan
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World


@dataclass(frozen=True)
class Observed:
    """The project as it is, and per wanted mount where its data lives; None for a service without a container.

    ``unfinished`` is the open operation that has this very goal. Its journal
    knows where everything is, so that nobody was asked for the data.
    """

    project: Project
    request: Request
    data: tuple[tuple[MountRequest, DataPath | None], ...]
    unfinished: str = ""

    @property
    def moving(self) -> list[tuple[MountRequest, DataPath]]:
        return [(mount, data) for mount, data in self.data if data is not None and not reached(data, mount.source)]

    @property
    def settled(self) -> list[tuple[MountRequest, DataPath]]:
        return [(mount, data) for mount, data in self.data if data is not None and reached(data, mount.source)]

    @property
    def never_created(self) -> list[MountRequest]:
        return [mount for mount, data in self.data if data is None]


@dataclass(frozen=True)
class StorageJourney:
    """Data moves into the bind mounts of ``mounts``. Meets ``run.Journey``."""

    mounts: tuple[MountRequest, ...]
    make_request: Callable[..., Request]

    def observe(self, world: World, operations: OperationStore) -> Observed:
        return observe(world, self.mounts, self.make_request, operations)

    def plan(self, world: World, observed: Observed, operations: OperationStore) -> Planned:
        return plan(world, observed, operations)

    def unchanged(self, observed: Observed) -> dict[str, Any]:
        return {
            "plan": {"moves": [], "files": []},
            "plan_text": f"Project {observed.project.name}: nothing to do, all data is where it is wanted.",
            "mounts": {f"{data.service}:{data.target}": dict(data.mount) for _mount, data in observed.settled},
        }

    def outcome(self, operation: Operation, steps: Mapping[str, float]) -> dict[str, Any]:
        return report.outcome(operation.history(), transfers_of_plan(operation.plan), steps)


def observe(
    world: World, mounts: Sequence[MountRequest], make_request: Callable[..., Request], operations: OperationStore
) -> Observed:
    """Look at the project; raises :class:`InvalidInput` for a request that does not fit it."""
    services = list(dict.fromkeys(mount.service for mount in mounts))
    project = observe_project(world.engine, world.compose, services)
    resolved = with_sources(mounts, project.working_dir)
    preflight.check_request(resolved)
    asked = ", ".join(f"{mount.service} → {mount.source}" for mount in resolved)
    refuse_other_goal(operations, project.name, lambda goal: matches(goal, resolved), asked)
    open_one = operations.open_for(project.name)
    if open_one is not None:
        # A killed run leaves containers away and directories under way: no question about them has an answer now.
        request = make_request(project, resolved)
        return Observed(project, request, tuple((mount, None) for mount in resolved), open_one.id)
    data = tuple((mount, find_data(world, project, mount)) for mount in resolved)
    found = tuple((_targeted(world, project, mount, path), path) for mount, path in data)
    preflight.check_request([mount for mount, _path in found])  # again: now every target is known
    return Observed(project, make_request(project, tuple(mount for mount, _path in found)), found)


def _targeted(world: World, project: Project, mount: MountRequest, path: DataPath | None) -> MountRequest:
    target = path.target if path is not None else mount.target or declared_target(world, project, mount.service)
    return replace(mount, target=target)


def plan(world: World, observed: Observed, operations: OperationStore) -> Planned:
    """Plan what is left to do; pure but for the questions that it asks."""
    request = observed.request
    if not observed.moving:
        return _file_only(world, observed)
    findings = survey(world, observed.project, request, observed.moving, observed.never_created)
    findings = replace(findings, moves=tuple(_naming_kept(move, operations) for move in findings.moves))
    choices = {preflight.name_of(move): choose(move, request.strategy) for move in findings.moves}
    blockers = preflight.blockers(request, findings, choices)
    warnings = preflight.warnings(request, findings, choices)
    goal = goal_of(observed)
    operation = operations.next_id(goal)
    transfers = planner.transfers_for(request, findings, choices, operation)
    backup_dir = os.path.join(request.backup_dir, operation)
    steps: tuple[Step, ...] = ()
    if not blockers:
        steps = planner.steps_for(request, findings, transfers, backup_dir)
    summary = report.summary(request, findings, choices, transfers, backup_dir)
    text = report.plan_text(request, findings, choices, blockers, warnings, backup_dir)
    made = planner.plan_of(goal, steps, summary=summary, text=text, **_lasting(world, request, findings))
    return Planned(made, tuple(blockers), tuple(warnings))


def _naming_kept(move: Move, operations: OperationStore) -> Move:
    """Return the move with a place that says so if what stands in its way was left there by one of our operations."""
    for operation in operations.all():
        history = operation.history()
        if history.state == DONE and any(copy.path == move.place.path for copy in history.copies()):
            told = (
                f"{move.place.occupied_by}, kept by the operation {operation.id} until that is committed"
                f" (selfhost.stateful.operation, id: {operation.id}, state: committed)"
            )
            return replace(move, place=replace(move.place, occupied_by=told))
    return move


def goal_of(observed: Observed) -> Goal:
    wants = {f"{mount.service}:{mount.target}": mount.source for mount, _data in observed.data}
    return Goal("compose_storage", observed.project.name, {"mounts": wants})


def _file_only(world: World, observed: Observed) -> Planned:
    """Plan the edit of the file alone: for what runs on the wanted mount already, and for what was never started."""
    request, never_created = observed.request, observed.never_created
    settled = [mount for mount, _data in observed.settled]
    findings = survey_files(world, observed.project, request, never_created, settled)
    blockers = preflight.blockers(request, findings, {})
    warnings = preflight.warnings(request, findings, {})
    rewrite = findings.rewrite
    if not rewrite.paths and not blockers:
        return Planned(None, warnings=tuple(warnings))
    args = planner.rewrite_args(request, findings)
    steps = (Step("rewrite", "rewrite the compose file", SWITCH, args, proves=True),)
    made = planner.plan_of(
        goal_of(observed),
        steps,
        summary={"moves": [], "files": list(rewrite.paths)},
        text=report.file_only_text(
            observed.project.name, rewrite, [mount.service for mount in never_created], blockers, warnings
        ),
        **_lasting(world, request, findings),
    )
    return Planned(made, tuple(blockers), tuple(warnings))


def _lasting(world: World, request: Request, findings: Findings) -> dict[str, Any]:
    """Return what a run that resumes or rolls back cannot find out anew; the diff has its secrets masked."""
    return {
        "project_dir": request.project_dir,
        "compose": world.maker.facts(),
        "diff": [dict(changed) for changed in findings.rewrite.diff],
    }


def matches(goal: Goal, mounts: Sequence[MountRequest]) -> bool:
    """Tell whether an open operation wants what is asked for now, also while its service is down."""
    wants: Mapping[str, str] = goal.wants.get("mounts", {})
    if goal.module != "compose_storage" or len(wants) != len(mounts):
        return False
    for mount in mounts:
        fits = [
            key
            for key, source in wants.items()
            if key.partition(":")[0] == mount.service
            and source == mount.source
            and (not mount.target or os.path.normpath(mount.target) == os.path.normpath(key.partition(":")[2]))
        ]
        if not fits:
            return False
    return True
