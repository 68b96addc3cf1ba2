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
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image import files_way, journey, planner
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.model import (
    BackupPlace,
    FilesWay,
    Found,
    Request,
    Room,
    default_name,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import App, Service, Settings, dsn_of
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import FINISH, PREPARE, SWITCH
from tests.unit.postgresql import test_image_plan as of_images
from tests.unit.postgresql.subjects import IMAGE, UPGRADED

ADDRESS = "postgres://postgres:of-old@dokku-postgres-old:5432/old"
OLD = Service("old", "postgres:15", "sha256:15", "running", ("blog",), "/srv/old", "cid", dsn=dsn_of(ADDRESS))
APP = App("blog", parsing.addresses({"DATABASE_URL": f"{ADDRESS}?pool=5", "DOKKU_POSTGRES_RED_URL": ADDRESS}), "")
REQUEST = Request("blog", "postgres", "17.2")
FOUND = Found(
    app=APP, old=OLD, settings=Settings(custom_env={"TOKEN": "hush"}), running=True, maintained=False,
    image_id="sha256:17", built="2026-01-02T03:04:05Z", name="blog-postgres-17_2-20260102", name_taken=False, others=(),
    major=15, new_major=17, database_bytes=1_000_000, lacks=(), beside={},
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
        ({"strangers": ("READER_URL",)}, "READER_URL of blog names old by another login"),
        (
            {"app": App("blog", parsing.addresses({"DATABASE_URL": ADDRESS, "QUEUE_URL": f"{ADDRESS}_queue"}), "")},
            "name another one: QUEUE_URL (old_queue)",
        ),
        ({"mixed": True}, "some run and others do not"),
        ({"others": ("the app shop is linked to it",)}, "the app shop is linked to it"),
        ({"lacks": (Blocker("The image lacks postgis."),)}, "lacks postgis"),
        ({"new_major": 14}, "no way down"),
        ({"beside": {"the roles": ["reader"]}}, "the roles reader"),
        ({"maintained": None}, "no plugin maintenance"),
        ({"data_room": Room("/srv", 2, 10)}, "/srv has 10 bytes free"),
        # On one file system the dump and the new service need their space at the same time.
        ({"backup_room": Room("/", 1, 66_000_000), "data_room": Room("/", 1, 66_000_000)}, "bytes are missing there"),
    ],
)
def test_what_forbids_it_is_said(changes: dict[str, Any], words: str) -> None:
    assert words in texts(**changes)


def test_what_is_accepted_or_not_wanted_forbids_nothing() -> None:
    assert texts(replace(REQUEST, accept_losses=True), beside={"the roles": ["reader"]}) == ""
    assert texts(replace(REQUEST, maintenance=False), maintained=None) == ""
    older = replace(OLD, networks_known=False)
    assert texts(old=older) == ""
    assert "no networks" in texts(replace(REQUEST, settings={"initial_network": "net"}), old=older)


def test_one_step_proves_and_what_is_secret_is_in_none() -> None:
    steps = planner.steps_of(
        replace(REQUEST, backup=BackupPlace("bucket"), unit="x.service"), FOUND, dump="/d", operation="op"
    )
    assert [step.name for step in steps if step.proves] == [planner.LET_IN]
    assert [step.phase for step in steps] == [PREPARE] * 5 + [SWITCH] * 5 + [FINISH] * 4
    told = json.dumps([step.as_dict() for step in steps]) + planner.text_of(REQUEST, FOUND, [], dump="/d")
    assert "hush" not in told
    assert "of-old" not in told


@pytest.mark.parametrize("way", ["dump", "physical"])
def test_both_images_are_held_before_anything_is_made(way: str) -> None:
    found = FOUND if way == "dump" else replace(FOUND, files=UPWARDS)
    steps = planner.steps_of(REQUEST, found, dump="/d", operation="blog-1")
    assert [(step.kind, step.args.get("image")) for step in steps[:3]] == [
        ("keep_image", OLD.image_id), ("keep_image", FOUND.image_id), ("dokku_make", None)
    ]  # fmt: skip
    assert len({step.name for step in steps}) == len(steps)
    assert len({step.args["name"] for step in steps[:2]}) == 2


