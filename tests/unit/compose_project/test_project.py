# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which project is meant, and whether it is the one that runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import Completed, ComposeCli, find_compose
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.command_line import ProjectOptions
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Project, observe_project
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import Connection
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from tests.unit.compose_project.fakes import a_container, labelled

SERVICES = {"db": {"image": "postgres"}, "web": {"image": "web", "depends_on": ["db"]}}


@dataclass
class Engine:
    """Answers the one question that is asked."""

    found: Sequence[Container] = ()

    def containers(self, *, labels: Mapping[str, str]) -> list[Container]:
        assert labels == {"com.docker.compose.project": "app"}
        return list(self.found)


def compose_for(src: Path, *, version: str = "2.26.1", profiled: Sequence[str] = (), **options: Any) -> ComposeCli:
    def runner(argv: Sequence[str], _cwd: str, _env: Mapping[str, str], _limit: float | None) -> Completed:
        if "version" in argv:
            return Completed(0, version, "")
        shown = {name: raw for name, raw in SERVICES.items() if name not in profiled or "*" in argv}
        name = {} if version.startswith("1.") else {"name": "app"}
        return Completed(0, json.dumps({**name, "services": shown}), "")

    return find_compose(ProjectOptions(str(src), **options), Connection(), program=["x"], runner=runner)


def observe(compose: ComposeCli, found: Sequence[Container] = (), services: Sequence[str] = ()) -> Project:
    return observe_project(Engine(found), compose, services)  # type: ignore[arg-type]


@pytest.fixture
def src(tmp_path: Path) -> Path:
    made = tmp_path / "app"
    made.mkdir()
    (made / "docker-compose.yml").touch()
    return made


def of(src: Path, name: str, **labels: str) -> Container:
    files = labels.pop("config_files", f"{src}/docker-compose.yml")
    return labelled(replace(a_container(), id=name, name=name), working_dir=str(src), config_files=files, **labels)


def test_containers_are_sorted_by_label_and_number(src: Path) -> None:
    found = [
        of(src, "app-db-10", number="10"),
        of(src, "app-db-2", number="2"),
        of(src, "app_db_1", number="1"),
        of(src, "run", oneoff="True"),
        of(src, "gone", service="removed"),
    ]
    project = observe(compose_for(src), found, ["db"])
    assert [c.name for c in project.containers["db"]] == ["app_db_1", "app-db-2", "app-db-10"]
    assert [c.name for c in project.one_off] == ["run"]
    assert [c.name for c in project.orphans] == ["gone"]
    assert project.never_created == ("web",)
    assert project.containers_of(["web", "db"]) == project.containers["db"]
    assert (project.name, project.working_dir) == ("app", str(src))


def test_a_service_of_a_profile_is_found(src: Path) -> None:
    project = observe(compose_for(src, profiled=["web"]), [of(src, "w", service="web")])
    assert [c.name for c in project.containers["web"]] == ["w"]
    assert project.orphans == ()
    assert "web" in observe(compose_for(src, profiled=["web"]), [], ["web"]).config.services


def test_v1_names_the_project_by_its_directory(src: Path) -> None:
    relative = of(src, "app_db_1", config_files="docker-compose.yml")
    assert observe(compose_for(src, version="1.29.2"), [relative], ["db"]).name == "app"


def test_another_checkout_of_the_same_name_is_refused(src: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "app"
    with pytest.raises(InvalidInput) as caught:
        observe(compose_for(src), [of(other, "app-db-1")])
    assert str(other) in caught.value.msg
    assert str(src) in caught.value.msg


def test_through_a_symbolic_link_the_project_is_read_as_it_was_made(src: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(src)
    project = observe(compose_for(link), [of(src, "app-db-1")], ["db"])
    assert project.working_dir == str(src)
    assert project.compose.options.project_src == str(src)
    assert project.compose.environment["PWD"] == str(src)


def test_a_file_that_the_request_leaves_out_is_named(src: Path) -> None:
    (src / "extra.yml").touch()
    with pytest.raises(InvalidInput, match=r"extra\.yml"):
        observe(compose_for(src), [of(src, "a", config_files=f"{src}/docker-compose.yml,{src}/extra.yml")], ["db"])


def test_a_file_that_is_gone_or_new_is_no_difference(src: Path) -> None:
    (src / "docker-compose.override.yml").touch()
    container = of(src, "a", config_files=f"{src}/docker-compose.yml,{src}/was-temporary.yml")
    assert len(observe(compose_for(src), [container], ["db"]).config_files) == 2


def test_files_are_relative_to_the_project(src: Path) -> None:
    (src / "sub").mkdir()
    (src / "sub" / "x.yml").touch()
    compose = compose_for(src, files=("sub/x.yml",))
    container = of(src, "a", config_files=f"{src}/sub/x.yml")
    assert observe(compose, [container], ["db"]).config_files == (f"{src}/sub/x.yml",)


def test_compose_file_moves_the_project_directory(src: Path) -> None:
    (src / ".env").write_text("COMPOSE_FILE=sub/x.yml\n")
    (src / "sub").mkdir()
    (src / "sub" / "x.yml").touch()
    container = of(src / "sub", "a", config_files=f"{src}/sub/x.yml")
    assert observe(compose_for(src), [container], ["db"]).working_dir == str(src / "sub")


def test_bad_requests_are_told_in_a_sentence(src: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no directory"):
        observe(compose_for(tmp_path / "missing"))
    with pytest.raises(InvalidInput, match="no compose file in"):
        observe(compose_for(tmp_path))
    with pytest.raises(InvalidInput, match=r"no compose file .*/nope\.yml"):
        observe(compose_for(src, files=("nope.yml",)))
    with pytest.raises(InvalidInput, match=r"No service cache in .*; there are db, web"):
        observe(compose_for(src), [], ["cache"])


def test_a_file_that_does_not_parse_is_told_in_composes_first_line(src: Path) -> None:
    def runner(argv: Sequence[str], _cwd: str, _env: Mapping[str, str], _limit: float | None) -> Completed:
        return (
            Completed(0, "2.26.1", "") if "version" in argv else Completed(15, "", "yaml: line 3: did not find\nmore")
        )

    compose = find_compose(ProjectOptions(str(src)), Connection(), program=["x"], runner=runner)
    with pytest.raises(InvalidInput) as caught:
        observe(compose)
    assert (
        caught.value.msg == f"Compose cannot read {os.path.join(src, 'docker-compose.yml')}: yaml: line 3: did not find"
    )
