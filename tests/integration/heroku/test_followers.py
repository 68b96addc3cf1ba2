# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Followers: after their leader, one by one, each once it can be."""

from __future__ import annotations

import time

import pytest

from tests.sandbox.heroku import AFTER, BEFORE, Request
from tests.sandbox.heroku_world import Running

from .admin import APP, FOLLOWER, LEADER, Admin, is_change

OTHER = "postgresql-follower-2"


@pytest.mark.faults
def test_one_after_the_other_once_the_leader_can_be_followed(admin: Admin) -> None:
    first = admin.world.add_database(FOLLOWER, APP, "HEROKU_POSTGRESQL_GRAY", "standard-0", leader=LEADER)
    second = admin.world.add_database(OTHER, APP, "HEROKU_POSTGRESQL_TEAL", "standard-0", leader=LEADER)
    asked = []

    def watch(moment: str, request: Request) -> None:
        if moment == AFTER and is_change("plan", request):
            forkable = admin.leader.forkable_at
            asked.append(
                (request.path.rsplit("/", 1)[-1], forkable is not None and admin.world.now >= forkable, first.serving)
            )

    admin.stand_in.watch = watch
    admin.play(heroku_postgres_plan_backup=False).ok()
    admin.stand_in.watch = None
    assert asked == [(LEADER, False, "standard-0"), (FOLLOWER, True, "standard-0"), (OTHER, True, "standard-2")]
    assert second.serving == "standard-2"
    admin.check_open("standard-2")


@pytest.mark.faults
@pytest.mark.parametrize("destroyed", [True, False])
def test_one_that_is_gone_or_follows_no_more_is_not_waited_for(admin: Admin, destroyed: bool) -> None:
    admin.on_plan()
    follower = admin.world.add_database(
        FOLLOWER, APP, "HEROKU_POSTGRESQL_GRAY", "standard-0", leader=LEADER, behind=150_000
    )
    asked = [time.monotonic()]

    def watch(moment: str, _request: Request) -> None:
        # Between the first look of the wait and the second.
        waited = time.monotonic() - asked[-1] > 20
        asked.append(time.monotonic())
        if waited and moment == BEFORE:
            with admin.stand_in.lock:
                if destroyed:
                    admin.world.databases.pop(FOLLOWER, None)
                else:
                    follower.leader = ""

    admin.stand_in.watch = watch
    # Two looks of half a minute each, in place of hours.
    failed = admin.play(heroku_postgres_plan_poll_interval=30).failed().said()
    told = "does not show postgresql-follower-1 any more" if destroyed else "follows postgresql-leader-1 no more"
    assert told in failed
    assert "unknown failure" not in failed
    assert f"database={FOLLOWER}" not in failed
    assert "it goes on with the followers that there are" in failed
    assert (admin.changes(), follower.serving) == ([], "standard-0")


@pytest.mark.faults
def test_one_whose_maintenance_was_withdrawn_is_not_done(admin: Admin) -> None:
    admin.on_plan()
    follower = admin.world.add_database(FOLLOWER, APP, "HEROKU_POSTGRESQL_GRAY", "standard-0", leader=LEADER)
    seen: list[str] = []

    def watch(moment: str, request: Request) -> None:
        if moment == BEFORE and follower.maintenance.status == "ready" and request.method == "POST":
            # The first question of the task that changes over: which database it is.
            follower.plan, follower.maintenance = "standard-0", Running()
            seen.append(request.path)

    admin.stand_in.watch = watch
    failed = admin.play(heroku_postgres_plan_maintenance_timeout=2).failed().said()
    assert len(seen) == 1
    assert "It is on the plan" in failed
    assert "Followers that are done in this run: none" in failed
    assert follower.serving == "standard-0"
    admin.stand_in.watch = None
    admin.play().ok()
    assert follower.serving == "standard-2"


@pytest.mark.faults
def test_one_that_lags_is_told_and_one_that_is_done_is_not_waited_for(admin: Admin) -> None:
    admin.on_plan()
    late = admin.world.add_database(
        FOLLOWER, APP, "HEROKU_POSTGRESQL_GRAY", "standard-0", leader=LEADER, behind=150_000
    )
    # On the plan, and far behind: nobody has to wait for it.
    admin.world.add_database(OTHER, APP, "HEROKU_POSTGRESQL_TEAL", "standard-2", leader=LEADER, behind=150_000)
    failed = admin.play(heroku_postgres_plan_follower_timeout=2).failed()
    assert f"the follower {FOLLOWER} could not be changed within 2 s: it is Available, 150000 commits" in failed.said()
    assert "fork/follow of its leader is Available" in failed.said()
    assert f"The leader {LEADER} IS on standard-2" in failed.said()
    assert f"database={FOLLOWER}" in failed.said()
    assert admin.changes() == []
    late.behind = 20
    admin.play(heroku_postgres_plan_follower_timeout=2).ok()
    assert late.serving == "standard-2"
    assert (admin.changed("plan"), admin.changed("run"), admin.changed("close")) == (1, 1, 0)