def test_query_scheme_and_database_of_each_variable_are_kept_and_colours_are_told_apart() -> None:
    steps = {step.name: step for step in planner.steps_of(REQUEST, FOUND, dump="/d", operation="op")}
    moving = steps[planner.REPOINT].args
    assert moving["addresses"] == {"DATABASE_URL": {"scheme": "postgres", "database": "old", "query": "pool=5"}}
    assert moving["colours"] == {"DOKKU_POSTGRES_RED_URL": {"scheme": "postgres", "database": "old", "query": ""}}


def test_where_the_files_go_every_database_does() -> None:
    app = App("blog", parsing.addresses({"DATABASE_URL": ADDRESS, "QUEUE_URL": f"{ADDRESS}_queue"}), "")
    room = Room("/", 1, 1 << 40)
    assert texts(app=app, files=UPWARDS, data_room=room, backup_room=room) == ""
    steps = planner.steps_of(REQUEST, replace(FOUND, app=app, files=UPWARDS), dump="/d", operation="op")
    (asking,) = [step.args for step in steps if step.name == planner.QUIET]
    assert asking["databases"] == {"DATABASE_URL": "old", "QUEUE_URL": "old_queue"}


@pytest.mark.parametrize("maintained, wanted, page", [(False, True, True), (True, True, False), (False, False, False)])
def test_a_page_that_was_shown_before_stays(maintained: bool, wanted: bool, page: bool) -> None:
    found = replace(FOUND, maintained=maintained)
    steps = {
        step.name: step
        for step in planner.steps_of(replace(REQUEST, maintenance=wanted), found, dump="/d", operation="op")
    }
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
    assert planner.space_of(apart, planner.way_of(REQUEST, apart)) == {
        "/backup": 1_000_000,
        "/": 1_000_000 + 64 * 1024 * 1024,
    }


UPWARDS = FilesWay(of_images.REQUEST, of_images.found(UPGRADED))
SIDEWAYS = FilesWay(of_images.REQUEST, of_images.found(replace(IMAGE, id="sha256:" + "ab" * 32)))


def test_the_files_go_where_nothing_is_against_it_and_else_a_dump_does() -> None:
    assert planner.way_of(REQUEST, replace(FOUND, files=UPWARDS)).strategy == "physical"
    hindered = replace(FOUND, files=replace(UPWARDS, against=("the cluster has tablespaces",)))
    way = planner.way_of(REQUEST, hindered)
    assert (way.strategy, way.reason) == ("dump", "physical: the cluster has tablespaces")
    assert "not by     physical: the cluster has tablespaces" in planner.text_of(REQUEST, hindered, [], dump="/d")
    assert planner.way_of(replace(REQUEST, strategy="dump"), replace(FOUND, files=UPWARDS)).strategy == "dump"


@pytest.mark.parametrize(
    "former, new, words",
    [
        ("blog", "blog-17", ""),
        ("blog", "blog", ""),
        ("blog", "postgres", "a database postgres beside blog"),
        ("blog", "blog-new", "a database blog_new beside blog"),
        ("postgres", "blog-17", "the database is called postgres"),
    ],
)
def test_files_do_not_go_where_the_new_services_name_is_another_databases(former: str, new: str, words: str) -> None:
    against = " ".join(files_way.against_names(former, new, ["blog", "blog_new", "postgres", "template1"]))
    assert words in against
    assert bool(against) is bool(words)


def test_what_was_asked_for_by_name_and_cannot_be_is_no_other_way() -> None:
    hindered = replace(UPWARDS, against=("the cluster has tablespaces",))
    assert "Set strategy: dump" in texts(replace(REQUEST, strategy="physical"), files=hindered)


def test_what_a_dump_would_leave_behind_is_nothing_where_the_files_go() -> None:
    changes: dict[str, Any] = {
        "beside": {"the roles": ["reader"]},
        "lacks": (Blocker("The image lacks postgis."),),
        "data_room": Room("/", 1, 1 << 40),
        "backup_room": Room("/", 1, 1 << 40),
    }
    assert texts(files=UPWARDS, **changes) == ""
    refused = texts(files=replace(UPWARDS, against=("the cluster has tablespaces",)), **changes)
    assert "reader" in refused
    assert "physical would take it along, but the cluster has tablespaces" in refused


