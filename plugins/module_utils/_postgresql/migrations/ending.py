# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a migration ends: committed, or taken back by its undo file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.ending import Stepwise
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Copy
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.server import Server
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.steps import (
    HANDLERS,
    is_recognised,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.commit import remove_copy

Connect = Callable[[Mapping[str, Any]], Server]
"""Finds the server again, by what the operation journaled of it."""


def ending_of_migrations(
    operations: OperationStore, connect: Connect, engine: Callable[[], Engine], *, check_mode: bool
) -> Stepwise[Server]:
    """Return how migrations end. They retain nothing but their backups."""

    def free(operation: Operation, copies: Sequence[Copy]) -> None:
        for copy in copies:
            remove_copy(engine(), operation, copy)

    return Stepwise(
        operations=operations,
        handlers=HANDLERS,
        open_world=lambda operation: nullcontext(connect(operation.plan.facts["subject"])),
        back=_back,
        free=free,
        check_mode=check_mode,
    )


def _back(operation: Operation) -> str:
    name = operation.plan.summary["migration"]
    if is_recognised(operation):
        return f"the note of {name} is removed; it was done by other means, and stays done."
    return f"{name} is taken back by its undo file."
