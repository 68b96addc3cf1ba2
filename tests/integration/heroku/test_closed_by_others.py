# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An app that is closed for something else, or for something that nobody here knows, is not opened by the way."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._heroku import planner
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.model import formation_of
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.planner import Former
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import DONE
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from tests.sandbox.heroku import AFTER, Fault, Request

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
def test_what_somebody_stops_while_it_is_prepared_stays_stopped(admin: Admin) -> None:
    url, place = admin.stand_in.url, admin.directory / "operations"
    more = f"operations_dir={place} api_url={url} data_api_url={url} poll_interval=0.01"
    hook = [str(Path(sys.executable).with_name("ansible")), "localhost", *shlex.split(STOP.format(more=more))]
    refused = admin.play(heroku_postgres_plan_before_hook=hook).failed().said()
    assert "stopped it on its own, by somebody" in refused
    assert "Nothing was closed. The before hook ran, and the after hook did not" in refused
    assert sum(admin.quantities().values()) == 0
    assert (admin.changed("stop"), admin.changed("start"), admin.changed("run")) == (1, 0, 0)


def stop_for_another(admin: Admin) -> None:
    """Stop the app as another change does, of which the journal knows."""
    former = Former(formation_of({kind: {"quantity": n} for kind, n in FORMATION.items()}), False)
    note = {"database": {"name": "postgresql-reports-1"}, "plan": "standard-2"}
    store = OperationStore(str(admin.directory / "operations"))
    journal = store.begin(planner.closing(APP, former, maintenance=True, note=note)).journal
    for step in (planner.CLOSED, planner.EMPTIED):
        journal.intent(step)
    journal.state(DONE)
    admin.app.maintenance = True
    admin.world.scale(admin.app, [{"type": kind, "quantity": 0} for kind in FORMATION])


def once_backups_are_asked_for(admin: Admin, act: Callable[[], None]) -> None:
    """Act then, once: it is the last question before the app is closed."""

    def watch(moment: str, request: Request) -> None:
        if moment == AFTER and request.path.endswith("/transfers"):
            admin.stand_in.watch = None
            with admin.stand_in.lock:
                act()

    admin.stand_in.watch = watch


@pytest.mark.faults
def test_what_another_stops_in_the_last_moment_is_not_opened_by_the_failure(admin: Admin) -> None:
    once_backups_are_asked_for(admin, lambda: stop_for_another(admin))
    failed = admin.play().failed()
    assert "shop is closed, and not for postgresql-leader-1 to standard-2" in failed.said()
    assert "It was left so, and the change of postgresql-leader-1 is as it was." in failed.said()
    assert sum(admin.quantities().values()) == 0
    assert admin.app.maintenance
    admin.paste(failed)
    assert admin.quantities() == FORMATION
    admin.play().ok()
    admin.check_open("standard-2")


@pytest.mark.faults
def test_what_another_stops_while_a_run_fails_is_not_opened_by_it(admin: Admin) -> None:
    """It had closed nothing yet."""

    def act() -> None:
        stop_for_another(admin)
        admin.stand_in.faults.append(Fault("/transfers$", status=422))

    once_backups_are_asked_for(admin, act)
    admin.stand_in.faults.append(Fault("/transfers$", kind="drop_after"))
    failed = admin.play().failed().said()
    assert "shop is closed, and not for postgresql-leader-1 to standard-2" in failed
    assert "OPEN again" not in failed
    assert sum(admin.quantities().values()) == 0
    assert admin.app.maintenance


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
def test_what_was_in_maintenance_mode_before_is_never_called_open(admin: Admin) -> None:
    # On since the app was looked at: nothing that was seen then says so.
    admin.watch("plan", AFTER, lambda: setattr(admin.app, "maintenance", True))
    admin.world.backup_fails = True
    failed = admin.play().failed().said()
    assert "is AS IT WAS FOUND, and NOT open: cron=0 web=2 worker=1 (maintenance mode is on)" in failed
    assert "heroku maintenance:off --app shop" in failed
    assert "OPEN again" not in failed
    admin.world.backup_fails = False
    assert admin.killed_at("run", AFTER).code == -9
    done = admin.play().ok().said()
    assert "WARNING: shop is as it was before it was stopped, and that is not open: maintenance mode is on" in done
    assert "heroku maintenance:off --app shop" in done
    assert admin.app.maintenance
    assert admin.quantities() == FORMATION


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


@pytest.mark.faults
def test_what_is_closed_after_a_run_that_was_killed_at_its_end_is_not_opened_by_its_journal(admin: Admin) -> None:
    assert admin.killed_at("open", AFTER).code == -9
    said = admin.play().ok().said()
    assert "noted that shop ran web=2 worker=1, and shop was opened since" in said
    admin.app.maintenance = True
    said = admin.play().ok().said()
    assert "UNFINISHED" not in said
    assert "WARNING: THE APP IS IN MAINTENANCE MODE" in said
    assert admin.app.maintenance
