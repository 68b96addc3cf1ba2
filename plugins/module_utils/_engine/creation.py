# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what ``docker inspect`` says of a container to the request that makes another one like it.

The engine keeps what a container was asked to be and what it only inherited from
its image in one place. What equals the image's own word is left to the next
image, whose PATH, PG_MAJOR, PGDATA and command are others; all else is carried.
The environment may hold passwords: a request stays in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Successor

WORDS = ("User", "WorkingDir", "StopSignal", "Healthcheck", "Shell")
"""What an image says in one word, and a container may say otherwise."""
SETS = ("Labels", "ExposedPorts")
"""What an image says in a set, and a container adds to."""
# Of the volumes all that are there are mounted by their names, and those of the next image it declares itself.
APART = ("Image", "Hostname", "Volumes", "OnBuild", "ArgsEscaped", "Entrypoint", "Cmd", "Env", *WORDS, *SETS)
OF_A_PLACE = ("Binds", "Mounts", "VolumesFrom", "Links", "RestartPolicy", "ContainerIDFile")
SHORT_ID = 12


@dataclass(frozen=True)
class Creation:
    """The body of a request, and by name the networks beyond the first, as the engine's endpoints."""

    config: Mapping[str, Any] = field(repr=False)
    further: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def create(client: Any, container_id: str, successor: Successor) -> str:
    """Have the engine make the container, by the SDK's low-level client, and return its id; raises what that raises."""
    raw = client.inspect_container(container_id)
    creation = creation_of(raw, client.inspect_image(raw["Image"]), successor)
    made = client.create_container_from_config(dict(creation.config), successor.name)
    # Before API 1.44 an engine takes one network at the creation, and the others one by one.
    for network, endpoint in creation.further.items():
        own = endpoint.get("IPAMConfig") or {}
        client.connect_container_to_network(
            made["Id"],
            network,
            aliases=endpoint.get("Aliases"),
            links=dict(link.split(":", 1) for link in endpoint.get("Links") or []) or None,
            ipv4_address=own.get("IPv4Address"),
            ipv6_address=own.get("IPv6Address"),
            link_local_ips=own.get("LinkLocalIPs"),
            driver_opt=endpoint.get("DriverOpts"),
        )
    return str(made["Id"])


def creation_of(raw: Mapping[str, Any], image: Mapping[str, Any], successor: Successor) -> Creation:
    """Return the request for ``successor``; pure. ``raw`` is its predecessor's inspection, ``image`` its image's."""
    config, host = raw["Config"], raw["HostConfig"]
    first, further = _networks(raw)
    made = {
        **{key: value for key, value in config.items() if key not in APART},
        **_own(config, image.get("Config") or {}),
        "Image": successor.image,
        "HostConfig": {
            **{key: value for key, value in host.items() if key not in OF_A_PLACE},
            **_mounts(raw, successor),
            # As docker run writes them; as inspected, they name the container that is made a successor of.
            "Links": [_link(link) for link in host.get("Links") or []] or None,
            "RestartPolicy": {"Name": "no"},
        },
        "NetworkingConfig": {"EndpointsConfig": first},
    }
    made["Labels"] = {**made["Labels"], **successor.labels}
    mode = str(host.get("NetworkMode") or "")
    if config.get("Hostname") and not _is_id(config["Hostname"], raw) and not mode.startswith("container:"):
        made["Hostname"] = config["Hostname"]
    if host.get("UTSMode") == "host":
        made.pop("Hostname", None)
    if mode.startswith("container:"):
        made.pop("MacAddress", None)  # all of the network is the other's
    return Creation(made, further)


