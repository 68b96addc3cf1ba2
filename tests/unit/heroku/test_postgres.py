# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is seen of databases, and plans that are changed, at a Heroku that breaks off and limits."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku import changing, look
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.changing import Change
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.http import Refused
from tests.sandbox.heroku_world import Running
from tests.support.heroku_lab import APP, FOLLOWER, LEADER, Lab


def change(lab: Lab, plan: str = "standard-2", wait_for: str = "ready", **more: Any) -> dict[str, Any]:
    check, database = more.pop("check", False), more.pop("database", "DATABASE_URL")
    limit, before_leader = more.pop("limit", 7200), more.pop("before_leader", False)
    wanted = Change(APP, database, plan, wait_for, before_leader, lab.patience(limit))
    return changing.change_plan(lab.heroku, wanted, check=check)


# -- looking ------------------------------------------------------------------------------


def test_all_databases_of_an_app_are_seen_with_leader_and_followers(lab: Lab) -> None:
    lab.world.add_app("reports", web=1)
    lab.world.attach(lab.leader, "reports", "SHOP_DATABASE")
    lab.follower.behind = 17
    found = {each.addon.name: each.as_dict() for each in look.databases_of(lab.heroku, APP).databases}
    assert found[LEADER]["followers"] == [FOLLOWER]
    assert found[LEADER]["apps"] == ["reports", "shop"]
    assert (found[LEADER]["following"], found[FOLLOWER]["following"]) == (None, LEADER)
    assert (found[FOLLOWER]["behind_by"], found[FOLLOWER]["available"]) == (17, True)
    assert found[LEADER]["connection_limit"] == 120


@pytest.mark.parametrize("name", ["DATABASE_URL", "DATABASE", LEADER])
def test_a_database_is_found_by_each_of_its_names(lab: Lab, name: str) -> None:
    assert look.database_of(lab.heroku, APP, name).addon.name == LEADER


def test_a_database_that_is_not_there_is_told_with_those_that_are(lab: Lab) -> None:
    with pytest.raises(InvalidInput, match=f"DATABASE \\({LEADER}\\)"):
        look.databases_of(lab.heroku, APP, "NO_SUCH")


def test_a_database_of_another_app_is_none_of_this_one(lab: Lab) -> None:
    lab.world.add_app("staging", web=1)
    with pytest.raises(InvalidInput, match=f"{LEADER} is no database of the app staging; it has: none"):
        look.databases_of(lab.heroku, "staging", LEADER)
    lab.world.attach(lab.leader, "staging", "SHOP_DATABASE")
    assert look.database_of(lab.heroku, "staging", LEADER).apps == ("shop", "staging")


def test_an_app_that_is_not_there_is_told(lab: Lab) -> None:
    with pytest.raises(Refused, match="knows nothing by that name"):
        look.databases_of(lab.heroku, "no-such-app")


def test_what_a_change_touches_is_told_without_any_secret(lab: Lab) -> None:
    lab.app.services.append("scheduler")
    lab.app.formation["release"] = {"quantity": 0, "size": "Standard-1X"}
    lab.app.config["REPORTS_DB"] = lab.leader.url
    lab.app.config["CORS"] = r"https://[a-z0-9-]+\.example\.com"
    lab.app.config["OLD_DB"] = "postgres://u:s3cret-ä℀@h/db"
    databases = look.databases_of(lab.heroku, APP).databases
    facts = look.app_facts(lab.heroku, APP, databases)
    assert (facts["scheduler"], facts["release_phase"], facts["maintenance"]) == (True, True, False)
    assert facts["copies"] == [{"config_var": "REPORTS_DB", "database": LEADER}]
    assert "s3cret" not in str([facts, [each.as_dict() for each in databases]])


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("place", ["/client/v11/databases/{}", "/data/maintenances/v1/{}", "/addons/{}/addon-"])
def test_a_database_that_the_key_may_not_see_stands_in_nobodys_way(lab: Lab, place: str, status: int) -> None:
    lab.stand_in.break_next(place.format(lab.follower.id), status=status, times=10_000)
    none_is_normal = status == 404 and "maintenances" in place
    seen = look.databases_of(lab.heroku, APP)
    assert [each.addon.name for each in seen.databases] == ([LEADER, FOLLOWER] if none_is_normal else [LEADER])
    assert any(FOLLOWER in line for line in seen.warnings) is not none_is_normal
    assert look.database_of(lab.heroku, APP, "DATABASE_URL").addon.name == LEADER
    assert change(lab)["reached"] == "ready"
    if not none_is_normal:
        with pytest.raises(Refused):
            look.databases_of(lab.heroku, APP, FOLLOWER)


def test_where_no_database_may_be_seen_that_is_a_failure(lab: Lab) -> None:
    lab.stand_in.break_next("/client/v11/databases/", status=403, times=10_000)
    with pytest.raises(Refused, match="may not do this"):
        look.databases_of(lab.heroku, APP)


# -- a plan ---------------------------------------------------------------------------------


def test_a_change_is_asked_for_once_and_waited_for(lab: Lab) -> None:
    first = change(lab)
    assert (first["changed"], first["reached"], first["plan"]) == (True, "ready", "standard-0")
    assert [each["status"] for each in first["progress"]] == ["none", "pending", "preparing", "ready"]
    second = change(lab)
    assert (second["changed"], second["reached"]) == (False, "ready")
    assert len(lab.stand_in.changes()) == 1


def test_the_run_that_asks_warns_where_heroku_will_not_wait_much_longer(lab: Lab) -> None:
    checked = change(lab, check=True)
    assert not any("at the latest" in line for line in checked["warnings"])
    lab.world.now -= timedelta(days=15)
    assert any("at the latest" in line for line in change(lab)["warnings"])