def kinds(way: FilesWay) -> list[str]:
    found = replace(FOUND, files=way)
    steps = planner.steps_of(REQUEST, found, dump="/d", operation="op")
    assert [step.name for step in steps if step.proves] == [planner.LET_IN]
    assert [step.phase for step in steps] == sorted((step.phase for step in steps), key=[PREPARE, SWITCH, FINISH].index)
    told = json.dumps([step.as_dict() for step in steps])
    assert "hush" not in told
    assert "of-old" not in told
    return [step.kind for step in steps]


def test_the_files_are_copied_before_the_downtime_and_go_after_the_old_server_has_stopped() -> None:
    assert kinds(UPWARDS) == [
        "keep_image", "keep_image", "dokku_make", "dokku_keep_dump", "dokku_vacate", "make_upgradable_cluster",
        "make_standby_to_rebuild",
        "look_again", "arrange_stop", "hold_restarts", "dokku_quiet", "dokku_count", "remember_service", "stop_stores",
        "promote_standby_to_rebuild", "upgrade", "dokku_serve", "compare_service", "dokku_adopt",
        "dokku_repoint", "dokku_let_in",
        "dokku_show", "dokku_carry_backups", "remove_helpers", "discard", "analyze", "dokku_tidy", "dokku_retire",
    ]  # fmt: skip


def test_within_a_major_version_the_copy_itself_is_served() -> None:
    assert kinds(SIDEWAYS) == [
        "keep_image", "keep_image", "dokku_make", "dokku_keep_dump", "dokku_vacate", "make_standby",
        "look_again", "arrange_stop", "hold_restarts", "dokku_quiet", "dokku_count", "remember_service", "stop_stores",
        "promote_standby", "dokku_serve", "compare_service", "dokku_adopt", "dokku_repoint", "dokku_let_in",
        "dokku_show", "dokku_carry_backups", "remove_helpers", "dokku_tidy", "dokku_retire",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "way, asked", [(UPWARDS, ("pg_upgrade", "replica")), (SIDEWAYS, ("swap", "replica"))], ids=["upwards", "sideways"]
)
def test_before_anything_stops_the_cluster_is_asked_again(way: FilesWay, asked: tuple[str, str]) -> None:
    steps = planner.steps_of(REQUEST, replace(FOUND, files=way), dump="/d", operation="op")
    (look,) = [step for step in steps if step.kind == "look_again"]
    assert (look.args["strategy"], look.args["copied_by"]) == asked
    assert {step.kind for step in steps} <= journey.HANDLERS.keys()


def test_where_the_old_server_stops_nobody_is_kept_from_writing_before_it() -> None:
    def read_only(files: FilesWay | None) -> Any:
        steps = planner.steps_of(REQUEST, replace(FOUND, files=files), dump="/d", operation="op")
        return next(step for step in steps if step.name == planner.QUIET).args["read_only"]

    assert planner.steps_of(REQUEST, FOUND, dump="/d", operation="op")[3].args["image_id"] == OLD.image_id
    assert read_only(None) is True
    assert read_only(UPWARDS) is False


def test_what_a_dump_leaves_behind_is_noted_to_be_asked_for_again_and_told_in_part() -> None:
    beside = {"the databases": [f"d{number}" for number in range(7)]}
    steps = planner.steps_of(REQUEST, replace(FOUND, beside=beside), dump="/d", operation="op")
    (asking,) = [step.args for step in steps if step.name == planner.QUIET]
    assert asking["exported"] == {"beside": beside, "to": FOUND.image_id}
    assert "the databases d0, d1, d2, d3, d4 and 2 more" in texts(beside=beside)
    steps = planner.steps_of(REQUEST, replace(FOUND, beside=beside, files=UPWARDS), dump="/d", operation="op")
    assert not [step for step in steps if "exported" in step.args]


def test_our_own_statistics_are_no_writes_of_others() -> None:
    taken = {planner.IMPORT: {"next_xid": 100}, "analyze dokku.postgres.old": {"transactions": 7}}
    assert (planner.brought(taken) or {})["next_xid"] == 107
    assert planner.brought({"analyze": {"transactions": 7}}) is None
