# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Maintenances at a Heroku that breaks off, is slow, falls back and never ends."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku import look, maintaining
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.window import Window, window_from
from tests.sandbox.heroku import Request
from tests.sandbox.heroku_world import Running
from tests.support.heroku_lab import APP, LEADER, Lab


def complete(lab: Lab, *, limit: float = 1800, open_app: bool = False, check: bool = False) -> dict[str, Any]:
    return maintaining.complete(lab.heroku, APP, "DATABASE_URL", lab.patience(limit), open_app=open_app, check=check)


def schedule(lab: Lab, *, window: tuple[str, str] | None = None, week: str = "", check: bool = False) -> dict[str, Any]:
    wanted = window_from(*window) if window else None
    return maintaining.schedule(lab.heroku, APP, LEADER, lab.patience(), window=wanted, week=week, check=check)


def begins_after(lab: Lab, seconds: float) -> None:
    """Have the maintenance begin later than it is asked for."""
    asked = lab.world.now

    def watch(_moment: str, _request: Request) -> None:
        if lab.leader.maintenance.status == "ready" and lab.world.now - asked >= timedelta(seconds=seconds):
            lab.world.begin(lab.leader)

    lab.stand_in.watch = watch


def is_followed_by_another(lab: Lab, *, keeps_completed_at: bool) -> None:
    """Have another maintenance be pending at once where one is completed."""

    def watch(_moment: str, _request: Request) -> None:
        ended = lab.leader.maintenance
        if ended.status == "completed":
            kept = ended.completed_at if keeps_completed_at else None
            lab.leader.maintenance = Running(status="pending", completed_at=kept, reason="routine")

    lab.stand_in.watch = watch


def test_what_is_ready_is_run_to_its_end(lab: Lab) -> None:
    lab.make_ready()
    assert complete(lab, check=True)["changed"]
    result = complete(lab)
    assert (result["changed"], result["status"]) == (True, "completed")
    assert 70 <= result["duration_seconds"] < 130
    assert lab.leader.serving == "standard-2"
    assert complete(lab)["changed"] is False
    assert look.database_of(lab.heroku, APP, LEADER).service.plan == "standard-2"


def test_what_runs_already_is_waited_for(lab: Lab) -> None:
    lab.make_ready()
    lab.world.run_maintenance(lab.leader)
    assert complete(lab)["status"] == "completed"
    assert lab.stand_in.changes() == []


def test_an_open_app_is_refused_unless_told(lab: Lab) -> None:
    lab.make_ready()
    lab.app.maintenance = False
    with pytest.raises(InvalidInput, match="not in maintenance mode"):
        complete(lab)
    assert complete(lab, open_app=True)["status"] == "completed"


def test_what_is_not_ready_is_refused(lab: Lab) -> None:
    lab.world.change_plan(lab.leader, "standard-2")
    with pytest.raises(InvalidInput, match="can be run once it is ready"):
        complete(lab)


@pytest.mark.parametrize("kind", ["drop_after", "drop_before"])
def test_a_run_whose_answer_is_lost_is_read_back(lab: Lab, kind: str) -> None:
    lab.make_ready()
    lab.stand_in.break_next("/run$", kind)
    if kind == "drop_before":
        with pytest.raises(StatefulError, match="has not begun after 1800 s: it is ready") as caught:
            complete(lab)
        assert "MAY STILL BEGIN" in caught.value.state
        assert caught.value.facts["may_begin"]
        assert caught.value.safe_to_rerun
    assert complete(lab)["status"] == "completed"
    assert lab.leader.serving == "standard-2"


@pytest.mark.parametrize(
    "fault", [{"kind": "answer", "status": 200, "body": "{}"}, {"kind": "drop_before"}, {"status": 504}]
)
def test_one_that_begins_long_after_it_was_asked_for_is_waited_for(lab: Lab, fault: dict[str, Any]) -> None:
    lab.make_ready()
    lab.stand_in.break_next("/run$", **fault)
    begins_after(lab, 300)
    assert complete(lab)["status"] == "completed"
    assert len(lab.stand_in.changes()) == 1


def test_one_that_was_refused_is_not_waited_for_long(lab: Lab) -> None:
    lab.make_ready()
    lab.stand_in.break_next("/run$", status=422, body='{"id": "invalid_params", "message": "Not now."}')
    before = lab.clock()
    with pytest.raises(StatefulError, match=r"Not now.* did not begin") as caught:
        complete(lab)
    assert lab.clock() - before < 60, "the app is closed"
    assert "its maintenance is ready" in caught.value.state
    assert caught.value.facts["may_begin"] is False


def test_one_that_another_began_meanwhile_is_waited_for(lab: Lab) -> None:
    lab.make_ready()
    lab.stand_in.break_next("/run$", status=422)
    begins_after(lab, 0)
    assert complete(lab)["status"] == "completed"


@pytest.mark.parametrize("keeps_completed_at", [True, False])
def test_one_that_is_followed_by_another_at_once_is_completed(lab: Lab, keeps_completed_at: bool) -> None:
    lab.make_ready()
    is_followed_by_another(lab, keeps_completed_at=keeps_completed_at)
    result = complete(lab)
    assert (result["changed"], result["status"], lab.leader.serving) == (True, "pending", "standard-2")
    assert bool(result["completed_at"]) is keeps_completed_at
    assert any("its next maintenance is pending" in line for line in result["warnings"])