def test_check_mode_asks_for_nothing(lab: Lab) -> None:
    assert change(lab, check=True)["changed"]
    assert lab.stand_in.changes() == []


def test_requested_is_enough_where_nothing_more_is_wanted(lab: Lab) -> None:
    assert change(lab, wait_for="requested")["reached"] == "requested"
    assert lab.leader.maintenance.status == "pending"


@pytest.mark.parametrize("past", ["none", "completed"])
def test_a_change_is_asked_for_once_its_maintenance_shows(lab: Lab, past: str) -> None:
    ended = lab.world.now - timedelta(days=30)
    lab.leader.maintenance = Running(status=past, started_at=ended, completed_at=ended)
    lab.world.timing.recorded = 20
    result = change(lab, wait_for="requested")
    assert (result["reached"], result["database"]["maintenance"]["status"]) == ("requested", "pending")
    assert [each["status"] for each in result["progress"]] == [past, "pending"]


def test_a_change_whose_maintenance_does_not_show_is_asked_for_all_the_same(lab: Lab) -> None:
    ended = lab.world.now - timedelta(days=30)
    lab.leader.maintenance = Running(status="completed", started_at=ended, completed_at=ended)
    lab.world.timing.recorded = 600
    before = lab.clock()
    result = change(lab, wait_for="requested")
    assert (result["changed"], result["reached"]) == (True, "requested")
    assert lab.clock() - before < 60
    assert change(lab)["reached"] == "ready"


def test_completed_is_waited_for_until_the_window(lab: Lab) -> None:
    result = change(lab, wait_for="completed", limit=6 * 86400)
    assert (result["reached"], result["plan"]) == ("completed", "standard-2")
    assert change(lab, wait_for="completed")["changed"] is False


@pytest.mark.parametrize("wait_for", ["completed", "ready"])
def test_a_plan_that_shows_only_a_while_after_the_maintenance_is_waited_for(lab: Lab, wait_for: str) -> None:
    ended = lab.world.now
    lab.leader.plan = "standard-2"
    lab.leader.maintenance = Running(status="completed", started_at=ended, completed_at=ended)
    with pytest.raises(StatefulError, match="its maintenance is completed, its plan standard-0"):
        change(lab, wait_for=wait_for, limit=60)

    def shown_later(_moment: str, _request: object) -> None:
        if lab.world.now - ended >= timedelta(seconds=120):
            lab.leader.serving = "standard-2"

    lab.stand_in.watch = shown_later
    result = change(lab, wait_for=wait_for, limit=300)
    assert (result["changed"], result["reached"], result["plan"]) == (False, "completed", "standard-2")
    assert lab.stand_in.changes() == []


def test_a_maintenance_of_herokus_own_is_no_change_of_plan(lab: Lab) -> None:
    lab.leader.maintenance = Running(status="ready")
    result = change(lab, "standard-0", wait_for="completed", limit=60)
    assert (result["changed"], result["reached"]) == (False, "completed")
    assert lab.leader.maintenance.status == "ready"


def test_a_maintenance_of_the_past_is_not_taken_for_the_new_one(lab: Lab) -> None:
    lab.leader.maintenance = Running(status="completed", started_at=lab.world.now, completed_at=lab.world.now)
    lab.world.advance(86400)
    with pytest.raises(StatefulError, match="is not completed after"):
        change(lab, wait_for="completed", limit=600)
    assert change(lab)["reached"] == "ready"


@pytest.mark.parametrize("kind", ["drop_after", "drop_before"])
def test_a_change_whose_answer_is_lost_is_read_back(lab: Lab, kind: str) -> None:
    lab.stand_in.break_next("/addons/", kind, method="PATCH")
    if kind == "drop_before":
        with pytest.raises(StatefulError, match="still asked to be on standard-0") as caught:
            change(lab)
        assert caught.value.safe_to_rerun
    assert change(lab)["reached"] == "ready"
    assert lab.leader.plan == "standard-2"


@pytest.mark.parametrize("plan, word", [("essential-0", "pg:copy"), ("standard-9", "There is no plan")])
def test_a_change_that_cannot_be_is_refused_before_it_is_asked_for(lab: Lab, plan: str, word: str) -> None:
    with pytest.raises(InvalidInput, match=word):
        change(lab, plan)
    assert lab.stand_in.changes() == []


def test_an_essential_database_is_told_the_way_that_works(lab: Lab) -> None:
    lab.leader.plan = lab.leader.serving = "essential-0"
    with pytest.raises(InvalidInput, match="pg:copy") as caught:
        change(lab)
    assert caught.value.next_command == "heroku addons:create heroku-postgresql:standard-2 --app shop"


def test_a_follower_comes_after_its_leader(lab: Lab) -> None:
    with pytest.raises(InvalidInput, match="change the leader first"):
        change(lab, database=FOLLOWER)
    assert change(lab, database=FOLLOWER, before_leader=True)["reached"] == "ready"


def test_a_wait_that_ends_says_that_the_change_goes_on(lab: Lab) -> None:
    with pytest.raises(StatefulError, match="is not ready after 60 s") as caught:
        change(lab, limit=60)
    assert "goes on at Heroku" in caught.value.state
    assert change(lab)["reached"] == "ready"


def test_a_failing_wait_is_carried_over_an_outage(lab: Lab) -> None:
    lab.stand_in.break_next("/data/maintenances/", status=503, times=4)
    lab.stand_in.break_next("/client/v11/", status=429, headers={"Retry-After": "10"}, times=2)
    assert change(lab)["reached"] == "ready"
