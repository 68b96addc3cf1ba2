# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook as a user runs it, against a stand-in for Heroku."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.sandbox.heroku import AFTER
from tests.sandbox.heroku_world import GB, MB, Running

from .admin import APP, FOLLOWER, FORMATION, LEADER, Admin


def test_the_whole_way(admin: Admin) -> None:
    world = admin.world
    admin.app.services.append("scheduler")
    admin.app.config["REPORTS_DB"] = admin.leader.url
    admin.leader.size = 30 * GB
    world.add_database(FOLLOWER, APP, "HEROKU_POSTGRESQL_GRAY", "standard-0", leader=LEADER, behind=40)
    connections = {"heroku_postgres_plan_connections": {"web": 250}}
    checked = admin.play("--check", **connections).ok().said()
    assert admin.changes() == []
    assert "Heroku Scheduler" in checked
    assert "REPORTS_DB is a copy of the address" in checked
    assert "databases up to 20 GB" in checked
    assert f"followers   {FOLLOWER}: after it, one by one" in checked
    assert "12 of 120 on standard-0; the dynos can open 500" in checked
    admin.leader.size = 242 * MB
    said = admin.play(**connections).ok().said()
    admin.check_open("standard-2")
    assert world.databases[FOLLOWER].serving == "standard-2"
    assert "plan              standard-0          standard-2" in said
    assert "can open 500, which is TOO MANY" in said
    assert "backup            b001" in said
    assert "changeover        " in said
    assert "does not say how long" not in said
    order = [each.rsplit("/", 1)[-1] for each in admin.changes()[1:7]]
    assert order == ["shop", "formation", "backups", "run", "formation", "shop"]
    assert admin.notes() == []


@pytest.mark.faults
def test_prepared_hours_before(admin: Admin) -> None:
    told = admin.directory / "told"
    hook = admin.directory / "hook.yml"
    hook.write_text(f"- ansible.builtin.copy:\n    dest: {told}-before\n    content: before\n")
    hooks = {
        "heroku_postgres_plan_before_hook": str(hook),
        "heroku_postgres_plan_after_hook": ["touch", f"{told}-after"],
    }
    early = admin.play("--tags", "switch").failed()
    assert "is not prepared" in early.said()
    neither = admin.play("--skip-tags", "prepare,switch").ok()
    assert "NOTHING IS DONE" in neither.said()
    assert admin.changes() == []
    prepared = admin.play("--skip-tags", "switch", **hooks).ok()
    assert admin.leader.maintenance.status == "ready"
    assert "waits for the switch" in prepared.said()
    assert len(admin.changes()) == 1
    assert not Path(f"{told}-before").exists()
    admin.play("--tags", "switch", **hooks).ok()
    admin.check_open("standard-2")
    assert Path(f"{told}-before").read_text() == "before"
    assert Path(f"{told}-after").exists()
    asked = len(admin.changes())
    again = admin.play().ok()
    assert len(admin.changes()) == asked, "nothing is left to do"
    assert "before              after" not in again.said()


@pytest.mark.faults
def test_what_is_left_out_is_left_out(admin: Admin) -> None:
    admin.world.add_database(FOLLOWER, APP, "HEROKU_POSTGRESQL_GRAY", "standard-0", leader=LEADER)
    admin.app.services.append("scheduler")
    admin.app.one_off.append("run.1234")
    done = admin.play(
        heroku_postgres_plan_backup=False,
        heroku_postgres_plan_followers=False,
        # There is no terminal to press a key at: nothing is waited for, which the manual says.
        heroku_postgres_plan_pause=True,
    ).ok()
    admin.check_open("standard-2")
    assert admin.world.databases[FOLLOWER].plan == "standard-0"
    assert admin.world.backups == []
    assert "backup            none in this run" in done.said()
    assert "run.1234 of shop run beside the formation" in done.said()
    assert "not interactive" in done.log