def _own(config: Mapping[str, Any], image: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the container was asked to be beside what its image says."""
    own: dict[str, Any] = {key: config[key] for key in WORDS if config.get(key) and config[key] != image.get(key)}
    inherited = set(image.get("Env") or ())
    own["Env"] = [entry for entry in config.get("Env") or () if entry not in inherited]
    for key in SETS:
        known = image.get(key) or {}
        pairs = (config.get(key) or {}).items()
        own[key] = {name: value for name, value in pairs if name not in known or known[name] != value}
    # With another entrypoint an image's command is not inherited: then both are the container's own.
    entrypoint_is_own = (config.get("Entrypoint") or None) != (image.get("Entrypoint") or None)
    if entrypoint_is_own:
        own["Entrypoint"] = config.get("Entrypoint")
    if entrypoint_is_own or (config.get("Cmd") or None) != (image.get("Cmd") or None):
        own["Cmd"] = config.get("Cmd")
    return own


def _mounts(raw: Mapping[str, Any], successor: Successor) -> dict[str, Any]:
    """Return the mounts as they are, each volume by its name, so that an anonymous one stays what it was."""
    host = raw["HostConfig"]
    there = {_path(mount["Destination"]): mount for mount in raw.get("Mounts") or []}
    leaving = {_path(successor.replaces)} if successor.bind is not None else set()
    binds = [bind for bind in host.get("Binds") or [] if _target_of(bind) not in leaving]
    mounts = []
    for mount in host.get("Mounts") or []:
        target = _path(mount["Target"])
        if target not in leaving:
            name = there.get(target, {}).get("Name")
            mounts.append({**mount, "Source": name} if mount.get("Type") == "volume" and name else dict(mount))
    said = {*(_target_of(bind) for bind in binds), *(_path(mount["Target"]) for mount in mounts), *leaving}
    said |= {_path(target) for target in host.get("Tmpfs") or {}}
    for target, mount in there.items():
        if target not in said:
            source = mount.get("Name") or mount.get("Source", "")
            binds.append(f"{source}:{mount['Destination']}" + ("" if mount.get("RW") else ":ro"))
    if successor.bind is not None:
        bind = successor.bind
        mounts.append({"Type": "bind", "Source": bind.source, "Target": bind.target, "ReadOnly": bind.read_only})
    return {"Binds": binds, "Mounts": mounts}


def _target_of(bind: str) -> str:
    """Return the target of ``source:target[:options]``; neither of the two can have a colon in it."""
    return _path(bind.split(":")[1])


def _path(path: str) -> str:
    return path.rstrip("/") or "/"


def _networks(raw: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the endpoint of the network that the container was made on, and those of the others."""
    mode = str(raw["HostConfig"].get("NetworkMode") or "default")
    if mode in ("host", "none") or mode.startswith("container:"):
        return {}, {}
    networks = (raw.get("NetworkSettings") or {}).get("Networks") or {}
    ends = {name: _endpoint(raw, endpoint or {}) for name, endpoint in networks.items()}
    names = {"bridge"} if mode in ("default", "bridge") else {mode}
    first = {
        name: end for name, end in ends.items() if name in names or (networks[name] or {}).get("NetworkID") in names
    }
    mac = raw["Config"].get("MacAddress")
    if mac:  # there only where it was asked for
        first = {name: {**end, "MacAddress": mac} for name, end in first.items()}
    return first, {name: end for name, end in ends.items() if name not in first}


def _endpoint(raw: Mapping[str, Any], endpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was asked of a network: static addresses and aliases, without those that the engine gave."""
    aliases = [alias for alias in endpoint.get("Aliases") or [] if not _is_id(alias, raw)]
    asked = {key: endpoint.get(key) for key in ("IPAMConfig", "Links", "DriverOpts")}
    return {key: value for key, value in {**asked, "Aliases": aliases}.items() if value}


def _link(link: str) -> str:
    """Turn ``/other:/this/alias`` into ``other:alias``."""
    other, _colon, alias = link.partition(":")
    return f"{other.lstrip('/')}:{alias.rpartition('/')[2]}"


def _is_id(name: str, raw: Mapping[str, Any]) -> bool:
    return len(name) >= SHORT_ID and str(raw["Id"]).startswith(name)
