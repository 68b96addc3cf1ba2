# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A restart policy that is set while the container ends: the engine refuses it once, and it holds all the same."""

from __future__ import annotations

from typing import Any

import pytest

docker = pytest.importorskip("docker")

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import (  # noqa: E402
    ENDED_MEANWHILE,
    DockerEngine,
    EngineRefused,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import RestartPolicy  # noqa: E402


class Client:
    """Refuses the first ``refusals`` changes, in the engine's own words."""

    def __init__(self, refusals: int, words: str = ENDED_MEANWHILE[0]) -> None:
        self.refusals, self.words = refusals, words
        self.did: list[str] = []

    def update_container(self, _container: str, *, restart_policy: dict[str, Any]) -> None:
        self.did.append(f"update to {restart_policy['Name']}")
        if self.refusals:
            self.refusals -= 1
            raise docker.errors.APIError(f"Cannot update container: {self.words}: unknown")

    def wait(self, _container: str, *, timeout: float) -> None:
        self.did.append("wait")


@pytest.mark.parametrize("words", ENDED_MEANWHILE)
def test_it_is_set_once_the_container_has_ended(words: str) -> None:
    client = Client(refusals=1, words=words)
    DockerEngine(client).set_restart_policy("abc", RestartPolicy("always"))
    assert client.did == ["update to always", "wait", "update to always"]


@pytest.mark.parametrize("refusals, words, calls", [(9, ENDED_MEANWHILE[0], 3), (1, "no such container", 1)])
def test_what_does_not_hold_is_told(refusals: int, words: str, calls: int) -> None:
    client = Client(refusals, words)
    with pytest.raises(EngineRefused, match="could not set the restart policy"):
        DockerEngine(client).set_restart_policy("abc", RestartPolicy("always"))
    assert client.did.count("update to always") == calls
