# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which container a task is about: that of a service of a compose project, or one that is named by itself.

The options are documented in the doc fragment ``subject``.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.arguments import (
    ENGINE_ARGUMENTS,
    PROJECT_ARGUMENTS,
    connection,
    project_options,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import find_compose
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import (
    PROJECT_LABEL,
    Project,
    observe_project,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import logs_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import Connection, connect
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.refusals import refuse_unsupported
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, shell

SUBJECT_ARGUMENTS: dict[str, Any] = {
    **PROJECT_ARGUMENTS,
    "project_src": {"type": "path", "default": ""},
    "service": {"type": "str", "default": ""},
    "container": {"type": "str", "default": ""},
    **ENGINE_ARGUMENTS,
}


@dataclass(frozen=True)
class Reached:
    """The container that is meant; ``project`` is None where none was named."""

    engine: Engine
    container: Container
    project: Project | None = field(default=None, repr=False)

    @property
    def lock(self) -> str:
        """The name by which work on this server excludes other work: that of its project, also where none was named."""
        return (
            self.project.name
            if self.project
            else self.container.labels.get(PROJECT_LABEL, lock_of(self.container.name))
        )


def lock_of(container: str) -> str:
    """Return the name for that of a container without a project; no project's name has a colon in it."""
    return f"container:{container}"


def find(params: Mapping[str, Any]) -> Reached:
    """Return the container that the options name, whether it runs or not; as :func:`reach` else."""
    check_choice(params)
    way = connection(params)
    if params["container"]:
        engine = _supported(way)
        return Reached(engine, by_name(engine, params["container"]))
    # Each takes a tenth of a second, and neither needs the other.
    with ThreadPoolExecutor(1) as beside:
        asked = beside.submit(find_compose, project_options(params), way, program=tuple(params["compose_program"]))
        engine = _supported(way)
    project = observe_project(engine, asked.result(), [params["service"]])
    return Reached(engine, of_service(project, params["service"]), project)


def _supported(way: Connection) -> Engine:
    engine = connect(way)
    refuse_unsupported(engine, way.docker_host)
    return engine


def check_choice(params: Mapping[str, Any]) -> None:
    """Raise :class:`InvalidInput` unless exactly one container is named."""
    if params["container"]:
        if params["service"] or params["project_src"]:
            raise InvalidInput("container names one by itself: leave out project_src and service, or container.")
    elif not params["service"]:
        raise InvalidInput("No container is named: give project_src and service, or container.")
    elif not params["project_src"]:
        raise InvalidInput(f"The service {params['service']} is one of a project: give its directory as project_src.")


def by_name(engine: Engine, name: str) -> Container:
    """Return the container of that name or id; raises where there is none."""
    container = engine.container(name)
    if container is None:
        raise InvalidInput(f"There is no container {name} on this engine.", next_command="docker ps -a")
    return container


def of_service(project: Project, service: str) -> Container:
    """Return the one container of a service; raises where there is none, or more than one."""
    containers = project.containers.get(service, ())
    if not containers:
        raise InvalidInput(
            f"The service {service} of project {project.name} has no container: it was never started, or taken down.",
            next_command=project.compose.typed("up", "-d", service),
        )
    if len(containers) > 1:
        names = ", ".join(container.name for container in containers)
        raise InvalidInput(
            f"The service {service} of project {project.name} has {len(containers)} containers ({names}): name the one"
            " that is meant in container, in place of project_src and service.",
        )
    return containers[0]


def running(found: Reached, service: str) -> Container:
    """Return the container if it runs; raises :class:`InvalidInput` with what makes it run."""
    container = found.container
    name = container.name
    if container.status == "paused":
        raise InvalidInput(f"The container {name} is paused.", next_command=shell("docker", "unpause", name))
    if container.status == "restarting":
        raise InvalidInput(
            f"The container {name} ends and restarts again and again (last exit code {container.exit_code}): its log"
            " says why.",
            next_command=logs_of(name),
        )
    if not container.pid:
        start = found.project.compose.typed("start", service) if found.project else shell("docker", "start", name)
        raise InvalidInput(f"The container {name} does not run ({container.status}).", next_command=start)
    return container
