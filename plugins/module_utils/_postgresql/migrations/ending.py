# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a migration ends: committed, or taken back by its undo file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.detached import run_detached
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import COMMITTED, DONE, ROLLED_BACK
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.server import Server
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.steps import HANDLERS
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.commit import plan_commit, remove_copy
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.rollback import check_state

Connect = Callable[[Mapping[str, Any]], Server]
"""Finds the server again, by what the operation journaled of it."""


@dataclass(frozen=True)
class MigrationEnding:
    operations: OperationStore
    connect: Connect
    engine: Callable[[], Engine]
    check_mode: bool = False

    def roll_back(self, operation: Operation) -> dict[str, Any]:
        """Take the migration back; raises where no undo file came with it."""
        project = operation.plan.goal.project
        name = operation.plan.summary["migration"]
        with self.operations.locked(project, wait=True):
            text = f"{operation.id}: {name} is taken back by its undo file."
            if operation.history().state == ROLLED_BACK:
                return {"changed": False, "operation": operation.id, "plan_text": text, "copies": []}
            check_state(operation, self.operations.newest_done(project))
            if not self.check_mode:

                def work() -> dict[str, Any]:
                    server = self.connect(operation.plan.facts["subject"])
                    execute.undo(operation, HANDLERS, server, reason="It was rolled back on request.")
                    return {}

                run_detached(work, result_path=operation.result_path, log_path=operation.worker_log)
        copies = [copy.as_dict() for copy in operation.history().copies()]
        return {"changed": True, "operation": operation.id, "plan_text": text, "copies": copies}

    def commit(self, operation: Operation, *, min_age_days: float, remove_backups: bool) -> dict[str, Any]:
        """Note that the migration stays. It retains nothing but its backup."""
        project = operation.plan.goal.project
        open_one = self.operations.open_for(project)
        removal = plan_commit(operation, open_one, min_age_days=min_age_days, with_backups=remove_backups)
        pending = operation.history().state == DONE or bool(removal.copies)
        if pending and not self.check_mode:
            with self.operations.locked(project, wait=True):
                for copy in removal.copies:
                    remove_copy(self.engine(), operation, copy)
                if operation.history().state == DONE:
                    operation.journal.state(COMMITTED)
        return {
            "changed": pending,
            "operation": operation.id,
            "plan_text": "\n".join([f"Commit {operation.id}", *(f"  removes {copy.path}" for copy in removal.copies)]),
            "removed": [copy.as_dict() for copy in removal.copies],
            "copies": [copy.as_dict() for copy in operation.history().copies() if os.path.lexists(copy.path)],
        }
