# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How an upgrade of the dogu ends: committed, or rolled back to the old version on the old data."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.ces import Host
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.run import HANDLERS
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.detached import run_detached
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import COMMITTED, DONE, ROLLED_BACK
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.report import rolling_back
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import NEXT_XID, system_identifier
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.commit import plan_commit, remove_copy
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import let_image_go
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.rollback import check_state


@dataclass(frozen=True)
class DoguEnding:
    """``connect`` finds the host again, by what the operation journaled of it."""

    operations: OperationStore
    connect: Callable[[Mapping[str, Any]], Host]
    check_mode: bool = False
    discard_writes: bool = False

    def roll_back(self, operation: Operation) -> dict[str, Any]:
        """Bring the old version back; raises where the new one has taken writes that nobody gave up."""
        project, summary = operation.plan.goal.project, operation.plan.summary
        text = f"{operation.id}: {project} goes back from {summary['to']} to {summary['from']}, on the data of before."
        with self.operations.locked(project, wait=True):
            history = operation.history()
            if history.state == ROLLED_BACK:
                return {"changed": False, "operation": operation.id, "plan_text": text, "copies": []}
            if not history.undoing:
                check_state(operation, self.operations.newest_done(project))
            if history.state == DONE and not history.undoing and not self.discard_writes:
                self._refuse_writes(operation)
            if not self.check_mode:

                def work() -> dict[str, Any]:
                    host = self.connect(operation.plan.facts["subject"])
                    execute.undo(operation, HANDLERS, host, reason="It was rolled back on request.")
                    return {}

                run_detached(work, result_path=operation.result_path, log_path=operation.worker_log)
        copies = [copy.as_dict() for copy in operation.history().copies()]
        return {"changed": True, "operation": operation.id, "plan_text": text, "copies": copies}

    def _refuse_writes(self, operation: Operation) -> None:
        proved = operation.history().evidence["prove"]
        host = self.connect(operation.plan.facts["subject"])
        with host.session() as there:
            same = str(system_identifier(there)) == proved["system_identifier"]
            since = int(there.scalar(NEXT_XID)) - int(proved["next_xid"])
        if same and since <= 0:
            return
        what = f"has taken about {since} transactions" if same else "runs on another cluster"
        raise InvalidInput(
            f"{host.name} {what} since it was upgraded, and the data of before does not have them: keep the new"
            " version, or give them up with discard_writes: true.",
            next_command=f"{rolling_back(operation)} -e operation_discard_writes=true",
        )

    def commit(self, operation: Operation, *, min_age_days: float, remove_backups: bool) -> dict[str, Any]:
        """Remove the original, and let the old image go."""
        project = operation.plan.goal.project
        open_one = self.operations.open_for(project)
        removal = plan_commit(operation, open_one, min_age_days=min_age_days, with_backups=remove_backups)
        pending = operation.history().state == DONE or bool(removal.copies)
        if pending and not self.check_mode:
            with self.operations.locked(project, wait=True):
                host = self.connect(operation.plan.facts["subject"])
                if operation.history().state == DONE:
                    self._prove(host, operation)
                for copy in removal.copies:
                    remove_copy(host.engine, operation, copy)
                let_image_go(host.engine, operation.history().evidence["keep the image"]["kept_image"])
                if operation.history().state == DONE:
                    operation.journal.state(COMMITTED)
        return {
            "changed": pending,
            "operation": operation.id,
            "plan_text": "\n".join([f"Commit {operation.id}", *(f"  removes {copy.path}" for copy in removal.copies)]),
            "removed": [copy.as_dict() for copy in removal.copies],
            "copies": [copy.as_dict() for copy in operation.history().copies() if os.path.lexists(copy.path)],
        }

    @staticmethod
    def _prove(host: Host, operation: Operation) -> None:
        """A later version of the same cluster, or of what was made of it by this program, is as good."""
        if not host.serves(host.container()):
            raise StatefulError(
                f"{host.name} does not serve, so the original is not removed.", next_command="docker ps -a"
            )
