# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A proved copy of one path of one service, on its own and not as part of a move."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import observe_project
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Copy
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.find import find_data
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.journey import remove_leftover_helpers
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import FILES, DataPath, MountRequest
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.observe import measured, place, with_facts
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.preflight import overlap
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.report import size_text
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import BackupRequest
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import clone, durable, scan
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World


@dataclass(frozen=True)
class PlannedBackup:
    """``needed`` is False where the destination exists already."""

    project: str
    data: DataPath
    container: Container
    destination: str
    needed: bool
    text: str

    @property
    def operation(self) -> str:
        """The name that helpers and partial copies bear: the same at every attempt, so that the next one finds them."""
        what = [self.project, self.data.service, self.data.target, self.destination]
        return f"backup-{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:8]}"

    @property
    def staging(self) -> str:
        return str(durable.staging_path(self.destination, self.operation))


def carry_out(
    world: World, operations: OperationStore, service: str, path: str, destination: str, mode: str
) -> tuple[PlannedBackup, Copy | None]:
    """Plan and take the copy; None where it is there already. Waits for whoever works on the project."""
    project = observe_project(world.engine, world.compose, [service]).name
    # A move must not begin while the data is copied, and of two copies with one destination the second has nothing to
    # do when the first has ended.
    with operations.locked(project, wait=True):
        planned = plan_backup(world, service, path, destination)
        return planned, back_up(world, planned, mode) if planned.needed else None


def plan_backup(world: World, service: str, path: str, destination: str) -> PlannedBackup:
    """Find the data and check that the copy can be made; raises :class:`InvalidInput`."""
    project = observe_project(world.engine, world.compose, [service])
    found = find_data(world, project, MountRequest(service=service, source=destination, target=path))
    if found is None:
        raise InvalidInput(f"The service {service} was never started, so it has no data.")
    container = next(c for c in project.containers[service] if c.id == found.container)
    _check_destination(found, destination)
    data = measured(found)
    if not container.running and data.store != FILES:
        raise InvalidInput(
            f"{container.name} does not run: its {data.store} data can be copied consistently only by asking it.",
            next_command=f"docker start {container.name}",
        )
    text = f"{service}:{data.target} ({data.store}, {size_text(data.size_bytes)}) is copied to {destination}"
    needed = not os.path.lexists(destination)
    planned = PlannedBackup(
        project.name, data, container, destination, needed, text if needed else f"{destination} exists already"
    )
    if needed:
        _check_space(world, planned)
    return planned


def _check_space(world: World, planned: PlannedBackup) -> None:
    room = place(world, planned.destination)
    there = scan.tree_size(planned.staging).bytes_allocated if os.path.isdir(planned.staging) else 0
    missing = planned.data.size_bytes - there - room.free_bytes
    if missing > 0:
        raise InvalidInput(
            f"{room.mount_point} has {room.free_bytes:,} bytes free, and the copy needs about"
            f" {planned.data.size_bytes - there:,}: {missing:,} bytes are missing.",
            next_command=f"df -h {shlex.quote(room.mount_point)}; free what is missing, or name a dest on another"
            " file system, and run the same task again",
        )


def _check_destination(data: DataPath, destination: str) -> None:
    """Raise where a copy would be made inside its own source, and with it never end."""
    real = os.path.realpath(destination)
    if data.host_path and overlap(os.path.realpath(data.host_path), real):
        raise InvalidInput(
            f"{destination} overlaps with {data.host_path}, where the data of {data.service} is: a copy has to lie"
            " outside of what it copies.",
            next_command="name another directory as dest, best on another file system, and run the same task again",
        )


def back_up(world: World, planned: PlannedBackup, mode: str) -> Copy:
    """Take the copy, prove it, and only then give it its name.

    What an attempt that was killed left behind is removed first, or gone on with.
    """
    remove_leftover_helpers(world.engine, planned.operation)
    if os.path.isdir(planned.staging) and not os.path.exists(f"{planned.staging}.sqlite"):
        clone.remove_partial(planned.staging)  # its record went already, and with it what is known of its files
    data = with_facts(world, planned.data, planned.container)
    if data.facts is None:
        raise InvalidInput(f"{planned.container.name} could not be asked about its data.")
    return world.stores[data.store].backup(
        world.engine,
        planned.container,
        data.facts,
        BackupRequest(
            operation=planned.operation,
            service=data.service,
            host_path=data.host_path,
            destination=planned.destination,
            mode=mode,
        ),
        lambda done, total: None,
    )
