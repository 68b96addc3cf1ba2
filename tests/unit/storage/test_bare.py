# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A container without a compose file: who takes whose name, whatever dies in between, and what is refused."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container, RestartPolicy
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Undecided
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Goal, Plan
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.bare import Bare, name_of
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.files_store import FilesStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import POLICIES
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import Request
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.planner import after_steps
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.dependents import StartDependents
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.survey import stopped
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Location, Transfer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import (
    Change,
    World,
    put_aside,
    refuse_second,
)
from tests.support.fake_store import KIND, TARGET, FakeStore
from tests.support.memory_engine import MemoryEngine

POLICY = {"name": "always", "maximum_retries": 0}
NO_OPERATIONS: Any = type("None", (), {"all": lambda self: []})()


@pytest.fixture(autouse=True)
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sync nothing, because no power fails here."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class Died(BaseException):
    """The process was killed."""


class Known(FakeStore):
    """A store that any container is one of."""

    def recognises(self, *_asked: Any) -> str:
        return TARGET


@dataclass
class Place:
    """An engine with one container, ``db``, stopped, and the change of its image."""

    engine: MemoryEngine
    directory: Path
    transfer: Transfer
    left: int = -1

    @property
    def world(self) -> World:
        stores: Any = {KIND: Known(), "files": FilesStore()}
        return World(self.engine, Bare("db"), "container:db", stores)

    def make(self, transfer: Transfer, location: Location, *, dies: int = -1) -> None:
        """Have the container on ``location``; die before the verb with that number."""
        self.left = dies
        try:
            locations = {transfer.name: location}
            options: dict[str, Any] = {"pins": {}, "file_is_theirs": False}
            self.world.maker.make(self.world, [transfer], locations, directory=str(self.directory), **options)
        finally:
            self.left = -1

    def touched(self, _verb: str) -> None:
        self.left -= 1
        if self.left == -1:
            raise Died

    def named(self) -> Container:
        (found,) = self.world.containers_of("db")
        return found

    def others(self) -> list[Container]:
        return [each for each in self.engine.containers() if each.name != "db"]

    def policies(self) -> dict[str, Any]:
        """Return the policies that are to be given back, of the containers that are there."""
        path = self.directory / POLICIES
        known = json.loads(path.read_text()) if path.exists() else {}
        return {each: policy for each, policy in known.items() if self.engine.container(each)}


