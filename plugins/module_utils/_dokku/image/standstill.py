# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The old service stands still once its files were taken: the new one lacks what is written there since.

Anybody's start of the app lets dokku start it, as long as it is linked. Of a dump nothing is said here: the old service
serves on, and lets new sessions only read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.pair import world_of_moves
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.plan_physical import VACATE
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import World
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import container_of
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import History, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import NEXT_XID
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.originals import stopped_as
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import transfer_of

TAKEN_AS = "taken_as"
"""Of the stop's evidence: the identities with which the files were taken, where it was stopped once more since."""
OURS = "that the old service was started by us"
"""Evidence of an undo: ``running`` since, or the ``identity`` that it stands still with again."""


def refuse_if_it_ran(world: World, operation: Operation) -> None:
    """Raise where the old service runs, or was written to, since its files were taken.

    One that was only started, and stands still again, has nothing that the new one lacks: to go back from there would
    lose what the app may have written to that in a run before.
    """
    vacate, wrote = _step(operation, VACATE), written(world, operation)
    running = _runs(world, operation)
    if vacate is None or not (running or wrote):
        return
    old, new = vacate.args["old"], vacate.args["new"]
    raise StatefulError(
        f"{old} was started after its data was taken, and may have taken writes that {new} lacks"
        f" ({wrote or 'it runs'}).",
        state=f"{old} has all data; what {new} has was taken from it before",
        next_command=world.dokku.typed("postgres:logs", old),
    )


def runs_unasked(world: World, operation: Operation) -> bool:
    """Tell whether the old service runs since its files were taken, and not because we ask it."""
    return _runs(world, operation) and not is_asked(operation)


def written(world: World, operation: Operation) -> str:
    """Return in words what others wrote to the old service since its files were taken; empty for nothing."""
    vacate, since = _step(operation, VACATE), _stood_with(operation)
    if vacate is None or since is None or _ours(operation.history()).get("running"):
        return ""
    old, transfer = vacate.args["old"], transfer_of(vacate)
    container = world.engine.container(container_of(old))
    if container is not None and container.running:
        with world.session(old) as there:
            made = int(there.scalar(NEXT_XID)) - int(since["next_xid"])
        return f"about {made} transactions" if made > 0 else ""
    data = transfer.data_at(transfer.origin)
    if not os.path.isfile(os.path.join(data, "global", "pg_control")):
        return ""  # half destroyed, it tells nothing any more
    return world_of_moves(world, old, vacate.args["new"]).store(transfer).took_writes(data, since)


def begin_asking(world: World, operation: Operation) -> None:
    """Note that it is we who start the old service, where nobody wrote to it: what it does by itself is no write."""
    if _stood_with(operation) is not None and not written(world, operation):
        operation.journal.evidence(OURS, {"running": True}, durable=True)


def end_asking(world: World, operation: Operation) -> None:
    """Note as what the old service stands still again, which we had started."""
    vacate = _step(operation, VACATE)
    if vacate is None or not _ours(operation.history()).get("running"):
        return
    transfer = transfer_of(vacate)
    store = world_of_moves(world, vacate.args["old"], vacate.args["new"]).store(transfer)
    identity = store.identity(transfer.data_at(transfer.origin))
    operation.journal.evidence(OURS, {"identity": dict(identity)}, durable=True)


def is_asked(operation: Operation) -> bool:
    """Tell whether the old service was started by us, and has not been stopped since."""
    return bool(_ours(operation.history()).get("running"))


def _stood_with(operation: Operation) -> Mapping[str, Any] | None:
    """Return as what the old service stood still when its files were taken, or when we stopped it again.

    None where it was not stopped, or not for its files.
    """
    vacate, history = _step(operation, VACATE), operation.history()
    if vacate is None:
        return None
    stop = transfer_of(vacate), operation.plan, history.evidence
    stopped = stopped_as(*stop, noted_as=TAKEN_AS) or stopped_as(*stop)
    found: Mapping[str, Any] | None = _ours(history).get("identity", stopped)
    return found


def _runs(world: World, operation: Operation) -> bool:
    vacate = _step(operation, VACATE)
    container = world.engine.container(container_of(vacate.args["old"])) if vacate is not None else None
    return container is not None and container.running and _stood_with(operation) is not None


def _ours(history: History) -> Mapping[str, Any]:
    return history.evidence.get(OURS, {})


def _step(operation: Operation, name: str) -> Step | None:
    return next((step for step in operation.plan.steps if step.name == name), None)
