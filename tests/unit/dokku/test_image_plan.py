# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a swap consists of, and what forbids it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import parsing
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image import planner
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.model import (
    BackupPlace,
    Found,
    Request,
    Room,
    default_name,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import App, Service, Settings, dsn_of
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import FINISH, PREPARE, SWITCH

ADDRESS = "postgres://postgres:of-old@dokku-postgres-old:5432/old"
OLD = Service("old", "postgres:15", "sha256:15", "running", ("blog",), "/srv/old", "cid", dsn=dsn_of(ADDRESS))
APP = App("blog", parsing.addresses({"DATABASE_URL": f"{ADDRESS}?pool=5", "DOKKU_POSTGRES_RED_URL": ADDRESS}), "")
REQUEST = Request("blog", "postgres", "17.2")
FOUND = Found(
    app=APP, old=OLD, settings=Settings(custom_env={"TOKEN": "hush"}), running=True, maintained=False,
    image_id="sha256:17", built="2026-01-02T03:04:05Z", name="blog-postgres-17_2-20260102", name_taken=False, others=(),
    major=15, new_major=17, database_bytes=1_000_000, lacks=(), left_behind=(),
    backup_room=Room("/", 1, 10**9), data_room=Room("/", 1, 10**9),
)  # fmt: skip


def texts(request: Request = REQUEST, **changes: Any) -> str:
    return " ".join(each.text for each in planner.blockers_of(request, replace(FOUND, **changes)))


def test_nothing_stands_in_the_way_of_what_is_usual() -> None:
    assert planner.blockers_of(REQUEST, FOUND) == []


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"name": "blog-17.2"}, "a dot is not"),
        ({"name": "b" * 49}, "longer than 48"),
        ({"name_taken": True}, "There is a service"),
        ({"name": "a-b", "old": replace(OLD, name="a_b")}, "one host name"),
        ({"old": replace(OLD, status="exited")}, "does not run (exited)"),
        ({"old": replace(OLD, exposed="5432->10001")}, "exposed on ports of this host (5432->10001)"),
        ({"old": replace(OLD, encrypted=True)}, "are encrypted"),
        ({"old": replace(OLD, schedule_unread=True)}, "a schedule that cannot be read"),
        (
            {"app": App("blog", parsing.addresses({"DATABASE_URL": f"{ADDRESS}?pool=5&sslpassword=x"}), "")},
            "a password in its query",
        ),
        ({"mixed": True}, "some run and others do not"),
        ({"others": ("the app shop is linked to it",)}, "the app shop is linked to it"),
        ({"lacks": (Blocker("The image lacks postgis."),)}, "lacks postgis"),
        ({"new_major": 14}, "no way down"),
        ({"left_behind": ("the roles reader",)}, "the roles reader"),
        ({"maintained": None}, "no plugin maintenance"),
        ({"data_room": Room("/srv", 2, 10)}, "/srv has 10 bytes free"),
        # On one file system the dump and the new service need their space at the same time.
        ({"backup_room": Room("/", 1, 66_000_000), "data_room": Room("/", 1, 66_000_000)}, "bytes are missing there"),
    ],
)
def test_what_forbids_it_is_said(changes: dict[str, Any], words: str) -> None:
    assert words in texts(**changes)


def test_what_is_accepted_or_not_wanted_forbids_nothing() -> None:
    assert texts(replace(REQUEST, accept_losses=True), left_behind=("the roles reader",)) == ""
    assert texts(replace(REQUEST, maintenance=False), maintained=None) == ""
    older = replace(OLD, networks_known=False)
    assert texts(old=older) == ""
    assert "no networks" in texts(replace(REQUEST, settings={"initial_network": "net"}), old=older)


def test_one_step_proves_and_what_is_secret_is_in_none() -> None:
    steps = planner.steps_of(replace(REQUEST, backup=BackupPlace("bucket"), unit="x.service"), FOUND, dump="/d")
    assert [step.name for step in steps if step.proves] == [planner.LET_IN]
    assert [step.phase for step in steps] == [PREPARE] * 3 + [SWITCH] * 5 + [FINISH] * 4
    told = json.dumps([step.as_dict() for step in steps]) + planner.text_of(REQUEST, FOUND, [], dump="/d")
    assert "hush" not in told
    assert "of-old" not in told


def test_query_and_scheme_of_each_variable_are_kept_and_colours_are_told_apart() -> None:
    steps = {step.name: step for step in planner.steps_of(REQUEST, FOUND, dump="/d")}
    moving = steps[planner.REPOINT].args
    assert moving["addresses"] == {"DATABASE_URL": {"scheme": "postgres", "query": "pool=5"}}
    assert moving["colours"] == {"DOKKU_POSTGRES_RED_URL": {"scheme": "postgres", "query": ""}}


@pytest.mark.parametrize("maintained, wanted, page", [(False, True, True), (True, True, False), (False, False, False)])
def test_a_page_that_was_shown_before_stays(maintained: bool, wanted: bool, page: bool) -> None:
    found = replace(FOUND, maintained=maintained)
    steps = {step.name: step for step in planner.steps_of(replace(REQUEST, maintenance=wanted), found, dump="/d")}
    assert steps[planner.QUIET].args["page"] == page
    assert steps[planner.SHOW].args["page"] == page


@pytest.mark.parametrize(
    "repository, version, name",
    [
        ("postgres", "17.2", "blog-postgres-17_2-20260102"),
        ("registry.example.org:5000/postgis/postgis", "17-3.5", "blog-postgis-17-3_5-20260102"),
    ],
)
def test_a_name_says_what_it_is_and_of_which_day(repository: str, version: str, name: str) -> None:
    assert default_name("blog", repository, version, "2026-01-02T03:04:05Z") == name


def test_the_space_of_several_places_is_told_by_place() -> None:
    apart = replace(FOUND, backup_room=Room("/backup", 2, 10**9))
    assert planner.space_of(apart) == {"/backup": 1_000_000, "/": 1_000_000 + 64 * 1024 * 1024}
