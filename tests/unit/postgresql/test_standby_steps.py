# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When the standby of an earlier run still serves."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import PREPARE, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import standby
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.standby_steps import SMALL_LAG, MakeStandby
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.store import Login, PostgresqlStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import SqlError
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Location, Transfer
from tests.unit.postgresql.control_file import make_cluster
from tests.unit.postgresql.fakes import FakeEngine, a_container

KNOWN = {"container_id": "h", "directory": "/srv/.db.partial-op/data", "system_identifier": "1"}
RUNNING, STOPPED = a_container(), a_container(status="exited", pid=0)


def is_done(
    monkeypatch: pytest.MonkeyPatch, directory: Path, *, service: Container, helper: Container | None, lag: object
) -> bool:
    store = PostgresqlStore(Login())
    monkeypatch.setattr(store, "session", lambda _engine, _container: nullcontext())

    def told(*_given: Any) -> object:
        if isinstance(lag, Exception):
            raise lag
        return lag

    monkeypatch.setattr(standby, "lag_of", told)
    goal = directory / "db"
    transfer = Transfer(
        service="db", target="/var/lib/postgresql/data", origin=Location("named", "/volumes/v", "v"),
        goal=Location("bind", str(goal)), strategy="replica", store="postgresql", facts={},
        staging=str(directory / ".db.partial-op"), retained="", image_id="", containers=("c",), running=True,
    )  # fmt: skip
    world = SimpleNamespace(
        engine=SimpleNamespace(container=lambda _id: helper),
        stores={"postgresql": store},
        containers_of=lambda _service: [service],
    )
    step = Step("make_standby", "prepare db", PREPARE, {"transfer": transfer.as_dict()})
    context: Any = SimpleNamespace(world=world, evidence={"prepare db": KNOWN})
    return MakeStandby().is_done(step, context) is not None


@pytest.mark.parametrize(
    "what, service, helper, lag, done",
    [
        ("it follows", RUNNING, RUNNING, standby.Lag(1000, "", ""), True),
        ("it was cut off", RUNNING, RUNNING, None, False),
        ("it is far behind", RUNNING, RUNNING, standby.Lag(SMALL_LAG + 1, "", ""), False),
        ("it has ended", RUNNING, STOPPED, standby.Lag(0, "", ""), False),
        ("it is gone", RUNNING, None, standby.Lag(0, "", ""), False),
        ("the service is stopped, and its files tell", STOPPED, RUNNING, None, True),
        ("the service shuts down", RUNNING, RUNNING, SqlError("shutting down"), True),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_standby_that_does_not_follow_is_made_anew(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    what: str,
    service: Container,
    helper: Container | None,
    lag: object,
    done: bool,
) -> None:
    assert is_done(monkeypatch, tmp_path, service=service, helper=helper, lag=lag) is done


def test_one_that_was_finished_and_not_published_is_taken_away(tmp_path: Path) -> None:
    """Nothing in it tells any more that it is a standby; its name does."""
    staging = tmp_path / ".db.partial-op"
    make_cluster(staging)
    transfer = Transfer(
        service="db", target="/var/lib/postgresql/data", origin=Location("named", "/volumes/v", "v"),
        goal=Location("bind", str(tmp_path / "db")), strategy="replica", store="postgresql", facts={},
        staging=str(staging), retained="", image_id="", containers=("c",), running=True,
    )  # fmt: skip
    step = Step("make_standby", "prepare db", PREPARE, {"transfer": transfer.as_dict()})
    context: Any = SimpleNamespace(world=SimpleNamespace(engine=FakeEngine()), operation=SimpleNamespace(id="op"))
    MakeStandby().undo(step, context)
    assert not staging.exists()
    MakeStandby().undo(step, context)
