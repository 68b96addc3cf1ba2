# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The old service goes back to the very image that it ran, also where its container is gone and its tag another's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import services
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.arguments import Reached
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.cli import Answer, Call, Dokku
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image import ending, finish, journey, planner
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.again import LENT
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import World
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import FINISH, SWITCH, Goal, Plan, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.planner import keeping_steps
from tests.support.memory_engine import MemoryEngine

BOTH = {"app": "blog", "old": "old", "new": "new"}
LET_IN = Step("dokku_let_in", planner.LET_IN, SWITCH, {**BOTH, "answer_path": "", "dump": "/dump"}, proves=True)
RETIRE = Step("dokku_retire", planner.RETIRE, FINISH, BOTH)


@dataclass
class Host:
    """A dokku whose ``postgres:start`` makes a container of whatever the tag of the service means."""

    engine: MemoryEngine
    starting: Callable[[], None] = lambda: None
    started: list[str] = field(default_factory=list)

    @property
    def world(self) -> World:
        return World(Reached(Dokku(runner=self._dokku), self.engine))

    def _dokku(self, call: Call) -> Answer:
        words = call.argv[1:]
        if words[0] == "postgres:start":
            self.starting()
            image = self.engine.image("postgres:15")
            assert image is not None
            self.engine.start(self.engine.create_container("dokku.postgres.old", image))
            self.started.append(image.id)
        # Without a container the plugin knows no version either.
        answers = {"--version": "", "--links": "blog"}
        return Answer(0, answers.get(words[-1], ""), "")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(services, "wait", lambda *_args, **_options: None)
    return Host(MemoryEngine(tmp_path / "engine"))


def swapped(host: Host, tmp_path: Path) -> tuple[Operation, str]:
    """Return a swap that is done, whose images are held, and the id of the old one."""
    old = host.engine.add_image("postgres:15")
    host.engine.images[old.id] = replace(old, digests=("postgres@sha256:abc",))
    new = host.engine.add_image("postgres:17")
    keeping = keeping_steps(("old", old.id), ("new", new.id), "blog-1")
    summary = {"from": {"service": "old", "image": "postgres:15", "image_id": old.id}, "to": {"service": "new"}}
    plan = Plan(
        Goal("dokku_postgres_image", "blog", {}), (*keeping, LET_IN, RETIRE), facts={"dokku": {}}, summary=summary
    )
    operation = OperationStore(str(tmp_path / "operations")).begin(plan)
    for step in keeping:
        handler = journey.HANDLERS[step.kind]
        context = context_of(host, operation)
        assert handler.is_done(step, context) is None
        operation.journal.evidence(step.name, handler.apply(step, context))
        assert handler.is_done(step, context)
    return operation, old.id


def context_of(host: Host, operation: Operation) -> Context[World]:
    return Context(host.world, operation, evidence=dict(operation.history().evidence))


def names(host: Host) -> set[str]:
    return {tag for image in host.engine.images.values() for tag in image.tags}


def test_a_service_whose_container_is_gone_is_started_on_the_image_that_it_ran(host: Host, tmp_path: Path) -> None:
    operation, image_id = swapped(host, tmp_path)
    later = host.engine.add_image("postgres:15").id
    finish.Retire().undo(RETIRE, context_of(host, operation))
    assert host.started == [image_id]
    meant = host.engine.image("postgres:15")
    assert meant is not None
    assert meant.id == later, "what somebody pulled since is what the tag means to all others"


def test_a_tag_that_nothing_has_any_more_stays_for_dokku_to_start_the_service_by(host: Host, tmp_path: Path) -> None:
    operation, image_id = swapped(host, tmp_path)
    host.engine.untag("postgres:15")
    finish.Retire().undo(RETIRE, context_of(host, operation))
    assert host.started == [image_id]
    assert "postgres:15" in names(host)


def test_a_tag_that_was_lent_when_it_was_killed_is_given_back_by_the_next_run(host: Host, tmp_path: Path) -> None:
    operation, image_id = swapped(host, tmp_path)
    later = host.engine.add_image("postgres:15").id
    operation.journal.evidence(LENT, {"postgres:15": later}, durable=True)
    host.engine.tag(image_id, "postgres", "15")
    host.engine.start(host.engine.create_container("dokku.postgres.old", host.engine.images[image_id]))
    finish.Retire().undo(RETIRE, context_of(host, operation))
    meant = host.engine.image("postgres:15")
    assert meant is not None
    assert meant.id == later
    assert not operation.history().evidence[LENT]


def test_without_that_image_nothing_is_started_or_undone(host: Host, tmp_path: Path) -> None:
    operation, image_id = swapped(host, tmp_path)
    del host.engine.images[image_id]
    host.engine.add_image("postgres:15")
    for refused in (
        lambda: ending._check_back(host.world, operation),
        lambda: finish.Retire().undo(RETIRE, context_of(host, operation)),
    ):
        with pytest.raises(StatefulError, match="is not on this engine") as raised:
            refused()
        assert raised.value.next_command == "docker pull postgres@sha256:abc"
    assert host.started == []


def test_a_commit_lets_both_images_go(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    operation, _image_id = swapped(host, tmp_path)
    monkeypatch.setattr(ending, "_destroy", lambda *_args: None)
    assert len(names(host)) == 4
    ends = ending.ending_of_swaps(
        OperationStore(str(tmp_path / "operations")), lambda _facts: host.world, check_mode=False
    )
    ends.free(operation, ())
    assert names(host) == {"postgres:15", "postgres:17"}
