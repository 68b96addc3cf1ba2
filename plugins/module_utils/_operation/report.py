# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An operation as data for a person or a playbook."""

from __future__ import annotations

import os
import time
from datetime import datetime, timezone
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Copy
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation

DAY = 86400.0


def describe(operation: Operation, *, working: bool) -> dict[str, Any]:
    """Return state, step, evidence and copies of an operation, with sizes in bytes and ages in days."""
    history = operation.history()
    progress = history.progress
    return {
        "id": operation.id,
        "module": operation.plan.goal.module,
        "project": operation.plan.goal.project,
        "wants": dict(operation.plan.goal.wants),
        "state": history.state,
        "open": operation.is_open,
        "proved": history.proved,
        "undoing": history.undoing,
        "working": working,
        "step": history.current_step,
        "failure": history.failure,
        "age_days": round((time.time() - history.changed_at) / DAY, 2),
        "started_at": datetime.fromtimestamp(history.started_at, timezone.utc).isoformat(timespec="seconds"),
        "copies": [_copy(copy) for copy in history.copies()],
        "evidence": {name: dict(evidence) for name, evidence in history.evidence.items()},
        "progress": {
            "phase": progress.phase,
            "step": progress.step,
            "done_bytes": progress.done_bytes,
            "total_bytes": progress.total_bytes,
        }
        if progress
        else {},
        "plan": dict(operation.plan.summary),
        "plan_text": operation.plan.text,
        "reverts": operation.plan.reverts or "",
        "directory": operation.directory,
    }


def _copy(copy: Copy) -> dict[str, Any]:
    moment = datetime.fromisoformat(copy.moment.replace("Z", "+00:00"))
    age = (datetime.now(timezone.utc) - moment).total_seconds() / DAY
    return {**copy.as_dict(), "exists": os.path.lexists(copy.path), "age_days": round(age, 2)}


def rolling_back(operation: Operation) -> str:
    """Return what is typed on the controller to roll the operation back; the inventory is the admin's."""
    return shell("ansible-playbook", "selfhost.stateful.operation_rollback", "-e", f"operation_id={operation.id}")


def to_end(operation: Operation) -> str:
    """Return both ways in which an operation that is open can end."""
    return f"run the task of the operation {operation.id} again, or roll it back: {rolling_back(operation)}"