def test_one_of_which_nothing_is_shown_is_not_told_to_have_failed(lab: Lab) -> None:
    lab.leader.maintenance = Running(status="ready", reason="routine")
    lab.app.maintenance = True
    is_followed_by_another(lab, keeps_completed_at=False)
    with pytest.raises(StatefulError, match="began, and is pending now") as caught:
        complete(lab)
    assert "nothing shows that the maintenance was carried out" in caught.value.state
    assert caught.value.facts["available"] is True


def test_a_database_that_does_not_come_back_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.make_ready()
    monkeypatch.setattr(lab.world, "serves", lambda database: database.maintenance.status == "ready")
    with pytest.raises(StatefulError, match="is over, and the database has not come back after 600 s") as caught:
        complete(lab, limit=600)
    assert "is not available" in caught.value.state
    assert caught.value.facts["available"] is False


def test_one_that_never_ends_ends_the_wait_and_says_what_is_known(lab: Lab) -> None:
    lab.make_ready()
    lab.world.never_ends = True
    with pytest.raises(StatefulError, match="is running after 600 s") as caught:
        complete(lab, limit=600)
    assert caught.value.facts["available"] is False
    assert "may not be available" in caught.value.state
    lab.world.never_ends = False
    assert complete(lab)["status"] == "completed"


def test_one_that_goes_back_to_pending_is_not_taken_for_done(lab: Lab) -> None:
    lab.make_ready()
    lab.world.falls_back = True
    before = lab.clock()
    with pytest.raises(StatefulError, match="began, and is pending now") as caught:
        complete(lab)
    assert caught.value.facts["available"] is True
    assert lab.clock() - before < 600, "the app is closed: nobody waits for the time limit"
    assert lab.leader.serving == "standard-0"


def test_a_window_is_set_once(lab: Lab) -> None:
    assert schedule(lab, window=("tuesday", "02:30"), check=True)["changed"]
    assert lab.stand_in.changes() == []
    assert schedule(lab, window=("tuesday", "02:30"))["changed"]
    assert lab.leader.window == "Tuesdays 02:30 to 06:30 UTC"
    assert schedule(lab, window=("Tuesday", "02:30"))["changed"] is False


def test_the_end_of_a_window_is_not_its_beginning(lab: Lab) -> None:
    assert lab.leader.window == "Sundays 14:30 to 18:30 UTC"
    assert schedule(lab, window=("sunday", "18:30"))["changed"]
    assert lab.leader.window == "Sundays 18:30 to 22:30 UTC"


@pytest.mark.parametrize(
    "words, said",
    [
        ("Saturdays 22:30 to 02:30 UTC", True),
        ("Saturdays 22:30 to Sundays 02:30 UTC", True),
        ("Saturday at 22:30 UTC", True),
        ("Sundays 22:30 to 02:30 UTC", False),
        ("Fridays 22:30 to Saturdays 02:30 UTC", False),
        ("Fridays 18:30 to Saturdays 22:30 UTC", False),
        ("Saturdays 18:30 to 22:30 UTC", False),
        ("", False),
    ],
)
def test_a_window_is_compared_by_its_beginning(words: str, said: bool) -> None:
    assert Window("Saturday", "22:30").is_said(words) is said


def test_an_hour_of_one_digit_is_the_same_hour() -> None:
    assert Window("Tuesday", "02:30").is_said("Tuesdays 2:30 to 6:30 UTC")


@pytest.mark.parametrize(
    "day, time",
    [
        ("sunday", "5:30PM"),
        ("sunday", "2:30"),
        ("sunday", "24:00"),
        ("sunday", "12:60"),
        ("sunday", "870"),
        ("sunday", ""),
        ("sun", "02:30"),
        ("", "02:30"),
        ("sonntag", "02:30"),
    ],
)
def test_a_window_that_is_none_is_refused(day: str, time: str) -> None:
    with pytest.raises(InvalidInput, match=r"no day of the week|no time from"):
        window_from(day, time)


def test_a_schedule_that_says_no_time_is_refused(lab: Lab) -> None:
    with pytest.raises(InvalidInput, match="Nothing is said of when"):
        schedule(lab)
    assert lab.stand_in.requests == []


def test_a_week_is_chosen_once(lab: Lab) -> None:
    lab.world.change_plan(lab.leader, "standard-2")
    scheduled = lab.leader.maintenance.scheduled_for
    assert scheduled is not None
    wanted = (scheduled.toordinal() + 14) and scheduled.replace(microsecond=0).isoformat()
    assert schedule(lab, week=wanted)["changed"] is False
    later = lab.world.now.fromtimestamp(scheduled.timestamp() + 14 * 86400, scheduled.tzinfo).date().isoformat()
    assert schedule(lab, week=later)["changed"]
    assert lab.leader.maintenance.scheduled_for is not None
    assert (lab.leader.maintenance.scheduled_for - scheduled).days == 14
    assert schedule(lab, week=later)["changed"] is False


@pytest.mark.parametrize("week, word", [("soon", "no date"), ("2026-12-06", "no maintenance that could be scheduled")])
def test_a_week_that_cannot_be_is_refused(lab: Lab, week: str, word: str) -> None:
    with pytest.raises(InvalidInput, match=word):
        schedule(lab, week=week)
