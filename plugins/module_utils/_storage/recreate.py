# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Create a service's container on a given location, without starting it.

Going to a bind mount is what compose does by itself once its file says so. Going
back to an anonymous volume is not: with the old file alone compose carries the
bind mount over, or makes a new and empty volume. It needs one run with an extra
file that mounts the old volume by name, and then one with the old file alone,
in which compose inherits it, and goes on inheriting it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import EXTRA_FILE_PREFIX
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import mounts_of
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Undecided
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import (
    CARRYING,
    hold,
    note_baseline,
    note_filled,
    stands_on,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.layer import fill_layer, layer_path
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import ANONYMOUS, LAYER
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Location, Transfer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import (
    World,
    holds,
    services_of,
    the_container,
)

PINNED = f"{EXTRA_FILE_PREFIX}pinned-images.json"
CARRIED = f"{EXTRA_FILE_PREFIX}carried-volumes.json"
"""As ``held.CARRYING``, for containers that stay made by it."""


def create_containers(
    world: World,
    transfers: Sequence[Transfer],
    locations: Mapping[str, Location],
    *,
    directory: str,
    pins: Mapping[str, str],
    file_is_theirs: bool = False,
) -> None:
    """Create the containers of ``transfers`` on ``locations`` (by transfer name) and prove their mounts.

    ``pins``: image ids by service, for images whose tag means something else by
    now. ``directory``: where extra files go, 0700. ``file_is_theirs``: the
    compose file is not ours to change and may name another place for the data.
    Their restart policies are held until ``held.release``.
    """
    services = services_of(transfers)
    for transfer in transfers:
        if locations[transfer.name].kind == LAYER:
            _clear_half_filled(world, transfer, locations[transfer.name], directory)
    _make(world, transfers, locations, directory=directory, pins=pins, file_is_theirs=file_is_theirs)
    found = {transfer.service: the_container(world, transfer).image_id for transfer in transfers}
    wanted = {transfer.service: transfer.image_at(locations[transfer.name]) for transfer in transfers}
    strayed = {service: image for service, image in wanted.items() if found[service] != image}
    if strayed:
        # A tag has come to mean another image since the plan was made. What was made from it never started.
        pins = {**pins, **strayed}
        _make(world, transfers, locations, directory=directory, pins=pins, file_is_theirs=file_is_theirs)
    hold(world, directory, services)
    for transfer in transfers:
        location = locations[transfer.name]
        if location.kind == LAYER and not stands_on(world, transfer, location, directory):
            container = the_container(world, transfer)
            fill_layer(world.engine, container, transfer.target_at(location), _source_of_layer(transfer, location))
            note_filled(directory, transfer, container.id)
            path = transfer.data_at(location, layer_path(container, transfer.target_at(location)))
            note_baseline(directory, transfer, world.store(transfer).identity(path))
        prove_mount(world, transfer, locations[transfer.name])


def _make(
    world: World,
    transfers: Sequence[Transfer],
    locations: Mapping[str, Location],
    *,
    directory: str,
    pins: Mapping[str, str],
    file_is_theirs: bool,
) -> None:
    services, compose = services_of(transfers), world.compose
    extra = [_pin_file(directory, pins)] if any(service in pins for service in services) else []
    carried = [t for t in transfers if _needs_carrying(locations[t.name], file_is_theirs)]
    # Compose v1 forgets the volume, and a file that is not ours may name another place: both stay with the extra file.
    inherited = bool(carried) and not file_is_theirs and not compose.is_v1
    name = CARRYING if inherited else CARRIED
    with_volumes = [*extra, _carry_file(directory, name, carried, locations)] if carried else extra
    compose.up(services, extra_files=with_volumes, no_start=True, force_recreate=compose.is_v1, stopped=True)
    if inherited:
        # Compose makes the second container before it removes the first: an
        # engine that restarts in between must not start both.
        hold(world, directory, services)
        compose.up(services, extra_files=extra, no_start=True)


def prove_mount(world: World, transfer: Transfer, location: Location) -> dict[str, object]:
    """Return the mount that the engine reports for the transfer's target; raises unless it is ``location``."""
    container = the_container(world, transfer)
    target, image = transfer.target_at(location), transfer.image_at(location)
    mount = container.mount_at(target)
    if container.image_id != image:
        raise StatefulError(
            f"{container.name} was created from the image {container.image_id[:19]}, not from {image[:19]}.",
            state="the container was created and not started",
        )
    if not holds(container, transfer, location):
        found = mount.as_inspect() if mount else "the container's own layer"
        raise StatefulError(
            f"The engine reports {found} for {target} of {container.name}, not {location.shown()}.",
            state="the container was created and not started",
            next_command=mounts_of(container.name),
        )
    return mount.as_inspect() if mount else {}


def _source_of_layer(transfer: Transfer, location: Location) -> str:
    return transfer.origin.path if location == transfer.goal else transfer.retained


def _clear_half_filled(world: World, transfer: Transfer, location: Location, directory: str) -> None:
    """Remove a container whose layer was being filled when the run was killed; refuse one that was started since."""
    if stands_on(world, transfer, location, directory):
        return
    for container in world.containers_of(transfer.service):
        if not holds(container, transfer, location):
            continue
        # Nothing is removed before it is sure that all of the data is elsewhere.
        source = transfer.data_at(location, _source_of_layer(transfer, location))
        world.store(transfer).identity(source)
        if container.started:
            raise Undecided(
                f"{container.name} was started while the data was still being put into its layer: it ran without all"
                " of the data, and what it took since may be nowhere else.",
                state=f"all data as of the stop is in {source}; what was written since is in {container.name}",
                safe_to_rerun=False,
                next_command=f"docker exec {container.name} ... to save what is wanted, docker rm -f {container.name},"
                " and run the same task again",
            )
        world.engine.remove_container(container.id)


def _needs_carrying(location: Location, file_is_theirs: bool) -> bool:
    return location.is_volume and (location.kind == ANONYMOUS or file_is_theirs)


def _pin_file(directory: str, pins: Mapping[str, str]) -> str:
    services = {service: {"image": image_id} for service, image_id in pins.items()}
    return _write(directory, PINNED, {"services": services})


def _carry_file(directory: str, name: str, transfers: Sequence[Transfer], locations: Mapping[str, Location]) -> str:
    services: dict[str, dict[str, list[dict[str, str]]]] = {}
    volumes = {}
    for number, transfer in enumerate(transfers):
        key = f"selfhost-stateful-{number}"
        volumes[key] = {"external": True, "name": locations[transfer.name].volume}
        entry = {"type": "volume", "source": key, "target": transfer.target_at(locations[transfer.name])}
        services.setdefault(transfer.service, {"volumes": []})["volumes"].append(entry)
    return _write(directory, name, {"services": services, "volumes": volumes})


def _write(directory: str, name: str, content: Mapping[str, object]) -> str:
    """Write an extra compose file (JSON is YAML, and needs no quoting rules of ours)."""
    path = os.path.join(directory, name)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=1)
    return path
