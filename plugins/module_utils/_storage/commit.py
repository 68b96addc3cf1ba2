# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Let go of what a storage operation retained: the only thing in the collection that deletes an original.

It deletes what the journal names and nothing else, and only if it is still the
very directory that was journaled, if no container mounts it, and if every
service that was moved runs on, or stands on, its new mount.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import mounts_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import (
    OPERATION_LABEL,
    ROLE_LABEL,
    Container,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.ending import Removal, plan_removal
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    COMMITTED,
    DONE,
    ROLLED_BACK,
    Copy,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import let_image_go
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.copies import KEEPER, WHERE_OPTIONS_POINT
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.moves import is_directory
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import transfers_of_plan
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import (
    World,
    holds,
    of_any_image,
    put_aside,
)


def plan_commit(
    operation: Operation,
    open_one: Operation | None,
    *,
    min_age_days: float,
    with_backups: bool,
    others: Sequence[Operation] = (),
) -> Removal:
    """Return what committing would remove, as of :func:`plan_removal`."""
    removal = plan_removal(operation, open_one, min_age_days=min_age_days, with_backups=with_backups, others=others)
    # What was the original is in use again once the change was rolled back.
    rolled_back = operation.history().state == ROLLED_BACK
    in_use = {t.origin.path for t in transfers_of_plan(operation.plan)} if rolled_back else set()
    return Removal(tuple(c for c in removal.copies if c.path not in in_use and c.protected != WHERE_OPTIONS_POINT))


def kept_containers(world: World, operation: Operation) -> list[Container]:
    """Return the containers that were put aside when others got their names, and that a way back needs."""
    aside = put_aside(world, transfers_of_plan(operation.plan))
    known = [t.origin.container for t in transfers_of_plan(operation.plan) if t.origin.container]
    found = (world.engine.container(container_id) for container_id in known)
    return [container for container in found if container is not None and container.id in aside]


def refuse_kept_before(world: World, operation: Operation, others: Sequence[Operation]) -> None:
    """Raise where an earlier operation keeps a container, which has the data mounted that this one would free."""
    for other in others:
        if other.id == operation.id or other.history().state != DONE:
            continue
        kept = kept_containers(world, other)
        if kept and other.history().changed_at < operation.history().changed_at:
            raise InvalidInput(
                f"{other.id} keeps the container {kept[0].name} for its way back: it is committed before"
                f" {operation.id} is.",
                next_command=shell(
                    "ansible-playbook", "selfhost.stateful.operation_commit", "-e", f"operation_id={other.id}"
                ),
            )


def carry_out_commit(world: World, operation: Operation, removal: Removal, later: Sequence[Operation] = ()) -> None:
    """Remove it; ``later`` are the operations that went on from there. Killed half-way, it is run again and goes on."""
    kept = kept_containers(world, operation)
    for copy in removal.copies:
        # All of them first: what a way back needs goes as a whole, or not at all.
        _refuse_used(world.engine, operation, copy, [container.id for container in kept])
    if operation.history().state == DONE:
        _prove_moved(world, operation, later)
        for transfer in transfers_of_plan(operation.plan):
            world.maker.let_go(world.engine, transfer)
    for copy in removal.copies:
        remove_copy(world.engine, operation, copy)
    _release_volumes(world, operation)
    let_images_go(world.engine, operation)
    if operation.history().state == DONE:
        operation.journal.state(COMMITTED)


def _prove_moved(world: World, operation: Operation, later: Sequence[Operation]) -> None:
    further = [transfer for each in later for transfer in transfers_of_plan(each.plan)]
    for transfer in transfers_of_plan(operation.plan):
        containers = world.containers_of(transfer.service)
        reached = [transfer, *(each for each in further if each.service == transfer.service)]
        goals = [(each, of_any_image(each.goal)) for each in reached]
        if not any(holds(container, each, goal) for container in containers for each, goal in goals):
            raise StatefulError(
                f"The service {transfer.service} does not have {transfer.goal.shown()} at"
                f" {transfer.target_at(transfer.goal)}, so the original is not removed.",
                next_command=world.maker.listing(transfer.service),
            )


def remove_copy(engine: Engine, operation: Operation, copy: Copy) -> None:
    """Remove one copy, if it is the very directory that was journaled and nobody mounts it."""
    _refuse_used(engine, operation, copy)
    path = copy.path
    shutil.rmtree(path)
    if copy.protected.startswith("held by"):
        os.mkdir(path, 0o700)  # the engine expects a volume's directory to be there until it removes it itself
    operation.journal.removed(path)


def _refuse_used(engine: Engine, operation: Operation, copy: Copy, but: Sequence[str] = ()) -> None:
    """Raise where a copy is not what was journaled, or is mounted by a container; ``but`` are ids that go with it."""
    path = copy.path
    look = shell("ls", "-lad", path)
    if os.path.islink(path) or os.path.realpath(path) != os.path.normpath(path):
        raise StatefulError(
            f"{path} is not the plain directory that was journaled; it is not removed.", next_command=look
        )
    if copy.inode and not is_directory(path, copy.inode, copy.device, operation):
        raise StatefulError(
            f"{path} is another directory than the one that was retained; it is not removed.", next_command=look
        )
    users = _mounting([container for container in engine.containers() if container.id not in but], path)
    if users:
        raise StatefulError(
            f"{', '.join(users)} mounts {path}; it is not removed.",
            next_command=mounts_of(users[0]),
        )


def _mounting(containers: Sequence[Container], path: str) -> list[str]:
    found = []
    for container in containers:
        if container.labels.get(ROLE_LABEL) == KEEPER:
            continue
        for mount in container.mounts:
            source = os.path.realpath(mount.source) if mount.source else ""
            if source and (source + "/").startswith(path.rstrip("/") + "/"):
                found.append(container.name)
    return found


def remove_keepers(world: World, operation: Operation) -> None:
    """Remove the containers that held a volume for this operation."""
    for container in world.engine.containers(labels={OPERATION_LABEL: operation.id, ROLE_LABEL: KEEPER}):
        world.engine.remove_container(container.id, force=True)


def let_images_go(engine: Engine, operation: Operation) -> None:
    """Take our names off the images that were kept for a way back."""
    for evidence in operation.history().evidence.values():
        for name in (*([evidence["kept_image"]] if "kept_image" in evidence else []), *evidence.get("kept_images", ())):
            let_image_go(engine, name)


def _release_volumes(world: World, operation: Operation) -> None:
    """Remove the containers that held a volume, and the anonymous volumes that are empty shells now."""
    remove_keepers(world, operation)
    for transfer in transfers_of_plan(operation.plan):
        name = transfer.origin.volume
        if transfer.origin.kind != "anonymous" or name in world.engine.volumes_in_use():
            continue
        volume = world.engine.volume(name)
        if volume is not None and not (os.path.isdir(volume.mountpoint) and os.listdir(volume.mountpoint)):
            world.engine.remove_volume(name)
