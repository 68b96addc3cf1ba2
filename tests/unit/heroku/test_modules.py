# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every module from its options to its answer, against the stand-in; the clock of Heroku goes with its requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from ansible.module_utils import basic

from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.arguments import KEY_VARIABLE
from tests.support.heroku_lab import APP, FOLLOWER, FORMATION, LEADER, Lab

FIVE_KEYS = {"msg", "state", "copies", "safe_to_rerun", "next_command"}
PLACE = "ansible_collections.selfhost.stateful.plugins.modules"
WEB = [{"type": "web", "quantity": 3, "size": "Standard-2X"}, {"type": "worker", "quantity": 1}]
CHANGING = {
    "heroku_app_formation": {"processes": WEB},
    "heroku_app_maintenance": {"enabled": True},
    "heroku_postgres_backup": {},
    "heroku_postgres_maintenance": {"state": "scheduled", "day_of_week": "tuesday", "time_of_day": "02:30"},
    "heroku_postgres_plan": {"plan": "standard-2"},
}
EVERY = {**CHANGING, "heroku_postgres_info": {}}
REQUESTS = {
    "heroku_app_formation": "/formation$",
    "heroku_app_maintenance": "/apps/shop$",
    "heroku_postgres_backup": "/backups$",
    "heroku_postgres_maintenance": "/window$",
    "heroku_postgres_plan": "/addons/",
}
"""Where each of them asks for its change."""
POSTED = ("heroku_postgres_backup", "heroku_postgres_maintenance")

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs a module in this process, and returns its answer with its warnings and its lines in the log."""
    lab.world.tick = 20
    monkeypatch.setattr(f"{PLACE}.heroku_app_maintenance.SETTLES", 0.2)

    def ran(name: str, *, check: bool = False, **given: Any) -> dict[str, Any]:
        options = {
            "app": APP,
            "api_key": lab.world.key,
            "api_url": lab.stand_in.url,
            "data_api_url": lab.stand_in.url,
            "retry_timeout": 1,
            "_ansible_check_mode": check,
            **({"poll_interval": 0.001} if name in CHANGING else {}),
            **({"operations_dir": str(lab.directory / "operations")} if name == "heroku_app_formation" else {}),
            **given,
        }
        warned: list[str] = []
        logged: list[str] = []
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": options}).encode())
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        # Of ansible's own, which keeps both for longer than one module lives.
        monkeypatch.setattr(basic.AnsibleModule, "warn", lambda _self, text, **_more: warned.append(text))
        monkeypatch.setattr(basic.AnsibleModule, "log", lambda _self, text, **_more: logged.append(text))
        with pytest.raises(SystemExit):
            import_module(f"{PLACE}.{name}").main()
        said = capsys.readouterr().out
        answer: dict[str, Any] = json.loads(said)
        assert "exception" not in answer, answer["exception"]
        assert "s3cret" not in said
        return {**answer, "warned": warned, "logged": logged}

    return ran


def failed(answer: dict[str, Any]) -> dict[str, Any]:
    assert answer.get("failed"), answer
    assert answer.keys() >= FIVE_KEYS
    assert answer["next_command"]
    return answer


# -- every module ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_a_wrong_key_is_told_and_nothing_is_changed(lab: Lab, run: Run, name: str) -> None:
    lab.world.key_expired = True
    answer = failed(run(name, **EVERY[name]))
    assert "has expired" in answer["msg"]
    assert answer["safe_to_rerun"]
    assert lab.stand_in.changes() == []


@pytest.mark.parametrize("name", EVERY)
def test_an_app_that_is_not_there_is_told(lab: Lab, run: Run, name: str) -> None:
    answer = failed(run(name, app="no-such-app", **EVERY[name]))
    assert "Heroku knows nothing by that name" in answer["msg"]
    assert lab.stand_in.changes() == []


@pytest.mark.parametrize("name", EVERY)
def test_without_a_key_nothing_is_asked(lab: Lab, run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert "There is no key" in failed(run(name, api_key="", **EVERY[name]))["msg"]
    assert lab.stand_in.requests == []


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("given", [None, ""])
def test_the_key_of_the_environment_is_in_no_answer(
    lab: Lab, run: Run, monkeypatch: pytest.MonkeyPatch, name: str, given: str | None
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, lab.world.key)
    # Whatever would quote it: here the name of the app.
    answer = failed(run(name, api_key=given, app=lab.world.key, **EVERY[name]))
    assert lab.world.key not in json.dumps({**answer, "logged": []})
    assert "Heroku knows nothing by that name" in answer["msg"]


@pytest.mark.parametrize("name", EVERY)
def test_a_key_is_not_sent_in_clear(lab: Lab, run: Run, name: str) -> None:
    answer = failed(run(name, api_url="http://api.example.com", **EVERY[name]))
    assert "has to begin with https://" in answer["msg"]


@pytest.mark.parametrize("name", CHANGING)
def test_check_mode_says_what_would_change_and_changes_nothing(lab: Lab, run: Run, name: str) -> None:
    assert run(name, check=True, **CHANGING[name])["changed"]
    assert lab.stand_in.changes() == []
    assert lab.operations.all() == []


@pytest.mark.parametrize("name", sorted(CHANGING.keys() - {"heroku_postgres_backup"}))
def test_what_is_so_already_is_left_alone(lab: Lab, run: Run, name: str) -> None:
    assert run(name, **CHANGING[name])["changed"]
    asked = len(lab.stand_in.changes())
    assert asked > 0
    for check in (True, False):
        assert run(name, check=check, **CHANGING[name])["changed"] is False
    assert len(lab.stand_in.changes()) == asked


@pytest.mark.parametrize("name", CHANGING)
@pytest.mark.parametrize("fault", [{"kind": "drop_after"}, {"kind": "drop_before"}, {"status": 504}])
def test_a_change_whose_answer_is_lost_is_read_back(lab: Lab, run: Run, name: str, fault: dict[str, Any]) -> None:
    made = fault.get("kind") == "drop_after"
    lab.stand_in.break_next(REQUESTS[name], method="POST" if name in POSTED else "PATCH", **fault)
    # What was not carried out is not waited for.
    short = {} if made or name == "heroku_app_maintenance" else {"wait_timeout": 0.2}
    answer = run(name, **CHANGING[name], **short)
    if made:
        assert answer["changed"]
    else:
        assert "was lost" in failed(answer)["msg"]
        assert answer["safe_to_rerun"]
    assert len(lab.stand_in.changes()) == 1, "a change is sent once"
    if name != "heroku_postgres_backup":
        assert run(name, **CHANGING[name])["changed"] is not made


# -- looking ----------------------------------------------------------------------------------------------


def test_info_tells_every_database_and_the_app(lab: Lab, run: Run) -> None:
    lab.app.config["REPORTS_DB"] = lab.leader.url
    lab.app.config["CORS"] = r"https://[a-z0-9-]+\.example\.com"
    answer = run("heroku_postgres_info")
    assert {each["name"] for each in answer["databases"]} == {LEADER, FOLLOWER}
    assert answer["app"]["copies"] == [{"config_var": "REPORTS_DB", "database": LEADER}]
    assert (answer["changed"], answer["warned"]) == (False, [])
    one = run("heroku_postgres_info", database="HEROKU_POSTGRESQL_GRAY")
    assert [each["name"] for each in one["databases"]] == [FOLLOWER]


def test_info_warns_of_a_database_that_the_key_may_not_see(lab: Lab, run: Run) -> None:
    lab.stand_in.break_next(f"/client/v11/databases/{lab.follower.id}", status=403, times=100)
    answer = run("heroku_postgres_info")
    assert [each["name"] for each in answer["databases"]] == [LEADER]
    assert any(FOLLOWER in line for line in answer["warned"])
    assert "may not do this" in failed(run("heroku_postgres_info", database=FOLLOWER))["msg"]


# -- an app ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("enabled", [True, False])
def test_maintenance_mode_is_set_and_read_back(lab: Lab, run: Run, enabled: bool) -> None:
    lab.app.maintenance = not enabled
    answer = run("heroku_app_maintenance", enabled=enabled)
    assert (answer["enabled"], answer["former"], lab.app.maintenance) == (enabled, not enabled, enabled)
    assert lab.quantities() == FORMATION


def test_a_maintenance_mode_that_does_not_come_says_nothing_of_dynos(lab: Lab, run: Run) -> None:
    lab.stand_in.break_next("/apps/shop$", method="PATCH", status=200, body="{}")
    answer = failed(run("heroku_app_maintenance", enabled=True))
    assert answer["state"] == "the maintenance mode of shop is off; setting it touches no dynos"


def test_an_exact_formation_is_set_with_the_former_one_returned(lab: Lab, run: Run) -> None:
    lab.app.maintenance = True
    answer = run("heroku_app_formation", processes=WEB)
    assert lab.quantities() == {"web": 3, "worker": 1, "cron": 0}
    assert lab.app.formation["web"]["size"] == "Standard-2X"
    assert answer["formation"]["web"] == {"quantity": 3, "size": "Standard-2X"}
    assert answer["former"]["maintenance"] is True
    assert answer["former"]["formation"]["web"] == {"quantity": 2, "size": "Standard-1X"}


def test_a_process_type_that_is_not_there_is_refused(lab: Lab, run: Run) -> None:
    answer = failed(run("heroku_app_formation", processes=[{"type": "clock", "quantity": 1}]))
    assert "no process type clock; it has cron, web, worker" in answer["msg"]
    assert lab.stand_in.changes() == []


def test_an_app_is_stopped_noted_and_restored(lab: Lab, run: Run) -> None:
    given: dict[str, Any] = {"maintenance": True, "allow_ephemeral_journal": True, "note": {"hook": "pending"}}
    closed = run("heroku_app_formation", state="stopped", **given)
    lab.check_stopped()
    assert (closed["changed"], closed["note"]) == (True, {"hook": "pending"})
    assert run("heroku_app_formation", state="stopped", **given)["changed"] is False
    assert run("heroku_app_formation", state="restored", check=True)["changed"]
    lab.check_stopped()
    back = run("heroku_app_formation", state="restored")
    assert (back["changed"], back["former"]) == (True, closed["former"])
    assert run("heroku_app_formation", state="noted", note={"hook": "done"})["changed"]
    assert run("heroku_app_formation", state="noted", note={"hook": "done"})["changed"] is False
    assert lab.quantities() == FORMATION
    again = run("heroku_app_formation", state="restored")
    assert (again["changed"], again["warned"], again["note"], again["one_off_dynos"]) == (False, [], {}, [])


def test_a_closed_app_of_which_no_journal_knows_is_told_with_where_was_looked(lab: Lab, run: Run) -> None:
    lab.stop()
    answer = run("heroku_app_formation", state="restored", operations_dir=str(lab.directory / "elsewhere"))
    assert answer["changed"] is False
    assert any(str(lab.directory / "elsewhere") in line for line in answer["warned"])
    lab.check_stopped()


def test_a_journal_that_would_be_forgotten_is_refused(lab: Lab, run: Run) -> None:
    given: dict[str, Any] = {"maintenance": True, "operations_dir": "/dev/shm/selfhost-stateful-test/operations"}
    answer = failed(run("heroku_app_formation", state="stopped", check=True, **given))
    assert "Mount a volume there" in answer["msg"]
    assert lab.stand_in.changes() == []


# -- a database -------------------------------------------------------------------------------------------------


def test_a_plan_is_prepared_run_and_reached(lab: Lab, run: Run) -> None:
    asked = run("heroku_postgres_plan", plan="heroku-postgresql:standard-2")
    assert (asked["changed"], asked["reached"]) == (True, "ready")
    assert [line.split("maintenance ")[1].split(",")[0] for line in asked["logged"] if "maintenance " in line] == [
        each["status"] for each in asked["progress"]
    ]
    refused = failed(run("heroku_postgres_maintenance"))
    assert "is not in maintenance mode" in refused["msg"]
    lab.app.maintenance = True
    assert run("heroku_postgres_maintenance", check=True)["changed"]
    assert lab.leader.maintenance.status == "ready"
    ended = run("heroku_postgres_maintenance")
    assert (ended["status"], lab.leader.serving) == ("completed", "standard-2")
    assert ended["duration_seconds"] == ended["maintenance"]["duration_seconds"] > 0
    assert run("heroku_postgres_maintenance")["changed"] is False
    done = run("heroku_postgres_plan", plan="standard-2", wait_for="completed")
    assert (done["changed"], done["reached"], done["plan"]) == (False, "completed", "standard-2")


def test_a_plan_that_cannot_be_is_refused_with_what_stands_in_the_way(lab: Lab, run: Run) -> None:
    answer = failed(run("heroku_postgres_plan", plan="essential-0"))
    assert "pg:copy" in answer["msg"]
    assert len(answer["blockers"]) == 1
    assert lab.stand_in.changes() == []


@pytest.mark.parametrize(
    "given, word",
    [
        ({}, "Nothing is said of when"),
        ({"day_of_week": "sunday", "time_of_day": "5:30PM"}, "no time from 00:00 to 23:59"),
        ({"day_of_week": "", "time_of_day": "02:30"}, "no day of the week"),
        ({"week": "soon"}, "no date"),
    ],
)
def test_a_schedule_that_says_nothing_that_can_be_is_refused(
    lab: Lab, run: Run, given: dict[str, str], word: str
) -> None:
    assert word in failed(run("heroku_postgres_maintenance", state="scheduled", **given))["msg"]
    assert lab.stand_in.changes() == []


def test_a_backup_is_captured_and_reused_by_its_uuid(lab: Lab, run: Run) -> None:
    since = lab.world.now.isoformat()
    made = run("heroku_postgres_backup", newer_than=since)
    assert (made["changed"], made["backup"]["succeeded"], made["listed"]) == (True, True, [])
    assert run("heroku_postgres_backup", newer_than=since)["changed"] is False
    other = run("heroku_postgres_backup", newer_than=since, other_than=[made["backup"]["uuid"]])
    assert (other["changed"], other["listed"]) == (True, [made["backup"]["uuid"]])
    assert len(lab.world.backups) == 2
