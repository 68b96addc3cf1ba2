# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The copies of the data: the backup before, the counts around, the original that is kept after."""

from __future__ import annotations

import os
import shutil
import time
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._clock import moment
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import (
    OPERATION_LABEL,
    ROLE_LABEL,
    Container,
    Helper,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo, SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Copy, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import FILES
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.moves import (
    is_same_directory,
    started_since,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import BackupRequest
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Transfer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import durable, links, scan
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import rename as renaming
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import (
    World,
    the_container,
    transfer_of,
    transfers_of,
)

KEEPER = "keeper"
WHERE_OPTIONS_POINT = "a volume with options: its content is where they point to, and is never removed"


class Backup(NothingToUndo):
    """A consistent, proved copy before anything else is touched. args: ``transfer``, ``destination``, ``mode``.

    A backup that is finished stays, also when the operation is undone.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        known = context.evidence.get(step.name)
        return known if known and os.path.exists(step.args["destination"]) else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        transfer, world = transfer_of(step), context.world
        container = the_container(world, transfer)
        store, place = world.store(transfer), transfer.data_at(transfer.origin)
        if not container.running:
            # It cannot be asked for a copy, and needs not be: nobody writes to its files.
            store, place = world.stores[FILES], transfer.origin.path
        copy = store.backup(
            world.engine,
            container,
            transfer.store_facts,
            BackupRequest(
                operation=context.operation.id,
                service=transfer.service,
                host_path=place,
                destination=step.args["destination"],
                mode=step.args["mode"],
            ),
            context.report,
        )
        return {"copies": [copy.as_dict()]}


class CountBefore(NothingToUndo):
    """What the store holds, counted while it runs. args: ``transfers``."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return context.evidence.get(step.name)

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        return {"counts": counts(step, context.world)}


class CompareCounts(NothingToUndo):
    """Count again, outside the downtime, and say what is less than before. args: ``transfers``, ``before``.

    Fewer rows are reported and are no failure: the service has been working
    since, and deleting rows is what services do.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return context.evidence.get(step.name)

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        before = context.evidence.get(step.args["before"], {}).get("counts", {})
        after = counts(step, context.world)
        fewer = []
        for transfer in transfers_of(step):
            if transfer.name in before and transfer.name in after:
                fewer += context.world.store(transfer).compare_counts(before[transfer.name], after[transfer.name])
        return {"before": before, "after": after, "fewer": fewer}


def counts(step: Step, world: World) -> dict[str, Any]:
    found = {}
    for transfer in transfers_of(step):
        if transfer.running:
            container = the_container(world, transfer)
            found[transfer.name] = dict(world.store(transfer).counts(world.engine, container, transfer.store_facts))
    return found


class KeepVolume(SelfProving):
    """A container that is never started holds the volume, from before anything changes. args: ``transfer``.

    What served it goes long before :class:`Retain` has its turn, and a prune takes a volume that nobody refers to.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return {} if self._keepers(step, context) else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        make_keeper(transfer_of(step), context)
        return {}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        for container in self._keepers(step, context):
            context.world.engine.remove_container(container.id, force=True)
        return {}

    @staticmethod
    def _keepers(step: Step, context: Context[World]) -> list[Container]:
        labels = {OPERATION_LABEL: context.operation.id, ROLE_LABEL: KEEPER}
        return context.world.engine.containers(labels=labels, volume=transfer_of(step).origin.volume)


def make_keeper(transfer: Transfer, context: Context[World]) -> None:
    """Make the container that holds a volume and is never started."""
    context.world.engine.create_helper(
        Helper(
            operation=context.operation.id,
            role=KEEPER,
            image_id=transfer.image_id,
            argv=("true",),
            volumes=(transfer.origin.volume,),
        ),
        start=False,
    )


class Retain(NothingToUndo):
    """Keep the original from every prune. args: ``transfer``, ``in_place``.

    It is renamed out of the engine's own directory where both are on one file
    system; else, and where a way back leads to it ``in_place``, a container that
    is never started holds the volume.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        transfer = transfer_of(step)
        if os.path.isdir(transfer.retained):
            return self._renamed(transfer)
        known = context.evidence.get(step.name, {})
        if known.get("warnings"):
            return known
        held = [c for c in context.world.engine.containers(volume=transfer.origin.volume) if not c.running]
        return self._held(transfer) if any(KEEPER in c.labels.values() for c in held) else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        transfer = transfer_of(step)
        if not is_same_directory(transfer.origin.path, transfer, context):
            # The data is proved in its new place; a volume that was made anew is not what it came from.
            lost = f"The original of {transfer.name}, {transfer.origin.shown()}, is gone: a prune, maybe, took it."
            return {"copies": [], "warnings": [lost]}
        os.makedirs(os.path.dirname(transfer.retained), mode=0o700, exist_ok=True)
        possible = renaming.can_rename(transfer.origin.path, os.path.dirname(transfer.retained))
        if possible.yes and not step.args.get("in_place"):
            # None is made in its place: should an old file come back, the engine refuses to start the service on the
            # volume, where it would initialise an empty store in an empty one.
            renaming.rename_directory(transfer.origin.path, transfer.retained)
            return self._renamed(transfer)
        make_keeper(transfer, context)
        return self._held(transfer)

    def _renamed(self, transfer: Transfer) -> Evidence:
        return {"copies": [original(transfer, transfer.retained, "out of the engine's directory").as_dict()]}

    def _held(self, transfer: Transfer) -> Evidence:
        return {"copies": [original(transfer, transfer.origin.path, "held by a stopped container").as_dict()]}


def original(transfer: Transfer, path: str, protected: str) -> Copy:
    """Describe a retained original, with what its removal will compare."""
    status = os.stat(path)
    size = scan.tree_size(path)
    return Copy(
        role="original",
        service=transfer.service,
        path=path,
        moment=moment(),
        size_bytes=size.bytes_allocated,
        protected=protected,
        proof="the very directory that was in use until the move",
        device=status.st_dev,
        inode=status.st_ino,
    )


class KeepLayer(SelfProving):
    """Keep the inodes of data in a container's layer alive by hard links, before the container goes.

    args: ``transfer``. Costs no space and no time worth naming, at any size; but a link is a change of its file, so
    that a copy of it which was proved is compared once more.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        transfer, known = transfer_of(step), context.evidence.get(step.name)
        if known is None or not os.path.isdir(transfer.retained):
            return None
        # A service that ran since has replaced files, and the links hold the old ones.
        return None if started_since(context.world, transfer, transfer.origin, known["kept_at"]) else known

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        transfer = transfer_of(step)
        container = context.world.engine.container(transfer.containers[0])
        upper = container.layers.get("UpperDir", "") if container else ""
        if not upper:
            raise StatefulError(f"The layer of {transfer.service}'s container cannot be found any more.")
        origin, kept_at = os.path.join(upper, transfer.target.lstrip("/")), time.time()
        context.world.store(transfer).identity(transfer.data_at(transfer.origin, origin))
        if os.path.isdir(transfer.retained):
            shutil.rmtree(transfer.retained)  # second names of an earlier state; the first ones are all there
        durable.make_private(os.path.dirname(transfer.retained))
        links.hardlink_tree(origin, transfer.retained)
        copy = original(transfer, transfer.retained, "hard links to the layer's files")
        return {"copies": [copy.as_dict()], "kept_at": kept_at}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        # Until the service runs again, a prune may take its container and the layer: the stop's undo lets them go.
        return {"kept": True}


class Vacate(SelfProving):
    """Set aside what is still kept at the place that the data comes back to. args: ``transfer``."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        transfer = transfer_of(step)
        known, kept = context.evidence.get(step.name), self._kept(transfer, context)
        if known is not None:
            return known
        if os.path.isdir(kept):
            return self._evidence(transfer, kept)
        path = transfer.goal.path
        return {} if not os.path.isdir(path) or not os.listdir(path) else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        transfer = transfer_of(step)
        kept = self._kept(transfer, context)
        renaming.rename_directory(transfer.goal.path, kept)
        return self._evidence(transfer, kept)

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        transfer = transfer_of(step)
        kept = self._kept(transfer, context)
        if os.path.isdir(kept):
            renaming.rename_directory(kept, transfer.goal.path)
        return {}

    @staticmethod
    def _kept(transfer: Transfer, context: Context[World]) -> str:
        return f"{transfer.goal.path}.kept-{context.operation.id}"

    @staticmethod
    def _evidence(transfer: Transfer, kept: str) -> Evidence:
        return {"copies": [original(transfer, kept, "beside the volume's directory").as_dict()]}


class KeepInPlace(NothingToUndo):
    """Name the directory that the data was carried away from as what it is: a copy. args: ``transfer``.

    It is the one that a roll back leaves behind, or that of a volume with options, as long as
    that is held: the engine shows it only then, and it belongs to whoever made it.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return context.evidence.get(step.name)

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        transfer = transfer_of(step)
        protected = WHERE_OPTIONS_POINT if transfer.options else "a directory of its own"
        copy = original(transfer, _shown_by_options(transfer) or transfer.origin.path, protected)
        return {"copies": [copy.as_dict()]}


def _shown_by_options(transfer: Transfer) -> str:
    """Return the directory that a volume's options bind, or an empty string where they name something else."""
    device = str(transfer.options.get("device", ""))
    binds = "bind" in str(transfer.options.get("o", "")).split(",")
    return device if binds and os.path.isdir(device) else ""
