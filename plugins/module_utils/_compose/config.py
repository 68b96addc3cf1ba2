# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The output of ``compose config`` as plain data, the same for v2's long and v1's short forms."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.secrets import environment_pairs


@dataclass(frozen=True)
class ServiceMount:
    """One entry of a service's ``volumes:``; ``source`` is a path, a top-level volume's key, or empty (anonymous)."""

    type: str
    source: str
    target: str
    read_only: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def anonymous(self) -> bool:
        return self.type == "volume" and not self.source


@dataclass(frozen=True)
class Build:
    """Where a service's image is built: absolute ``context``, ``dockerfile`` relative to it (empty: inline)."""

    context: str
    dockerfile: str = "Dockerfile"


@dataclass(frozen=True)
class Service:
    """A service as the file defines it. ``environment`` and ``command`` may hold secrets."""

    name: str
    image: str
    build: Build | None
    mounts: tuple[ServiceMount, ...]
    depends_on: tuple[str, ...]
    profiles: tuple[str, ...]
    replicas: int
    restart: str
    env_files: tuple[str, ...]
    container_name: str
    user: str
    environment: Mapping[str, str | None] = field(repr=False)
    command: tuple[str, ...] | None = field(repr=False)
    entrypoint: tuple[str, ...] | None = field(repr=False)
    ports: tuple[str, ...]
    injected: tuple[str, ...] = ()
    """Paths at which compose mounts files of ``secrets:`` and ``configs:``."""

    def mount_at(self, path: str) -> ServiceMount | None:
        """Return the deepest mount that holds ``path``."""
        wanted = path.rstrip("/") + "/"
        holding = [m for m in self.mounts if wanted.startswith(m.target.rstrip("/") + "/")]
        return max(holding, key=lambda m: len(m.target.rstrip("/")), default=None)


@dataclass(frozen=True)
class NamedVolume:
    """A top-level volume: ``key`` in the file, ``name`` in the engine."""

    key: str
    name: str
    external: bool = False
    driver: str = ""
    driver_opts: Mapping[str, str] = field(default_factory=dict)


def volume_name(volumes: Mapping[str, NamedVolume], source: str) -> str:
    """Return the engine's name of the volume that a service mounts as ``source``, declared or not."""
    known = volumes.get(source)
    return known.name if known else source


@dataclass(frozen=True)
class ComposeConfig:
    """A whole project as the files define it."""

    name: str
    services: Mapping[str, Service]
    volumes: Mapping[str, NamedVolume]

    def dependents_of(self, services: Iterable[str]) -> tuple[str, ...]:
        """Return all services that need one of ``services``, however indirectly, in the order to stop them."""
        found = set(services)
        while True:
            more = {s.name for s in self.services.values() if found.intersection(s.depends_on)} - found
            if not more:
                return self.stop_order(found - set(services))
            found |= more

    def start_order(self, services: Iterable[str]) -> tuple[str, ...]:
        """Return ``services`` with what they need before them; those without order keep the file's."""
        wanted = set(services)
        ordered: list[str] = []
        seen: set[str] = set()

        def visit(name: str) -> None:
            if name in seen:
                return
            seen.add(name)
            service = self.services.get(name)
            for needed in service.depends_on if service else ():
                visit(needed)
            ordered.append(name)

        for name in [n for n in self.services if n in wanted] + sorted(wanted - set(self.services)):
            visit(name)
        return tuple(name for name in ordered if name in wanted)

    def stop_order(self, services: Iterable[str]) -> tuple[str, ...]:
        """Return ``services`` with what needs them before them."""
        return tuple(reversed(self.start_order(services)))


def parse_config(config: Mapping[str, Any], *, project_name: str = "") -> ComposeConfig:
    """Read what ``ComposeCli.config`` returned; ``project_name`` is needed for v1, whose output has none."""
    name = str(config.get("name") or project_name)
    services = {key: parse_service(key, raw or {}) for key, raw in (config.get("services") or {}).items()}
    volumes = {key: _named_volume(key, raw or {}, name) for key, raw in (config.get("volumes") or {}).items()}
    return ComposeConfig(name=name, services=services, volumes=volumes)


def parse_service(name: str, raw: Mapping[str, Any]) -> Service:
    deploy = raw.get("deploy") or {}
    replicas = raw.get("scale", deploy.get("replicas"))
    return Service(
        name=name,
        image=str(raw.get("image") or ""),
        build=_build(raw.get("build")),
        mounts=tuple(parse_mount(entry) for entry in raw.get("volumes") or ()),
        depends_on=_needs(raw),
        profiles=tuple(raw.get("profiles") or ()),
        replicas=1 if replicas is None else int(replicas),
        restart=_restart(raw.get("restart")),
        env_files=_env_files(raw.get("env_file")),
        container_name=str(raw.get("container_name") or ""),
        user=str(raw.get("user") or ""),
        environment=_environment(raw.get("environment")),
        command=words(raw.get("command")),
        entrypoint=words(raw.get("entrypoint")),
        ports=tuple(port_text(entry) for entry in raw.get("ports") or ()),
        injected=(*_injected(raw.get("secrets"), "/run/secrets/"), *_injected(raw.get("configs"), "/")),
    )


