# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether that which an undo returns to is still there: a copy that may be the last one is not taken away."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence, UndoRefused
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Plan
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.layer import layer_path
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import LAYER
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import Identity
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Transfer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World


def refuse_without_original(transfer: Transfer, copy: str, context: Context[World]) -> None:
    """Raise where the original is gone, or is another one: what is in the directory ``copy`` may be all that is left.

    A prune takes a volume that no container refers to. What was written to the original since is no difference.
    """
    why = what_is_lacking(transfer, context)
    if why:
        raise UndoRefused(
            f"The original of {transfer.name}, {transfer.origin.shown()}, is not what it was at the stop ({why}), so"
            " nothing is undone.",
            state=f"what is in {copy} was not touched: it and the backups may be all that is left",
            next_command=f"{shell('ls', '-la', copy)}; then run the same task again: it goes on from there",
        )


def what_is_lacking(transfer: Transfer, context: Context[World]) -> str:
    """Return in words why nothing can return to the original; empty where it can, and where it was never stopped."""
    known = stopped_as(transfer, context.operation.plan, context.evidence)
    # What a volume's options point to shows only while it is mounted, and no prune takes it.
    if known is None or transfer.options:
        return ""
    store = context.world.store(transfer)
    try:
        found = store.identity(transfer.data_at(transfer.origin, _directory(transfer, context.world)))
    except (StatefulError, OSError) as error:
        return str(error)
    return "; ".join(store.differences(known, found))


def stopped_as(
    transfer: Transfer, plan: Plan, evidence: Mapping[str, Evidence], *, noted_as: str = "identities"
) -> Identity | None:
    """Return the identity that the original was stopped with; None where it was not stopped yet.

    ``noted_as``: by which word of the stop's evidence.
    """
    stop = next((step.name for step in plan.steps if step.kind == "stop_stores"), "")
    known: Identity | None = evidence.get(stop, {}).get(noted_as, {}).get(transfer.name)
    return known


def _directory(transfer: Transfer, world: World) -> str:
    """Return where the original lies: a layer's goes with its container, but for the links to its files."""
    if transfer.origin.kind != LAYER:
        return transfer.origin.path
    for container_id in transfer.containers:
        container = world.engine.container(container_id)
        if container is not None and os.path.isdir(layer_path(container, transfer.target)):
            return layer_path(container, transfer.target)
    return transfer.retained
