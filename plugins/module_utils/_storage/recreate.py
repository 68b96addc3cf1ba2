# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Create a service's container on a given location, without starting it, and prove that it is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import mounts_of
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Undecided
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import (
    hold,
    note_baseline,
    note_filled,
    stands_on,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.layer import fill_layer, layer_path
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import LAYER
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Location, Transfer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import (
    World,
    holds,
    services_of,
    the_container,
)


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
    make = partial(world.maker.make, world, transfers, locations, directory=directory, file_is_theirs=file_is_theirs)
    make(pins=pins)
    found = {transfer.service: the_container(world, transfer).image_id for transfer in transfers}
    wanted = {transfer.service: transfer.image_at(locations[transfer.name]) for transfer in transfers}
    strayed = {service: image for service, image in wanted.items() if found[service] != image}
    if strayed:
        # A tag has come to mean another image since the plan was made. What was made from it never started.
        make(pins={**pins, **strayed})
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
