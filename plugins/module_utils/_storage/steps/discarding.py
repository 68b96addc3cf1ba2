# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An undo past what was written on the goal, where the admin gives that up: it is kept beside, as a copy."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace

from ansible_collections.selfhost.stateful.plugins.module_utils._durable import fsync_directory
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.report import rolling_back
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.barrier import seal
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import BIND, RENAME
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.copies import original
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Transfer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World

DISCARDED = "discarded"


def can_discard(transfer: Transfer) -> bool:
    """Tell whether the goal is a directory of ours, which can be set aside: a volume's would be the engine's."""
    return transfer.goal.kind == BIND and transfer.strategy != RENAME


def giving_up(operation: Operation) -> str:
    """Return the command that undoes the operation all the same."""
    return f"{rolling_back(operation)} -e operation_discard_writes=true"


def forward_or_back(operation: Operation, forward: str) -> str:
    """Return both ways out of an undo that was refused."""
    return f"{forward}; or give up what was written there, which is kept in a directory beside: {giving_up(operation)}"


def set_aside(transfer: Transfer, wrote: str, context: Context[World]) -> str:
    """Give what lies at the goal, which nobody runs on any more, another name; return that.

    It is a copy of the operation's from then on, and is removed only when that is committed.
    """
    path, operation = transfer.goal.path, context.operation
    names = (f"{path}.{DISCARDED}-{operation.id}{'' if n == 1 else f'-{n}'}" for n in itertools.count(1))
    kept = next(name for name in names if not os.path.lexists(name))
    copy = replace(
        original(transfer, path, "a directory of its own"),
        path=kept,
        proof=f"what was written in {path} and then given up ({wrote})",
    )
    # Named before it is there: a kill in between must not leave a directory of which nobody knows whose it is.
    operation.journal.evidence(f"discard what {transfer.name} took", {"copies": [copy.as_dict()]}, durable=True)
    os.rename(path, kept)
    # A container stands on this name until the undo of the stop: started, it would find an empty directory.
    seal(transfer.goal)
    fsync_directory(os.path.dirname(path))
    return kept
