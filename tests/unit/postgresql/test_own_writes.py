# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What hooks wrote in a new cluster is ours, and what anybody else wrote is not."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import EngineMount
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import SWITCH, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import own_writes
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.own_writes import (
    CreateNewContainers,
    counted_as_ours,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import baseline, note_baseline
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import BIND, POSTGRESQL
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Location, Transfer
from tests.unit.postgresql.fakes import a_container

TRANSFER = Transfer(
    "db", "/data", Location(BIND, "/old"), Location(BIND, "/new"), "pg_upgrade", POSTGRESQL, {}, "", "", "i", ("c1",),
    running=True,
)  # fmt: skip
HOOKS = Step("image_hooks", "post-upgrade of db", SWITCH, {"transfer": TRANSFER.as_dict(), "stays": False})
BEFORE = {"next_xid": 100, "state": "shut down"}


@dataclass
class Cluster:
    """A new cluster, its next transaction, and when its container and a dependent's were started."""

    directory: Path
    next_xid: int = 100
    state: str = "shut down"
    started: dict[str, float] = field(default_factory=lambda: {"db": 1.0, "web": 0.5})

    @property
    def context(self) -> Any:
        def container(name: str) -> Any:
            return SimpleNamespace(started=self.started[name]) if name in self.started else None

        stop = Step("stop_dependents", "stop the dependents", SWITCH, {"order": [["web"]]})
        world = SimpleNamespace(
            engine=SimpleNamespace(container=container),
            containers_of=lambda service: [container(service)],
            store=lambda transfer: self,
        )
        operation = SimpleNamespace(directory=str(self.directory), plan=SimpleNamespace(steps=[stop]))
        return SimpleNamespace(world=world, operation=operation, evidence={})

    def identity(self, path: str) -> dict[str, Any]:
        return {"next_xid": self.next_xid, "state": self.state}

    def took_writes(self, path: str, since: dict[str, Any]) -> str:
        more = self.next_xid - int(since["next_xid"])
        return f"about {more} transactions" if more > 0 else ""

    def of_others(self) -> str:
        since = baseline(str(self.directory), TRANSFER)
        assert since is not None
        wrote = self.took_writes("", dict(since))
        return wrote and CreateNewContainers().theirs(TRANSFER, wrote, "/new", since, self.context)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster(tmp_path)
    monkeypatch.setattr(own_writes, "_next_xid", lambda transfer, context: made.next_xid)
    note_baseline(str(tmp_path), TRANSFER, BEFORE)
    return made


def torn(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, *, writes: int) -> None:
    """Leave the window open, as a server does that crashes in a hook."""
    with monkeypatch.context() as dying:
        dying.setattr(own_writes, "_close", lambda *_given: None)
        with counted_as_ours(HOOKS, cluster.context):
            cluster.next_xid += writes


def killed(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, *, writes: int) -> None:
    """Do so by a kill: the next run is another process."""
    torn(cluster, monkeypatch, writes=writes)
    monkeypatch.setattr(own_writes, "_opened_here", [])


def test_what_hooks_wrote_is_ours_whether_they_fail_or_not(cluster: Cluster) -> None:
    with counted_as_ours(HOOKS, cluster.context):
        cluster.next_xid += 7
    assert cluster.of_others() == ""

    def fail() -> None:
        with counted_as_ours(HOOKS, cluster.context):
            cluster.next_xid += 5
            raise StatefulError("a hook failed")

    with pytest.raises(StatefulError):
        fail()
    assert cluster.of_others() == ""
    assert baseline(str(cluster.directory), TRANSFER) == {**BEFORE, "next_xid": 112}


def test_what_came_before_and_after_is_somebody_elses(cluster: Cluster) -> None:
    cluster.next_xid += 1
    with counted_as_ours(HOOKS, cluster.context):
        cluster.next_xid += 7
    assert cluster.of_others() == "about 1 transactions"
    cluster.next_xid += 1
    assert cluster.of_others() == "about 2 transactions"


def test_what_a_killed_run_left_open_is_anybodys(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server serves for hours then, and whoever reaches it from outside the project writes."""
    killed(cluster, monkeypatch, writes=3)
    cluster.next_xid += 2
    assert cluster.of_others() == "about 5 transactions"
    with counted_as_ours(HOOKS, cluster.context):  # run again
        cluster.next_xid += 4
    assert cluster.of_others() == "about 5 transactions"
    assert baseline(str(cluster.directory), TRANSFER) == {**BEFORE, "next_xid": 104}


def test_torn_in_a_hook_it_is_ours_in_this_very_run(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    torn(cluster, monkeypatch, writes=3)
    assert cluster.of_others() == ""


@pytest.mark.parametrize("who", ["db", "web", ""])
def test_torn_in_a_hook_it_is_nobodys_once_somebody_was_let_in(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    torn(cluster, monkeypatch, writes=3)
    if who:
        cluster.started[who] = time.time() + 1
    else:
        del cluster.started["web"]  # gone, and nobody knows what it did
    assert cluster.of_others() == "about 3 transactions"


def test_a_crash_is_recovered_and_then_judged(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def recover(*_given: Any) -> bool:
        cluster.state = "shut down"
        return True

    monkeypatch.setattr(own_writes, "_recover", recover)
    store = CreateNewContainers()
    cluster.state = "in production"
    assert store.theirs(TRANSFER, "nobody can tell", "/new", BEFORE, cluster.context) == ""
    cluster.state, cluster.next_xid = "in production", 104
    assert store.theirs(TRANSFER, "nobody can tell", "/new", BEFORE, cluster.context) == "about 4 transactions"


def test_a_crash_that_cannot_be_recovered_keeps_everything(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_given: Any) -> bool:
        raise StatefulError("No space left.")

    monkeypatch.setattr(own_writes, "_recover", fail)
    cluster.state = "in production"
    told = CreateNewContainers().theirs(TRANSFER, "nobody can tell", "/new", BEFORE, cluster.context)
    assert told.startswith("nobody can tell")
    assert "No space left" in told


@pytest.mark.parametrize(("mounted", "rw", "told"), [
    ("/new", True, True), ("/", True, True), ("/new/base", True, True), ("/newer", True, False), ("/", False, False),
])  # fmt: skip
def test_a_crash_is_not_recovered_beside_somebody_who_can_write(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, mounted: str, rw: bool, told: bool
) -> None:
    """A one-off container that somebody runs on the new directory would be a second writer."""
    monkeypatch.setattr(own_writes, "owner_of", lambda path: (1, 1))
    monkeypatch.setattr(own_writes.working, "write_passwd", lambda *_given: None)
    monkeypatch.setattr(own_writes, "prove_shut_down", lambda path: None)
    ran: list[str] = []
    monkeypatch.setattr(own_writes, "run", lambda *_given, **_more: ran.append("recovery"))
    monkeypatch.setattr(own_writes, "must_succeed", lambda *_given: None)
    context = cluster.context
    mounts = (EngineMount("bind", mounted, "/somewhere", rw),)
    context.world.engine.containers = lambda: [a_container(name="app-db-run-1", mounts=mounts)]
    context.operation.id = "o"
    context.operation.plan.steps.append(Step("upgrade", "upgrade", SWITCH, {}))
    cluster.state = "in production"
    found = CreateNewContainers().theirs(TRANSFER, "nobody can tell", "/new", BEFORE, context)
    assert (ran, "app-db-run-1 runs" in found) == (([], True) if told else (["recovery"], False))


def test_on_the_same_files_nothing_is_counted(cluster: Cluster) -> None:
    stays = Step(HOOKS.kind, HOOKS.name, SWITCH, {**HOOKS.args, "stays": True})
    with counted_as_ours(stays, cluster.context):
        cluster.next_xid += 7
    assert baseline(str(cluster.directory), TRANSFER) == BEFORE
