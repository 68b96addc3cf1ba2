# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole way of ``dokku_postgres_image``: look, plan, run, and say what was reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import maintenance, survey
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image import (
    downtime,
    finish,
    let_in,
    look,
    physical,
    planner,
    prepare,
    quiet,
    writes,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.model import MODULE, Found, Request
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import World, calls_of
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import App, Service
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.drive import (
    Drive,
    Planned,
    refuse_other_goal,
    to_its_end,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Handlers
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Goal, Plan, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.report import fewer_warnings
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.images import KeepImage

HANDLERS: Handlers[World] = {
    "dokku_make": prepare.Make(),
    "dokku_unit": prepare.Unit(),
    "dokku_back_up": prepare.BackUp(),
    "dokku_quiet": quiet.Quiet(),
    "dokku_export": downtime.Export(),
    "dokku_import": downtime.Import(),
    "dokku_repoint": downtime.Repoint(),
    "dokku_let_in": let_in.LetIn(),
    "dokku_show": finish.Show(),
    "dokku_carry_backups": finish.CarryBackups(),
    "dokku_retire": finish.Retire(),
    **physical.PHYSICAL_HANDLERS,
    "keep_image": KeepImage(),
}


@dataclass(frozen=True)
class Looked:
    """The app as it is; the service is None where an operation is open on it, whose journal knows everything."""

    world: World
    app: App | None
    service: Service | None
    image_id: str
    unfinished: str = ""


@dataclass(frozen=True)
class Swap:
    """The data of an app is in a service that runs the image."""

    request: Request
    operations: OperationStore
    connect: Callable[[], World]
    program: tuple[str, ...]
    docker_host: str
    check_mode: bool = False
    stop_before: str = ""

    def carry_out(self) -> dict[str, Any]:
        """Return the module's result; raises StatefulError."""
        return to_its_end(
            Drive(
                operations=self.operations,
                look=self._look,
                plan=self._plan,
                run=self._run,
                unchanged=self._unchanged,
                result=self._outcome,
                warnings=fewer_warnings,
                check_mode=self.check_mode,
            )
        )

    def _run(self, operation: Operation) -> execute.Outcome:
        with calls_of(operation, self.connect()) as world:
            writes.refuse_newer(world, operation)
            # Once the app was let in, what is in the new service is the app's: nothing is brought there any more.
            return execute.run(operation, HANDLERS, world, stop_before=self.stop_before, never_before_proof=True)

    def _goal(self, image_id: str) -> Goal:
        # The tag of an image may mean another one tomorrow, and the same image may have another one.
        return Goal(MODULE, self.request.app, {"image_id": image_id})

    def _look(self) -> tuple[str, Looked]:
        world, request = self.connect(), self.request
        open_one = self.operations.open_for(request.app)
        image_id = self._begun_with(open_one) or look.image_of(world, request).id
        goal = self._goal(image_id)
        refuse_other_goal(self.operations, request.app, lambda other: other == goal, request.reference)
        if open_one is not None:
            return request.app, Looked(world, None, None, image_id, open_one.id)
        app, service = look.app_and_service(world, request)
        return request.app, Looked(world, app, service, image_id)

    def _begun_with(self, open_one: Operation | None) -> str:
        """Return the image of an open swap to the same tag, which may mean another one since; empty without one."""
        if open_one is None or open_one.plan.goal.module != MODULE:
            return ""
        if open_one.plan.summary["to"]["image"] != self.request.reference:
            return ""
        return str(open_one.plan.goal.wants["image_id"])

    def _plan(self, looked: Looked) -> Planned:
        request, world = self.request, looked.world
        if looked.app is None or looked.service is None:
            return Planned(None)  # a run is open, and is gone on with
        if looked.service.image_id == looked.image_id:
            return Planned(None, warnings=self._warnings(looked))
        image = look.image_of(world, request)
        found = look.find(world, request, looked.app, looked.service, image)
        goal = self._goal(image.id)
        operation = self.operations.next_id(goal)
        dump = look.backup_path(request, operation)
        blockers = planner.blockers_of(request, found)
        steps: tuple[Step, ...] = ()
        if not blockers:
            steps = planner.steps_of(request, found, dump=dump, operation=operation)
        plan = Plan(
            goal,
            steps,
            facts={"dokku": {"dokku_program": list(self.program), "docker_host": self.docker_host}, "diff": []},
            summary=planner.summary_of(request, found, steps),
            text=planner.text_of(request, found, blockers, dump=dump),
        )
        return Planned(plan, tuple(blockers), tuple(self._told(found)))

    def _told(self, found: Found) -> list[str]:
        warnings = list(found.files.found.comparison.warnings) if found.files else []
        if not found.running:
            warnings.append(f"The app {found.app.name} does not run, so that nothing proves that it answers.")
        if self.request.backup is None:
            warnings.append("No bucket is named, so that the dump on this host is the only backup.")
        return warnings

    def _warnings(self, looked: Looked) -> tuple[str, ...]:
        """Return what was left of a swap that was made by hand."""
        known = survey.versions(looked.world.dokku)
        shows = known.get(survey.MAINTENANCE, ()) >= survey.FIRST_REPORTING
        if shows and maintenance.is_enabled(looked.world.dokku, self.request.app):
            return (f"The page of {self.request.app} is shown in place of it.",)
        return ()

    def _unchanged(self, looked: Looked) -> dict[str, Any]:
        name = looked.service.name if looked.service else ""
        text = f"{self.request.app}: nothing to do, {name} runs {self.request.reference} ({looked.image_id[7:19]})."
        return {"plan": {"app": self.request.app, "steps": []}, "plan_text": text, "service": name}

    def _outcome(self, operation: Operation, steps: Mapping[str, float]) -> dict[str, Any]:
        history = operation.history()
        evidence = history.evidence
        began, ended = evidence.get(planner.QUIET, {}).get("began"), evidence.get(planner.SHOW, {}).get("ended")
        brought = planner.brought(evidence) or {}
        backup = evidence.get(planner.FIRST_BACKUP, {}).get("backup", {})
        return {
            "service": operation.plan.summary["to"]["service"],
            "copies": [copy.as_dict() for copy in history.copies()],
            "downtime_seconds": round(ended - began, 2) if ended and began else 0.0,
            "phases": dict(steps),
            "verification": {
                "tables": brought.get("tables", 0),
                "rows": brought.get("rows", 0),
                "answers": evidence.get(planner.LET_IN, {}).get("answers", {}),
                "backup": backup,
            },
        }
