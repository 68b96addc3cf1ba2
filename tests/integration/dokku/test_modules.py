# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The small modules for dokku, each twice and in check mode, against what the real one was seen to do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.dokku.conftest import Ask
from tests.sandbox._base import IMAGE_PREFIX
from tests.sandbox.dokku.installation import Installation
from tests.sandbox.dokku.service import Service

pytestmark = pytest.mark.xdist_group("dokku-modules")

REPOSITORY = f"{IMAGE_PREFIX}/postgres"
Linked = tuple[str, Service]


@pytest.fixture(scope="module")
def linked(dokku: Installation) -> Linked:
    """Return an app whose worker writes all the time, and its service."""
    return dokku.create_linked("app", rows=100)


@pytest.mark.faults
def test_a_service_is_made_once_as_it_was_asked_for_and_destroyed_to_the_end(dokku: Installation, ask: Ask) -> None:
    name = dokku.name("made")
    wanted: dict[str, Any] = {
        "name": name, "image": REPOSITORY, "version": "17", "memory": "512", "shm_size": "96m",
        "config_options": "-c work_mem=7MB", "custom_env": {"ONE": "first", "TWO": "second"},
    }  # fmt: skip
    assert ask("postgres_service", check=True, **wanted)["actions"] == ["make"]
    assert dokku.dokku("postgres:exists", name, check=False).code != 0
    made = ask("postgres_service", **wanted)
    assert made["changed"]
    assert made["service"]["status"] == "running"
    assert made["service"]["settings"]["custom_env"] == ["ONE", "TWO"]
    assert dokku.sql(dokku.service(name), "SHOW work_mem") == "7MB"
    assert not ask("postgres_service", **wanted)["changed"]
    assert "dokku_postgres_image" in ask("postgres_service", **{**wanted, "version": "18"})["msg"]
    assert "another memory" in ask("postgres_service", **{**wanted, "memory": "1024"})["msg"]
    moved = ask("postgres_service", name=name, post_start_network="bridge")
    assert moved["actions"] == ["set post_start_network"]
    assert not ask("postgres_service", name=name, post_start_network="bridge")["changed"]
    with dokku.fault("busybox-missing"):
        assert ask("postgres_service", check=True, name=name, state="absent")["changed"]
        assert ask("postgres_service", name=name, state="absent")["service"] == {}
    assert not dokku.service(name).root.exists()
    assert not ask("postgres_service", name=name, state="absent")["changed"]


@pytest.mark.faults
def test_a_service_that_was_destroyed_half_is_destroyed_to_the_end(dokku: Installation, ask: Ask) -> None:
    service = dokku.create_service("half")
    with dokku.fault("busybox-missing"):
        dokku.dokku("postgres:destroy", service.name, "--force", check=False)
    assert service.data.is_dir()
    assert ask("postgres_service", name=service.name, state="absent")["changed"]
    assert not service.root.exists()


def test_what_cannot_be_made_is_said_before_anything_is(dokku: Installation, ask: Ask) -> None:
    dots = ask("postgres_service", name="blog-17.2", image=REPOSITORY, version="17")
    assert "a dot is not" in dots["msg"]
    pulled = ask("postgres_service", name=dokku.name("none"), image=REPOSITORY, version="99")
    assert pulled["next_command"] == f"docker pull {REPOSITORY}:99"
    assert dokku.dokku("postgres:exists", dokku.name("none"), check=False).code != 0


@pytest.mark.faults
def test_a_link_is_made_once_and_leaves_nothing(dokku: Installation, ask: Ask, linked: Linked) -> None:
    app, old = linked
    new = dokku.create_service("new")
    dokku.seed(new, 1)
    wanted = {"app": app, "service": new.name, "primary": True}
    before = dokku.containers(app)
    assert ask("postgres_link", check=True, **wanted)["actions"][0] == "link"
    assert dokku.containers(app) == before
    made = ask("postgres_link", **wanted)
    assert made["actions"][-1] == "restart"
    assert dokku.config(app)["DATABASE_URL"] == new.dsn()
    assert {each["variable"]: each["stale"] for each in made["variables"]}["DATABASE_URL"] is False
    assert old.dsn() not in json.dumps(made)
    dokku.wait_writing(app)
    assert dokku.acknowledged(app)[-1].host == new.hostname
    started = dokku.containers(app)
    assert not ask("postgres_link", **wanted)["changed"]
    # A scheme that was changed hides the old one from the plugin.
    dokku.dokku("config:set", "--no-restart", app, "POSTGRES_DATABASE_SCHEME=postgis")
    gone = ask("postgres_link", app=app, service=old.name, state="absent", restart=False)
    assert gone["actions"][0] == "unlink"
    assert [each for each in gone["variables"] if each["service"] == old.name] == []
    assert not ask("postgres_link", app=app, service=old.name, state="absent")["changed"]
    assert old.container not in dokku.dokku("docker-options:report", app).out
    turned = ask("postgres_link", app=app, service=new.name, scheme="", restart=False)
    assert turned["actions"] == ["unset POSTGRES_DATABASE_SCHEME"]
    assert dokku.containers(app) == started
    assert "linked to it" in ask("postgres_service", name=new.name, state="absent")["msg"]
    ask("postgres_link", app=app, service=old.name, primary=True)
    ask("postgres_link", app=app, service=new.name, state="absent")
    dokku.dokku("postgres:destroy", new.name, "--force")


@pytest.mark.faults
def test_an_app_that_does_not_come_back_is_a_failure(dokku: Installation, ask: Ask, linked: Linked) -> None:
    app, service = linked
    with dokku.fault("app-does-not-start", app):
        answer = ask("postgres_link", app=app, service=service.name, alias="GEO")
        assert answer["failed"]
        assert "ps:restart" in answer["msg"]
    assert ask("postgres_link", app=app, service=service.name, alias="GEO")["changed"] is False


def test_variables_that_point_at_nothing_are_named(dokku: Installation, ask: Ask, linked: Linked) -> None:
    app, service = linked
    lost = f"postgis://postgres:hush@dokku-postgres-{dokku.name('lost')}:5432/lost"
    dokku.dokku("config:set", "--no-restart", app, f"DOKKU_POSTGRES_TEAL_URL={lost}")
    found = ask("postgres_info")
    stale = [each["variable"] for each in found["apps"][app]["variables"] if each["stale"]]
    assert stale == ["DOKKU_POSTGRES_TEAL_URL"]
    there = found["services"][service.name]
    assert (there["status"], there["links"], there["dsn_host"]) == ("running", [app], service.hostname)
    assert there["size_bytes"] > 1_000_000
    assert service.read("PASSWORD") not in json.dumps(found)
    assert "hush" not in json.dumps(found)
    assert ask("postgres_link", app=app, service=service.name, restart=False)["actions"] == [
        "unset DOKKU_POSTGRES_TEAL_URL"
    ]


@pytest.mark.faults
def test_the_page_is_there_by_the_report_and_not_by_the_exit_code(
    dokku: Installation, ask: Ask, linked: Linked
) -> None:
    app, _service = linked
    assert ask("app_maintenance", check=True, app=app, enabled=True)["changed"]
    assert ask("app_maintenance", app=app, enabled=True)["changed"]
    assert not ask("app_maintenance", app=app, enabled=True)["changed"]
    assert ask("app_maintenance", app=app, enabled=False)["enabled"] is False
    assert not ask("app_maintenance", app=app, enabled=False)["changed"]
    assert "no app" in ask("app_maintenance", app=dokku.name("none"), enabled=True)["msg"]
