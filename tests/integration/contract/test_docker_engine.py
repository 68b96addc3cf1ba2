# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Docker engine keeps the contract that the engine in memory was tested against."""

from __future__ import annotations

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import (
    Connection,
    DockerEngine,
    EngineUnreachable,
    connect,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import OPERATION_LABEL, Helper
from tests.sandbox import images
from tests.sandbox.engine import Engine
from tests.support.engine_contract import EngineContract

IMAGE = "redis:8"


@pytest.fixture(scope="module")
def docker_engine(shared_engine: Engine) -> DockerEngine:
    return connect(Connection(docker_host=shared_engine.host))


@pytest.fixture(scope="module")
def stored_image(shared_engine: Engine, docker_engine: DockerEngine) -> str:
    found = docker_engine.image(images.ref(IMAGE, shared_engine))
    assert found is not None
    return found.id


class TestDockerEngine(EngineContract):
    @pytest.fixture
    def engine(self, docker_engine: DockerEngine) -> DockerEngine:
        return docker_engine

    @pytest.fixture
    def image_id(self, stored_image: str) -> str:
        return stored_image


def test_a_helper_of_an_image_that_compose_built_is_none_of_its_service(
    shared_engine: Engine, docker_engine: DockerEngine, stored_image: str
) -> None:
    labels = {"com.docker.compose.project": "contract", "com.docker.compose.service": "db"}
    changes = [word for name, value in labels.items() for word in ("--change", f"LABEL {name}={value}")]
    source = docker_engine.create_helper(Helper("contract-built", "test", stored_image, ("true",)), start=False)
    built = ""
    try:
        built = shared_engine.docker("commit", *changes, source).strip()
        made = docker_engine.create_helper(Helper("contract-built", "test", built, ("true",)), start=False)
        container = docker_engine.container(made)
        assert container is not None
        assert not container.service
        assert not docker_engine.containers(labels=labels)
    finally:
        for each in docker_engine.containers(labels={OPERATION_LABEL: "contract-built"}):
            docker_engine.remove_container(each.id, force=True)
        if built:
            shared_engine.docker("rmi", built)


def test_an_engine_that_is_not_there_is_named() -> None:
    with pytest.raises(EngineUnreachable, match=r"/nowhere/docker\.sock"):
        connect(Connection(docker_host="unix:///nowhere/docker.sock"))
