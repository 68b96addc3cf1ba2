# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run sees when it looks at a project, also at one that a killed run has left half-way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Project
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.drive import refuse_ended
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Goal, Plan
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import journey
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import MountRequest, Request
from tests.support import fake_store
from tests.unit.storage.projects import NAME, Small, bind, small

TEXT = "services:\n  db:\n    image: store:1\n    volumes: [data:/data]\nvolumes:\n  data:\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    (tmp_path / "app").mkdir()
    made = small(tmp_path / "app", TEXT)
    monkeypatch.setattr(journey, "observe_project", lambda engine, compose, services: made.project)
    return made


@pytest.fixture
def operations(tmp_path: Path) -> OperationStore:
    return OperationStore(str(tmp_path / "operations"))


def observe(project: Small, operations: OperationStore, target: str = "", source: str = "./place") -> journey.Observed:
    def request(found: Project, mounts: tuple[MountRequest, ...]) -> Request:
        return Request(found.name, found.working_dir, mounts)

    make: Callable[..., Request] = request
    return journey.observe(project.world, [MountRequest("db", source, target)], make, operations)


def begin(project: Small, operations: OperationStore) -> str:
    """Begin an operation that wants what :func:`observe` asks for."""
    wants = {"mounts": {"db:/data": str(project.root / "place")}}
    return operations.begin(Plan(Goal("compose_storage", NAME, wants), ())).id


@pytest.mark.parametrize("target", ["", "/data", "/data/"])
def test_an_open_operation_is_found_while_its_data_is_under_way(
    project: Small, operations: OperationStore, target: str
) -> None:
    """The store is stopped and its directory away, so that nothing about it can be recognised."""
    project.add("db")
    operation = begin(project, operations)
    assert observe(project, operations, target).unfinished == operation


def test_an_open_operation_is_found_while_its_container_is_away(project: Small, operations: OperationStore) -> None:
    operation = begin(project, operations)
    assert observe(project, operations).unfinished == operation


def test_what_was_not_looked_at_is_not_planned(project: Small, operations: OperationStore) -> None:
    """Somebody else's run may have ended the operation meanwhile."""
    begin(project, operations)
    observed = observe(project, operations)
    with pytest.raises(StatefulError, match="has ended since"):
        refuse_ended(observed)


def test_another_goal_is_refused_while_one_is_open(project: Small, operations: OperationStore) -> None:
    operation = begin(project, operations)
    with pytest.raises(StatefulError, match=operation):
        observe(project, operations, source="./elsewhere")


REACHED = "services:\n  db:\n    image: store:1\n    volumes: ['./place:/data']\n"


@pytest.mark.parametrize("forgotten, told", [(False, 0), (True, 1)])
def test_a_goal_that_is_reached_does_not_hide_what_was_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operations: OperationStore, forgotten: bool, told: int
) -> None:
    """An 'up' with the mount in the file and before the move: the container runs on it, and its data is elsewhere."""
    (tmp_path / "app").mkdir()
    made = small(tmp_path / "app", REACHED)
    monkeypatch.setattr(journey, "observe_project", lambda engine, compose, services: made.project)
    (made.root / "place").mkdir()
    made.add("db", mounts=[bind(made.root / "place", "/data")])
    volume = made.engine.create_volume("a" * 64, labels={})
    if forgotten:
        fake_store.initialise(volume.mountpoint)
    planned = journey.plan(made.world, observe(made, operations), operations)
    assert planned.plan is None
    assert len(planned.warnings) == told
    assert all("a" * 64 in sentence and "db" in sentence for sentence in planned.warnings)
