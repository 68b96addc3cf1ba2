# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of an image change that are its own; stopping, starting and proving are those of every move."""

from __future__ import annotations

import time

from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence, Handler
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo, SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import NEXT_XID
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import statistics
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.hooks import HOOK_HANDLERS
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.look_again import LookAgain
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.own_writes import CreateNewContainers
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.rebuild import REBUILD_HANDLERS
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.refresh import (
    refresh,
    refresh_as_planned,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.unchanged import (
    CompareService,
    RememberService,
    still_true,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.way_back import ReturnToOriginal
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.standby_steps import MOVE_HANDLERS
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.store import postgresql_store
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.images import KeepImage
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World, the_container, transfer_of


class RefreshService(SelfProving):
    """Indexes and extensions of a service that runs on other libraries, before anybody uses it.

    args: ``transfer``, ``refresh``: ``order_changed`` and ``updates`` (each extension with database and version now).
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return still_true(step, context)

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        transfer, world = transfer_of(step), context.world
        container = the_container(world, transfer)
        world.store(transfer).wait_ready(world.engine, container.id, transfer.store_facts, world.ready_timeout)
        with postgresql_store(world).session(world.engine, container) as session:
            return {**refresh_as_planned(session, step.args["refresh"]), "at": time.time()}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        """Say what no undo takes back; what the old libraries need is done when the old image runs: see OrderBack."""
        updated = step.args["refresh"]["updates"]
        return {"stays": [f"the update of {each['name']} in {each['database']}" for each in updated]}


class OrderBack(SelfProving):
    """Where the change is undone after others served these files, indexes are built in the old order again.

    It comes right before the stores' stop and does nothing, so that its undo comes when the old image serves and no
    dependent does: who writes through an index in the wrong order gets a duplicate past it, or misses a row. args:
    ``transfer``, ``refreshed_by``: name of the step that may have built them, ``stopped_by``: of that stop.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return context.evidence.get(step.name)

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        return {}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        transfer, world, history = transfer_of(step), context.world, context.operation.history()
        stop = step.args["stopped_by"]
        if stop not in history.intents and stop not in history.evidence:
            return {}  # nothing else can have served
        before = context.evidence.get(stop, {}).get("identities", {}).get(transfer.name)
        with postgresql_store(world).session(world.engine, the_container(world, transfer)) as session:
            # Whoever wrote while the other image served did it by that one's order, rebuilt or not.
            written = before is None or int(session.scalar(NEXT_XID)) > int(before["next_xid"])
            if step.args["refreshed_by"] not in history.intents and not written:
                return {}
            # Where rows lay before, they lie again: no reason to stop half-way back.
            return refresh(session, order_changed=True, updates=(), prove=False)


class Analyze(NothingToUndo):
    """Statistics in three stages, the first within seconds, while the service works. args: ``transfer``."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return context.evidence.get(step.name)

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        transfer, world = transfer_of(step), context.world
        if not transfer.running:
            return {"transactions": 0}
        with postgresql_store(world).session(world.engine, the_container(world, transfer)) as session:
            return {"transactions": statistics.analyze_in_stages(session), "analyzed_at": time.time()}


IMAGE_HANDLERS: dict[str, Handler[World]] = {
    **MOVE_HANDLERS,
    **REBUILD_HANDLERS,
    **HOOK_HANDLERS,
    "create_containers": CreateNewContainers(),
    "return_to_original": ReturnToOriginal(),
    "keep_image": KeepImage(),
    "look_again": LookAgain(),
    "refresh_service": RefreshService(),
    "order_back": OrderBack(),
    "remember_service": RememberService(),
    "compare_service": CompareService(),
    "analyze": Analyze(),
}
"""Every step of a change of the image, with those of the moves that it is made of."""
