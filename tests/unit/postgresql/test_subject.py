# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which server a task is about, and what is said where that is none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._compose import subject
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.subject import Reached
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import subject as servers
from tests.unit.postgresql.fakes import FakeEngine, a_container

CHOICE = {"project_src": "", "service": "", "container": ""}


def a_project(*containers: Container) -> Any:
    compose = SimpleNamespace(typed=lambda *words: f"docker compose {' '.join(words)}")
    return SimpleNamespace(name="app", compose=compose, containers={"db": containers, "never": ()})


def reached(container: Container, project: Any = None) -> Reached:
    return Reached(FakeEngine(), container, project)  # type: ignore[arg-type]


@pytest.mark.parametrize("given, words", [
    ({}, "No container is named"),
    ({"project_src": "/srv/app"}, "No container is named"),
    ({"service": "db"}, "one of a project"),
    ({"container": "pg", "service": "db"}, "by itself"),
    ({"container": "pg", "project_src": "/srv/app"}, "by itself"),
])  # fmt: skip
def test_one_server_has_to_be_named(given: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        subject.check_choice({**CHOICE, **given})


@pytest.mark.parametrize("given", [{"container": "pg"}, {"project_src": "/srv/app", "service": "db"}])
def test_either_way_will_do(given: dict[str, str]) -> None:
    subject.check_choice({**CHOICE, **given})


def test_the_one_container_of_a_service() -> None:
    container = a_container()
    assert subject.of_service(a_project(container), "db") is container
    assert servers.serving(reached(container)) is container


def test_a_service_without_a_container_and_one_with_several() -> None:
    project = a_project(a_container(), a_container(name="app-db-2"))
    with pytest.raises(InvalidInput, match="never started") as caught:
        subject.of_service(project, "never")
    assert caught.value.next_command == "docker compose up -d never"
    with pytest.raises(InvalidInput, match="app-db-1, app-db-2"):
        subject.of_service(project, "db")


def test_a_container_that_is_not_there() -> None:
    engine: Any = FakeEngine(inspections=[None])
    with pytest.raises(InvalidInput, match="There is no container pg"):
        subject.by_name(engine, "pg")


@pytest.mark.parametrize("changes, words, follows", [
    ({"status": "exited", "pid": 0}, "does not run", "docker start app-db-1"),
    ({"status": "paused"}, "is paused", "docker unpause app-db-1"),
    ({"status": "restarting", "pid": 0}, "again and again", "docker logs --tail 50 app-db-1"),
    ({"image_ref": "redis:8"}, "no image of Postgres", "docker ps -a"),
])  # fmt: skip
def test_a_container_that_serves_no_postgres(changes: dict[str, Any], words: str, follows: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        servers.serving(reached(a_container(**changes)))
    assert caught.value.next_command == follows


def test_a_service_that_is_stopped_is_started_by_compose() -> None:
    with pytest.raises(InvalidInput) as caught:
        servers.serving(reached(a_container(status="exited", pid=0), a_project()), "db")
    assert caught.value.next_command == "docker compose start db"


@pytest.mark.parametrize("changes", [
    {"image_ref": "registry.example.org/db:1", "env": {"PG_MAJOR": "15"}},
    {"image_ref": "registry.example.org/db:1", "env": {"PGDATA": "/data"}},
])  # fmt: skip
def test_an_image_is_known_by_its_environment_too(changes: dict[str, Any]) -> None:
    assert servers.serving(reached(a_container(**changes))).pid


@pytest.mark.parametrize("broken", ["", "connect", "find_compose"])
def test_engine_and_compose_are_asked_beside_each_other(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    container, both = a_container(), threading.Barrier(2)

    def answering(call: str, answer: object) -> Callable[..., object]:
        def instead(*_args: Any, **_more: Any) -> object:
            both.wait(10)
            if call == broken:
                raise InvalidInput(f"no {call}")
            return answer

        return instead

    engine = FakeEngine()
    monkeypatch.setattr(subject, "connect", answering("connect", engine))
    monkeypatch.setattr(subject, "find_compose", answering("find_compose", None))
    monkeypatch.setattr(subject, "refuse_unsupported", lambda *_args: None)
    monkeypatch.setattr(subject, "observe_project", lambda *_args: a_project(container))
    known = {name: argument.get("default") for name, argument in subject.SUBJECT_ARGUMENTS.items()}
    asked = {**known, "project_src": "/srv/app", "service": "db"}
    if broken:
        with pytest.raises(InvalidInput, match=f"no {broken}"):
            subject.find(asked)
    else:
        assert subject.find(asked).container is container
