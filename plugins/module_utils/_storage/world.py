# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the steps of a storage operation work with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import ComposeCli
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Services
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.layer import layer_path
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import LAYER, Findings, Request
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.places import overlap
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import Store
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Location, Transfer

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Change:
    """What is to become of a service's container: other images, by service, and other mounts at these targets."""

    service: str
    images: Mapping[str, str]
    targets: frozenset[str]


class Maker(Protocol):
    """Who makes the containers of services, and so knows which they are: compose by its files, or we ourselves."""

    @property
    def compose(self) -> ComposeCli:
        """Return the CLI; only where compose makes them."""

    def observe(self, engine: Engine, services: Sequence[str] = ()) -> Services:
        """Return the services as they are now; raises :class:`InvalidInput` where that is not to be had."""

    def seeing(self, project: Services) -> Maker:
        """Return the same for what was observed."""

    def facts(self) -> dict[str, Any]:
        """Return how all this is reached, so that a roll back needs to be told nothing."""

    def resumed(self, facts: Mapping[str, Any]) -> Maker:
        """Return the same for the facts of an operation that has begun."""

    def around(self, world: World, project: Services, request: Request, change: Change) -> Findings:
        """Return what a change of a container means beside the data: the files, and what stands in the way."""

    def containers_of(self, engine: Engine, project: str, service: str) -> list[Container]:
        """Return the service's containers as they are now."""

    def is_of(self, container: Container, transfer: Transfer) -> bool:
        """Tell whether a container is the service's, or was put aside for one that is."""

    def family(self, engine: Engine, project: str, transfer: Transfer) -> list[Container]:
        """Return every container of which :meth:`is_of` is true."""

    def make(
        self,
        world: World,
        transfers: Sequence[Transfer],
        locations: Mapping[str, Location],
        *,
        directory: str,
        pins: Mapping[str, str],
        file_is_theirs: bool,
    ) -> None:
        """Have a container on its location for each transfer, not started; see ``recreate.create_containers``."""

    def unfinished(self, engine: Engine, project: str, transfer: Transfer) -> list[Container]:
        """Return what a killed :meth:`make` had made beside the container to be replaced, and never started."""

    def let_go(self, engine: Engine, transfer: Transfer) -> None:
        """Remove the container that was replaced, if it was kept."""

    def listing(self, service: str) -> str:
        """Return the command that lists the service's containers."""


@dataclass(frozen=True)
class World:
    """The seams, and the time limits in seconds of this run (they are no part of the goal)."""

    engine: Engine
    maker: Maker
    project: str
    stores: Mapping[str, Store]
    stop_timeout: float = 120.0
    ready_timeout: float = 120.0
    discard_writes: bool = False
    """Whether an undo that returns to a copy may lose what was written since."""

    @property
    def compose(self) -> ComposeCli:
        return self.maker.compose

    def of(self, project: Services) -> World:
        """Return the same world for what was observed in it."""
        return replace(self, project=project.name, maker=self.maker.seeing(project))

    def store(self, transfer: Transfer) -> Store:
        return self.stores[transfer.store]

    def path_of(self, transfer: Transfer, location: Location) -> str:
        """Return the directory on the host: a layer's is that of the service's container as it is now."""
        if location.kind != LAYER:
            return location.path
        return layer_path(the_container(self, transfer), transfer.target_at(location))

    def containers_of(self, service: str) -> list[Container]:
        """Return the service's containers as they are now, without those of ``compose run``."""
        return self.maker.containers_of(self.engine, self.project, service)

    def on_location(self, transfer: Transfer, location: Location) -> list[Container]:
        """Return the containers, of whatever service, that could write to ``location``."""
        if location.is_volume:
            found = self.engine.containers(volume=location.volume)
            found = [c for c in found if any(m.name == location.volume and m.rw for m in c.mounts)]
            return [c for c in found if not self.maker.is_of(c, transfer) or serves(c, location)]
        family = self.maker.family(self.engine, self.project, transfer)
        return [c for c in family if holds(c, transfer, location)]


def serves(container: Container, location: Location) -> bool:
    """Tell whether ``container`` is of the image that ``location`` names, and the very one, if it names them."""
    return location.image in ("", container.image_id) and location.container in ("", container.id)


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


def can_write(container: Container, directory: str) -> bool:
    """Tell whether ``container`` has this directory of the host, one above or one below it mounted read-write."""
    real = os.path.realpath(directory)
    mounted = (os.path.realpath(mount.source) for mount in container.mounts if mount.rw and mount.source)
    return any(overlap(source, real) for source in mounted)


def of_any_image(location: Location) -> Location:
    """Return the same place, whoever serves it: a later build, or what somebody made of a tag that was pulled."""
    return replace(location, image="", container="")


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
            next_command=world.maker.listing(transfer.service),
        )
    return found[0]


def put_aside(world: World, transfers: Iterable[Transfer]) -> frozenset[str]:
    """Return the ids of the containers that were kept when another got their name."""
    found = set()
    for transfer in transfers:
        for container_id in {transfer.origin.container, transfer.goal.container} - {""}:
            container = world.engine.container(container_id)
            if container is not None and not any(c.id == container_id for c in world.containers_of(transfer.service)):
                found.add(container_id)
    return frozenset(found)


def refuse_second(world: World, transfer: Transfer, starting: Container) -> None:
    """Raise where another container of the service runs: two servers on one directory, or two that answer for one."""
    if not (transfer.origin.container or transfer.goal.container):
        return  # nobody was put aside, and whoever starts a service has looked that it has one container
    for other in world.maker.family(world.engine, world.project, transfer):
        if other.id != starting.id and other.running:
            raise StatefulError(
                f"{other.name} ({other.short_id}) was started meanwhile, and {starting.name} was about to be.",
                state=f"{other.name} runs on what it had; {starting.name} was not started",
                next_command=shell("docker", "stop", "--time", "120", other.name),
            )
