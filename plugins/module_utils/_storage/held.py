# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an operation notes of what it makes: restart policies that it holds, layers that are filled, what copies hold.

Compose gives a new container the policy of its file, and an engine that restarts
brings up whatever has ``always``, started before or not. Until the proof that
would be a second writer, or a store on data that is half there. So the policy is
noted, taken off, and given back at the end.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import EXTRA_FILE_PREFIX, FILES_LABEL
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import (
    OPERATION_LABEL,
    ROLE_LABEL,
    Container,
    RestartPolicy,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import LAYER
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Location, Transfer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import durable
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World, holds

NO_RESTART = RestartPolicy("no")
POLICIES = "held-policies.json"
LAYERS = "filled-layers.json"
BASELINES = "baselines.json"
LASTING_ROLES = frozenset({"keeper", "volume-holder", "standby"})
"""Helpers that an unfinished operation still needs; all others of a killed run are removed before it resumes."""
CARRYING = f"{EXTRA_FILE_PREFIX}carrying-volumes.json"
"""The extra compose file that mounts an anonymous volume by its name, for the one run after which it is inherited."""


def hold(world: World, directory: str, services: Iterable[str]) -> None:
    """Take the restart policies off the containers of ``services``, noted in ``directory`` before."""
    known = _read(directory, POLICIES)
    found = [c for service in services for c in world.containers_of(service) if c.restart != NO_RESTART]
    if not found:
        return
    for container in found:
        policy = container.restart
        known[container.id] = {"name": policy.name, "maximum_retries": policy.maximum_retries}
    durable.write_json_atomically(os.path.join(directory, POLICIES), known)
    for container in found:
        world.engine.set_restart_policy(container.id, NO_RESTART)


def note_policy(directory: str, container_id: str, policy: RestartPolicy) -> None:
    """Note the policy that a container, made without one, is to get at the end."""
    known = {**_read(directory, POLICIES), container_id: asdict(policy)}
    durable.write_json_atomically(os.path.join(directory, POLICIES), known)


def forget_policy(directory: str, container_id: str) -> None:
    """Take back :func:`note_policy` for a container that is put aside."""
    known = _read(directory, POLICIES)
    if known.pop(container_id, None) is not None:
        durable.write_json_atomically(os.path.join(directory, POLICIES), known)


def release(world: World, directory: str) -> None:
    """Give back what :func:`hold` took, to the containers that are still there."""
    known = _read(directory, POLICIES)
    if known:
        restore_policies(known, world)
        durable.remove_file(os.path.join(directory, POLICIES))


def restore_policies(policies: Mapping[str, Mapping[str, Any]], world: World) -> dict[str, Any]:
    """Give the containers that still exist the restart policies that they had."""
    for container_id, policy in policies.items():
        wanted = RestartPolicy(policy["name"], policy["maximum_retries"])
        container = world.engine.container(container_id)
        if container is not None and container.restart != wanted:
            world.engine.set_restart_policy(container_id, wanted)
    return {}


def note_filled(directory: str, transfer: Transfer, container_id: str) -> None:
    """Note that all of the data is in the layer of this container."""
    known = {**_read(directory, LAYERS), transfer.name: container_id}
    durable.write_json_atomically(os.path.join(directory, LAYERS), known)


def note_baseline(directory: str, transfer: Transfer, identity: Mapping[str, Any]) -> None:
    """Note what the goal holds while it is nothing but our copy: what is more than that was written there since."""
    known = {**_read(directory, BASELINES), transfer.name: dict(identity)}
    durable.write_json_atomically(os.path.join(directory, BASELINES), known)


def baseline(directory: str, transfer: Transfer) -> Mapping[str, Any] | None:
    """Return what :func:`note_baseline` noted last, or None."""
    found: Mapping[str, Any] | None = _read(directory, BASELINES).get(transfer.name)
    return found


def stands_on(world: World, transfer: Transfer, location: Location, directory: str) -> bool:
    """Tell whether the service has one container, and that has the transfer's data, whole, at ``location``."""
    containers = world.containers_of(transfer.service)
    if len(containers) != 1 or not holds(containers[0], transfer, location) or half_made(containers[0]):
        return False
    if location.kind != LAYER:
        return True
    # Any container without a mount there "has" a layer; the data is in the one
    # that it was in at first, and in one that was filled to the end.
    own = transfer.containers if location == transfer.origin else ()
    return containers[0].id in (*own, _read(directory, LAYERS).get(transfer.name, ""))


def half_made(container: Container) -> bool:
    """Tell whether compose made this container by :data:`CARRYING`, and is still to make it by the project's files."""
    return any(os.path.basename(path) == CARRYING for path in container.labels.get(FILES_LABEL, "").split(","))


def _read(directory: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = durable.read_json(os.path.join(directory, name)) or {}
    return found


def let_image_go(engine: Engine, name: str) -> None:
    """Take a name of ours off an image; one that nothing else names or uses goes with it.

    The engine refuses to take the last name off an image that a container uses: there it stays.
    """
    image = engine.image(name)
    if image is None:
        return
    used = any(container.image_id == image.id for container in engine.containers())
    if not used or set(image.tags) - {name}:
        engine.untag(name)


def remove_leftover_helpers(engine: Engine, operation: str) -> list[str]:
    """Stop and remove what a killed run left running, before anything else."""
    removed = []
    for container in engine.containers(labels={OPERATION_LABEL: operation}):
        if container.labels.get(ROLE_LABEL, "") not in LASTING_ROLES:
            engine.remove_container(container.id, force=True)
            removed.append(container.name)
    return removed
