# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who would be harmed by the change of a service's container."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.inspected import container_from
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import OPERATION_LABEL
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import survey
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    ANONYMOUS,
    LAYER,
    NAMED,
    POSTGRESQL,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.neighbours import joined_to, replicas
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.starting import major_of
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import Declared
from tests.unit.compose_project.fakes import a_container
from tests.unit.storage.findings import DATA
from tests.unit.storage.projects import small

DB = a_container(id="d" * 64, name="app-db-1")


@pytest.mark.parametrize("key", ["NetworkMode", "PidMode", "IpcMode"])
@pytest.mark.parametrize("other", ["d" * 64, "app-db-1"])
def test_a_container_in_a_namespace_of_the_store_is_in_the_way(key: str, other: str) -> None:
    raw = {
        "Id": "x", "Name": "/app-exporter-1", "Image": "sha256:1", "Config": {}, "State": {"Status": "running"},
        "HostConfig": {key: f"container:{other}"},
    }  # fmt: skip
    exporter = container_from(raw)
    assert exporter.joined == (other,)
    (said,) = joined_to([DB, exporter], [DB])
    assert "app-exporter-1" in said.text
    assert said.command == "docker stop app-exporter-1"


def test_who_is_not_in_the_way() -> None:
    joined = a_container(id="x", name="x", joined=(DB.id,), labels={})
    assert joined_to([joined], [a_container(id="e" * 64, name="other")]) == []
    assert joined_to([a_container(id="x", name="x", joined=(DB.id,), status="exited")], [DB]) == []
    assert joined_to([joined], [DB, joined]) == [], "compose creates both anew"
    helper = a_container(id="h", joined=(DB.id,), labels={OPERATION_LABEL: "op"})
    assert joined_to([helper], [DB]) == []


@pytest.mark.parametrize("scale, containers, said", [(1, 1, 0), (2, 2, 1), (2, 1, 1), (1, 2, 1)])
def test_a_directory_is_for_one_container(tmp_path: Path, scale: int, containers: int, said: int) -> None:
    """Whatever drift is accepted: compose makes as many in the downtime as its file asks for."""
    project = small(tmp_path, f"services:\n  db:\n    image: store:1\n    scale: {scale}\n")
    for _number in range(containers):
        project.add("db")
    found = replicas(project.project, ["db"])
    assert len(found) == said
    assert all("scale: 1" in blocker.text and "--no-recreate" in blocker.command for blocker in found)


@pytest.mark.parametrize("runs, means, said", [("17", "18", 1), ("17.2", "17.5", 0), ("", "18", 0), ("9.5", "9.6", 1)])
def test_a_tag_that_means_another_major(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: str, means: str, said: int
) -> None:
    project = small(tmp_path, "services:\n  db:\n    image: store:1\n")
    project.add("db")
    versions = {"old": runs, "new": means}
    (container,) = project.engine.held.values()
    project.engine.held[container.id] = replace(container, env={"V": "old"})
    image = project.engine.image("store:1")
    assert image is not None
    project.engine.images[image.id] = replace(image, env={"V": "new"})
    monkeypatch.setattr(
        type(project.store), "declares", lambda self, image, env: Declared(versions[env["V"]]) if env else None
    )
    monkeypatch.setattr(survey, "major_of", lambda kind, version: major_of(POSTGRESQL, version))
    found = survey.other_majors(project.world, project.project, ["db"])
    assert len(found) == said
    assert all(runs in sentence and means in sentence for sentence in found.values())


PLAIN = "services:\n  db:\n    image: store:1\n"


@pytest.mark.parametrize("kind, volumes, data, stranded", [
    (ANONYMOUS, "", "/data", False),
    (ANONYMOUS, "[/data]", "/data", False),
    (ANONYMOUS, "['./new:/data']", "/data", True),
    (ANONYMOUS, "['kept:/data']", "/data", True),
    (ANONYMOUS, "['./new:/']", "/data", False),
    (ANONYMOUS, "['./new:/data/inner']", "/data/inner", True),
    (ANONYMOUS, "['./conf:/data/conf']", "/data", False),
    (NAMED, "['kept:/data']", "/data", False),
    (NAMED, "['other:/data']", "/data", True),
    (NAMED, "", "/data", True),
    (LAYER, "", "/data", True),
])  # fmt: skip
def test_whom_a_plain_up_would_part_from_the_data(
    tmp_path: Path, kind: str, volumes: str, data: str, stranded: bool
) -> None:
    named = f"    volumes: {volumes}\nvolumes:\n  kept: {{name: the-volume}}\n  other:\n" if volumes else ""
    made = small(tmp_path, PLAIN + named)
    path = replace(DATA, service="db", target="/data", kind=kind, subpath=data[6:], volume="the-volume")
    if kind == ANONYMOUS:
        path = replace(path, volume="a" * 64)
    assert survey.stranded_by_up(made.world, made.project, [path]) == (frozenset({"db"}) if stranded else frozenset())
    made.compose.is_v1 = True
    assert survey.stranded_by_up(made.world, made.project, [path]) == frozenset({"db"})
