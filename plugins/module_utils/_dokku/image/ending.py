# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a swap ends: committed, and the old service is destroyed; or rolled back, and it is the app's again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import services, survey
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image import downtime, planner
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.journey import HANDLERS
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import World, calls_of, is_primary
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.detached import run_detached
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    COMMITTED,
    DONE,
    ROLLED_BACK,
    Step,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.report import rolling_back
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.commit import plan_commit, remove_copy
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.rollback import check_state

Connect = Callable[[Mapping[str, Any]], World]
"""Opens the seams to the host, by what the operation journaled of them."""


@dataclass(frozen=True)
class SwapEnding:
    operations: OperationStore
    connect: Connect
    check_mode: bool = False

    def roll_back(self, operation: Operation) -> dict[str, Any]:
        """Take the swap back; raises where that would lose what was written since, and nobody asked for it."""
        args = self._step(operation, planner.LET_IN).args
        text = f"{operation.id}: {args['app']} goes back from {args['new']} to {args['old']}, which is as it was."
        project = operation.plan.goal.project
        with self.operations.locked(project, wait=True):
            if operation.history().state == ROLLED_BACK:
                return {"changed": False, "operation": operation.id, "plan_text": text, "copies": []}
            check_state(operation, self.operations.newest_done(project))
            world = self._world(operation)
            self._refuse_loss(world, operation, args)
            if not self.check_mode:

                def work() -> dict[str, Any]:
                    reason = "It was rolled back on request."
                    with calls_of(operation, self._world(operation)) as there:
                        execute.undo(operation, HANDLERS, there, reason=reason)
                    return {}

                run_detached(work, result_path=operation.result_path, log_path=operation.worker_log)
        copies = [copy.as_dict() for copy in operation.history().copies() if os.path.lexists(copy.path)]
        return {"changed": True, "operation": operation.id, "plan_text": text, "copies": copies}

    def commit(self, operation: Operation, *, min_age_days: float, remove_backups: bool) -> dict[str, Any]:
        """Destroy the old service, and the dump where that is asked for."""
        project = operation.plan.goal.project
        open_one = self.operations.open_for(project)
        removal = plan_commit(operation, open_one, min_age_days=min_age_days, with_backups=remove_backups)
        pending = operation.history().state == DONE or bool(removal.copies)
        if pending and not self.check_mode:
            with self.operations.locked(project, wait=True):
                world = self._world(operation)
                if operation.history().state == DONE:
                    self._destroy(world, operation)
                for copy in removal.copies:
                    if copy.role == "backup" and os.path.isfile(copy.path):
                        os.unlink(copy.path)
                    elif os.path.lexists(copy.path):
                        remove_copy(world.engine, operation, copy)
                if operation.history().state == DONE:
                    operation.journal.state(COMMITTED)
        lines = [f"Commit {operation.id}", *(f"  removes {copy.service} ({copy.path})" for copy in removal.copies)]
        return {
            "changed": pending,
            "operation": operation.id,
            "plan_text": "\n".join(lines),
            "removed": [copy.as_dict() for copy in removal.copies],
            "copies": [copy.as_dict() for copy in operation.history().copies() if os.path.lexists(copy.path)],
        }

    def _world(self, operation: Operation) -> World:
        return self.connect(operation.plan.facts["dokku"])

    def _refuse_loss(self, world: World, operation: Operation, args: Mapping[str, Any]) -> None:
        known = operation.history().evidence.get(planner.IMPORT)
        if known is None or world.discard_writes or not survey.exists(world.dokku, args["new"]):
            return
        if not is_primary(world, args["app"], args["new"]):
            return
        written = downtime.writes_since(world, args["new"], known)
        if written:
            raise InvalidInput(
                f"About {written} transactions were made on {args['new']} since {operation.id}, and {args['old']} does"
                " not have them. Keep the new service; or, within one major version, go to the old image with"
                " dokku_postgres_image, which takes them along; or set discard_writes, which exports them to a file"
                " and goes back without them.",
                next_command=f"{rolling_back(operation)} -e discard_writes=true",
                operation=operation.id,
                transactions=written,
            )

    def _destroy(self, world: World, operation: Operation) -> None:
        """Destroy the old service, where the app has its data in the new one and nobody uses the old one."""
        args = self._step(operation, planner.LET_IN).args
        if not is_primary(world, args["app"], args["new"]):
            raise StatefulError(
                f"DATABASE_URL of {args['app']} does not point at {args['new']}, so {args['old']} is not destroyed.",
                next_command=world.dokku.typed("postgres:app-links", args["app"]),
            )
        world.container(args["new"])
        old = survey.service(world.dokku, world.engine, args["old"])
        if old is None:
            return
        users = services.users_of(world.reached, old)
        if users:
            raise StatefulError(
                f"{args['old']} is in use, and is not destroyed: {'; '.join(users)}.",
                next_command=world.dokku.typed("postgres:links", args["old"]),
            )
        services.remove(world.reached, args["old"])

    @staticmethod
    def _step(operation: Operation, name: str) -> Step:
        return next(step for step in operation.plan.steps if step.name == name)
