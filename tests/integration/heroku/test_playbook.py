# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook as a user runs it, against a stand-in for Heroku, killed at every change that it asks for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.heroku import AFTER, BEFORE, Request

from .admin import APP, FOLLOWER, FORMATION, LEADER, Admin, admin_in

CHANGES = {
    "plan": ("PATCH", "/addons/"),
    "close": ("PATCH", "/apps/shop"),
    "stop": ("PATCH", "/formation"),
    "backup": ("POST", "/backups"),
    "run": ("POST", "/run"),
    "start": ("PATCH", "/formation"),
    "open": ("PATCH", "/apps/shop"),
}


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[Admin]:
    """Yield an admin of an app with one database on standard-0."""
    with admin_in(tmp_path) as made:
        yield made


def is_change(name: str, request: Request) -> bool:
    method, place = CHANGES[name]
    if request.method != method or not (request.path.endswith(place) or place in request.path):
        return False
    if name in ("close", "open"):
        return request.path == place and request.body == {"maintenance": name == "close"}
    if name in ("stop", "start"):
        return request.path.endswith(place) and (request.body["updates"][0]["quantity"] == 0) == (name == "stop")
    return True


def test_the_whole_way(admin: Admin) -> None:
    world = admin.world
    admin.app.services.append("scheduler")
    admin.app.config["REPORTS_DB"] = admin.leader.url
    world.add_database(FOLLOWER, APP, "HEROKU_POSTGRESQL_GRAY", "standard-0", leader=LEADER, behind=40)
    checked = admin.play("--check").ok()
    assert admin.changes() == []
    assert "Heroku Scheduler" in checked.said()
    assert "REPORTS_DB is a copy of the address" in checked.said()
    done = admin.play(heroku_postgres_plan_connections={"web": 250}).ok()
    admin.check_open("standard-2")
    assert world.databases[FOLLOWER].serving == "standard-2"
    said = done.said()
    assert "plan              standard-0          standard-2" in said
    assert "can open 500, which is TOO MANY" in said
    assert "backup            b001" in said
    order = [each.rsplit("/", 1)[-1] for each in admin.changes()[1:7]]
    assert order == ["shop", "formation", "backups", "run", "formation", "shop"]
    text = "".join(path.read_text() for path in admin.directory.rglob("*.log"))
    assert "s3cret" not in text
    assert world.key not in text


@pytest.mark.faults
def test_prepared_hours_before(admin: Admin) -> None:
    early = admin.play("--tags", "switch").failed()
    assert "is not prepared" in early.said()
    assert admin.changes() == []
    prepared = admin.play("--tags", "prepare").ok()
    assert admin.leader.maintenance.status == "ready"
    assert "waits for the switch" in prepared.said()
    assert len(admin.changes()) == 1
    admin.play("--tags", "switch").ok()
    admin.check_open("standard-2")
    asked = len(admin.changes())
    admin.play().ok()
    assert len(admin.changes()) == asked, "nothing is left to do"


@pytest.mark.parametrize(
    "name, moment",
    [
        pytest.param(name, moment, marks=() if (name, moment) in {("stop", AFTER)} else pytest.mark.faults)
        for name in CHANGES
        for moment in (BEFORE, AFTER)
    ],
)
def test_killed_at_a_change_the_next_run_ends_right(admin: Admin, name: str, moment: str) -> None:
    killed = admin.killed(lambda seen, request: seen == moment and is_change(name, request))
    assert killed.code == -9, killed.log
    # Whatever its tags: an app that was left closed is gone on with at once.
    closed = admin.quantities() != FORMATION or admin.app.maintenance
    admin.play("--tags", "prepare" if closed else "all").ok()
    admin.check_open("standard-2")
    for once in ("plan", "run"):
        assert len([each for each in admin.stand_in.changed() if is_change(once, each)]) == 1


@pytest.mark.faults
def test_a_backup_that_fails_opens_the_app_again(admin: Admin) -> None:
    admin.world.backup_fails = True
    failed = admin.play().failed()
    assert admin.quantities() == FORMATION
    assert not admin.app.maintenance
    assert admin.leader.serving == "standard-0"
    assert "is OPEN again: cron=0 web=2 worker=1" in failed.said()


@pytest.mark.faults
def test_a_changeover_without_end_leaves_the_app_closed_and_says_so(admin: Admin) -> None:
    admin.world.never_ends = True
    failed = admin.play(heroku_postgres_plan_maintenance_timeout=2).failed()
    assert "LEFT CLOSED" in failed.said()
    assert admin.app.maintenance
    assert sum(admin.quantities().values()) == 0
    admin.world.never_ends = False
    admin.play().ok()
    admin.check_open("standard-2")


@pytest.mark.faults
def test_a_key_that_expires_on_the_way_leaves_everything_as_it_is(admin: Admin) -> None:
    def expire(moment: str, request: Request) -> None:
        if moment == AFTER and is_change("backup", request):
            admin.world.key_expired = True

    admin.stand_in.watch = expire
    failed = admin.play(heroku_postgres_plan_retry_timeout=1).failed()
    admin.stand_in.watch = None
    assert "has expired" in failed.said()
    assert "LEFT AS IT IS" in failed.said()
    admin.world.key_expired = False
    admin.play().ok()
    admin.check_open("standard-2")


@pytest.mark.faults
def test_a_staging_app_goes_first(admin: Admin) -> None:
    admin.world.add_app("shop-staging", web=1)
    admin.world.add_database("postgresql-staging-1", "shop-staging", "DATABASE", "standard-0")
    admin.play(heroku_postgres_plan_staging_app="shop-staging").ok()
    admin.check_open("standard-2")
    assert admin.world.databases["postgresql-staging-1"].serving == "standard-2"
    runs = [each for each in admin.changes() if each.endswith("/run")]
    assert runs[0].split("/")[-2] == admin.world.databases["postgresql-staging-1"].id


@pytest.mark.faults
def test_left_to_the_window_the_app_is_not_closed(admin: Admin) -> None:
    given = {
        "heroku_postgres_plan_switch": "window",
        "heroku_postgres_plan_window_day": "tuesday",
        "heroku_postgres_plan_window_time": "02:30",
    }
    said = admin.play(**given).ok().said()
    assert "Left to the window" in said
    assert admin.leader.window == "Tuesdays 02:30 to 06:30 UTC"
    with admin.stand_in.lock:
        admin.world.advance(6 * 86400)
    admin.play(**given).ok()
    admin.check_open("standard-2")
    assert not [each for each in admin.changes() if each.endswith(("/formation", "/apps/shop"))]


@pytest.mark.faults
def test_hooks_run_around_the_closed_app(admin: Admin) -> None:
    told = admin.directory / "told"
    hook = admin.directory / "hook.yml"
    hook.write_text(f"- ansible.builtin.copy:\n    dest: {told}-before\n    content: before\n")
    admin.play(
        heroku_postgres_plan_before_hook=str(hook), heroku_postgres_plan_after_hook=["touch", f"{told}-after"]
    ).ok()
    assert Path(f"{told}-before").read_text() == "before"
    assert Path(f"{told}-after").exists()


@pytest.mark.faults
@pytest.mark.parametrize("killed", [False, True])
def test_the_after_hook_runs_once_whatever_happened(admin: Admin, killed: bool) -> None:
    told = admin.directory / "told"
    hooks = {
        "heroku_postgres_plan_before_hook": ["true"],
        "heroku_postgres_plan_after_hook": ["mkdir", str(told)],  # a second one would fail
    }
    if killed:
        admin.killed(lambda seen, request: seen == AFTER and is_change("open", request), **hooks)
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
