# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who would be harmed by the change of a service's container, or would act in the middle of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.owners import (
    Owners,
    units_of,
    updaters_of,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Project
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import OPERATION_LABEL, Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World


def neighbours(world: World, project: Project, services: Sequence[str]) -> Owners:
    """Return what of all that runs on this host speaks against changing ``services`` now."""
    everyone = world.engine.containers()
    moving = project.containers_of(services)
    found = (units_of(project.working_dir, start=project.compose.typed("start")), updaters_of(everyone, moving))
    return Owners(
        blockers=(
            *replicas(project, services),
            *joined_to(everyone, moving),
            *(blocker for owners in found for blocker in owners.blockers),
        ),
        warnings=(
            *(sentence for owners in found for sentence in owners.warnings),
            *(
                f"{container.name}, a container of 'compose run', is left alone and loses its connections."
                for container in project.one_off
                if container.running
            ),
        ),
    )


def replicas(project: Project, services: Iterable[str]) -> list[Blocker]:
    """Say which services have or are to have more than the one container that a directory is for."""
    found = []
    for name in services:
        there, wanted = len(project.containers[name]), project.service(name).replicas
        if (there, wanted) != (1, 1):
            found.append(
                Blocker(
                    f"{name} has {there} containers, and its file asks for {wanted}: a directory is for one. Write"
                    " scale: 1 (or deploy.replicas: 1) into the file, have one container only, and run the same task"
                    " again.",
                    down_to_one(project, name),
                )
            )
    return found


def down_to_one(project: Project, service: str) -> str:
    """Return the command that leaves a service one of its containers, as it is."""
    # Without --no-recreate it would be created anew, on whatever its file mounts by now.
    return project.compose.typed("up", "-d", "--no-deps", "--no-recreate", "--scale", f"{service}=1", service)


def joined_to(everyone: Iterable[Container], moving: Sequence[Container]) -> list[Blocker]:
    """Say which containers live in a namespace of one that is to be replaced: they could not start again.

    They name it by the id of the container that is removed. Among those that
    are created anew themselves, compose sees to it.
    """
    names = {name: container for container in moving for name in (container.id, container.name)}
    ours = {container.id for container in moving}
    return [
        Blocker(
            f"{container.name} shares a namespace of {names[other].name} (network_mode, pid or ipc) and could not start"
            f" again once that is created anew: stop it first (docker stop {container.name}), run the same task again,"
            " and then create it anew "
            + (f"(docker compose up -d --force-recreate {container.service})." if container.service else "yourself."),
            shell("docker", "stop", container.name),
        )
        for container in everyone
        for other in container.joined
        if other in names and container.running and container.id not in ours and OPERATION_LABEL not in container.labels
    ]
