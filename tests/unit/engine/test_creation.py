# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what the engine says of a container to the request for its successor."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.creation import Creation, creation_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Bind, Successor

ID = "f67e79f1ddfa" + "0" * 52
VOLUME = "ab" * 32
DATA = "/var/lib/postgresql/data"
NEXT = Successor("db-next", "postgres:18", labels={"replaces": ID})

# As engine 26.1 (API 1.45) tells of an image, and of a container that is told nothing but its password.
IMAGE: Mapping[str, Any] = {
    "Config": {
        "Env": ["PATH=/usr/lib/postgresql/17/bin", "LANG=en_US.utf8", "PG_MAJOR=17", f"PGDATA={DATA}"],
        "Cmd": ["postgres"], "Entrypoint": ["docker-entrypoint.sh"], "WorkingDir": "/", "User": "",
        "Volumes": {DATA: {}}, "ExposedPorts": {"5432/tcp": {}}, "Labels": {"of": "the image"}, "StopSignal": "SIGINT",
        "Healthcheck": {"Test": ["CMD", "pg_isready"]},
    }
}  # fmt: skip
PLAIN: Mapping[str, Any] = {
    "Id": ID, "Name": "/db", "Image": "sha256:17",
    "Config": {
        "Hostname": ID[:12], "Domainname": "", "User": "", "AttachStdin": False, "Tty": False, "OpenStdin": False,
        "ExposedPorts": {"5432/tcp": {}}, "Env": ["POSTGRES_PASSWORD=secret", *IMAGE["Config"]["Env"]],
        "Cmd": ["postgres"], "Healthcheck": {"Test": ["CMD", "pg_isready"]}, "Image": "postgres:17",
        "Volumes": {DATA: {}}, "WorkingDir": "/", "Entrypoint": ["docker-entrypoint.sh"], "OnBuild": None,
        "Labels": {"of": "the image"}, "StopSignal": "SIGINT",
    },
    "HostConfig": {
        "Binds": None, "ContainerIDFile": "", "LogConfig": {"Type": "json-file", "Config": {}},
        "NetworkMode": "default",
        "PortBindings": {}, "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}, "AutoRemove": False,
        "VolumesFrom": None, "Links": None, "ShmSize": 67108864, "Ulimits": [], "UTSMode": "", "IpcMode": "private",
    },
    "Mounts": [
        {"Type": "volume", "Name": VOLUME, "Source": f"/engine/volumes/{VOLUME}/_data", "Destination": DATA,
         "Driver": "local", "Mode": "", "RW": True},
    ],
    "NetworkSettings": {
        "Networks": {"bridge": {"IPAMConfig": None, "Links": None, "Aliases": None, "MacAddress": "02:42:0a:d5:08:83",
                                "NetworkID": "0b1d", "IPAddress": "172.17.0.2", "DriverOpts": None, "DNSNames": None}}
    },
}  # fmt: skip


def told(**changes: Any) -> dict[str, Any]:
    """Return the inspection with ``Section__Key`` changed."""
    raw = copy.deepcopy(dict(PLAIN))
    for path, value in changes.items():
        section, _sep, key = path.partition("__")
        if key:
            raw[section][key] = value
        else:
            raw[section] = value
    return raw


def made(raw: Mapping[str, Any], successor: Successor = NEXT) -> Creation:
    return creation_of(raw, IMAGE, successor)


