# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers that compose makes from a project's files. Meets ``world.Maker``.

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
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import ComposeCli
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import (
    EXTRA_FILE_PREFIX,
    ONEOFF_LABEL,
    PROJECT_LABEL,
    SERVICE_LABEL,
    Project,
    Services,
    observe_project,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import containers_with
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import CARRYING, hold
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import ANONYMOUS, Findings, Request
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.neighbours import neighbours
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.survey import drift_of, planned_rewrite
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Location, Transfer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import Change, Maker, World, services_of

PINNED = f"{EXTRA_FILE_PREFIX}pinned-images.json"
CARRIED = f"{EXTRA_FILE_PREFIX}carried-volumes.json"
"""As ``held.CARRYING``, for containers that stay made by it."""


@dataclass(frozen=True)
class ByCompose:
    """``compose`` is the CLI for the one project."""

    compose: ComposeCli = field(repr=False)

    def observe(self, engine: Engine, services: Sequence[str] = ()) -> Project:
        return observe_project(engine, self.compose, services)

    def seeing(self, project: Services) -> Maker:
        return ByCompose(project.compose) if isinstance(project, Project) else self

    def facts(self) -> dict[str, Any]:
        options = self.compose.options
        return {
            "project_src": options.project_src,
            "project_name": options.project_name,
            "files": list(options.files),
            "profiles": list(options.profiles),
            "env_files": list(options.env_files),
            "docker_host": self.compose.environment.get("DOCKER_HOST", ""),
            "compose_program": list(self.compose.invocation.program),
        }

    def resumed(self, facts: Mapping[str, Any]) -> Maker:
        # By the very path that its containers were made from.
        return ByCompose(self.compose.with_options(project_src=facts["project_src"]))

    def around(self, world: World, project: Services, request: Request, change: Change) -> Findings:
        if not isinstance(project, Project):
            raise TypeError(f"{project.name} is no project of compose")
        services = [change.service]
        targets = {(change.service, target) for target in change.targets}
        others, hashes = neighbours(world, project, services), self.compose.service_hashes(services)
        return Findings(
            moves=(),
            hashes=hashes,
            rewrite=planned_rewrite(self.compose, request, change.images),
            drift=drift_of(world, project, services, targets, hashes, images=change.images),
            blockers=others.blockers,
            warnings=others.warnings,
            compose_v1=self.compose.is_v1,
        )

    def containers_of(self, engine: Engine, project: str, service: str) -> list[Container]:
        found = engine.containers(labels={PROJECT_LABEL: project, SERVICE_LABEL: service})
        return [c for c in found if c.labels.get(ONEOFF_LABEL, "False").lower() != "true"]

    def is_of(self, container: Container, transfer: Transfer) -> bool:
        return container.service == transfer.service

    def family(self, engine: Engine, project: str, transfer: Transfer) -> list[Container]:
        return self.containers_of(engine, project, transfer.service)

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
        services, compose = services_of(transfers), self.compose
        extra = [_pin_file(directory, pins)] if any(service in pins for service in services) else []
        carried = [t for t in transfers if _needs_carrying(locations[t.name], file_is_theirs)]
        # Compose v1 forgets the volume, and a file that is not ours may name another place: both stay with the extra
        # file.
        inherited = bool(carried) and not file_is_theirs and not compose.is_v1
        name = CARRYING if inherited else CARRIED
        with_volumes = [*extra, _carry_file(directory, name, carried, locations)] if carried else extra
        compose.up(services, extra_files=with_volumes, no_start=True, force_recreate=compose.is_v1, stopped=True)
        if inherited:
            # Compose makes the second container before it removes the first: an
            # engine that restarts in between must not start both.
            hold(world, directory, services)
            compose.up(services, extra_files=extra, no_start=True)

    def unfinished(self, engine: Engine, project: str, transfer: Transfer) -> list[Container]:
        containers = self.containers_of(engine, project, transfer.service)
        if not any(container.id in transfer.containers for container in containers):
            return []
        return [c for c in containers if c.id not in transfer.containers and not c.started and not c.running]

    def let_go(self, engine: Engine, transfer: Transfer) -> None:
        """Do nothing: compose removes what it replaces."""

    def listing(self, service: str) -> str:
        return containers_with(SERVICE_LABEL, service)


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