@pytest.mark.faults
def test_a_staging_app_goes_first(admin: Admin) -> None:
    admin.world.add_app("shop-staging", web=1)
    admin.world.add_database("postgresql-staging-1", "shop-staging", "DATABASE", "standard-0")
    refused = admin.play(heroku_postgres_plan_staging_app="shop-staging", heroku_postgres_plan_switch="window").failed()
    assert "days before shop-staging has changed" in refused.said()
    assert admin.changes() == []
    admin.play(heroku_postgres_plan_staging_app="shop-staging").ok()
    admin.check_open("standard-2")
    assert admin.world.databases["postgresql-staging-1"].serving == "standard-2"
    runs = [each for each in admin.changes() if each.endswith("/run")]
    assert runs[0].split("/")[-2] == admin.world.databases["postgresql-staging-1"].id


@pytest.mark.faults
def test_a_staging_app_on_the_database_of_the_other_is_refused(admin: Admin) -> None:
    admin.world.add_app("shop-staging", web=1)
    given = {"heroku_postgres_plan_staging_app": "shop-staging", "heroku_postgres_plan_database": LEADER}
    assert "is no database of the app shop-staging" in admin.play(**given).failed().said()
    admin.world.attach(admin.leader, "shop-staging", "SHOP_DATABASE")
    refused = admin.play(**given).failed().said()
    assert f"{LEADER} is attached to shop, shop-staging: the app shop-staging, which goes first" in refused
    assert admin.changes() == []


@pytest.mark.faults
def test_left_to_the_window_the_app_is_not_closed_and_both_are_compared(admin: Admin) -> None:
    admin.world.add_database(FOLLOWER, APP, "HEROKU_POSTGRESQL_GRAY", "standard-0", leader=LEADER)
    given = {
        "heroku_postgres_plan_switch": "window",
        "heroku_postgres_plan_window_day": "tuesday",
        "heroku_postgres_plan_window_time": "02:30",
    }
    said = admin.play(**given).ok().said()
    assert "Left to the window" in said
    assert "goes on with the followers, which are not touched before" in said
    assert f"Followers come once {LEADER} is on standard-2" in said
    assert admin.leader.window == "Tuesdays 02:30 to 06:30 UTC"
    (kept,) = admin.notes()
    assert str(kept) in said
    with admin.stand_in.lock:
        admin.world.advance(6 * 86400)
    compared = admin.play(**given).ok().said()
    admin.check_open("standard-2")
    assert "plan              standard-0          standard-2" in compared
    assert "changeover        90.0 s" in compared
    assert admin.world.databases[FOLLOWER].serving == "standard-2"
    assert admin.notes() == []
    assert not [each for each in admin.changes() if each.endswith(("/formation", "/apps/shop"))]


@pytest.mark.faults
def test_a_maintenance_of_the_past_is_not_told_as_the_change(admin: Admin) -> None:
    ended = admin.world.now - timedelta(days=30)
    admin.leader.maintenance = Running(status="completed", scheduled_for=ended, started_at=ended, completed_at=ended)
    admin.world.timing.recorded = 86400
    said = admin.play(heroku_postgres_plan_switch="window", heroku_postgres_plan_prepare_timeout=2).ok().said()
    assert f"The change of {LEADER} is asked for, and Heroku shows no maintenance of it yet." in said
    assert "Heroku runs it once it is prepared" in said
    assert str(ended.date()) not in said.partition("The change of")[2]


@pytest.mark.faults
@pytest.mark.parametrize("killed", [False, True])
def test_the_after_hook_runs_once_whatever_happened(admin: Admin, killed: bool) -> None:
    told = admin.directory / "told"
    hooks = {
        "heroku_postgres_plan_before_hook": ["true"],
        "heroku_postgres_plan_after_hook": ["mkdir", str(told)],  # a second one would fail
    }
    if killed:
        opened = admin.killed_at("open", AFTER, **hooks)
        assert opened.code == -9
        assert not told.exists()
        admin.play(**hooks).ok()
        assert told.exists()
        admin.check_open("standard-2")
    else:
        admin.world.backup_fails = True
        admin.play(**hooks).failed()
        assert told.exists()
        admin.world.backup_fails = False
        told.rmdir()
    asked = len(admin.changes())
    admin.play("--tags", "prepare", **hooks).ok()
    assert len(admin.changes()) == asked
    assert told.exists() is killed
    assert admin.quantities() == FORMATION