def test_what_came_from_the_image_is_left_to_the_next_one() -> None:
    creation = made(PLAIN)
    config = dict(creation.config)
    host = config.pop("HostConfig")
    assert config == {
        "Domainname": "", "AttachStdin": False, "Tty": False, "OpenStdin": False,
        "Env": ["POSTGRES_PASSWORD=secret"], "Labels": {"replaces": ID}, "ExposedPorts": {}, "Image": "postgres:18",
        "NetworkingConfig": {"EndpointsConfig": {"bridge": {}}},
    }  # fmt: skip
    assert host["Binds"] == [f"{VOLUME}:{DATA}"], "an anonymous volume stays what it was"
    assert host["RestartPolicy"] == {"Name": "no"}, "until it is proved"
    assert (host["ShmSize"], host["IpcMode"], host["NetworkMode"]) == (67108864, "private", "default")
    assert dict(creation.further) == {}
    assert "secret" not in repr(creation)
    json.dumps(dict(creation.config))


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"Config__User": "70:70"}, {"User": "70:70"}),
        ({"Config__WorkingDir": "/srv"}, {"WorkingDir": "/srv"}),
        ({"Config__StopSignal": "SIGTERM"}, {"StopSignal": "SIGTERM"}),
        ({"Config__StopTimeout": 77}, {"StopTimeout": 77}),
        ({"Config__Healthcheck": {"Test": ["NONE"]}}, {"Healthcheck": {"Test": ["NONE"]}}),
        ({"Config__Cmd": ["postgres", "-c", "a=1"]}, {"Cmd": ["postgres", "-c", "a=1"]}),
        ({"Config__Entrypoint": ["mine"]}, {"Entrypoint": ["mine"], "Cmd": ["postgres"]}),
        ({"Config__Hostname": "pg.example"}, {"Hostname": "pg.example"}),
        ({"Config__Labels": {"of": "the image", "whose": "ours"}}, {"Labels": {"whose": "ours", "replaces": ID}}),
        ({"Config__Labels": {"of": "me", "replaces": "x"}}, {"Labels": {"of": "me", "replaces": ID}}),
        ({"Config__ExposedPorts": {"5432/tcp": {}, "1/udp": {}}}, {"ExposedPorts": {"1/udp": {}}}),
        ({"Config__Env": ["PGDATA=/data", "PG_MAJOR=17", "PATH=/mine"]}, {"Env": ["PGDATA=/data", "PATH=/mine"]}),
        ({"Config__Tty": True}, {"Tty": True}),
    ],
)
def test_what_docker_run_was_told_is_carried(changes: dict[str, Any], kept: dict[str, Any]) -> None:
    config = made(told(**changes)).config
    assert {key: config.get(key) for key in kept} == kept


@pytest.mark.parametrize(
    ("changes", "hostname"),
    [
        ({}, None),
        ({"Config__Hostname": "pg", "HostConfig__UTSMode": "host"}, None),
        ({"Config__Hostname": "pg", "HostConfig__NetworkMode": "container:" + "e" * 64}, None),
        ({"Config__Hostname": "pg"}, "pg"),
    ],
)
def test_a_hostname_is_carried_where_it_is_the_containers_own(changes: dict[str, Any], hostname: str | None) -> None:
    assert made(told(**changes)).config.get("Hostname") == hostname


MOUNTS = (
    {"Type": "bind", "Source": "/srv/conf", "Destination": "/conf", "RW": False},
    {"Type": "volume", "Name": "wal", "Source": "/x", "Destination": "/wal", "RW": True},
    {"Type": "volume", "Name": VOLUME, "Source": "/y", "Destination": DATA, "RW": True},
    {"Type": "volume", "Name": "cd" * 32, "Source": "/z", "Destination": "/more", "RW": True},
    {"Type": "bind", "Source": "/srv/from", "Destination": "/from", "RW": False},
    {"Type": "tmpfs", "Source": "", "Destination": "/quick", "RW": True},
)
WITH_MOUNTS = told(
    Mounts=list(MOUNTS),
    HostConfig__Binds=["/srv/conf:/conf:ro,Z", "wal:/wal"],
    HostConfig__Mounts=[
        {"Type": "volume", "Target": "/more", "VolumeOptions": {"NoCopy": True}},
        {"Type": "tmpfs", "Target": "/quick", "TmpfsOptions": {"SizeBytes": 1024}},
    ],
    HostConfig__Tmpfs={"/run/postgresql": ""},
    HostConfig__VolumesFrom=["other"],
)


