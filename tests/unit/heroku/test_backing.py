# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups at a Heroku that breaks off, fails, and calls a database by another name."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku import backing
from tests.sandbox.heroku import AFTER, Request
from tests.support.heroku_lab import APP, Lab


def capture(lab: Lab, *, newer_than: str = "", check: bool = False, **more: Any) -> dict[str, Any]:
    given = {"newer_than": newer_than, "check": check, **more}
    return backing.capture(lab.heroku, APP, "DATABASE_URL", lab.patience(), **given)


def test_a_backup_is_waited_for(lab: Lab) -> None:
    result = capture(lab)
    assert (result["changed"], result["backup"]["succeeded"], result["backup"]["name"]) == (True, True, "b001")
    assert capture(lab)["backup"]["name"] == "b002"


def test_one_that_is_young_enough_will_do(lab: Lab) -> None:
    since = lab.world.now.isoformat()
    assert capture(lab, newer_than=since, check=True)["changed"]
    assert capture(lab, newer_than=since)["changed"]
    assert capture(lab, newer_than=since)["changed"] is False
    assert len(lab.world.backups) == 1
    lab.world.advance(3600)
    assert capture(lab, newer_than=lab.world.now.isoformat())["backup"]["name"] == "b002"


def test_one_that_was_there_before_the_stop_will_not_do_by_whatever_clock(lab: Lab) -> None:
    since = lab.world.now.isoformat()
    capture(lab)
    before = capture(lab, check=True)["listed"]
    assert len(before) == 1
    assert capture(lab, newer_than=since, other_than=before)["backup"]["name"] == "b002"
    assert capture(lab, newer_than=since, other_than=before)["changed"] is False


def test_the_thousandth_backup_is_newer_than_the_one_before_it(lab: Lab) -> None:
    since = lab.world.now.isoformat()
    for number in (999, 1000):
        capture(lab)
        lab.world.backups[-1]["num"] = number
        lab.world.advance(60)
    assert capture(lab, newer_than=since)["backup"]["name"] == "b1000"


def test_one_that_is_being_made_is_waited_for(lab: Lab) -> None:
    since = lab.world.now.isoformat()
    lab.world.capture(lab.leader)
    assert capture(lab, newer_than=since)["backup"]["name"] == "b001"
    assert len(lab.world.backups) == 1


@pytest.mark.parametrize("kind", ["drop_after", "drop_before"])
def test_a_backup_whose_answer_is_lost_is_looked_for(lab: Lab, kind: str) -> None:
    lab.stand_in.break_next("/backups$", kind)
    if kind == "drop_before":
        with pytest.raises(StatefulError, match="No new backup") as caught:
            capture(lab)
        assert lab.world.backups == []
        assert "not known whether a backup was begun" in caught.value.state
        assert caught.value.next_command == "heroku pg:backups --app shop"
        return
    assert capture(lab)["backup"]["name"] == "b001"
    assert len(lab.world.backups) == 1


def is_called(lab: Lab, name: str) -> None:
    """Have Heroku note another name of the database than any that it has now."""

    def watch(moment: str, request: Request) -> None:
        if moment == AFTER and request.path.endswith("/backups"):
            lab.world.backups[-1]["from_name"] = name

    lab.stand_in.watch = watch


def test_a_backup_is_the_one_that_the_answer_names_whatever_the_database_is_called(lab: Lab) -> None:
    is_called(lab, "HEROKU_POSTGRESQL_BRONZE")
    result = capture(lab)
    assert (result["changed"], result["backup"]["database"]) == (True, "HEROKU_POSTGRESQL_BRONZE")
    assert result["backup"]["uuid"] == lab.world.backups[0]["uuid"]
    assert len(lab.world.backups) == 1


def test_a_lost_answer_by_another_name_is_no_proof_that_no_backup_was_begun(lab: Lab) -> None:
    is_called(lab, "HEROKU_POSTGRESQL_BRONZE")
    lab.stand_in.break_next("/backups$", "drop_after")
    with pytest.raises(StatefulError, match="b001 of HEROKU_POSTGRESQL_BRONZE") as caught:
        capture(lab)
    assert "not known whether a backup was begun" in caught.value.state


def test_an_answer_that_names_no_backup_is_as_good_as_lost(lab: Lab) -> None:
    lab.world.capture(lab.follower)
    lab.stand_in.break_next("/backups$", status=200, body="{}")
    with pytest.raises(StatefulError, match="did not say which backup it began") as caught:
        capture(lab)
    assert "b001" not in caught.value.msg, "it was there before"


def test_a_backup_that_fails_says_why(lab: Lab) -> None:
    lab.world.backup_fails = True
    with pytest.raises(StatefulError, match="could not read") as caught:
        capture(lab)
    assert caught.value.next_command == "heroku pg:backups:info b001 --app shop"
    lab.world.backup_fails = False
    since = lab.world.backups[0]["created"].isoformat()
    assert capture(lab, newer_than=since)["backup"]["name"] == "b002", "one that failed will not do"
