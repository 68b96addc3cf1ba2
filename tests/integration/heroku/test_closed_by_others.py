# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An app that is closed for something else, or for something that nobody here knows, is not opened by the way."""

from __future__ import annotations

import pytest

from tests.sandbox.heroku import AFTER

from .admin import APP, FORMATION, LEADER, Admin

STOP = "-m selfhost.stateful.heroku_app_formation -a 'app=shop state=stopped allow_ephemeral_journal=true {more}'"


def stop(admin: Admin) -> None:
    """Stop the app as an admin does by hand, for whatever it is."""
    url, place = admin.stand_in.url, admin.directory / "operations"
    more = f"operations_dir={place} api_url={url} data_api_url={url} poll_interval=0.01"
    admin.ansible("localhost " + STOP.format(more=more))


@pytest.mark.faults
def test_what_another_change_left_closed_is_not_gone_on_with(admin: Admin) -> None:
    other = "postgresql-reports-1"
    admin.world.add_database(other, APP, "REPORTS", "standard-0")
    assert admin.killed_at("stop", AFTER).code == -9
    for given in ({"heroku_postgres_plan_database": "REPORTS"}, {"heroku_postgres_plan_plan": "standard-4"}):
        refused = admin.play(**given).failed().said()
        assert "heroku-shop-heroku_app_formation-" in refused
        assert f"stopped it for {LEADER} to standard-2" in refused
        assert "state=restored operations_dir=" in refused
    elsewhere = admin.play("--check", heroku_postgres_plan_operations_dir=str(admin.directory / "elsewhere")).ok()
    assert "WARNING: THE APP IS IN MAINTENANCE MODE" in elsewhere.said()
    assert f"no journal in {admin.directory / 'elsewhere'}" in elsewhere.said()
    assert (admin.changed("plan"), admin.changed("start"), admin.changed("open")) == (1, 0, 0)
    admin.play("--tags", "prepare").ok()
    admin.check_open("standard-2")


@pytest.mark.faults
def test_an_app_that_somebody_stopped_stays_stopped(admin: Admin) -> None:
    admin.play("--tags", "prepare").ok()
    stop(admin)
    refused = admin.play().failed()
    assert "stopped it on its own, by somebody" in refused.said()
    assert sum(admin.quantities().values()) == 0
    admin.play("--tags", "prepare").failed()
    assert sum(admin.quantities().values()) == 0
    admin.paste(refused)
    assert admin.quantities() == FORMATION
    admin.play().ok()
    admin.check_open("standard-2")


@pytest.mark.faults
def test_what_nobody_knows_of_is_warned_of_and_stays_so(admin: Admin) -> None:
    admin.app.maintenance = True
    done = admin.play(heroku_postgres_plan_backup=False).ok().said()
    assert done.count(f"No journal in {admin.directory / 'operations'}") == 1
    assert "WARNING: THE APP IS IN MAINTENANCE MODE" in done
    assert "was found in maintenance mode, and STILL IS" in done
    assert admin.app.maintenance
    assert admin.quantities() == FORMATION
    assert admin.leader.serving == "standard-2"


@pytest.mark.faults
def test_a_run_that_was_killed_and_opened_by_hand_is_over(admin: Admin) -> None:
    assert admin.killed_at("stop", AFTER).code == -9
    by_hand = {"web": 3, "worker": 2, "cron": 0}
    with admin.stand_in.lock:
        admin.world.scale(admin.app, [{"type": name, "quantity": count} for name, count in by_hand.items()])
        admin.app.maintenance = False
    # Stopped once more since, on purpose.
    stop(admin)
    refused = admin.play("--tags", "prepare").failed()
    assert "stopped it on its own, by somebody" in refused.said()
    admin.paste(refused)
    assert admin.quantities() == by_hand
    admin.play(heroku_postgres_plan_backup=False).ok()
    assert admin.quantities() == by_hand
    assert not admin.app.maintenance
    assert admin.leader.serving == "standard-2"