@pytest.fixture(params=["stays", "moves"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    engine = MemoryEngine(tmp_path / "engine")
    old, new = (engine.add_image(name, volumes=(TARGET,)) for name in ("store:1", "store:2"))
    container = engine.create_container("db", old, labels={"whose": "ours"})
    (mount,) = engine.held[container].mounts
    directory = tmp_path / "container_db-postgresql_image-1a2b3c4d-1"
    directory.mkdir()
    origin = Location("anonymous", mount.source, mount.name, image=old.id, container=container)
    goal = replace(origin, image=new.id, reference="store:2", container="")
    if request.param == "moves":
        goal = Location("bind", str(tmp_path / "new"), image=new.id, reference="store:2", target="/elsewhere")
    transfer = Transfer(
        service="db", target=TARGET, origin=origin, goal=goal, strategy="swap", store=KIND, facts={}, staging="",
        retained="", image_id=old.id, containers=(container,), running=True, restart=POLICY,
    )  # fmt: skip
    found = Place(engine, directory, transfer)
    engine.before = found.touched
    return found


def assert_replaced(place: Place) -> None:
    transfer, named = place.transfer, place.named()
    target = transfer.target_at(transfer.goal)
    assert named.image_id == transfer.goal.image
    assert [(m.destination, m.name or m.source) for m in named.mounts if m.destination == target] == [
        (target, transfer.goal.volume or transfer.goal.path)
    ]
    assert named.labels["whose"] == "ours"
    (kept,) = place.others()
    assert (kept.id, kept.name, kept.restart.name) == (transfer.origin.container, "db-before-1a2b3c4d-1", "no")
    assert place.policies() == {named.id: POLICY}


def assert_back(place: Place) -> None:
    assert place.named().id == place.transfer.origin.container
    assert place.others() == []


VERBS = range(6)


@pytest.mark.parametrize("dies", VERBS)
def test_whatever_dies_the_next_run_goes_on(place: Place, dies: int) -> None:
    with pytest.raises(Died) if dies < 4 else contextlib.suppress(Died):
        place.make(place.transfer, place.transfer.goal, dies=dies)
    place.make(place.transfer, place.transfer.goal)
    assert_replaced(place)
    place.make(place.transfer, place.transfer.goal)
    assert_replaced(place)


@pytest.mark.parametrize("dies", VERBS)
@pytest.mark.parametrize("again", VERBS)
def test_whatever_dies_the_very_container_comes_back(place: Place, dies: int, again: int) -> None:
    with contextlib.suppress(Died):
        place.make(place.transfer, place.transfer.goal, dies=dies)
    with contextlib.suppress(Died):
        undo(place, dies=again)
    undo(place)
    assert_back(place)


def undo(place: Place, *, dies: int = -1) -> None:
    """Do as the undo of the steps does: what was never started goes, and the stop's undo makes the rest."""
    for unfinished in place.world.maker.unfinished(place.engine, "container:db", place.transfer):
        place.engine.remove_container(unfinished.id)
    place.make(place.transfer, place.transfer.origin, dies=dies)


@pytest.mark.parametrize("dies", VERBS)
@pytest.mark.parametrize("undone", [False, True])
def test_a_roll_back_exchanges_the_two_and_so_does_its_undo(place: Place, dies: int, undone: bool) -> None:
    done = place.transfer
    place.make(done, done.goal)
    new = place.named()
    back = replace(
        done, origin=replace(done.goal, container=new.id), goal=done.origin, containers=(new.id,), image_id=new.image_id
    )
    place.directory = place.directory.parent / "container_db-operation-5e6f7a8b-1"
    place.directory.mkdir()
    with contextlib.suppress(Died):
        place.make(back, back.goal, dies=dies)
    place.make(back, back.origin if undone else back.goal)
    kept, named = (done.origin.container, new.id) if undone else (new.id, done.origin.container)
    assert place.named().id == named
    assert [each.id for each in place.others()] == [kept]
    assert place.policies() == {named: POLICY}
    if not undone:
        place.world.maker.let_go(place.engine, back)
        assert place.others() == []


def test_the_two_are_told_from_each_other_on_one_volume(place: Place) -> None:
    transfer = place.transfer
    place.make(transfer, transfer.goal)
    on_goal = [each.id for each in place.world.on_location(transfer, transfer.goal)]
    on_origin = [each.id for each in place.world.on_location(transfer, transfer.origin)]
    assert (on_goal, on_origin) == ([place.named().id], [transfer.origin.container])


@pytest.mark.parametrize("how", ["another", "running"])
def test_what_somebody_else_did_is_not_undone(place: Place, how: str) -> None:
    """A container of that name that is not the one, and one that was started meanwhile, stay as they are."""
    if how == "another":
        place.engine.rename(place.transfer.origin.container, "elsewhere")
        image = place.engine.image("store:1")
        assert image is not None
        place.engine.create_container("db", image)
    else:
        place.engine.start(place.transfer.origin.container)
    before = place.named().id
    with pytest.raises(StatefulError) as told:
        place.make(place.transfer, place.transfer.goal)
    # What runs on its own data can be gone back to; what is not ours is nobody's to judge.
    assert isinstance(told.value, Undecided) == (how == "another")
    assert place.named().id == before


def test_the_one_that_was_put_aside_gets_no_policy_back_and_no_second_one_starts(place: Place) -> None:
    transfer, engine = place.transfer, place.engine
    place.make(transfer, transfer.goal)
    assert put_aside(place.world, [transfer]) == {transfer.origin.container}
    refuse_second(place.world, transfer, place.named())
    engine.start(transfer.origin.container)
    with pytest.raises(StatefulError, match="was started meanwhile"):
        refuse_second(place.world, transfer, place.named())
    engine.stop(transfer.origin.container, signal="SIGINT", timeout=1)
    place.make(transfer, transfer.origin)
    assert put_aside(place.world, [transfer]) == frozenset()


def test_a_kept_container_that_is_gone_is_told(place: Place) -> None:
    place.make(place.transfer, place.transfer.goal)
    place.engine.remove_container(place.transfer.origin.container)
    with pytest.raises(StatefulError, match="is gone"):
        place.make(place.transfer, place.transfer.origin)
    assert place.named().image_id == place.transfer.goal.image


def test_a_kept_container_that_runs_is_not_let_go(place: Place) -> None:
    place.make(place.transfer, place.transfer.goal)
    place.engine.start(place.transfer.origin.container)
    with pytest.raises(StatefulError, match="runs; it is not removed"):
        place.world.maker.let_go(place.engine, place.transfer)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"com.docker.compose.project": "app", "com.docker.compose.service": "store"}, "name project_src"),
        ({"com.docker.swarm.service.id": "x"}, "orchestrator"),
        ({"io.kubernetes.pod.uid": "x"}, "orchestrator"),
    ],
)
def test_what_others_make_anew_is_not_ours(place: Place, labels: dict[str, str], words: str) -> None:
    container = place.transfer.origin.container
    place.engine.held[container] = replace(place.engine.held[container], labels=labels)
    with pytest.raises(InvalidInput, match=words):
        place.world.maker.observe(place.engine)


