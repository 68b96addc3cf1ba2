# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the steps of a storage operation work with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import ComposeCli
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import containers_with
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.layer import layer_path
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import LAYER
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import Store
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Location, Transfer

PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
ONE_OFF_LABEL = "com.docker.compose.oneoff"

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class World:
    """The seams, and the time limits in seconds of this run (they are no part of the goal)."""

    engine: Engine
    compose: ComposeCli
    project: str
    stores: Mapping[str, Store]
    stop_timeout: float = 120.0
    ready_timeout: float = 120.0
    discard_writes: bool = False
    """Whether an undo that returns to a copy may lose what was written since."""

    def store(self, transfer: Transfer) -> Store:
        return self.stores[transfer.store]

    def path_of(self, transfer: Transfer, location: Location) -> str:
        """Return the directory on the host: a layer's is that of the service's container as it is now."""
        if location.kind != LAYER:
            return location.path
        return layer_path(the_container(self, transfer), transfer.target_at(location))

    def containers_of(self, service: str) -> list[Container]:
        """Return the service's containers as they are now, without those of ``compose run``."""
        found = self.engine.containers(labels={PROJECT_LABEL: self.project, SERVICE_LABEL: service})
        return [c for c in found if c.labels.get(ONE_OFF_LABEL, "False").lower() != "true"]

    def on_location(self, transfer: Transfer, location: Location) -> list[Container]:
        """Return the containers, of whatever service, that could write to ``location``."""
        if location.is_volume:
            found = self.engine.containers(volume=location.volume)
            found = [c for c in found if any(m.name == location.volume and m.rw for m in c.mounts)]
            return [c for c in found if c.service != transfer.service or serves(c, location)]
        return [c for c in self.containers_of(transfer.service) if holds(c, transfer, location)]


def serves(container: Container, location: Location) -> bool:
    """Tell whether ``container`` is of the image that ``location`` names, if it names one."""
    return not location.image or container.image_id == location.image


def holds(container: Container, transfer: Transfer, location: Location) -> bool:
    """Tell whether ``container`` has ``location`` mounted read-write at exactly its target, and is of its image."""
    target = transfer.target_at(location)
    mount = container.mount_at(target)
    if not serves(container, location):
        return False
    if location.kind == LAYER:
        return mount is None
    if mount is None or mount.destination.rstrip("/") != target.rstrip("/") or not mount.rw:
        return False
    if location.is_volume:
        return mount.type == "volume" and mount.name == location.volume
    return mount.type == "bind" and os.path.realpath(mount.source) == os.path.realpath(location.path)


def transfers_of(step: Step) -> list[Transfer]:
    return [Transfer.from_dict(raw) for raw in step.args["transfers"]]


def transfer_of(step: Step) -> Transfer:
    return Transfer.from_dict(step.args["transfer"])


def in_parallel(call: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Call ``call`` for all items at once: inside the downtime one store must not wait for another."""
    listed = list(items)
    if len(listed) < 2:
        return [call(item) for item in listed]
    with ThreadPoolExecutor(max_workers=len(listed)) as pool:
        return list(pool.map(call, listed))


def services_of(transfers: Iterable[Transfer]) -> list[str]:
    return list(dict.fromkeys(transfer.service for transfer in transfers))


def the_container(world: World, transfer: Transfer) -> Container:
    """Return the one container of the transfer's service; raises where there is none or more than one."""
    found = world.containers_of(transfer.service)
    if len(found) != 1:
        raise StatefulError(
            f"The service {transfer.service} has {len(found)} containers now; exactly one was expected.",
            state="unknown to this step",
            next_command=containers_with(SERVICE_LABEL, transfer.service),
        )
    return found[0]
