# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A proved copy of one path of one service, on its own and not as part of a move."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import observe_project
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Copy
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import FILES, DataPath, MountRequest
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.observe import measured, place, with_facts
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.report import size_text
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import BackupRequest
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.survey import find_data
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World


@dataclass(frozen=True)
class PlannedBackup:
    """``needed`` is False where the destination exists already."""

    data: DataPath
    container: Container
    destination: str
    needed: bool
    text: str


def plan_backup(world: World, service: str, path: str, destination: str) -> PlannedBackup:
    """Find the data and check that the copy can be made; raises :class:`InvalidInput`."""
    project = observe_project(world.engine, world.compose, [service])
    found = find_data(world, project, MountRequest(service=service, source=destination, target=path))
    if found is None:
        raise InvalidInput(f"The service {service} was never started, so it has no data.")
    container = next(c for c in project.containers[service] if c.id == found.container)
    data = measured(found)
    if not container.running and data.store != FILES:
        raise InvalidInput(
            f"{container.name} does not run: its {data.store} data can be copied consistently only by asking it.",
            next_command=f"docker start {container.name}",
        )
    text = f"{service}:{data.target} ({data.store}, {size_text(data.size_bytes)}) is copied to {destination}"
    needed = not os.path.lexists(destination)
    room = place(world, destination)
    if needed and room.free_bytes < data.size_bytes:
        raise InvalidInput(
            f"{room.mount_point} has {room.free_bytes:,} bytes free, and the copy needs about {data.size_bytes:,}:"
            f" {data.size_bytes - room.free_bytes:,} bytes are missing."
        )
    return PlannedBackup(data, container, destination, needed, text if needed else f"{destination} exists already")


def back_up(world: World, planned: PlannedBackup, mode: str) -> Copy:
    """Take the copy, prove it, and only then give it its name."""
    data = with_facts(world, planned.data, planned.container)
    if data.facts is None:
        raise InvalidInput(f"{planned.container.name} could not be asked about its data.")
    return world.stores[data.store].backup(
        world.engine,
        planned.container,
        data.facts,
        BackupRequest(
            operation=f"backup-{int(time.time())}",
            service=data.service,
            host_path=os.path.join(data.host_path, data.subpath) if data.subpath else data.host_path,
            destination=planned.destination,
            mode=mode,
        ),
        lambda done, total: None,
    )