def test_every_mount_stays_with_its_options() -> None:
    host = made(WITH_MOUNTS).config["HostConfig"]
    assert host["Binds"] == ["/srv/conf:/conf:ro,Z", "wal:/wal", f"{VOLUME}:{DATA}", "/srv/from:/from:ro"]
    assert host["Mounts"] == [
        {"Type": "volume", "Target": "/more", "VolumeOptions": {"NoCopy": True}, "Source": "cd" * 32},
        {"Type": "tmpfs", "Target": "/quick", "TmpfsOptions": {"SizeBytes": 1024}},
    ]
    assert host["Tmpfs"] == {"/run/postgresql": ""}
    assert "VolumesFrom" not in host, "what came from there is mounted by its own name"


@pytest.mark.parametrize("as_bind", [True, False])
def test_the_mount_of_the_data_is_replaced_where_it_changes(as_bind: bool) -> None:
    """18 has it elsewhere; nothing of the old mount is left, however it was written."""
    said = (
        {"HostConfig__Binds": [f"pg:{DATA}/"]}
        if as_bind
        else {"HostConfig__Mounts": [{"Type": "volume", "Source": "pg", "Target": DATA}]}
    )
    bind = Bind("/srv/postgres18", "/var/lib/postgresql", read_only=False)
    host = made(told(**said), Successor("n", "i", replaces=DATA, bind=bind)).config["HostConfig"]
    assert host["Binds"] == []
    assert host["Mounts"] == [
        {"Type": "bind", "Source": "/srv/postgres18", "Target": "/var/lib/postgresql", "ReadOnly": False}
    ]


END = {"IPAMConfig": {"IPv4Address": "10.1.0.9"}, "Links": None, "Aliases": ["db", ID[:12]], "NetworkID": "feed",
       "MacAddress": "02:42:ac:11:00:99", "DriverOpts": {"a": "b"}, "IPAddress": "10.1.0.9"}  # fmt: skip
OTHER = {"IPAMConfig": None, "Links": ["web:w"], "Aliases": None, "NetworkID": "beef", "IPAddress": "10.2.0.9"}
ASKED = {"IPAMConfig": {"IPv4Address": "10.1.0.9"}, "DriverOpts": {"a": "b"}, "Aliases": ["db"]}


@pytest.mark.parametrize(
    ("mode", "mac", "first", "further"),
    [
        ("inner", "", {"inner": ASKED}, {"other": {"Links": ["web:w"]}}),
        ("feed", "", {"inner": ASKED}, {"other": {"Links": ["web:w"]}}),
        ("other", "", {"other": {"Links": ["web:w"]}}, {"inner": ASKED}),
        ("inner", "02:42:ac:11:00:99", {"inner": {**ASKED, "MacAddress": "02:42:ac:11:00:99"}},
         {"other": {"Links": ["web:w"]}}),
        ("host", "", {}, {}),
        ("container:" + "e" * 64, "", {}, {}),
    ],
)  # fmt: skip
def test_networks_are_those_that_were_asked_for(
    mode: str, mac: str, first: dict[str, Any], further: dict[str, Any]
) -> None:
    """By what was asked: static addresses, aliases that are no ids, an address of a card that is no chance."""
    raw = told(HostConfig__NetworkMode=mode, NetworkSettings={"Networks": {"inner": END, "other": OTHER}})
    if mac:
        raw["Config"]["MacAddress"] = mac
    creation = made(raw)
    assert creation.config["NetworkingConfig"]["EndpointsConfig"] == first
    assert dict(creation.further) == further


def test_links_are_written_as_docker_run_takes_them() -> None:
    assert made(told(HostConfig__Links=["/cache:/db/c"])).config["HostConfig"]["Links"] == ["cache:c"]
