# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A service that somebody makes anew, in the middle of a change of its image, from neither of the two images."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import SWITCH, Goal, Plan, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps import changeover
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.changeover import CreateContainers
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.downtime import StopStores
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.moves import StagedMove
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import Identity
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Location, Transfer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import durable
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World
from tests.support import fake_store
from tests.support.fake_store import KIND, TARGET
from tests.unit.storage.projects import Small, bind, small

pytestmark = pytest.mark.usefixtures("swift")

TEXT = "services:\n  db:\n    image: store:1\n    volumes: ['./origin:/data']\n"
STOP = "stop the stores"


class Filled(StagedMove):
    """A rebuild during which something happens; as of any rebuild, its proof does not look at the origin."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.meanwhile = meanwhile

    def fill(self, transfer: Transfer, step: Step, context: Context[World]) -> Evidence:
        shutil.copytree(transfer.origin.path, transfer.staging)
        self.meanwhile()
        return {}

    def prove(self, transfer: Transfer, context: Context[World]) -> Identity:
        return context.world.store(transfer).prove_stopped(transfer.staged_data, transfer.store_facts)


class Changing:
    """A service whose store was stopped on ``store:1`` to go on on ``store:2``; ``store:3`` is nobody's plan."""

    def __init__(self, root: Path) -> None:
        images = dict.fromkeys(("store:1", "store:2", "store:3"), (TARGET,))
        self.project: Small = small(root, TEXT, images=images)
        self.root, self.origin, self.goal = root, root / "origin", root / "goal"
        fake_store.initialise(str(self.origin))
        self.old = self.project.add("db", "store:1", [bind(self.origin, TARGET)])
        old, new = (self.project.engine.images[self.image(name)] for name in ("store:1", "store:2"))
        self.transfer = Transfer(
            service="db", target=TARGET, origin=Location("bind", str(self.origin), image=old.id),
            goal=Location("bind", str(self.goal), image=new.id), strategy="pg_upgrade", store=KIND,
            facts={"kind": KIND, "version": "1", "data_path": TARGET, "identity": {}, "against": {}, "blockers": [],
                   "warnings": [], "details": {}, "outside": {}},
            staging=str(durable.staging_path(str(self.goal), "o")), retained="", image_id=old.id,
            containers=(self.old,), running=True,
        )  # fmt: skip
        everything: dict[str, Any] = {"transfers": [self.transfer.as_dict()], "pins": {}, "file_is_theirs": True}
        self.stop = Step("stop_stores", STOP, SWITCH, everything)
        self.create = Step("create_containers", "create", SWITCH, {**everything, "stopped_by": STOP})
        self.move = Step("upgrade", "upgrade", SWITCH, {"transfer": self.transfer.as_dict()})
        plan = Plan(Goal("postgresql_image", "app", {}), (self.stop, self.move, self.create))
        self.operation = OperationStore(str(root / "operations")).begin(plan)
        identity = dict(self.project.store.identity(str(self.origin)))
        self.evidence: dict[str, Evidence] = {STOP: {"identities": {self.transfer.name: identity}}}

    def image(self, name: str) -> str:
        found = self.project.engine.image(name)
        assert found is not None
        return found.id

    @property
    def context(self) -> Context[World]:
        return Context(self.project.world, self.operation, dict(self.evidence))

    def anew(self, place: Path) -> str:
        """Do what ``docker compose up -d`` does once the tag means ``store:3``."""
        for container in self.project.world.containers_of("db"):
            self.project.engine.remove_container(container.id, force=True)
        made = self.project.add("db", "store:3", [bind(place, TARGET)])
        self.project.engine.start(made)
        return made

    def write_and_go(self) -> None:
        made = self.anew(self.origin)
        fake_store.write_row(str(self.origin), "acknowledged")
        self.project.engine.remove_container(made, force=True)


@pytest.fixture
def changing(tmp_path: Path) -> Changing:
    return Changing(tmp_path)


def test_one_that_runs_on_the_origin_during_the_copy_is_seen(changing: Changing) -> None:
    with pytest.raises(StatefulError, match="app-db-") as told:
        Filled(lambda: changing.anew(changing.origin)).apply(changing.move, changing.context)
    assert str(changing.origin) in told.value.state
    assert told.value.next_command.startswith("docker ps -a")
    assert not changing.goal.exists()


def test_one_that_wrote_there_and_is_gone_is_seen_by_what_it_wrote(changing: Changing) -> None:
    with pytest.raises(StatefulError, match="1 rows"):
        Filled(changing.write_and_go).apply(changing.move, changing.context)
    assert not changing.goal.exists()


@pytest.mark.parametrize("gone", [False, True])
def test_one_that_ran_after_the_copy_was_published_is_not_replaced(changing: Changing, gone: bool) -> None:
    Filled().apply(changing.move, changing.context)
    if gone:
        changing.write_and_go()
    else:
        made = changing.anew(changing.origin)
    with pytest.raises(StatefulError, match="may lack what was written"):
        CreateContainers().apply(changing.create, changing.context)
    assert gone or changing.project.engine.held[made].running


def test_one_on_the_goal_writes_nothing_that_is_lost(changing: Changing, monkeypatch: pytest.MonkeyPatch) -> None:
    Filled().apply(changing.move, changing.context)
    changing.anew(changing.goal)
    made: list[str] = []
    monkeypatch.setattr(changeover, "create_containers", lambda *_given, **_more: made.append("created"))
    monkeypatch.setattr(changeover, "prove_mount", lambda *_given: {})
    CreateContainers().apply(changing.create, changing.context)
    assert made == ["created"]


@pytest.mark.parametrize("image", ["store:3", "store:2"])
def test_what_was_never_stopped_is_left_as_it_is(changing: Changing, image: str) -> None:
    """Somebody brought the service to another image before the change began to stop anything."""
    changing.evidence = {}
    engine, goal = changing.project.engine, replace(changing.transfer.origin, image=changing.image("store:2"))
    swapped = {"transfers": [replace(changing.transfer, goal=goal, strategy="swap").as_dict()]}
    engine.remove_container(changing.old)
    made = changing.project.add("db", image, [bind(changing.origin, TARGET)])
    engine.start(made)
    for handler, step in ((CreateContainers(), changing.create), (StopStores(), changing.stop)):
        handler.undo(replace(step, args={**step.args, **swapped}), changing.context)
    assert [(each.id, each.running) for each in engine.held.values()] == [(made, True)]
