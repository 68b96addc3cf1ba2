# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what ``docker inspect`` says to plain data. Pure: raw JSON in, our own types out."""

from __future__ import annotations

from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import (
    Container,
    EngineMount,
    Image,
    RestartPolicy,
    Volume,
)


def environment_of(pairs: list[str] | None) -> dict[str, str]:
    """Turn the engine's ``["KEY=value", "BARE"]`` into a mapping."""
    return {key: value for key, _eq, value in (entry.partition("=") for entry in pairs or [])}


def _argv(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def container_from(raw: dict[str, Any]) -> Container:
    config, host, state = raw["Config"], raw["HostConfig"], raw["State"]
    policy = host.get("RestartPolicy") or {}
    graph = (raw.get("GraphDriver") or {}).get("Data") or {}
    mounts = tuple(
        EngineMount(
            type=mount.get("Type", ""),
            source=mount.get("Source", ""),
            destination=mount.get("Destination", ""),
            rw=bool(mount.get("RW")),
            name=mount.get("Name", "") or "",
            driver=mount.get("Driver", "") or "",
        )
        for mount in raw.get("Mounts") or []
    )
    network = raw.get("NetworkSettings") or {}
    ports = network.get("Ports") or {}
    attached = [each for each in (network.get("Networks") or {}).values() if each]
    bindings = host.get("PortBindings") or ports
    shared = [str(host.get(key) or "").partition(":") for key in ("NetworkMode", "PidMode", "IpcMode")]
    return Container(
        id=raw["Id"],
        name=raw["Name"].lstrip("/"),
        image_id=raw["Image"],
        image_ref=config.get("Image", ""),
        status=state.get("Status", ""),
        pid=int(state.get("Pid") or 0),
        labels=config.get("Labels") or {},
        env=environment_of(config.get("Env")),
        entrypoint=_argv(config.get("Entrypoint")),
        command=_argv(config.get("Cmd")),
        user=config.get("User") or "",
        mounts=mounts,
        tmpfs=tuple(host.get("Tmpfs") or {}),
        network_mode=host.get("NetworkMode", ""),
        restart=RestartPolicy(policy.get("Name") or "no", int(policy.get("MaximumRetryCount") or 0)),
        stop_signal=config.get("StopSignal") or "SIGTERM",
        stop_timeout=config.get("StopTimeout"),
        health=(state.get("Health") or {}).get("Status", ""),
        exit_code=int(state.get("ExitCode") or 0),
        started_at=state.get("StartedAt", ""),
        finished_at=state.get("FinishedAt", ""),
        layers={key: value for key, value in graph.items() if isinstance(value, str)},
        addresses=tuple(each["IPAddress"] for each in attached if each.get("IPAddress")),
        aliases=tuple(dict.fromkeys(alias for each in attached for alias in each.get("Aliases") or [])),
        published=tuple(
            f"{entry.get('HostIp') or '0.0.0.0'}:{entry.get('HostPort')}->{port}"
            for port, entries in bindings.items()
            for entry in entries or []
        ),
        linked=tuple(link.partition(":")[0].lstrip("/") for link in host.get("Links") or []),
        auto_remove=bool(host.get("AutoRemove")),
        joined=tuple(dict.fromkeys(other for kind, _colon, other in shared if kind == "container")),
    )


def image_from(raw: dict[str, Any]) -> Image:
    config = raw.get("Config") or {}
    return Image(
        id=raw["Id"],
        tags=tuple(raw.get("RepoTags") or ()),
        digests=tuple(raw.get("RepoDigests") or ()),
        env=environment_of(config.get("Env")),
        volumes=tuple(config.get("Volumes") or {}),
        user=config.get("User") or "",
        stop_signal=config.get("StopSignal") or "SIGTERM",
        created=raw.get("Created", ""),
        labels=config.get("Labels") or {},
    )


def volume_from(raw: dict[str, Any]) -> Volume:
    return Volume(
        name=raw["Name"],
        driver=raw.get("Driver", ""),
        mountpoint=raw.get("Mountpoint", ""),
        options=raw.get("Options") or {},
        labels=raw.get("Labels") or {},
        created_at=raw.get("CreatedAt", ""),
    )
