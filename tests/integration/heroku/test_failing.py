# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes wrong at Heroku, or on the way: the app is open in the end, or the last lines say how it is opened."""

from __future__ import annotations

import pytest

from tests.sandbox.heroku import AFTER, BEFORE, Fault, Request

from .admin import FORMATION, Admin, is_change


@pytest.mark.faults
def test_lost_and_late_answers_are_no_failure(admin: Admin) -> None:
    admin.world.timing.shown = 200
    lost, late = {"kind": "drop_after"}, {"status": 429, "headers": {"Retry-After": "1"}, "times": 2}
    for path, method, fault in (
        ("/addons/", "PATCH", lost),
        ("^/apps/shop$", "PATCH", lost),
        ("/formation$", "PATCH", lost),
        ("/backups$", "POST", lost),
        ("/run$", "POST", lost),
        ("/formation$", "GET", late),
        ("/data/maintenances/", "GET", {"status": 503, "times": 2}),
        ("/client/v11/databases/", "GET", {"kind": "drop_before", "times": 2}),
    ):
        admin.stand_in.break_next(path, method=method, **fault)
    admin.play().ok()
    admin.check_open("standard-2")
    assert all(each.times == 0 for each in admin.stand_in.faults)
    for once in ("plan", "close", "stop", "backup", "run", "start", "open"):
        assert admin.changed(once) == 1, once


@pytest.mark.faults
def test_nothing_is_closed_for_what_cannot_be(admin: Admin) -> None:
    said = admin.play(heroku_postgres_plan_app="nosuch").failed().said()
    assert "404" in said
    assert "Heroku knows nothing by that name" in said
    admin.stand_in.break_next("/addons/", method="PATCH", status=503)
    said = admin.play("--tags", "prepare", heroku_postgres_plan_prepare_timeout=1).failed().said()
    assert "is still asked to be on standard-0" in said
    admin.world.key_expired = True
    said = admin.play().failed().said()
    assert "has expired" in said
    assert admin.changes() == []


@pytest.mark.faults
def test_a_backup_that_fails_opens_the_app_again(admin: Admin) -> None:
    admin.world.backup_fails = True
    failed = admin.play("-vvv").failed()
    assert admin.quantities() == FORMATION
    assert not admin.app.maintenance
    assert admin.leader.serving == "standard-0"
    assert "is OPEN again: cron=0 web=2 worker=1" in failed.said()
    assert "The backup b001" in failed.said()
    # The key of a variable, in place of one of the environment.
    failed = admin.play("-vvv", heroku_postgres_plan_api_key=admin.world.key).failed()
    assert "is OPEN again: cron=0 web=2 worker=1" in failed.said()


@pytest.mark.faults
def test_answers_lost_while_it_runs_leave_nothing_closed(admin: Admin) -> None:
    """More of them than are waited for, and the changeover ends a while later."""
    seen: list[str] = []

    def watch(moment: str, request: Request) -> None:
        if moment == AFTER and is_change("run", request):
            admin.world.tick = 0
            admin.stand_in.faults.append(Fault("/data/maintenances/", status=500, times=1_000_000))
        elif moment == BEFORE and admin.world.tick == 0 and request.path.startswith("/client/v11/databases/"):
            # Asked by the failure path alone: the changeover asks of its maintenance first, and fails.
            seen.append(request.path)
            if len(seen) == 3:
                admin.stand_in.faults.clear()
            if len(seen) == 5:
                admin.world.tick = 20

    admin.stand_in.watch = watch
    failed = admin.play(heroku_postgres_plan_retry_timeout=1).failed()
    admin.stand_in.watch = None
    assert "/data/maintenances/" in failed.said()
    assert "500" in failed.said()
    assert "is OPEN again: cron=0 web=2 worker=1" in failed.said()
    admin.check_open("standard-2")
    compared = admin.play().ok()
    assert "plan              standard-0          standard-2" in compared.said()
    assert admin.changed("close") == 1


@pytest.mark.faults
def test_a_changeover_without_end_leaves_the_app_closed_and_says_so(admin: Admin) -> None:
    admin.world.never_ends = True
    failed = admin.play(heroku_postgres_plan_maintenance_timeout=2).failed()
    assert "LEFT CLOSED" in failed.said()
    assert "Next:               ansible localhost -m selfhost.stateful.heroku_postgres_info" in failed.said()
    assert str(admin.directory / "operations") in failed.said()
    assert admin.app.maintenance
    assert sum(admin.quantities().values()) == 0
    admin.world.never_ends = False
    admin.play().ok()
    admin.check_open("standard-2")


