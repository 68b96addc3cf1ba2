# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A proved copy of one path of one service, on its own and not as part of a move."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Project, observe_project
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import logs_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Copy
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import short_stop
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.find import find_data
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import remove_leftover_helpers
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    FILES,
    LAYER,
    TMPFS,
    DataPath,
    MountRequest,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.observe import measured, place, with_facts
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.places import overlap
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.report import size_text
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import BackupRequest
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import clone, durable, prove, scan
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import copy as warm
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World, can_write


@dataclass(frozen=True)
class Wanted:
    """What is asked for. ``path`` is empty where the data is to be found, ``mode`` is how Postgres is copied."""

    service: str
    path: str
    destination: str
    mode: str = "auto"
    allow_stop: bool = False


@dataclass(frozen=True)
class PlannedBackup:
    """``needed`` is False where the destination exists already; ``stops`` are the containers that stop for it."""

    project: str
    data: DataPath
    container: Container
    destination: str
    needed: bool
    text: str
    mode: str = "auto"
    stops: tuple[Container, ...] = ()

    @property
    def operation(self) -> str:
        """The name that helpers and partial copies bear: the same at every attempt, so that the next one finds them."""
        what = [self.project, self.data.service, self.data.target, self.destination]
        return f"backup-{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:8]}"

    @property
    def staging(self) -> str:
        return str(durable.staging_path(self.destination, self.operation))


@dataclass(frozen=True)
class TakenBackup:
    """``copy`` is None where it was there already; ``started_again`` names what a killed run had left stopped."""

    planned: PlannedBackup
    copy: Copy | None = None
    downtime_seconds: float = 0.0
    started_again: tuple[str, ...] = ()


def carry_out(world: World, operations: OperationStore, wanted: Wanted) -> TakenBackup:
    """Plan and take the copy. Waits for whoever works on the project."""
    project = observe_project(world.engine, world.compose, [wanted.service]).name
    world = replace(world, project=project)
    notes = short_stop.note_directory(operations.directory, project)
    # A move must not begin while the data is copied, and of two copies with one destination the second has nothing to
    # do when the first has ended.
    with operations.locked(project, wait=True):
        started = tuple(short_stop.start_again(world, notes))
        planned = plan_backup(world, wanted)
        if not planned.needed:
            return TakenBackup(planned, started_again=started)
        _remove_leftovers(world, planned)
        if not planned.stops:
            return TakenBackup(planned, back_up(world, planned), started_again=started)
        copy, seconds = _back_up_stopped(world, planned, notes)
        return TakenBackup(planned, copy, seconds, started)


def plan_backup(world: World, wanted: Wanted) -> PlannedBackup:
    """Find the data and check that the copy can be made; raises :class:`InvalidInput`."""
    service, destination = wanted.service, wanted.destination
    project = observe_project(world.engine, world.compose, [service])
    found = find_data(world, project, MountRequest(service=service, source=destination, target=wanted.path))
    if found is None:
        raise InvalidInput(f"The service {service} was never started, so it has no data.")
    container = next(c for c in project.containers[service] if c.id == found.container)
    _check_source(found, destination)
    _check_destination(found, destination)
    data = measured(found)
    if not container.running and data.store != FILES:
        raise InvalidInput(
            f"{container.name} does not run: its {data.store} data can be copied consistently only by asking it.",
            next_command=shell("docker", "start", container.name),
        )
    text = f"{service}:{data.target} ({data.store}, {size_text(data.size_bytes)}) is copied to {destination}"
    needed = not os.path.lexists(destination)
    stops = _writers(world, project, data) if needed and wanted.allow_stop and data.store == FILES else ()
    if stops:
        text += f"; stopped at its end, for what changed since: {_named(stops)}"
    planned = PlannedBackup(
        project=project.name,
        data=data,
        container=container,
        destination=destination,
        needed=needed,
        text=text if needed else f"{destination} exists already",
        mode=wanted.mode,
        stops=stops,
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
            f" {planned.data.size_bytes - there:,}: {missing:,} bytes are missing. Free them, or name a dest on another"
            " file system.",
            next_command=shell("df", "-h", room.mount_point),
        )


