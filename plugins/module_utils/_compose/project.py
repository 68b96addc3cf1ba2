# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A compose project as it is: its files and the containers that carry its labels.

Containers are found by label and never by name: compose 1 writes ``app_db_1``,
compose 2 ``app-db-1``, and ``container_name`` anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import ComposeCli, ComposeFailed
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.command_line import settings
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.config import (
    ComposeConfig,
    Service,
    parse_config,
    v1_project_name,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, shell

PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
ONEOFF_LABEL = "com.docker.compose.oneoff"
NUMBER_LABEL = "com.docker.compose.container-number"
VERSION_LABEL = "com.docker.compose.version"
HASH_LABEL = "com.docker.compose.config-hash"
WORKING_DIR_LABEL = "com.docker.compose.project.working_dir"
FILES_LABEL = "com.docker.compose.project.config_files"
EXTRA_FILE_PREFIX = "selfhost-stateful."
"""How the extra files are named that our own ``up`` was given; no request names them."""


class Typed(Protocol):
    """Says what an admin would type on the host."""

    def typed(self, *words: str) -> str: ...


class Services(Protocol):
    """Services with their containers at one moment: those of a project, or what is no project and is looked at as one.

    ``working_dir``: what relative paths are relative to. ``containers`` has a key for every service.
    """

    @property
    def name(self) -> str: ...

    @property
    def working_dir(self) -> str: ...

    @property
    def config(self) -> ComposeConfig: ...

    @property
    def compose(self) -> Typed: ...

    @property
    def containers(self) -> Mapping[str, tuple[Container, ...]]: ...

    def service(self, name: str) -> Service: ...


@dataclass(frozen=True)
class Project:
    """A project at one moment. Meets :class:`Services`: a service without a container is one that was never created.

    ``compose`` is the CLI to go on with: it sees the project by the very path
    that its containers were made from.
    """

    name: str
    working_dir: str
    config_files: tuple[str, ...]
    config: ComposeConfig = field(repr=False)
    compose: ComposeCli = field(repr=False)
    containers: Mapping[str, tuple[Container, ...]]
    orphans: tuple[Container, ...] = ()
    one_off: tuple[Container, ...] = ()

    def service(self, name: str) -> Service:
        return self.config.services[name]

    def containers_of(self, services: Iterable[str]) -> tuple[Container, ...]:
        return tuple(container for name in services for container in self.containers.get(name, ()))

    @property
    def never_created(self) -> tuple[str, ...]:
        return tuple(name for name, containers in self.containers.items() if not containers)


def observe_project(engine: Engine, compose: ComposeCli, services: Sequence[str] = ()) -> Project:
    """Return the project that ``compose`` was made for, and make sure that it is the one that runs.

    Raises :class:`InvalidInput` where the directory or its compose file is not
    there, where the file does not parse or lacks one of ``services``, and where
    the containers of that name belong to another checkout.
    """
    src = compose.options.project_src
    if not os.path.isdir(src):
        raise InvalidInput(f"There is no directory {src}: project_src is the directory of the compose file.")
    files = compose.files()
    absent = [path for path in files if not os.path.isfile(path)]
    if not files or absent:
        raise InvalidInput(f"There is no compose file {', '.join(absent) or 'in ' + src}.")

    config = _read(compose, all_profiles=False)
    found = engine.containers(labels={PROJECT_LABEL: config.name})
    mentioned = {*services, *(c.service for c in found if not _is_one_off(c))}
    if mentioned - set(config.services) and not compose.is_v1:
        # A service of a profile that is not enabled is left out of v2's answer.
        config = _read(compose, all_profiles=True)
    unknown = [name for name in services if name not in config.services]
    if unknown:
        raise InvalidInput(
            f"No service {', '.join(unknown)} in {', '.join(files)}; there are {', '.join(sorted(config.services))}."
        )
    working_dir = expected_working_dir(compose)
    _check_same_checkout(found, working_dir, config.name)
    same_by_link = _path_of_containers(found, working_dir)
    if same_by_link and compose.options.project_src == working_dir:
        # Absolute paths go into the config hash: read through the other name of
        # the directory, every container would seem changed.
        return observe_project(engine, compose.with_options(project_src=same_by_link), services)
    _check_same_files([c for c in found if c.service in services], files, working_dir)
    return assemble(compose, config, working_dir, files, found)


def assemble(
    compose: ComposeCli,
    config: ComposeConfig,
    working_dir: str,
    files: tuple[str, ...],
    found: Sequence[Container],
) -> Project:
    """Sort the containers of a project by service; pure."""
    one_off = tuple(c for c in found if _is_one_off(c))
    regular = sorted((c for c in found if not _is_one_off(c)), key=_number)
    return Project(
        name=config.name,
        working_dir=working_dir,
        config_files=files,
        config=config,
        compose=compose,
        containers={name: tuple(c for c in regular if c.service == name) for name in config.services},
        orphans=tuple(c for c in regular if c.service not in config.services),
        one_off=one_off,
    )


def expected_working_dir(compose: ComposeCli) -> str:
    """Return the directory that compose takes for the project's: project_src, or that of COMPOSE_FILE's first."""
    if compose.options.files:
        return compose.options.project_src
    files = compose.files()
    return os.path.dirname(files[0]) if files else compose.options.project_src


def _read(compose: ComposeCli, *, all_profiles: bool) -> ComposeConfig:
    try:
        raw: dict[str, Any] = compose.config(all_profiles=all_profiles)
    except ComposeFailed as error:
        first = error.message.splitlines()[0] if error.message else "no reason given"
        raise InvalidInput(
            f"Compose cannot read {', '.join(compose.files())}: {first}", next_command=error.next_command
        ) from error
    return parse_config(raw, project_name=_v1_name(compose) if compose.is_v1 else "")


def _v1_name(compose: ComposeCli) -> str:
    known = settings(compose.options, compose.environment, v1=True)
    given = compose.options.project_name or known.get("COMPOSE_PROJECT_NAME", "")
    return v1_project_name(given or os.path.basename(os.path.realpath(expected_working_dir(compose))))


def _path_of_containers(found: Sequence[Container], working_dir: str) -> str:
    """Return the other name of ``working_dir`` that all containers were made from, or an empty string."""
    labelled = {c.labels.get(WORKING_DIR_LABEL, working_dir) for c in found} if found else set()
    (only,) = labelled if len(labelled) == 1 else (working_dir,)
    return only if only != working_dir and os.path.isdir(only) else ""


def _check_same_checkout(found: Sequence[Container], working_dir: str, name: str) -> None:
    for container in found:
        other = container.labels.get(WORKING_DIR_LABEL, "")
        # Compose before 1.25 wrote no such label.
        if other and os.path.realpath(other) != os.path.realpath(working_dir):
            raise InvalidInput(
                f"The containers of project {name} were made from {other}, not from {working_dir}: "
                "two checkouts share one project name. Name the right project_src, or give the other a project_name.",
                next_command=shell("docker", "inspect", container.name),
            )


def _check_same_files(found: Sequence[Container], files: Sequence[str], working_dir: str) -> None:
    in_use = {os.path.realpath(path) for path in files}
    for container in found:
        labelled = [part for part in container.labels.get(FILES_LABEL, "").split(",") if part]
        # A file that is gone cannot be meant any more; one that was added since
        # (an override) only widens the set. Ours are no part of the project.
        paths = [
            os.path.realpath(os.path.join(working_dir, part))
            for part in labelled
            if not os.path.basename(part).startswith(EXTRA_FILE_PREFIX)
        ]
        missing = [path for path in paths if path not in in_use and os.path.isfile(path)]
        if missing:
            raise InvalidInput(
                f"The container {container.name} was made with {', '.join(missing)} as well, "
                f"and this request reads {', '.join(files)} only: name all of them in files.",
                next_command=shell("docker", "inspect", container.name),
            )


def _is_one_off(container: Container) -> bool:
    return container.labels.get(ONEOFF_LABEL, "False").lower() == "true"


def _number(container: Container) -> tuple[int, str]:
    number = container.labels.get(NUMBER_LABEL, "")
    return (int(number) if number.isdigit() else 0, container.name)