@pytest.mark.faults
def test_a_changeover_that_does_not_begin_closes_nothing_for_good(admin: Admin) -> None:
    admin.world.never_begins = True
    failed = admin.play(heroku_postgres_plan_maintenance_timeout=2, heroku_postgres_plan_backup=False).failed()
    assert "has not begun after 2 s" in failed.said()
    assert "is OPEN again: cron=0 web=2 worker=1" in failed.said()
    assert "Heroku may STILL BEGIN the changeover" in failed.said()
    assert admin.quantities() == FORMATION
    assert not admin.app.maintenance


@pytest.mark.faults
def test_a_changeover_that_falls_back_opens_the_app(admin: Admin) -> None:
    admin.world.falls_back = True
    failed = admin.play().failed()
    assert "began, and is pending now" in failed.said()
    assert "is OPEN again: cron=0 web=2 worker=1" in failed.said()
    assert admin.quantities() == FORMATION
    assert not admin.app.maintenance
    assert admin.leader.serving == "standard-0"


@pytest.mark.faults
def test_a_key_that_expires_on_the_way_leaves_everything_as_it_is(admin: Admin) -> None:
    admin.watch("backup", AFTER, lambda: setattr(admin.world, "key_expired", True))
    failed = admin.play(heroku_postgres_plan_retry_timeout=1).failed()
    assert "has expired" in failed.said()
    assert "LEFT AS IT IS" in failed.said()
    assert "Heroku did not say whether the database serves" in failed.said()
    admin.world.key_expired = False
    admin.paste(failed)
    assert admin.quantities() == FORMATION
    assert not admin.app.maintenance


@pytest.mark.faults
def test_a_heroku_that_is_silent_is_asked_for_the_time_that_is_given(admin: Admin) -> None:
    silent = Fault("^/(apps|client|data|addons|actions)", status=503, times=1_000_000)
    admin.watch("backup", AFTER, lambda: admin.stand_in.faults.append(silent))
    failed = admin.play(heroku_postgres_plan_retry_timeout=8, heroku_postgres_plan_maintenance_timeout=5).failed()
    # By their number it would be six, of eight seconds each.
    assert [each["attempts"] for each in failed.ran("heroku_postgres_info") if each.get("attempts")] == [1]
    assert "Heroku did not say whether the database serves" in failed.said()
    assert "shop is opened again once postgresql-leader-1 is seen Available" in failed.said()
    admin.stand_in.faults.clear()
    admin.paste(failed)
    assert admin.quantities() == FORMATION


@pytest.mark.faults
def test_an_app_that_cannot_be_opened_is_told_from_a_database_that_is_away(admin: Admin) -> None:
    refused = Fault("/formation$", method="PATCH", status=422, body='{"message": "Not enough dynos."}', times=1_000_000)
    admin.watch("run", AFTER, lambda: admin.stand_in.faults.append(refused))
    failed = admin.play().failed()
    assert "the database serves, and to open the app failed" in failed.said()
    assert "Not enough dynos." in failed.said()
    assert admin.app.maintenance
    admin.stand_in.faults.clear()
    admin.paste(failed)
    admin.check_open("standard-2")
    assert "plan              standard-0          standard-2" in admin.play().ok().said()


@pytest.mark.faults
def test_dynos_that_never_come_up_are_told(admin: Admin) -> None:
    admin.app.never_up = True
    done = admin.play(heroku_postgres_plan_dyno_timeout=2, heroku_postgres_plan_backup=False).ok()
    assert "WARNING: shop is scaled to web=2 worker=1, and not all of it is up" in done.said()
    admin.check_open("standard-2")


@pytest.mark.faults
def test_a_changeover_that_heroku_begins_during_the_backup_is_watched(admin: Admin) -> None:
    admin.watch("backup", AFTER, lambda: admin.world.begin(admin.leader))
    done = admin.play().ok()
    assert "plan              standard-0          standard-2" in done.said()
    admin.check_open("standard-2")
    assert admin.changed("run") == 0
