# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is decided from what was seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._heroku import planner
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.model import (
    Addon,
    Database,
    Maintenance,
    Process,
    service_from,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.planner import (
    CLOSED,
    EMPTIED,
    Former,
    Wanted,
    change_of,
    is_open_again,
    remembered,
    required_soon,
)

NOW = datetime(2026, 11, 27, 10, tzinfo=timezone.utc)
PLANS = ("essential-0", "standard-0", "standard-2", "standard-3")


def database(
    *,
    on: str = "standard-0",
    asked: str = "",
    status: str = "none",
    size: int = 1,
    leader: str | None = None,
    **more: Any,
) -> Database:
    served = "Unavailable" if status == "running" else "Available"
    raw = {
        "num_bytes": size << 30,
        "info": [{"name": "Plan", "values": [on]}, {"name": "Status", "values": [served]}],
    }
    addon = Addon("id", "postgresql-1", f"heroku-postgresql:{asked or on}", "shop")
    return Database(addon, service_from(raw), Maintenance(status=status, **more), leader=leader)


def formation(**quantities: int) -> dict[str, Process]:
    return {name: Process(quantity, "Standard-1X") for name, quantity in quantities.items()}


@pytest.mark.parametrize(
    "seen, request_, wait",
    [
        ({}, True, True),
        ({"status": "completed"}, True, True),
        ({"status": "pending", "reason": "routine"}, True, True),
        ({"asked": "standard-2", "status": "none"}, False, True),
        ({"asked": "standard-2", "status": "completed"}, False, True),
        ({"asked": "standard-2", "status": "preparing"}, False, True),
        ({"asked": "standard-2", "status": "running"}, False, True),
        ({"on": "standard-2", "status": "preparing"}, False, False),
        ({"on": "standard-2", "status": "pending"}, False, False),
        ({"on": "standard-2", "status": "completed"}, False, False),
        ({"on": "standard-2", "status": "none"}, False, False),
    ],
)
def test_whether_a_plan_is_asked_for_and_waited_for(seen: dict[str, Any], request_: bool, wait: bool) -> None:
    decided = change_of(database(**seen), Wanted("standard-2", PLANS))
    assert (decided.request, decided.wait, decided.blockers) == (request_, wait, ())


@pytest.mark.parametrize(
    "seen, plan, word",
    [
        ({"on": "essential-0"}, "standard-0", "pg:copy"),
        ({}, "essential-0", "pg:copy"),
        ({}, "standard-1", "There is no plan standard-1"),
        ({"on": "standard-2", "size": 65}, "standard-0", "holds 64.00 GB"),
        ({"status": "running"}, "standard-2", "not available"),
        ({"status": "ready"}, "standard-2", "has to be run before"),
        ({"status": "preparing", "asked": "standard-3"}, "standard-2", "a change to standard-3"),
        ({"status": "pending", "asked": "standard-3"}, "standard-2", "a change to standard-3"),
        ({"status": "exploded"}, "standard-2", "not known here"),
        ({"leader": ""}, "standard-2", "does not show"),
    ],
)
def test_what_forbids_a_change(seen: dict[str, Any], plan: str, word: str) -> None:
    decided = change_of(database(**seen), Wanted(plan, PLANS))
    assert word in " ".join(blocker.text for blocker in decided.blockers)
    assert f"BLOCKER: {decided.blockers[0].text}" in decided.text


@pytest.mark.parametrize(
    "leader, before, blocked",
    [
        ("standard-0", False, True),
        ("standard-0", True, False),
        ("standard-2", False, False),
        ("standard-3", False, False),
    ],
)
def test_a_follower_waits_for_its_leader_unless_told(leader: str, before: bool, blocked: bool) -> None:
    wanted = Wanted("standard-2", PLANS, database(on=leader), before)
    assert bool(change_of(database(leader="postgresql-0"), wanted).blockers) is blocked


@pytest.mark.parametrize("days, warned", [(2, True), (30, False)])
def test_it_warns_where_heroku_will_not_wait_much_longer(days: int, warned: bool) -> None:
    last = (NOW + timedelta(days=days)).isoformat()
    seen = database(asked="standard-2", status="ready", required_by=last)
    assert any(last in line for line in required_soon(seen, NOW)) is warned


@pytest.mark.parametrize("status, warned", [("pending", True), ("ready", True), ("completed", False), ("none", False)])
def test_a_maintenance_of_herokus_own_is_told_where_the_plan_is_reached(status: str, warned: bool) -> None:
    decided = change_of(database(on="standard-2", status=status), Wanted("standard-2"))
    assert any("Heroku's own" in line for line in decided.warnings) is warned


def test_a_plan_whose_size_is_not_known_is_let_through_with_a_warning() -> None:
    decided = change_of(database(), Wanted("premium-l-9", ("premium-l-9",)))
    assert decided.blockers == ()
    assert "not known here" in " ".join(decided.warnings)


BEFORE = Former(formation(web=2, worker=1, cron=0), False)


@pytest.mark.parametrize(
    "noted, begun, now, wanted",
    [
        (None, [], formation(web=2, worker=1, cron=0), {"web": 2, "worker": 1, "cron": 0}),
        # Killed before anything was scaled: what runs now is what counts.
        (BEFORE, [], formation(web=5, worker=0, cron=0), {"web": 5, "worker": 0, "cron": 0}),
        (BEFORE, [EMPTIED], formation(web=0, worker=0, cron=0), {"web": 2, "worker": 1, "cron": 0}),
        (BEFORE, [EMPTIED], formation(web=2, worker=1, cron=0), {"web": 2, "worker": 1, "cron": 0}),
        # Somebody scaled one of them up since.
        (BEFORE, [EMPTIED], formation(web=1, worker=0, cron=0), {"web": 1, "worker": 1, "cron": 0}),
        # A type that a release took away.
        (BEFORE, [EMPTIED], formation(web=0, cron=0), {"web": 2, "cron": 0}),
    ],
)
def test_a_crash_never_forgets_what_ran(
    noted: Former | None, begun: list[str], now: dict[str, Process], wanted: dict[str, int]
) -> None:
    found = remembered(noted, begun, Former(now, False)).formation
    assert {name: each.quantity for name, each in found.items()} == wanted


def test_what_is_remembered_otherwise_than_it_was_noted_is_told() -> None:
    assert planner.scaled_since("shop", BEFORE.formation, BEFORE.formation) == []
    web, worker = planner.scaled_since("shop", BEFORE.formation, formation(web=1, cron=0))
    assert "web of shop was scaled to 1 by somebody" in web
    assert "worker of shop was taken away" in worker


@pytest.mark.parametrize(
    "begun, now, wanted", [([], True, True), ([CLOSED], True, False), ([CLOSED], False, False), ([], False, False)]
)
def test_maintenance_mode_that_was_on_before_is_remembered(begun: list[str], now: bool, wanted: bool) -> None:
    assert remembered(BEFORE, begun, replace(BEFORE, maintenance=now)).maintenance is wanted


BOTH = (CLOSED, EMPTIED)


@pytest.mark.parametrize(
    "begun, was_on, is_on, now, opened",
    [
        (BOTH, False, False, formation(web=1, worker=0, cron=0), True),
        (BOTH, False, True, formation(web=2, worker=1, cron=0), False),
        (BOTH, False, False, formation(web=0, worker=0, cron=0), False),
        # Nothing was scaled yet: what runs is what ran.
        ((CLOSED,), False, False, formation(web=2, worker=1, cron=0), False),
        # Maintenance mode says nothing: it was on before, or it was not touched.
        (BOTH, True, True, formation(web=2, worker=3, cron=0), True),
        (BOTH, True, False, formation(web=2, worker=0, cron=0), False),
        ((EMPTIED,), False, False, formation(web=1, worker=0, cron=0), False),
        ((EMPTIED,), False, False, formation(web=1, worker=1, cron=0), True),
        ((EMPTIED,), False, True, formation(web=1, worker=1, cron=0), True),
        # A type that a release took away can run no more.
        ((EMPTIED,), False, False, formation(web=1, cron=0), True),
        ((EMPTIED,), False, False, formation(cron=1), False),
    ],
)
def test_when_an_app_counts_as_open_again(
    begun: tuple[str, ...], was_on: bool, is_on: bool, now: dict[str, Process], opened: bool
) -> None:
    former = replace(BEFORE, maintenance=was_on)
    assert is_open_again(former, begun, Former(now, is_on)) is opened


def test_an_app_that_ran_nothing_is_not_open_because_it_runs_nothing() -> None:
    former = Former(formation(web=0), False)
    assert not is_open_again(former, (EMPTIED,), former)


def test_only_what_stands_still_is_brought_back() -> None:
    updates = planner.to_restore(BEFORE.formation, formation(web=0, worker=4, cron=0))
    assert updates == [{"type": "web", "quantity": 2, "size": "Standard-1X"}]


def test_an_exact_formation_stops_what_it_does_not_name() -> None:
    wanted = {"web": Process(3, "standard-2x")}
    updates = planner.to_exact(wanted, formation(web=3, worker=1, cron=0))
    assert updates == [{"type": "web", "quantity": 3, "size": "standard-2x"}, {"type": "worker", "quantity": 0}]
    assert planner.to_exact({"web": Process(3)}, formation(web=3, cron=0)) == []


@pytest.mark.parametrize("day, weeks", [("2026-11-29", 0), ("2026-12-05", 0), ("2026-12-06", 1), ("2026-11-28", -1)])
def test_weeks_begin_on_sunday(day: str, weeks: int) -> None:
    scheduled = datetime(2026, 12, 2, 14, 30, tzinfo=timezone.utc)
    assert planner.weeks_until(scheduled, datetime.fromisoformat(day).replace(tzinfo=timezone.utc)) == weeks
