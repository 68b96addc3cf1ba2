# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One file, read by two generations of compose, gives one picture."""

from __future__ import annotations

import json

import pytest
import yaml

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.config import (
    Build,
    ComposeConfig,
    NamedVolume,
    ServiceMount,
    parse_config,
    parse_mount,
    parse_service,
    port_text,
    v1_project_name,
)
from tests.unit.compose_project.recorded import V1_CONFIG, V2_CONFIG


@pytest.fixture(params=["v2", "v1"])
def config(request: pytest.FixtureRequest) -> ComposeConfig:
    if request.param == "v2":
        return parse_config(json.loads(V2_CONFIG))
    return parse_config(yaml.safe_load(V1_CONFIG), project_name="meinprject")


def test_mounts_come_out_in_long_form(config: ComposeConfig) -> None:
    mounts = {mount.target: mount for mount in config.services["db"].mounts}
    data = mounts["/var/lib/postgresql/data"]
    assert (data.type, data.source, data.read_only) == ("bind", "/srv/Mein Próject/postgres14", False)
    assert (mounts["/extra"].type, mounts["/extra"].source, mounts["/extra"].read_only) == ("volume", "pgdata", True)
    assert mounts["/anonymous"].anonymous
    assert mounts["/ext"] == ServiceMount("volume", "ext", "/ext", False, {"nocopy": True})
    assert mounts["/scratch"].type == "tmpfs"


def test_volumes_have_the_names_that_the_engine_knows(config: ComposeConfig) -> None:
    assert config.volumes["pgdata"] == NamedVolume("pgdata", "meinprject_pgdata")
    assert config.volumes["ext"] == NamedVolume("ext", "real-ext", external=True)


def test_services_agree(config: ComposeConfig) -> None:
    web, sidekiq, redis = config.services["web"], config.services["sidekiq"], config.services["redis"]
    assert config.name == "meinprject"
    assert web.build == Build("/srv/Mein Próject", "Dockerfile")
    assert sidekiq.build == Build("/srv/Mein Próject/side", "Containerfile")
    assert (sidekiq.replicas, web.replicas) == (2, 1)
    assert (config.services["db"].restart, web.restart, redis.restart) == ("always", "no", "no")
    assert redis.command == ("redis-server", "--save", "", "--requirepass", "s3cret-pw")
    assert redis.user == "999:1000"
    assert config.services["search"].profiles == ("search",)
    assert config.services["db"].environment["POSTGRES_HOST_AUTH_METHOD"] == "trust"
    assert web.environment["A"] == "1"
    assert set(web.ports) == {
        "127.0.0.1:3000->3000/tcp",
        "9000->80/tcp",
        "9001->81/tcp",
        "5353->53/udp",
    }
    assert web.injected == ("/run/secrets/token",)


def test_what_depends_on_a_service_stops_before_it(config: ComposeConfig) -> None:
    assert set(config.dependents_of(["db"])) == {"web", "sidekiq", "search"}
    stop = config.stop_order(config.services)
    assert stop.index("sidekiq") < stop.index("web") < stop.index("db")
    assert stop.index("search") < stop.index("web") < stop.index("redis")
    assert config.start_order(config.services) == tuple(reversed(stop))
    assert config.dependents_of(["sidekiq"]) == ()


def test_a_cycle_ends() -> None:
    config = parse_config({"services": {"a": {"links": ["b:x"]}, "b": {"depends_on": ["a"]}}}, project_name="p")
    assert set(config.stop_order(["a", "b"])) == {"a", "b"}
    assert config.dependents_of(["a"]) == ("b",)


def test_the_deepest_mount_holds_a_path(config: ComposeConfig) -> None:
    db = config.services["db"]
    held = db.mount_at("/var/lib/postgresql/data/base")
    assert held is not None
    assert held.target == "/var/lib/postgresql/data"
    assert db.mount_at("/var/lib/postgresql/database") is None


def test_secrets_stay_out_of_the_repr(config: ComposeConfig) -> None:
    assert "s3cret-pw" not in repr(config)


@pytest.mark.parametrize(
    "entry, expected",
    [
        ("/data", ServiceMount("volume", "", "/data")),
        ("./a b:/data", ServiceMount("bind", "./a b", "/data")),
        ("~/a:/data:ro,z", ServiceMount("bind", "~/a", "/data", True)),
        ("name:/data:nocopy", ServiceMount("volume", "name", "/data", False, {"nocopy": True})),
        ({"type": "bind", "source": "/a", "target": "/b", "read_only": True}, ServiceMount("bind", "/a", "/b", True)),
        ({"target": "/b"}, ServiceMount("volume", "", "/b")),
    ],
)
def test_mount_forms(entry: object, expected: ServiceMount) -> None:
    assert parse_mount(entry) == expected


@pytest.mark.parametrize(
    "entry, expected",
    [
        ("80", "->80/tcp"),
        ("8080:80/udp", "8080->80/udp"),
        ("[::1]:8080:80", "[::1]:8080->80/tcp"),
        ({"target": 80, "published": "8080", "host_ip": "127.0.0.1"}, "127.0.0.1:8080->80/tcp"),
    ],
)
def test_port_forms(entry: object, expected: str) -> None:
    assert port_text(entry) == expected


def test_odd_forms_of_a_service() -> None:
    service = parse_service(
        "s",
        {
            "build": {"dockerfile_inline": "FROM x", "context": "/c"},
            "scale": 0,
            "restart": False,
            "env_file": ["a", {"path": "b"}],
            "volumes_from": ["other:ro", "container:foreign"],
            "configs": [{"source": "c", "target": "/etc/c"}, "d"],
        },
    )
    assert service.build == Build("/c", "")
    assert (service.replicas, service.restart) == (0, "no")
    assert service.env_files == ("a", "b")
    assert service.depends_on == ("other",)
    assert service.injected == ("/etc/c", "/d")


@pytest.mark.parametrize(
    "directory, name", [("Mein Próject", "meinprject"), ("My.App-1_x", "myapp-1_x"), ("ö", "default")]
)
def test_the_project_name_of_v1(directory: str, name: str) -> None:
    assert v1_project_name(directory) == name
