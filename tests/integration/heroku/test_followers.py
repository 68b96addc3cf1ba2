# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Followers: after their leader, one by one, each once it can be."""

from __future__ import annotations

import pytest

from tests.sandbox.heroku import AFTER, Request

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
