# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a recreate would change besides what was asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from ansible_collections.selfhost.stateful.plugins.module_utils._compose import drift
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.config import ComposeConfig, parse_config
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Project
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import (
    Container,
    EngineMount,
    Image,
    RestartPolicy,
)
from tests.unit.compose_project.fakes import a_container, an_image, labelled
from tests.unit.compose_project.recorded import V1_CONFIG, V2_CONFIG

DATA = "/var/lib/postgresql/data"


@pytest.fixture(params=["v2", "v1"])
def config(request: pytest.FixtureRequest) -> ComposeConfig:
    raw = json.loads(V2_CONFIG) if request.param == "v2" else yaml.safe_load(V1_CONFIG)
    raw["services"]["db"]["environment"]["ODD"] = "a$b s3cret-pw"  # as the CLI seam hands it on, unescaped
    return parse_config(raw, project_name="meinprject")


def of_db(config: ComposeConfig, container: Container, image: Image | None = None, **rest: Any) -> list[drift.Drift]:
    return list(drift.differences(config.services["db"], container, image or an_image(), config.volumes, **rest))


def test_a_container_just_made_has_none(config: ComposeConfig) -> None:
    assert of_db(config, a_container()) == []


@pytest.mark.parametrize(
    "changes, kind, told",
    [
        ({"image_ref": "postgres:13"}, drift.IMAGE, "postgres:13"),
        ({"env": {"PATH": "/bin", "ODD": "other", "X": "y"}}, drift.ENVIRONMENT, "ODD, POSTGRES_HOST_AUTH_METHOD, X"),
        ({"user": "70"}, drift.USER, "user is 70, the file says root"),
        ({"restart": RestartPolicy("on-failure", 3)}, drift.RESTART, "on-failure:3"),
        ({"published": ("0.0.0.0:5432->5432/tcp",)}, drift.PORTS, "0.0.0.0:5432->5432/tcp"),
    ],
)
def test_each_kind_is_told(config: ComposeConfig, changes: dict[str, Any], kind: str, told: str) -> None:
    (found,) = of_db(config, replace(a_container(), **changes))
    assert found.kind == kind
    assert told in found.text


def test_values_are_never_told(config: ComposeConfig) -> None:
    redis = config.services["redis"]
    container = a_container(env={"PW": "another-secret"}, command=("redis-server", "--requirepass", "another-secret"))
    found = list(drift.differences(redis, container, an_image(env={}), config.volumes))
    assert drift.COMMAND in [d.kind for d in found]
    assert not any("secret" in d.text or "s3cret" in d.text for d in found)


def test_mounts(config: ComposeConfig) -> None:
    mounts = (
        EngineMount("volume", "/v/anon/_data", DATA, True, name="f" * 64),
        EngineMount("volume", "/v/pgdata/_data", "/extra", True, name="meinprject_pgdata"),
        EngineMount("bind", "/srv/x", "/anonymous", True),
        EngineMount("bind", "/srv/more", "/more", True),
    )
    found = {d.text.split(":")[0]: d.text for d in of_db(config, a_container(mounts=mounts))}
    assert set(found) == {DATA, "/extra", "/anonymous", "/ext", "/more"}
    assert "postgres14" in found[DATA]
    assert "writable" in found["/extra"]
    assert "an anonymous volume" in found["/anonymous"]
    assert "mounts nothing, the file mounts real-ext" in found["/ext"]
    assert "the file mounts nothing" in found["/more"]


def test_what_is_to_change_anyway_is_no_drift(config: ComposeConfig) -> None:
    without = tuple(mount for mount in a_container().mounts if mount.destination != DATA)
    volume = EngineMount("volume", "/v/anon/_data", DATA, True, name="f" * 64)
    container = a_container(mounts=(*without, volume))
    assert of_db(config, container, ignore_targets=[DATA + "/"]) == []
    assert [d.kind for d in of_db(config, container)] == [drift.MOUNTS]


def test_volumes_of_the_image_and_secrets_are_expected(config: ComposeConfig) -> None:
    web = config.services["web"]
    container = a_container(
        env={"A": "1"},
        command=web.command,
        restart=RestartPolicy("no"),
        published=("127.0.0.1:3000->3000/tcp", "0.0.0.0:9000->80/tcp", "0.0.0.0:9001->81/tcp", "0.0.0.0:5353->53/udp"),
        mounts=(
            EngineMount("bind", "/srv/Mein Próject/token", "/run/secrets/token", False),
            EngineMount("volume", "/v/x/_data", "/declared", True, name="f" * 64),
        ),
    )
    assert list(drift.differences(web, container, an_image(env={}, volumes=("/declared",)), config.volumes)) == []


@dataclass
class Engine:
    """Knows one image by its id, and what the tag names by now."""

    tagged: Image

    def image(self, reference: str) -> Image | None:
        return an_image() if reference.startswith("sha256:1") else self.tagged


def project(config: ComposeConfig, *containers: Container) -> Project:
    compose: Any = SimpleNamespace(version=(2, 26, 1))
    return Project("p", "/srv", (), config, compose, {"db": containers, "web": ()})


def find(config: ComposeConfig, container: Container, hashes: dict[str, str], tagged: Image, **rest: Any) -> list[str]:
    found = drift.find_drift(Engine(tagged), project(config, container), ["db", "web"], hashes, **rest)  # type: ignore[arg-type]
    return [d.kind for d in found]


def test_an_equal_hash_is_believed(config: ComposeConfig) -> None:
    changed = a_container(user="70")
    assert find(config, changed, {"db": "old"}, an_image()) == []
    assert find(config, changed, {"db": "new"}, an_image()) == [drift.USER]


def test_a_floating_image_is_told_whatever_the_hash(config: ComposeConfig) -> None:
    newer = an_image(id="sha256:" + "2" * 64)
    assert find(config, a_container(), {"db": "old"}, newer) == [drift.FLOATING]


MADE = labelled(a_container(), version="2.26.1")


def test_a_difference_that_has_no_name_is_told_as_such(config: ComposeConfig) -> None:
    assert find(config, MADE, {"db": "new"}, an_image()) == [drift.OTHER]
    assert find(config, MADE, {"db": "new"}, an_image(), ignore_targets={"db": [DATA]}) == [drift.OTHER]


def test_a_mount_that_the_file_names_already_explains_the_hash(config: ComposeConfig) -> None:
    """A template wrote it, and reality is to be made to match."""
    without = tuple(mount for mount in MADE.mounts if mount.destination != DATA)
    volume = EngineMount("volume", "/v/anon/_data", DATA, True, name="f" * 64)
    made = replace(MADE, mounts=(*without, volume))
    assert find(config, made, {"db": "new"}, an_image(), ignore_targets={"db": [DATA + "/"]}) == []


@pytest.mark.parametrize("version", ["1.29.2", "2.27.0", ""])
def test_hashes_of_other_releases_say_nothing(config: ComposeConfig, version: str) -> None:
    made = labelled(MADE, version=version)
    assert find(config, made, {"db": "new"}, an_image()) == []
    assert find(config, replace(made, user="70"), {"db": "new"}, an_image()) == [drift.USER]


def test_without_a_hash_nothing_is_known(config: ComposeConfig) -> None:
    """Compose leaves out services of a profile that is not enabled."""
    assert find(config, MADE, {}, an_image()) == []


def test_replicas_are_counted(config: ComposeConfig) -> None:
    two = project(config, a_container(), a_container(id="d"))
    found = drift.find_drift(Engine(an_image()), two, ["db"], {"db": "old"})  # type: ignore[arg-type]
    assert [d.kind for d in found] == [drift.REPLICAS]
