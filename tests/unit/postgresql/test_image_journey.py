# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run of an image change sees when it looks, also once the tag that was asked for means another image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Plan
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import journey, planner
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import ImageRequest
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import by_compose
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import Request
from tests.unit.storage.projects import NAME, Small, small

TEXT = "services:\n  db:\n    image: postgres:15\n"
WANTED = "postgres:17-alpine"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    (tmp_path / "app").mkdir()
    made = small(tmp_path / "app", TEXT, images={"postgres:15": (), WANTED: ()})
    monkeypatch.setattr(by_compose, "observe_project", lambda engine, compose, services: made.project)
    made.add("db", "postgres:15")
    return made


@pytest.fixture
def operations(tmp_path: Path) -> OperationStore:
    return OperationStore(str(tmp_path / "operations"))


def observe(project: Small, operations: OperationStore, image: str = WANTED) -> journey.Observed:
    request = ImageRequest(Request(NAME, str(project.root), ()), "db", image)
    return journey.ImageJourney("db", (), lambda found: request).observe(project.world, operations)


def begin(project: Small, operations: OperationStore) -> tuple[str, str]:
    """Begin what :func:`observe` asks for; return the operation's id and the image's."""
    wanted = project.engine.image(WANTED)
    assert wanted is not None
    request = ImageRequest(Request(NAME, str(project.root), ()), "db", WANTED)
    summary = {"service": "db", "to": {"image": wanted.id, "reference": WANTED}}
    plan = Plan(planner.goal_of(request, wanted.id), (), summary=summary)
    return operations.begin(plan).id, wanted.id


def test_an_open_change_goes_on_with_its_image_although_the_tag_was_moved(
    project: Small, operations: OperationStore
) -> None:
    operation, image_id = begin(project, operations)
    project.engine.add_image(WANTED)
    observed = observe(project, operations)
    assert (observed.unfinished, observed.image_id) == (operation, image_id)


def test_an_open_change_goes_on_although_nothing_has_the_tag_any_more(
    project: Small, operations: OperationStore
) -> None:
    operation, image_id = begin(project, operations)
    project.engine.images[image_id] = replace(project.engine.images[image_id], tags=())
    assert observe(project, operations).unfinished == operation


def test_another_tag_is_another_goal(project: Small, operations: OperationStore) -> None:
    operation, _image = begin(project, operations)
    project.engine.add_image("postgres:16")
    with pytest.raises(StatefulError, match=operation):
        observe(project, operations, "postgres:16")


def test_an_image_that_is_not_there_is_not_pulled(project: Small, operations: OperationStore) -> None:
    with pytest.raises(StatefulError, match="not pulled unasked"):
        observe(project, operations, "postgres:16")
