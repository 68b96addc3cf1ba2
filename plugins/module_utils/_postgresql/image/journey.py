# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole way of ``postgresql_image``: observe, plan, and say what was reached."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Services
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.subject import by_name
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.drive import Planned, refuse_other_goal
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import plan_text, planner, preflight
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import AUTO, ImageRequest
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.survey import data_of, survey
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import report as of_moves
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.bare import kept_by
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.find import with_sources
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import DataPath
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.planner import plan_of
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import transfers_of_plan
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World

TOLD = (
    "tables_compared",
    "rows_compared",
    "contents_compared",
    "tables_streamed",
    "indexes_rebuilt",
    "extensions_updated",
    "logins_proved",
)
"""What the steps of an image change found out that a result says beside what is said of every move."""


@dataclass(frozen=True)
class Observed:
    """The project, and the service's container with its data; None where nothing is left to do, or a run is open."""

    project: Services
    request: ImageRequest
    image_id: str
    serving: tuple[Container, DataPath] | None
    unfinished: str = ""


@dataclass(frozen=True)
class ImageJourney:
    """A service runs another image with the same data. Meets ``run.Journey``."""

    service: str
    dependents: tuple[str, ...]
    make_request: Callable[[Services], ImageRequest]

    def observe(self, world: World, operations: OperationStore) -> Observed:
        named = [name for name in self.dependents if name != AUTO]
        project = world.maker.observe(world.engine, [self.service, *named])
        request = self.make_request(project)
        mounts = with_sources(request.storage.mounts, project.working_dir)
        request = replace(request, storage=replace(request.storage, mounts=tuple(mounts)))
        open_one = operations.open_for(project.name)
        wanted = _begun_with(open_one, request) or _image_of(world, request.image)
        goal = planner.goal_of(request, wanted)
        asked = f"{self.service} → {request.image}"
        refuse_other_goal(operations, project.name, lambda other: other.digest == goal.digest, asked)
        if open_one is not None:
            return Observed(project, request, wanted, None, open_one.id)
        found = project.containers.get(self.service, ())
        if request.bare and not found:
            by_name(world.engine, self.service)
        if found and all(container.image_id == wanted for container in found):
            return Observed(project, request, wanted, None)
        return Observed(project, request, wanted, data_of(world, project, self.service))

    def plan(self, world: World, observed: Observed, operations: OperationStore) -> Planned:
        if observed.serving is None:
            return Planned(None)
        kept = kept_by(operations, observed.project.name)
        request, found = survey(world, observed.project, observed.request, *observed.serving, kept)
        blockers, warnings = preflight.blockers(request, found), preflight.warnings(request, found)
        goal = planner.goal_of(request, observed.image_id)
        operation = operations.next_id(goal)
        backup_dir = os.path.join(request.storage.backup_dir, operation)
        transfer = planner.transfer_for(request, found, operation)
        steps = () if blockers else planner.steps_for(request, found, transfer, operation, backup_dir)
        made = plan_of(
            goal,
            steps,
            summary=plan_text.summary(request, found, backup_dir),
            text=plan_text.plan_text(request, found, blockers, warnings, backup_dir),
            project_dir=request.storage.project_dir,
            dependents=list(request.dependents),
            compose=world.maker.facts(),
            diff=[dict(changed) for changed in found.findings.rewrite.diff],
        )
        return Planned(made, tuple(blockers), tuple(warnings))

    def unchanged(self, observed: Observed) -> dict[str, Any]:
        containers = observed.project.containers.get(self.service, ())
        return {
            "plan": {"service": self.service, "strategy": "", "files": []},
            "plan_text": f"{plan_text.heading(observed.request)}: nothing to do, {self.service} runs"
            f" {observed.request.image} ({observed.image_id[7:19]}).",
            "mounts": {self.service: [mount.as_inspect() for mount in containers[0].mounts]} if containers else {},
        }

    def outcome(self, operation: Operation, steps: Mapping[str, float]) -> dict[str, Any]:
        history = operation.history()
        evidence = history.evidence
        # Files that were carried once more count as they were then.
        files = next((found["left_out"] for found in reversed(list(evidence.values())) if "left_out" in found), ())
        left_out = [*files, *(word for found in evidence.values() for word in found.get("settings_left_out", ()))]
        outcome = of_moves.outcome(history, transfers_of_plan(operation.plan), steps)
        compared = {key: found[key] for found in evidence.values() for key in TOLD if key in found}
        return {
            **outcome,
            "verification": {**outcome["verification"], **compared},
            "settings_left_out": left_out,
        }


def _begun_with(open_one: Operation | None, request: ImageRequest) -> str:
    """Return the image of an open change of the service to the same tag, which may mean another one since.

    Empty without one. With the service down, another image is no reason to leave it so.
    """
    if open_one is None or open_one.plan.reverts is not None or open_one.plan.goal.module != planner.MODULE:
        return ""
    wants, summary = open_one.plan.goal.wants, open_one.plan.summary
    same = (wants["service"], summary["to"]["reference"]) == (request.service, request.image)
    return str(wants["image"]) if same else ""


def _image_of(world: World, reference: str) -> str:
    wanted = world.engine.image(reference)
    if wanted is None:
        raise InvalidInput(
            f"The image {reference} is not on this engine, and is not pulled unasked.",
            next_command=shell("docker", "pull", reference),
        )
    return wanted.id