def changed(**more: Any) -> Callable[[Container], Container]:
    return lambda container: replace(container, **more)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed(auto_remove=True), "--rm"),
        (changed(mounts=()), "on no volume"),
        (changed(mounts=(), tmpfs=(TARGET,)), "on no volume"),
        (changed(), ""),
    ],
)
def test_what_could_not_be_taken_back_is_refused(
    place: Place, change: Callable[[Container], Container], words: str
) -> None:
    container = place.transfer.origin.container
    place.engine.held[container] = change(place.engine.held[container])
    found = around(place)
    assert [words in blocker for blocker in found] == ([True] if words else [])


@pytest.mark.parametrize(("key", "words"), [("joined", "shares a namespace"), ("linked", "--link")])
def test_who_knows_the_container_by_itself_is_in_the_way(place: Place, key: str, words: str) -> None:
    image = place.engine.image("store:1")
    assert image is not None
    app = place.engine.create_container("app", image, restart=RestartPolicy("always"))
    known = {"joined": place.transfer.origin.container, "linked": "db"}[key]
    place.engine.held[app] = replace(place.engine.held[app], status="running", **{key: (known,)})
    (said,) = around(place)
    assert words in said


def test_dependents_that_are_not_there_are_named(place: Place) -> None:
    assert "There is no container nobody" in around(place, "nobody")[0]


@pytest.mark.parametrize("anew", [True, False])
def test_a_dependent_that_its_own_project_made_anew_is_there(place: Place, anew: bool) -> None:
    engine = place.engine
    labels = {"com.docker.compose.project": "app", "com.docker.compose.service": "web"}
    web = engine.create_container("app-web-1", engine.add_image("app:1"), labels=labels)
    group = (stopped(engine.held[web]),)
    step = next(step for step in after_steps((group,), {"transfers": []}) if step.kind == "start_dependents")
    engine.remove_container(web)
    if anew:
        engine.create_container("app-web-1", engine.add_image("app:1"), labels=labels)
    operation = OperationStore(str(place.directory / "operations")).begin(Plan(Goal("postgresql_image", "db", {}), ()))
    context: Context[World] = Context(place.world, operation)

    if anew:
        assert StartDependents().is_done(step, context) == {}
        return
    assert StartDependents().is_done(step, context) is None
    with pytest.raises(StatefulError) as failed:
        StartDependents().apply(step, context)
    assert failed.value.next_command.startswith("docker ps -a --filter name=web; make web anew by that name")


def around(place: Place, *dependents: str) -> list[str]:
    maker = Bare("db", dependents=dependents)
    project = maker.observe(place.engine)
    request = Request("container:db", "/", ())
    findings = maker.around(place.world, project, request, Change("db", {}, frozenset()))
    return [blocker.text for blocker in findings.blockers]


def test_an_id_means_the_name_that_the_container_has(place: Place) -> None:
    assert name_of(place.engine, "db", NO_OPERATIONS) == "db"
    assert name_of(place.engine, "gone", NO_OPERATIONS) == "gone"
    assert name_of(place.engine, place.transfer.origin.container, NO_OPERATIONS) == "db"