def parse_mount(entry: Any) -> ServiceMount:
    """Read one entry of ``volumes:``, long form or short (``source:target:mode``, ``target``)."""
    if isinstance(entry, Mapping):
        kind = str(entry.get("type") or "volume")
        return ServiceMount(
            type=kind,
            source=str(entry.get("source") or ""),
            target=str(entry.get("target") or ""),
            read_only=bool(entry.get("read_only")),
            options=dict(entry.get(kind) or {}),
        )
    parts = str(entry).split(":")
    if len(parts) == 1:
        return ServiceMount(type="volume", source="", target=parts[0])
    # A colon in a path cannot be written in short form, so what is left after
    # mode and target is the source.
    mode = parts.pop() if len(parts) > 2 else ""
    target, source = parts.pop(), ":".join(parts)
    flags = mode.split(",")
    kind = "bind" if source[:1] in "/.~" else "volume"
    options: dict[str, Any] = {"nocopy": True} if "nocopy" in flags else {}
    return ServiceMount(type=kind, source=source, target=target, read_only="ro" in flags, options=options)


def words(value: Any) -> tuple[str, ...] | None:
    """Return ``command:`` or ``entrypoint:`` as argv; None where the file says nothing."""
    if value is None:
        return None
    return tuple(shlex.split(value)) if isinstance(value, str) else tuple(str(part) for part in value)


def port_text(entry: Any) -> str:
    """Return a published port as ``[ip:]published->target/protocol``."""
    if isinstance(entry, Mapping):
        ip, published = str(entry.get("host_ip") or ""), str(entry.get("published") or "")
        target, protocol = str(entry.get("target") or ""), str(entry.get("protocol") or "tcp")
    else:
        head, _slash, protocol = str(entry).partition("/")
        rest, _colon, target = head.rpartition(":")
        ip, _colon, published = rest.rpartition(":")
        protocol = protocol or "tcp"
    return f"{ip + ':' if ip else ''}{published}->{target}/{protocol}"


def v1_project_name(directory_name: str) -> str:
    """Return the name that compose 1 gives a project in a directory of that name."""
    return re.sub(r"[^-_a-z0-9]", "", directory_name.lower()) or "default"


def _needs(raw: Mapping[str, Any]) -> tuple[str, ...]:
    needed = [str(name) for name in raw.get("depends_on") or ()]
    needed += [str(link).partition(":")[0] for link in raw.get("links") or ()]
    needed += [str(origin).partition(":")[0] for origin in raw.get("volumes_from") or () if not _is_container(origin)]
    for key in ("network_mode", "pid", "ipc"):
        kind, _colon, name = str(raw.get(key) or "").partition(":")
        needed += [name] if kind == "service" else []
    return tuple(dict.fromkeys(needed))


def _is_container(origin: Any) -> bool:
    return str(origin).startswith("container:")


def _build(raw: Any) -> Build | None:
    if not raw:
        return None
    if isinstance(raw, str):
        return Build(context=raw)
    dockerfile = "" if "dockerfile_inline" in raw else str(raw.get("dockerfile") or "Dockerfile")
    return Build(context=str(raw.get("context") or "."), dockerfile=dockerfile)


def _injected(entries: Any, directory: str) -> Iterator[str]:
    for entry in entries or ():
        named = entry if isinstance(entry, str) else entry.get("target") or entry.get("source") or ""
        yield named if named.startswith("/") else directory + named


def _restart(value: Any) -> str:
    # YAML 1.1 reads a bare `no` as false.
    return "no" if value in (None, False, "") else str(value)


def _env_files(value: Any) -> tuple[str, ...]:
    entries = [value] if isinstance(value, (str, Mapping)) else list(value or ())
    return tuple(str(entry["path"]) if isinstance(entry, Mapping) else str(entry) for entry in entries)


def _environment(value: Any) -> dict[str, str | None]:
    if isinstance(value, Mapping):
        return {str(key): None if inner is None else str(inner) for key, inner in value.items()}
    return dict(environment_pairs(value))


def _named_volume(key: str, raw: Mapping[str, Any], project: str) -> NamedVolume:
    external = raw.get("external") or False
    name = raw.get("name") or (external.get("name") if isinstance(external, Mapping) else "")
    return NamedVolume(
        key=key,
        name=str(name or (key if external else f"{project}_{key}")),
        external=bool(external),
        driver=str(raw.get("driver") or ""),
        driver_opts={str(k): str(v) for k, v in (raw.get("driver_opts") or {}).items()},
    )
