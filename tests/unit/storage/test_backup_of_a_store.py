# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A store is asked for a copy of its own directory, wherever below the mount that is."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import PREPARE, Copy, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.backup import PlannedBackup, back_up
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import FILES, REDIS, StoreFacts
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.copies import Backup
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import BackupRequest
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import (
    Location,
    Transfer,
    facts_as_dict,
)
from tests.unit.redis.fakes import a_container
from tests.unit.storage.findings import DATA

FACTS = StoreFacts(REDIS, "7", "/data/redis")


class Recorder:
    """A store that notes what it is asked to copy."""

    def __init__(self) -> None:
        self.asked: list[BackupRequest] = []

    def observe(self, *_given: object) -> StoreFacts:
        return FACTS

    def backup(
        self, _engine: object, _container: object, _facts: object, request: BackupRequest, _report: object
    ) -> Copy:
        self.asked.append(request)
        return Copy("backup", request.service, request.destination, "now")


def world_of(container: object) -> Any:
    stores = {REDIS: Recorder(), FILES: Recorder()}
    return SimpleNamespace(
        engine=None,
        stores=stores,
        store=lambda transfer: stores[transfer.store],
        containers_of=lambda _name: [container],
    )


@pytest.mark.parametrize(
    "running, kind, path", [(True, REDIS, "/volumes/v/_data/redis"), (False, FILES, "/volumes/v/_data")]
)
def test_a_step_asks_for_the_right_directory(running: bool, kind: str, path: str) -> None:
    world = world_of(a_container() if running else a_container(status="exited", pid=0))
    transfer = Transfer(
        service="redis", target="/data", origin=Location("named", "/volumes/v/_data", "v"),
        goal=Location("bind", "/srv/redis"), strategy="copy", store=REDIS, facts=facts_as_dict(FACTS),
        staging="", retained="", image_id="", containers=("c",), running=running, subpath="redis",
    )  # fmt: skip
    args = {"transfer": transfer.as_dict(), "destination": "/srv/backups/redis", "mode": "auto"}
    context: Any = SimpleNamespace(world=world, operation=SimpleNamespace(id="op"), report=lambda *_numbers: None)
    Backup().apply(Step("backup", "back up", PREPARE, args), context)
    (asked,) = world.stores[kind].asked
    assert asked.host_path == path


def test_the_module_asks_for_the_right_directory() -> None:
    world = world_of(a_container())
    data = replace(DATA, store=REDIS, target="/data", host_path="/volumes/v/_data", subpath="redis")
    back_up(world, PlannedBackup("app", data, a_container(), "/srv/backups/redis", True, "", "auto"))
    (asked,) = world.stores[REDIS].asked
    assert asked.host_path == "/volumes/v/_data/redis"
