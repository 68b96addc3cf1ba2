# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The strategy ``replica`` as steps: a standby on the target while the service runs, then a restart on it."""

from __future__ import annotations

import os
import shutil
import time

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import OPERATION_LABEL, ROLE_LABEL
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence, Handler
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo, SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import routes, standby, standby_server
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import observe_cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.store import postgresql_store
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import SqlError
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.handlers import STORAGE_HANDLERS
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.moves import (
    StagedMove,
    is_in_place,
    remove_staging,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Transfer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import (
    World,
    the_container,
    transfer_of,
)

CATCH_UP = 3600.0
REPLAY = 60.0
SMALL_LAG = 64 << 20
"""Bytes of WAL that a standby may be behind while the service writes: less than a second of replay."""


class MakeStandby(SelfProving):
    """A physical standby in the staging directory, proved and streaming. args: ``transfer``."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        transfer, known = transfer_of(step), context.evidence.get(step.name)
        if known is None:
            return None
        if is_in_place(transfer):
            return known
        helper = context.world.engine.container(known["container_id"])
        if helper is None or not helper.running:
            return None
        return known if self._follows(transfer, context.world, known) else None

    @staticmethod
    def _follows(transfer: Transfer, world: World, known: Evidence) -> bool:
        """Tell whether the standby still keeps up with a primary that serves.

        One that was cut off (the service's container was restarted, and the helper is in the
        network that it had before) runs on, and would be missed in the downtime.
        """
        container = the_container(world, transfer)
        if not container.running:
            return True  # what it holds is proved against the stopped primary
        try:
            with postgresql_store(world).session(world.engine, container) as session:
                lag = standby.lag_of(world.engine, _standby(known), session)
        except SqlError:
            return True  # the primary is on its way down, or up
        return lag is not None and lag.bytes <= SMALL_LAG

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        transfer, world, engine = transfer_of(step), context.world, context.world.engine
        container = the_container(world, transfer)
        if not container.running:
            raise StatefulError(
                f"The standby of {transfer.service} is gone, and the service it would follow does not run.",
                state=f"the data is complete in {transfer.origin.shown()}",
            )
        self.undo(step, context)
        directory = transfer.staged_data
        _make_parents(transfer, directory)
        deadline = time.monotonic() + CATCH_UP
        with postgresql_store(world).session(engine, container) as session:
            cluster = observe_cluster(session)
            route = routes.find_route(engine, container, cluster, session.login, replication=True)
            made = standby.create(
                engine,
                container,
                cluster,
                session,
                route,
                directory=directory,
                operation=context.operation.id,
                labels={},
                deadline=deadline,
                clock=time.monotonic,
                pause=time.sleep,
                progress=context.report,
            )
            standby.settle(engine, made, session, deadline=deadline, clock=time.monotonic, pause=time.sleep)
        return {
            "container_id": made.container_id,
            "directory": made.directory,
            "system_identifier": str(made.system_identifier),
            "bytes_copied": transfer.size_bytes,
        }

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        """Take it away, also one that was finished and not published: it bears a name that only we give."""
        transfer = transfer_of(step)
        standby.remove_helpers(context.world.engine, operation=context.operation.id)
        remove_staging(transfer)
        return {"removed": transfer.staging}


class PromoteStandby(StagedMove):
    """The standby has replayed the primary's shutdown checkpoint, and its directory becomes the goal.

    args: ``transfer``, ``standby``: name of the step that made it.
    """

    def fill(self, transfer: Transfer, step: Step, context: Context[World]) -> Evidence:
        engine = context.world.engine
        known = context.evidence.get(step.args["standby"], {})
        if not known:
            raise StatefulError(f"There is no standby of {transfer.service} any more.")
        follower = _standby(known)
        container = engine.container(follower.container_id)
        if container is None or not container.running:
            raise StatefulError(
                f"The standby of {transfer.service} does not run any more.",
                state=f"the data is complete in {transfer.origin.shown()}",
            )
        # The helper's own environment says nothing about the login.
        service = the_container(context.world, transfer)
        there = postgresql_store(context.world).session(engine, container, like=service)
        control = standby.finish(
            engine,
            follower,
            there,
            primary_directory=transfer.data_at(transfer.origin),
            deadline=time.monotonic() + REPLAY,
            clock=time.monotonic,
            pause=time.sleep,
        )
        return {"bytes_copied": 0, "checkpoint": control.checkpoint_lsn}


class RemoveHelpers(NothingToUndo):
    """Take the stopped standby's container away, outside the downtime. args: ``transfer``."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        labels = {OPERATION_LABEL: context.operation.id, ROLE_LABEL: standby_server.ROLE}
        return None if context.world.engine.containers(labels=labels) else {}

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        labels = {OPERATION_LABEL: context.operation.id, ROLE_LABEL: standby_server.ROLE}
        for container in context.world.engine.containers(labels=labels):
            if container.running:
                raise StatefulError(f"The standby {container.name} still runs after its data was taken into service.")
            context.world.engine.remove_container(container.id)
        return {}


def _standby(known: Evidence) -> standby.Standby:
    return standby.Standby(known["container_id"], known["directory"], int(known["system_identifier"]))


def _make_parents(transfer: Transfer, directory: str) -> None:
    """Make what lies between the mount and the data directory (18's layout), with owner and mode as at the origin."""
    os.makedirs(os.path.dirname(transfer.staging), exist_ok=True)
    made, origin = transfer.staging, transfer.origin.path
    for part in transfer.subpath.split("/") if transfer.subpath else ():
        os.mkdir(made)
        status = os.stat(origin)
        os.chown(made, status.st_uid, status.st_gid)
        shutil.copymode(origin, made)
        made, origin = os.path.join(made, part), os.path.join(origin, part)
    if made != directory:
        raise StatefulError(f"The standby would lie in {directory}, and {made} was made for it.")


MOVE_HANDLERS: dict[str, Handler[World]] = {
    **STORAGE_HANDLERS,
    "make_standby": MakeStandby(),
    "promote_standby": PromoteStandby(),
    "remove_helpers": RemoveHelpers(),
}
"""Every step of a move, whatever the strategy."""
