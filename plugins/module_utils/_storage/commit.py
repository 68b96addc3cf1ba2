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
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import mounts_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import (
    OPERATION_LABEL,
    ROLE_LABEL,
    Container,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    COMMITTED,
    DONE,
    ROLLED_BACK,
    Copy,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.report import to_end
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import let_image_go
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.copies import KEEPER, WHERE_OPTIONS_POINT
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.moves import is_directory
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import transfers_of_plan
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World, holds

DAY = 86400.0


@dataclass(frozen=True)
class Removal:
    """What a commit frees."""

    copies: tuple[Copy, ...]

    @property
    def bytes(self) -> int:
        return sum(copy.size_bytes for copy in self.copies)


def plan_commit(
    operation: Operation, open_one: Operation | None, *, min_age_days: float, with_backups: bool
) -> Removal:
    """Return what committing would remove; raises where the operation is not to be committed (yet).

    ``open_one`` is the project's open operation, which may still need what this one keeps.
    """
    history = operation.history()
    if open_one is not None and open_one.id != operation.id:
        raise InvalidInput(
            f"The operation {open_one.id} is open on the same project: {operation.id} cannot be committed before it"
            " has ended.",
            next_command=to_end(open_one),
        )
    if history.state not in (DONE, ROLLED_BACK, COMMITTED):
        raise InvalidInput(
            f"The operation {operation.id} is {history.state}: only one that has ended can be committed.",
            next_command=to_end(operation),
        )
    if open_one is not None:
        raise InvalidInput(
            f"The roll back of {operation.id} was broken off: what it retains is needed to go on with it.",
            next_command=to_end(operation),
        )
    age = (time.time() - history.changed_at) / DAY
    if age < min_age_days:
        raise InvalidInput(
            f"The operation {operation.id} ended {age:.1f} days ago, less than min_age_days ({min_age_days:g}).",
            next_command="wait, or set min_age_days: 0",
        )
    roles = ("original", "backup") if with_backups else ("original",)
    # What was the original is in use again once the change was rolled back.
    in_use = {t.origin.path for t in transfers_of_plan(operation.plan)} if history.state == ROLLED_BACK else set()
    copies = [
        copy
        for copy in history.copies()
        if copy.role in roles
        and copy.path not in in_use
        and copy.protected != WHERE_OPTIONS_POINT
        and os.path.lexists(copy.path)
    ]
    return Removal(tuple(copies))


def carry_out_commit(world: World, operation: Operation, removal: Removal) -> None:
    """Remove it. Killed half-way, it is run again and goes on."""
    if operation.history().state == DONE:
        _prove_moved(world, operation)
        for transfer in transfers_of_plan(operation.plan):
            world.maker.let_go(world.engine, transfer)
    for copy in removal.copies:
        remove_copy(world.engine, operation, copy)
    _release_volumes(world, operation)
    let_images_go(world, operation)
    if operation.history().state == DONE:
        operation.journal.state(COMMITTED)


def _prove_moved(world: World, operation: Operation) -> None:
    for transfer in transfers_of_plan(operation.plan):
        containers = world.containers_of(transfer.service)
        # A later build of the same image serves the same data.
        goal = replace(transfer.goal, image="", container="")
        if not any(holds(container, transfer, goal) for container in containers):
            raise StatefulError(
                f"The service {transfer.service} does not have {transfer.goal.shown()} at"
                f" {transfer.target_at(transfer.goal)}, so the original is not removed.",
                next_command=world.maker.listing(transfer.service),
            )


def remove_copy(engine: Engine, operation: Operation, copy: Copy) -> None:
    """Remove one copy, if it is the very directory that was journaled and nobody mounts it."""
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
    users = _mounting(engine.containers(), path)
    if users:
        raise StatefulError(
            f"{', '.join(users)} mounts {path}; it is not removed.",
            next_command=mounts_of(users[0]),
        )
    shutil.rmtree(path)
    if copy.protected.startswith("held by"):
        os.mkdir(path, 0o700)  # the engine expects a volume's directory to be there until it removes it itself
    operation.journal.removed(path)


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


def let_images_go(world: World, operation: Operation) -> None:
    """Take our names off the images that were kept for a way back."""
    for evidence in operation.history().evidence.values():
        for name in (*([evidence["kept_image"]] if "kept_image" in evidence else []), *evidence.get("kept_images", ())):
            let_image_go(world.engine, name)


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
