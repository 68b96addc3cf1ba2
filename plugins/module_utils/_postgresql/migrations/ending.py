# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a migration ends: committed, or taken back by its undo file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.ending import Stepwise
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Copy
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.report import rolling_back
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.model import SHELL
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.server import Server
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.steps import (
    HANDLERS,
    MARK,
    is_recognised,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.commit import remove_copy

Connect = Callable[[Mapping[str, Any]], Server]
"""Finds the server again, by what the operation journaled of it."""


def ending_of_migrations(
    operations: OperationStore,
    connect: Connect,
    engine: Callable[[], Engine],
    *,
    check_mode: bool,
    environment: Collection[str] = (),
) -> Stepwise[Server]:
    """Return how migrations end. They retain nothing but their backups. ``environment`` names what is given now."""

    def free(operation: Operation, copies: Sequence[Copy]) -> None:
        for copy in copies:
            remove_copy(engine(), operation, copy)

    def check_back(operation: Operation) -> None:
        check_environment(operation, environment)

    def open_world(operation: Operation) -> AbstractContextManager[Server]:
        # Also where a roll back that was broken off goes on.
        if operation.history().proved:
            check_back(operation)
        return nullcontext(connect(operation.plan.facts["subject"]))

    return Stepwise(
        operations=operations,
        handlers=HANDLERS,
        open_world=open_world,
        check_back=check_back,
        back=_back,
        free=free,
        check_mode=check_mode,
        # Only the mark follows the proof, and whether it can be set says nothing of the way back.
        back_once_proved=True,
    )


def _back(operation: Operation) -> str:
    name = operation.plan.summary["migration"]
    if is_recognised(operation):
        return f"the note of {name} is removed; it was done by other means, and stays done."
    return f"{name} is taken back by its undo file."


def check_environment(operation: Operation, given: Collection[str]) -> None:
    """Raise where a command or script would lack a variable: a mark that it then cannot find would count as gone."""
    uses = any(step.kind == MARK or step.args.get("name", "").endswith(f".{SHELL}") for step in operation.plan.steps)
    lacking = sorted({*operation.plan.facts.get("environment", ())} - {*given})
    if uses and lacking:
        raise InvalidInput(
            f"{operation.plan.summary['migration']} ran with variables that are not journaled, and its way back needs"
            f" them: {', '.join(lacking)}.",
            # In a file, as they may be secrets: everybody sees the arguments of a program.
            next_command=f"{rolling_back(operation)} -e @FILE, where FILE has operation_environment with these, as they"
            " were given when it ran",
        )
