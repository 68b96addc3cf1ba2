# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook is killed, and run again: dynos and maintenance mode end right, and nothing is changed twice."""

from __future__ import annotations

import sys

import pytest

from tests.sandbox.heroku import AFTER, BEFORE, Request

from .admin import APP, FOLLOWER, FORMATION, LEADER, Admin, is_change

pytestmark = pytest.mark.faults
ON_THE_WAY = ("plan", "close", "stop", "backup", "run", "start", "open")
MOMENTS = (BEFORE, AFTER)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", ON_THE_WAY)
def test_at_a_change(admin: Admin, name: str, moment: str) -> None:
    killed = admin.killed_at(name, moment)
    assert killed.code == -9, killed.log
    assert admin.changed(name) == (moment == AFTER), "it is dropped, or it is carried out"
    # Whatever its tags: an app that was left closed is gone on with at once.
    closed = admin.quantities() != FORMATION or admin.app.maintenance
    again = admin.play("--tags", "prepare" if closed else "all").ok()
    admin.check_open("standard-2")
    for once in ("plan", "run"):
        assert admin.changed(once) == 1, once
    assert len(admin.world.backups) <= 1
    # Also where the first run had opened the app, and nothing was left but to compare.
    assert "plan              standard-0          standard-2" in again.said()
    assert admin.notes() == []


def test_while_the_changeover_is_watched(admin: Admin) -> None:
    def watching(seen: str, request: Request) -> bool:
        return seen == BEFORE and request.method == "GET" and admin.leader.maintenance.status == "running"

    assert admin.killed(watching).code == -9
    assert sum(admin.quantities().values()) == 0
    admin.play("--tags", "prepare").ok()
    admin.check_open("standard-2")
    assert admin.changed("run") == 1


@pytest.mark.parametrize("moment", MOMENTS)
def test_at_the_window(admin: Admin, moment: str) -> None:
    given = {
        "heroku_postgres_plan_switch": "window",
        "heroku_postgres_plan_window_day": "tuesday",
        "heroku_postgres_plan_window_time": "02:30",
    }
    assert admin.killed_at("window", moment, **given).code == -9
    assert "Left to the window" in admin.play(**given).ok().said()
    assert admin.leader.window == "Tuesdays 02:30 to 06:30 UTC"
    assert (admin.changed("plan"), admin.changed("window")) == (1, 1)
    (kept,) = admin.notes()
    assert '"plan": "standard-0"' in kept.read_text()


@pytest.mark.parametrize("moment", MOMENTS)
def test_while_a_failed_run_opens_the_app_again(admin: Admin, moment: str) -> None:
    admin.world.backup_fails = True
    assert admin.killed_at("start", moment).code == -9
    assert admin.app.maintenance
    admin.world.backup_fails = False
    admin.play().ok()
    admin.check_open("standard-2")
    assert (admin.changed("plan"), admin.changed("run")) == (1, 1)


def test_at_a_staging_app(admin: Admin) -> None:
    admin.world.add_app("shop-staging", web=1)
    staging = admin.world.add_database("postgresql-staging-1", "shop-staging", "DATABASE", "standard-0")
    given = {"heroku_postgres_plan_staging_app": "shop-staging"}
    assert admin.killed_at("run", AFTER, **given).code == -9
    assert [each.maintenance for each in admin.world.apps.values()] == [False, True]
    assert admin.leader.plan == "standard-0"
    admin.play(**given).ok()
    admin.check_open("standard-2")
    assert staging.serving == "standard-2"
    assert [each.maintenance for each in admin.world.apps.values()] == [False, False]
    assert admin.world.apps["shop-staging"].formation["web"]["quantity"] == 1
    assert admin.changed("run") == 2


@pytest.mark.parametrize("name, moment", [("plan", BEFORE), ("plan", AFTER), ("run", BEFORE), ("run", AFTER)])
def test_at_a_follower(admin: Admin, name: str, moment: str) -> None:
    admin.on_plan()
    follower = admin.world.add_database(FOLLOWER, APP, "HEROKU_POSTGRESQL_GRAY", "standard-0", leader=LEADER)
    assert admin.killed_at(name, moment).code == -9
    assert follower.serving == "standard-0"
    admin.play().ok()
    assert follower.serving == "standard-2"
    admin.check_open("standard-2")
    assert (admin.changed("plan"), admin.changed("run"), admin.changed("close")) == (1, 1, 0)


def test_between_the_after_hook_and_its_note(admin: Admin) -> None:
    told = admin.directory / "told"
    # Its own request is the moment: the note comes before the next one of the play.
    ask = f"{sys.executable} -c 'import urllib.request; urllib.request.urlopen(\"{admin.stand_in.url}/hook\")'"
    hook = ["sh", "-c", f"echo >>{told}; {ask} || true"]
    hooks = {"heroku_postgres_plan_after_hook": hook, "heroku_postgres_plan_backup": False}
    assert admin.killed(lambda seen, request: told.exists(), **hooks).code == -9
    admin.play(**hooks).ok()
    # It ran, and nobody knew that: once more, and then never again.
    assert len(told.read_text()) == 2
    admin.play(**hooks).ok()
    assert len(told.read_text()) == 2
    assert [each for each in admin.stand_in.changed() if is_change("close", each)][1:] == []
