# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What compose would change at a container beyond what is asked for.

``up`` applies the whole file, so a change that has been waiting there for
months would ride along with a move of data. The config hash says that there is
one; this says which.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import parse_version
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.config import (
    NamedVolume,
    Service,
    ServiceMount,
    volume_name,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import (
    HASH_LABEL,
    VERSION_LABEL,
    Project,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container, EngineMount, Image

FLOATING = "floating_image"
IMAGE = "image"
ENVIRONMENT = "environment"
COMMAND = "command"
ENTRYPOINT = "entrypoint"
PORTS = "ports"
MOUNTS = "mounts"
USER = "user"
RESTART = "restart"
REPLICAS = "replicas"
OTHER = "other"


@dataclass(frozen=True)
class Drift:
    """One difference, as a sentence and as a ``kind``; environment variables are named without their values."""

    service: str
    kind: str
    text: str


def find_drift(
    engine: Engine,
    project: Project,
    services: Iterable[str],
    hashes: Mapping[str, str],
    *,
    ignore_targets: Mapping[str, Sequence[str]] | None = None,
    ignore_images: Collection[str] = (),
) -> list[Drift]:
    """Return what ``up`` would change at ``services``; ``hashes`` come from ``ComposeCli.service_hashes``.

    ``ignore_targets`` names, per service, the paths whose mounts are to change
    anyway, ``ignore_images`` the services whose image is. A service without
    containers has no drift.
    """
    found: list[Drift] = []
    for name in services:
        service, containers = project.service(name), project.containers.get(name, ())
        ignored = tuple((ignore_targets or {}).get(name, ()))
        for container in containers:
            image, running = engine.image(container.image_ref), engine.image(container.image_id)
            # Compose also recreates for a new image under an old name, whatever the hash says.
            found += floating(service, container, image)
            if container.labels.get(HASH_LABEL) != hashes.get(name):
                volumes = project.config.volumes
                same_image = replace(service, image=container.image_ref) if name in ignore_images else service
                told = list(differences(same_image, container, running, volumes, ignored))
                if not told and name in hashes and _is_comparable(container, project.compose.version):
                    # A mount that the file names already explains the hash, so that nothing else is known.
                    explained = _is_mounted_elsewhere(service, container, volumes, ignored)
                    explained = explained or same_image != service
                    told = [] if explained else [_untold(service)]
                found += told
        if containers and len(containers) != service.replicas:
            text = f"{len(containers)} containers where the file asks for {service.replicas}"
            found.append(Drift(name, REPLICAS, text))
    return list(dict.fromkeys(found))


def floating(service: Service, container: Container, resolved: Image | None) -> list[Drift]:
    """Tell whether the reference that the container was made from names another image by now."""
    if resolved is None or resolved.id == container.image_id:
        return []
    text = (
        f"the image {container.image_ref} is {resolved.id[:19]} (created {resolved.created[:10]}) by now, "
        f"and {container.name} runs {container.image_id[:19]}"
    )
    return [Drift(service.name, FLOATING, text)]


def differences(
    service: Service,
    container: Container,
    running: Image | None,
    volumes: Mapping[str, NamedVolume],
    ignore_targets: Sequence[str] = (),
) -> Iterator[Drift]:
    """Compare one container with its service in the file; pure. ``running`` is the image that it runs."""
    name = service.name
    if service.image and service.image != container.image_ref:
        yield Drift(name, IMAGE, f"the image is {container.image_ref}, the file says {service.image}")
    changed = _environment(service, container, running)
    if changed:
        yield Drift(name, ENVIRONMENT, f"environment differs: {', '.join(changed)}")
    for kind, wanted, has in (
        (COMMAND, service.command, container.command),
        (ENTRYPOINT, service.entrypoint, container.entrypoint),
    ):
        # Not in the file means the image's own. The words stay untold: passwords stand there.
        if wanted is not None and wanted != has:
            yield Drift(name, kind, f"{kind} differs")
    user = service.user or (running.user if running else "")
    if user != container.user:
        yield Drift(name, USER, f"user is {container.user or 'root'}, the file says {user or 'root'}")
    policy = container.restart.name
    if container.restart.maximum_retries:
        policy += f":{container.restart.maximum_retries}"
    if service.restart != policy:
        yield Drift(name, RESTART, f"restart is {policy}, the file says {service.restart}")
    ports = _ports(service, container)
    if ports:
        yield Drift(name, PORTS, f"published ports differ: {', '.join(ports)}")
    for text in _mounts(service, container, running, volumes, ignore_targets):
        yield Drift(name, MOUNTS, text)


def _is_comparable(container: Container, version: tuple[int, ...]) -> bool:
    """Tell whether a container's hash was computed as this release of compose does it."""
    return parse_version(container.labels.get(VERSION_LABEL, "")) == version


def _is_mounted_elsewhere(
    service: Service, container: Container, volumes: Mapping[str, NamedVolume], targets: Iterable[str]
) -> bool:
    wanted = {_tidy(mount.target): mount for mount in service.mounts}
    has = {_tidy(mount.destination): mount for mount in container.mounts}
    return any(
        target in wanted and bool(_mount_difference(wanted[target], has.get(target), volumes))
        for target in map(_tidy, targets)
    )


def _untold(service: Service) -> Drift:
    text = "the file changed since the container was made (labels, networks, health check or another setting)"
    return Drift(service.name, OTHER, text)


def _environment(service: Service, container: Container, running: Image | None) -> list[str]:
    base = running.env if running else {}
    wanted = {**base, **{key: value for key, value in service.environment.items() if value is not None}}
    differs = {key for key, value in wanted.items() if container.env.get(key) != value}
    # A bare name is passed through from the environment of whoever ran compose.
    extra = {key for key in container.env if key not in wanted and key not in service.environment}
    return sorted(differs | extra)


def _ports(service: Service, container: Container) -> list[str]:
    wanted = {_with_any_address(port) for port in service.ports}
    has = {_with_any_address(port) for port in container.published}
    return sorted(wanted ^ has)


def _with_any_address(port: str) -> str:
    head, _arrow, target = port.partition("->")
    address, _colon, published = head.rpartition(":")
    # The engine picks a port where none is named, another one each time.
    published = "" if published in ("", "0") else published
    return f"{address or '0.0.0.0'}:{published}->{target}"


def _mounts(
    service: Service,
    container: Container,
    running: Image | None,
    volumes: Mapping[str, NamedVolume],
    ignore_targets: Sequence[str],
) -> Iterator[str]:
    ignored = {_tidy(path) for path in ignore_targets}
    wanted = {_tidy(mount.target): mount for mount in service.mounts}
    has = {_tidy(mount.destination): mount for mount in container.mounts}
    of_image = {_tidy(path) for path in running.volumes} if running else set()
    expected_elsewhere = of_image | {_tidy(path) for path in service.injected}
    for target in sorted(wanted.keys() - ignored):
        told = _mount_difference(wanted[target], has.get(target), volumes)
        if told:
            yield f"{target}: {told}"
    for target in sorted(has.keys() - wanted.keys() - ignored - expected_elsewhere):
        if has[target].type != "tmpfs":
            yield f"{target}: the container mounts {_shown(has[target])}, the file mounts nothing"


def _mount_difference(wanted: ServiceMount, has: EngineMount | None, volumes: Mapping[str, NamedVolume]) -> str:
    if wanted.type not in ("bind", "volume"):
        return ""
    source = volume_name(volumes, wanted.source) if wanted.type == "volume" else wanted.source
    says = f"the file mounts {source or 'an anonymous volume'}"
    if has is None:
        return f"the container mounts nothing, {says}"
    same_source = not source or (has.name == source if wanted.type == "volume" else _tidy(has.source) == _tidy(source))
    if has.type != wanted.type or not same_source:
        return f"the container mounts {_shown(has)}, {says}"
    if has.rw == wanted.read_only:
        return f"the container mounts it {'writable' if has.rw else 'read-only'}, the file does not"
    return ""


def _shown(mount: EngineMount) -> str:
    return mount.name or mount.source


def _tidy(path: str) -> str:
    return os.path.normpath(path)
