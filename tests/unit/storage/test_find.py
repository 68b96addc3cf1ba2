# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the data of a wanted mount is, and when it is there already."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.find import find_data
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import ANONYMOUS, BIND, MountRequest
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import Declared
from tests.unit.storage.projects import Small, bind, small

TEXT = "services:\n  db:\n    image: store:1\n  web:\n    image: app:1\n"
IMAGES = {"store:1": ("/srv/store/data",), "app:1": ()}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    made = small(tmp_path, TEXT, images=IMAGES)
    monkeypatch.setattr(
        made.store,
        "declares",
        lambda image, env: Declared("1", "/srv/store/data") if image == "store:1" else None,
        raising=False,
    )
    monkeypatch.setattr(
        made.store,
        "recognises",
        lambda engine, container, path_of: "/srv/store/data" if container.service == "db" else "",
        raising=False,
    )
    return made


def wanted(project: Small, service: str = "db", target: str = "") -> MountRequest:
    return MountRequest(service, str(project.root / "place"), target, "./place")


def test_a_mount_one_level_off_does_not_pass_for_the_data(project: Small) -> None:
    """The directory that the admin sees is mounted, and the data lies in an anonymous volume below it."""
    project.add("db", mounts=[bind(project.root / "place", "/srv/store")])
    found = find_data(project.world, project.project, wanted(project))
    assert found is not None
    assert (found.target, found.kind) == ("/srv/store/data", ANONYMOUS)


@pytest.mark.parametrize("target", ["", "/srv/store/data", "/srv/store/data/"])
def test_data_in_its_mount_is_in_place(project: Small, target: str) -> None:
    project.add("db", mounts=[bind(project.root / "place", "/srv/store/data")])
    found = find_data(project.world, project.project, wanted(project, target=target))
    assert found is not None
    assert (found.target, found.kind) == ("/srv/store/data", BIND)


def test_data_in_its_mount_is_in_place_by_declarations_alone(project: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with nothing to do asks no store."""
    project.add("db", mounts=[bind(project.root / "place", "/srv/store/data")])
    monkeypatch.delattr(project.store, "recognises")
    monkeypatch.setattr(type(project.store), "recognises", None)
    assert find_data(project.world, project.project, wanted(project)) is not None


def test_files_of_no_store_are_in_place_too(project: Small) -> None:
    project.add("web", "app:1", mounts=[bind(project.root / "place", "/uploads")])
    found = find_data(project.world, project.project, wanted(project, "web"))
    assert found is not None
    assert (found.target, found.kind) == ("/uploads", BIND)


def test_a_service_without_a_store_and_without_the_mount_needs_a_target(project: Small) -> None:
    project.add("web", "app:1", mounts=[bind(project.root / "other", "/uploads")])
    with pytest.raises(InvalidInput, match="name the target"):
        find_data(project.world, project.project, wanted(project, "web"))


def test_a_service_without_a_container_has_no_data(project: Small) -> None:
    assert find_data(project.world, project.project, wanted(project)) is None
