# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The cluster that a new service was made with is set aside for the data, and removed once that is proved."""

from __future__ import annotations

import os
import shutil

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import World, is_primary, stop_server
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import container_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence, Undecided
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo, SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import control
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.barrier import is_sealed, seal
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import durable
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import transfer_of

ASIDE, REMOVING = ".empty", ".empty.removing"


class Vacate(SelfProving):
    """The new service is stopped, and the empty cluster that it was made with is aside. args: ``new``, ``transfer``.

    On its place lies a file meanwhile: a container that somebody starts does not make another empty cluster there.
    ``made_by``: the step that noted which cluster that is, so that no other one is ever taken for it.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        goal = transfer_of(step).goal
        known = context.evidence.get(step.name)
        if known is None:
            return None
        if is_primary(context.world, step.args["app"], step.args["new"]):
            return known  # what is there is the app's
        if not os.path.isdir(goal.path + ASIDE):
            return None
        return known if is_sealed(goal) or os.path.isdir(goal.path) else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        world, transfer = context.world, transfer_of(step)
        goal, name = transfer.goal, step.args["new"]
        container = container_at(world, name)
        if not os.path.isdir(goal.path + ASIDE):
            # Before anything stops, and again once it stands still: nobody else's data is set aside.
            _refuse_another(transfer.data_at(goal), step, context)
        stop_server(world, container)
        mount = container.mount_at(goal.target)
        if mount is None or os.path.realpath(mount.source) != os.path.realpath(goal.path):
            raise StatefulError(
                f"The service {name} has its data at {mount.source if mount else 'no mount'}, and was to have it in"
                f" {goal.path}.",
                next_command=world.dokku.typed("postgres:info", name),
            )
        if not os.path.isdir(goal.path + ASIDE):
            _refuse_another(transfer.data_at(goal), step, context)
            os.rename(goal.path, goal.path + ASIDE)
            durable.fsync_parent(goal.path)
        if not is_sealed(goal) and not os.path.isdir(goal.path):
            seal(goal)
        return {"aside": goal.path + ASIDE}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        return {}  # the service is destroyed as a whole


def _refuse_another(data: str, step: Step, context: Context[World]) -> None:
    """Raise unless a directory holds the empty cluster that the new service was made with."""
    wanted = context.evidence.get(step.args["made_by"], {}).get("system_identifier")
    found = str(control.read_control(data).system_identifier)
    if found != wanted:
        raise Undecided(
            f"{data} holds the cluster {found}, and the one that {step.args['new']} was made with is {wanted}: it is"
            " not set aside.",
            state=f"nothing was touched; {step.args['old']} and {step.args['new']} are both there",
            safe_to_rerun=False,
            next_command=context.world.dokku.typed("postgres:info", step.args["new"]),
        )


class Tidy(NothingToUndo):
    """The empty cluster that the new service was made with is gone. args: ``transfer``, ``new``, ``made_by``.

    It is given a name of its own before it is removed: half removed, it does not say any more which one it is.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        path = transfer_of(step).goal.path
        return None if any(os.path.isdir(path + name) for name in (ASIDE, REMOVING)) else {}

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        transfer = transfer_of(step)
        aside, removing = (transfer.goal.path + name for name in (ASIDE, REMOVING))
        if os.path.isdir(removing):
            shutil.rmtree(removing)
        if os.path.isdir(aside):
            _refuse_another(transfer.data_at(transfer.goal, aside), step, context)
            os.rename(aside, removing)
            durable.fsync_parent(removing)
            shutil.rmtree(removing)
        return {}


def container_at(world: World, service: str) -> Container:
    """Return the container of a service, running or not; raises where there is none."""
    found = world.engine.container(container_of(service))
    if found is None:
        raise StatefulError(f"The service {service} has no container.", next_command=world.dokku.typed("postgres:list"))
    return found
