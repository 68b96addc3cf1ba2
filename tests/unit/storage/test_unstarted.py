# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is seen around a service without a container, before its file is edited."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.rewrite import plan_rewrite
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import EngineMount
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import survey
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import MountRequest, Request, Unstarted
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import Declared
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.unstarted import look_around
from tests.support import fake_store
from tests.unit.storage.projects import LABEL, NAME, Small, small

HEAD = "services:\n  db:\n    image: store:1\n"
NAMED = HEAD + "    volumes: [data:/data]\nvolumes:\n  data:\n"


def seen(project: Small, target: str = "/data", source: str = "place") -> Unstarted:
    mount = MountRequest("db", str(project.root / source), target, f"./{source}")
    return look_around(project.world, project.project, mount, [])


def test_the_volume_of_a_project_that_is_down_is_seen(tmp_path: Path) -> None:
    project = small(tmp_path, NAMED)
    volume = project.engine.create_volume(f"{NAME}_data", labels={LABEL + "project": NAME})
    assert seen(project).left_behind == "", "there is nothing in it"
    fake_store.initialise(volume.mountpoint)
    found = seen(project)
    assert found.mounted_now == f"{NAME}_data"
    assert "fake data" in found.left_behind
    assert found.lost_here == (), "it is named once"


def test_a_volume_that_was_never_made_holds_nothing(tmp_path: Path) -> None:
    found = seen(small(tmp_path, NAMED))
    assert (found.store, found.version, found.left_behind) == ("fake", "1", "")
    assert (found.lost, found.lost_here, found.holds, found.astray) == ((), (), (), "")


def test_files_that_belong_to_no_store_are_seen_too(tmp_path: Path) -> None:
    project = small(tmp_path, NAMED)
    volume = project.engine.create_volume(f"{NAME}_data", labels={})
    Path(volume.mountpoint, "upload").write_text("x")
    assert seen(project).left_behind == "upload"


def test_only_what_the_new_mount_would_hide_is_left_behind(tmp_path: Path) -> None:
    project = small(tmp_path, NAMED)
    volume = project.engine.create_volume(f"{NAME}_data", labels={})
    Path(volume.mountpoint, "upload").write_text("x")
    assert seen(project, "/data/below").left_behind == ""


def test_another_directory_in_the_file_is_seen(tmp_path: Path) -> None:
    project = small(tmp_path, HEAD + "    volumes: ['./old:/data']\n")
    fake_store.initialise(str(tmp_path / "old"))
    found = seen(project)
    assert (found.mounted_kind, found.mounted_now) == ("bind", str(tmp_path / "old"))
    assert "fake data" in found.left_behind
    assert seen(project, source="old").left_behind == "", "that is the wanted one"


def test_volumes_without_a_container_are_told_apart_by_their_project(tmp_path: Path) -> None:
    project = small(tmp_path, HEAD)
    for name, labels in (("ours", {LABEL + "project": NAME}), ("a" * 64, {}), ("used", {})):
        fake_store.initialise(project.engine.create_volume(name, labels=labels).mountpoint)
    project.engine.create_volume("empty", labels={LABEL + "project": NAME})
    image = project.engine.image("store:1")
    assert image is not None
    project.engine.create_container("other", image, mounts=[_volume(project, "used")])
    found = seen(project)
    assert [text.partition(" ")[0] for text in found.lost_here] == ["ours"]
    assert [text.partition(" ")[0] for text in found.lost] == ["a" * 64]


def _volume(project: Small, name: str) -> Any:
    volume = project.engine.volume(name)
    assert volume is not None
    return EngineMount("volume", volume.mountpoint, "/data", True, name=name, driver="local")


def test_what_lies_in_the_wanted_directory_is_recognised(tmp_path: Path) -> None:
    project = small(tmp_path, HEAD)
    ident = fake_store.initialise(str(tmp_path / "place"))
    (data,) = seen(project).holds
    assert (data.store, data.version) == ("fake", "1")
    assert ident in data.shown


@pytest.mark.parametrize("volumes, data_path, target, astray", [
    (["/var/lib/postgresql/data"], "/var/lib/postgresql/data", "/var/lib/postgresql/data", ""),
    (["/var/lib/postgresql/data"], "/var/lib/postgresql/data", "/var/lib/postgresql", "/var/lib/postgresql/data"),
    (["/var/lib/postgresql"], "/var/lib/postgresql/18/docker", "/var/lib/postgresql", ""),
    (
        ["/var/lib/postgresql"], "/var/lib/postgresql/18/docker", "/var/lib/postgresql/data",
        "/var/lib/postgresql/18/docker",
    ),
    (["/var/lib/postgresql/data"], "/srv/cluster", "/srv/cluster", ""),
    (["/var/lib/postgresql/data"], "/var/lib/postgresql/data", "/backups", ""),
    (["/data"], "", "/data", ""),
    (["/data"], "", "/", "/data"),
])  # fmt: skip
def test_a_mount_that_the_image_would_not_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, volumes: list[str], data_path: str, target: str, astray: str
) -> None:
    project = small(tmp_path, HEAD, images={"store:1": volumes})
    monkeypatch.setattr(type(project.store), "declares", lambda self, image, env: Declared("1", data_path))
    assert seen(project, target).astray == astray


@pytest.mark.parametrize("written, of_image, user", [
    ("", "", ""),
    ("", "1001", "1001"),
    ("70:70", "1001", "70:70"),
    ("0:0", "1001", ""),
    ("root", "1001", ""),
    ("redis", "", ""),
    ("1000:redis", "", "1000"),
])  # fmt: skip
def test_the_user_is_the_file_s_or_else_the_image_s(tmp_path: Path, written: str, of_image: str, user: str) -> None:
    project = small(tmp_path, HEAD + (f"    user: '{written}'\n" if written else ""))
    image = project.engine.image("store:1")
    assert image is not None
    project.engine.images[image.id] = replace(image, user=of_image)
    assert seen(project).user == user


def wish(project: Small, rewrite: str) -> Request:
    mounts = (MountRequest("db", str(project.root / "place"), "/data", "./place"),)
    return Request(NAME, str(project.root), mounts, rewrite=rewrite)


def test_a_file_of_somebody_else_has_to_name_the_mount(tmp_path: Path) -> None:
    lacking = small(tmp_path, HEAD)
    (said,) = survey.survey_files(lacking.world, lacking.project, wish(lacking, "none"), ()).rewrite.blockers
    assert "/data" in said.text
    (tmp_path / "there").mkdir()
    there = small(tmp_path / "there", HEAD + "    volumes: ['./place:/data']\n")
    assert survey.survey_files(there.world, there.project, wish(there, "none"), ()).rewrite.blockers == ()


def test_an_override_file_that_compose_would_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The compose of these tests reads no file, so that it cannot be asked about the edit.
    monkeypatch.setattr(survey, "plan_proved_rewrite", lambda compose, files, **wanted: plan_rewrite(files, **wanted))
    project = small(tmp_path, HEAD)
    project.compose.environment = {"COMPOSE_FILE": "compose.yaml"}
    (said,) = survey.survey_files(project.world, project.project, wish(project, "override"), ()).rewrite.blockers
    assert str(tmp_path / "compose.override.yaml") in said.text
    # The way out that the sentence names.
    (tmp_path / "compose.override.yaml").write_text("x-empty: true\n")
    project.compose.environment = {"COMPOSE_FILE": "compose.yaml:compose.override.yaml"}
    found = survey.survey_files(project.world, project.project, wish(project, "override"), ())
    assert found.rewrite.blockers == ()
    assert found.rewrite.paths == (str(tmp_path / "compose.override.yaml"),)