def _check_source(data: DataPath, destination: str) -> None:
    """Raise where there is no directory that could be copied."""
    where = f"{data.target} of the service {data.service}"
    if data.kind == TMPFS:
        raise InvalidInput(f"{where} is in memory (tmpfs): there is nothing on disk that could be copied.")
    if not data.host_path:
        raise InvalidInput(
            f"The engine does not show where {where} lies on this host. While the service is stopped, it can be taken"
            " out by hand, and the copy is not proved.",
            next_command=shell("docker", "cp", f"{data.container[:12]}:{data.target}", destination),
        )
    if os.path.isfile(data.host_path):
        raise InvalidInput(
            f"{where} is one file, {data.host_path}, and no directory: this copies directories.",
            next_command=shell("cp", "-a", data.host_path, destination),
        )
    if not os.path.isdir(data.host_path):
        raise InvalidInput(
            f"{data.host_path}, where {where} should be, is not there or may not be looked at by this user.",
            next_command=shell("sudo", "ls", "-la", data.host_path),
        )


def _check_destination(data: DataPath, destination: str) -> None:
    """Raise where a copy would be made inside its own source, and with it never end."""
    real = os.path.realpath(destination)
    if data.host_path and overlap(os.path.realpath(data.host_path), real):
        raise InvalidInput(
            f"{destination} overlaps with {data.host_path}, where the data of {data.service} is: a copy has to lie"
            " outside of what it copies. Name another directory as dest, best on another file system.",
        )


def _writers(world: World, project: Project, data: DataPath) -> tuple[Container, ...]:
    """Return the running containers that could write to the data; raises where one is none of the project's."""
    found = [c for c in world.engine.containers() if c.running and _writes(c, data)]
    own = {container.id for containers in project.containers.values() for container in containers}
    others = tuple(container for container in found if container.id not in own)
    if others:
        raise InvalidInput(
            f"{_named(others)}, which is no container of a service of {project.name}, writes to {data.host_path} too,"
            f" and is not stopped by this: stop it, run the same task again, and start it afterwards.",
            next_command=shell("docker", "stop", *(container.name for container in others)),
        )
    return tuple(found)


def _writes(container: Container, data: DataPath) -> bool:
    if data.kind == LAYER:
        return container.id == data.container
    return can_write(container, data.host_path)


def _named(containers: Sequence[Container]) -> str:
    return ", ".join(container.name for container in containers)


def _back_up_stopped(world: World, planned: PlannedBackup, notes: str) -> tuple[Copy, float]:
    """Copy while everything runs, and again what changed since while nobody can write."""
    source, record = planned.data.host_path, f"{planned.staging}.sqlite"
    os.makedirs(os.path.dirname(planned.destination), mode=0o700, exist_ok=True)
    warm.warm_copy(source, planned.staging, record=record)
    prove.prove_warm(source, planned.staging, record=record)
    with short_stop.stopped(world, notes, planned.stops) as downtime:
        # As it is now: nobody writes, so there is no quiet moment to be waited for.
        container = world.engine.container(planned.container.id) or planned.container
        copy = back_up(world, replace(planned, container=container))
    return replace(copy, proof=f"{copy.proof}; stopped for it: {_named(planned.stops)}"), downtime.seconds


def _remove_leftovers(world: World, planned: PlannedBackup) -> None:
    """Remove what an attempt that was killed left behind and the next one cannot go on with."""
    remove_leftover_helpers(world.engine, planned.operation)
    if os.path.isdir(planned.staging) and not os.path.exists(f"{planned.staging}.sqlite"):
        clone.remove_partial(planned.staging)  # its record went already, and with it what is known of its files


def back_up(world: World, planned: PlannedBackup) -> Copy:
    """Take the copy, prove it, and only then give it its name."""
    data = with_facts(world, planned.data, planned.container)
    if data.facts is None:
        raise InvalidInput(
            f"{planned.container.name} could not be asked about its data.",
            next_command=logs_of(planned.container.name),
        )
    return world.stores[data.store].backup(
        world.engine,
        planned.container,
        data.facts,
        BackupRequest(
            operation=planned.operation,
            service=data.service,
            host_path=os.path.join(data.host_path, data.subpath) if data.subpath else data.host_path,
            destination=planned.destination,
            mode=planned.mode,
        ),
        lambda done, total: None,
    )
