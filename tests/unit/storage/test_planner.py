# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The order is the safety: what must come before what, in every plan that can be made, there and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    FINISH,
    PREPARE,
    SWITCH,
    Plan,
    Step,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.standby_steps import MOVE_HANDLERS
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import planner, rollback_plan
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    ANONYMOUS,
    AUTO,
    LAYER,
    NAMED,
    POSTGRESQL,
    REDIS,
    RENAME,
    REPLICA,
    STRATEGIES,
    Findings,
    MountRequest,
    Move,
    Request,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.preflight import name_of
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.strategy import Choice, choose
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Location, Transfer
from tests.unit.storage.findings import REQUEST, REWRITE, a_move, findings, stopped

MOVES = {"rename", "clone", "settle", "promote_standby"}
WARM = {"warm_copy", "make_standby"}
STOPS = {"stop_dependents", "stop_stores"}


@st.composite
def moves(draw: st.DrawFn, service: str, store: str) -> Move:
    kind = draw(st.sampled_from([ANONYMOUS, NAMED, LAYER]))
    options = {"o": "bind"} if kind == NAMED and draw(st.booleans()) else {}
    cannot = draw(st.sets(st.sampled_from(STRATEGIES[:3])))
    return a_move(
        service=service, store=store, kind=kind, volume="" if kind == LAYER else "v", volume_options=options,
        running=draw(st.booleans()), source=f"/srv/app/{service}", cannot=dict.fromkeys(cannot, "no"),
        subpath=draw(st.sampled_from(["", "18/docker"])),
    )  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> Request:
    return replace(
        REQUEST,
        backup=draw(st.sampled_from(["auto", "physical", "none"])),
        rewrite=draw(st.sampled_from(["in_place", "override", "none"])),
    )


@st.composite
def projects(draw: st.DrawFn) -> Findings:
    wanted = [draw(moves("db", POSTGRESQL))]
    if draw(st.booleans()):
        wanted.append(draw(moves("redis", REDIS)))
    groups = draw(st.sampled_from([(), ((stopped("web"),),), ((stopped("web"), stopped("job")), (stopped("api"),))]))
    rewrite = draw(st.sampled_from([REWRITE, replace(REWRITE, paths=())]))
    floating = {"db": "means 18"} if draw(st.booleans()) else {}
    return findings(*wanted, dependents=groups, rewrite=rewrite, floating=floating)


def planned(request: Request, found: Findings) -> Plan:
    choices = {name_of(move): choose(move, AUTO) for move in found.moves}
    goal = planner.goal_of(request, found.moves)
    transfers = planner.transfers_for(request, found, choices, "op-1")
    steps = planner.steps_for(request, found, transfers, "/srv/app/backups/op-1")
    return planner.plan_of(goal, steps, summary={}, text="")


def way_back(request: Request, found: Findings, hunks: Sequence[dict[str, Any]] = ({"path": "/f"},)) -> Plan:
    choices = {name_of(move): choose(move, AUTO) for move in found.moves}
    done = planner.transfers_for(request, found, choices, "op-1")
    back, ways = [], {}
    for transfer, move in zip(done, found.moves):
        data = replace(move.data, kind="bind", volume="", host_path=transfer.goal.path, volume_options={})
        reverse = replace(move, data=data, source=transfer.goal.path)
        cannot = {RENAME: "a layer", "clone": "a layer", REPLICA: "a layer"} if transfer.origin.kind == LAYER else {}
        ways[transfer.name] = choose(replace(reverse, cannot=cannot), AUTO)
        back.append(rollback_plan.reverse_transfer(transfer, reverse, ways[transfer.name].strategy, request, "back-1"))
    steps = rollback_plan.rollback_steps(request, found, back, "/srv/app/backups/back-1", hunks, {})
    return rollback_plan.rollback_plan(request, ways, back, steps, "op-1")


def positions(steps: Sequence[Step], kinds: set[str]) -> list[int]:
    return [number for number, step in enumerate(steps) if step.kind in kinds]


def assert_before(steps: Sequence[Step], first: set[str], then: set[str]) -> None:
    """Assert that every step of ``first`` comes before every step of ``then``."""
    earlier, later = positions(steps, first), positions(steps, then)
    assert not earlier or not later or max(earlier) < min(later), [step.kind for step in steps]


def assert_safe(plan: Plan) -> None:
    steps = plan.steps
    known = MOVE_HANDLERS
    assert {step.kind for step in steps} <= set(known), "every kind has its handler"
    disturbing = STOPS | MOVES | {"keep_layer", "vacate", "rewrite", "reverse_files", "create_containers"}
    assert_before(steps, {"backup", "count_before"} | WARM, {"arrange_stop", "hold_restarts"} | disturbing)
    assert_before(steps, {"hold_volume"}, STOPS)
    for number in positions(steps, {"hold_volume"}):
        reading = [step for step in steps[:number] if step.kind in WARM | MOVES]
        assert steps[number].args["transfer"] not in [step.args["transfer"] for step in reading], (
            "held before it is read"
        )
    assert_before(steps, {"hold_restarts"}, STOPS)
    assert_before(steps, {"arrange_stop"}, STOPS)
    assert_before(steps, {"stop_dependents"}, {"stop_stores"})
    assert_before(steps, {"stop_stores"}, MOVES | {"keep_layer", "vacate", "rewrite", "reverse_files"})
    assert_before(steps, MOVES | {"keep_layer", "vacate"}, {"rewrite", "reverse_files"})
    assert_before(steps, MOVES | {"rewrite", "reverse_files"}, {"create_containers"})
    assert_before(steps, {"create_containers"}, {"start_stores"})
    assert_before(steps, {"start_stores"}, {"prove_goal"})
    after = {"start_dependents", "restore_restarts", "compare_counts", "retain", "release_volume", "remove_helpers"}
    assert_before(steps, {"prove_goal"}, after | {"keep_in_place", "free_name"})
    assert [step.kind for step in steps if step.proves] == ["prove_goal"]
    names = [step.name for step in steps]
    assert len(set(names)) == len(names)
    assert {step.phase for step in steps if step.kind in {"backup", "count_before", "hold_volume"} | WARM} <= {PREPARE}
    assert {step.phase for step in steps if step.kind in disturbing | {"start_stores", "prove_goal"}} == {SWITCH}
    assert {step.phase for step in steps if step.kind in after} == {FINISH}
    assert Plan.from_dict(json.loads(json.dumps(plan.as_dict()))) == plan


@given(requests(), projects())
def test_no_move_can_lose_data_by_its_order(request: Request, found: Findings) -> None:
    plan = planned(request, found)
    assert_safe(plan)
    kinds = [step.kind for step in plan.steps]
    assert sum(kinds.count(kind) for kind in MOVES) == len(found.moves)
    assert kinds.count("backup") == (0 if request.backup == "none" else len(found.moves))
    assert ("rewrite" in kinds) == bool(found.rewrite.paths)
    assert ("stop_dependents" in kinds) == ("start_dependents" in kinds) == bool(found.dependents)
    assert kinds.count("keep_layer") == sum(move.data.kind == LAYER for move in found.moves)
    volumes = sum(move.data.kind != LAYER for move in found.moves)
    assert kinds.count("hold_volume") == kinds.count("release_volume") == volumes, "none is a prune's meanwhile"
    # Named while the engine still shows it.
    assert_before(plan.steps, {"keep_in_place"}, {"release_volume"})
    moved_whole = kinds.count("rename")
    assert kinds.count("retain") + kinds.count("keep_in_place") == volumes - moved_whole, "every original is named"


def test_a_layer_is_kept_on_its_own_file_system() -> None:
    found = findings(replace(a_move(kind=LAYER), kept_below="/engine/selfhost-stateful/retained"))
    transfers = planner.transfers_for(REQUEST, found, {name_of(m): choose(m, AUTO) for m in found.moves}, "op-1")
    assert transfers[0].retained == "/engine/selfhost-stateful/retained/op-1/db_var_lib_postgresql_data"


@given(requests(), projects())
def test_no_way_back_can_lose_data_by_its_order(request: Request, found: Findings) -> None:
    plan = way_back(request, found)
    assert_safe(plan)
    assert plan.reverts == "op-1"
    kinds = [step.kind for step in plan.steps]
    into_layers = sum(move.data.kind == LAYER for move in found.moves)
    assert sum(kinds.count(kind) for kind in MOVES) == len(found.moves) - into_layers
    assert kinds.count("vacate") == len(found.moves) - into_layers
    assert kinds.count("hold_volume") == kinds.count("release_volume") == len(found.moves) - into_layers
    for number in positions(plan.steps, {"vacate"}):
        assert plan.steps[number + 1].kind in MOVES, "what is kept is set aside right before the data comes"


@given(requests(), projects())
def test_the_same_findings_give_the_same_plan(request: Request, found: Findings) -> None:
    assert planned(request, found) == planned(request, found)
    assert way_back(request, found) == way_back(request, found)


@given(projects())
def test_every_original_is_kept_and_nothing_holds_a_secret(found: Findings) -> None:
    plan = planned(REQUEST, found)
    for transfer in transfers_of(plan):
        kept = transfer.strategy == RENAME or any(
            step.kind in ("retain", "keep_layer", "release_volume")
            and Transfer.from_dict(step.args["transfer"]).name == transfer.name
            for step in plan.steps
        )
        assert kept, transfer
        assert transfer.staging.startswith("/srv/app/."), "beside the goal, so that the last rename is one"


def transfers_of(plan: Plan) -> list[Transfer]:
    (stop,) = [step for step in plan.steps if step.kind == "stop_stores"]
    return [Transfer.from_dict(raw) for raw in stop.args["transfers"]]


def test_every_container_that_is_stopped_is_held_before() -> None:
    plan = planned(REQUEST, findings())
    (hold,) = [step for step in plan.steps if step.kind == "hold_restarts"]
    (stop,) = [step for step in plan.steps if step.kind == "stop_dependents"]
    assert set(hold.args["containers"]) == {"id-db", "id-web", "id-api"}
    assert stop.args["order"] == [["id-web"], ["id-api"]], "the outermost first"
    (restore,) = [step for step in plan.steps if step.kind == "restore_restarts"]
    assert set(restore.args["containers"]) == {"id-web", "id-api"}, "the stores' are new containers"


def test_an_image_is_pinned_only_where_its_tag_means_another_one() -> None:
    (create,) = [s for s in planned(REQUEST, findings(floating={"db": "x"})).steps if s.kind == "create_containers"]
    assert create.args["pins"] == {"db": "sha256:" + "1" * 64}
    (create,) = [s for s in planned(REQUEST, findings()).steps if s.kind == "create_containers"]
    assert create.args["pins"] == {}


def test_an_image_gets_into_the_file_only_where_that_was_asked_for() -> None:
    found = findings(images_to_write={"db": "postgres@sha256:1"})
    assert planner.rewrite_args(REQUEST, found)["images"] == {}
    assert planner.rewrite_args(replace(REQUEST, pin_images=True), found)["images"] == {"db": "postgres@sha256:1"}


def test_a_part_of_a_store_has_no_backup_of_its_own() -> None:
    found = findings(a_move(), a_move(service="db", target="/fast", backed_up_with="/var/lib/postgresql/data"))
    assert [step.name for step in planned(REQUEST, found).steps if step.kind == "backup"] == [
        "back up db:/var/lib/postgresql/data"
    ]


def test_the_file_says_all_that_is_asked_for_also_what_is_there_already() -> None:
    mounts = (
        MountRequest("db", "/srv/app/postgres", "/var/lib/postgresql/data", "./postgres"),
        MountRequest("redis", "/srv/app/redis", "/data", "./redis"),
    )
    said = planner.rewrite_args(replace(REQUEST, mounts=mounts), findings())["mounts"]
    assert said == [
        {"service": "db", "target": "/var/lib/postgresql/data", "source": "./postgres"},
        {"service": "redis", "target": "/data", "source": "./redis"},
    ]


def test_the_way_back_exchanges_origin_and_goal() -> None:
    found = findings()
    (there,) = transfers_of(planned(REQUEST, found))
    (back,) = transfers_of(way_back(REQUEST, found))
    assert back.goal == there.origin
    assert (back.origin.kind, back.origin.path) == ("bind", there.goal.path)
    assert back.staging == "/engine/volumes/v/._data.partial-back-1"


def test_a_way_back_without_lines_of_ours_leaves_the_file_alone() -> None:
    plan = way_back(replace(REQUEST, rewrite="none"), findings(), hunks=())
    assert "reverse_files" not in [step.kind for step in plan.steps]
    (create,) = [step for step in plan.steps if step.kind == "create_containers"]
    assert create.args["file_is_theirs"] is True


# -- transfers -----------------------------------------------------------------

texts = st.text(max_size=12)
locations = st.builds(Location, st.sampled_from([ANONYMOUS, NAMED, LAYER, "bind"]), texts, texts)
facts = st.dictionaries(texts, st.integers() | texts | st.lists(texts), max_size=3)
transfers = st.builds(
    Transfer, texts, texts, locations, locations, st.sampled_from(STRATEGIES), texts, facts, texts, texts, texts,
    st.lists(texts, max_size=2).map(tuple), st.booleans(), texts, st.integers(), st.integers(), st.integers(),
    st.dictionaries(texts, texts, max_size=2),
)  # fmt: skip


@given(transfers)
def test_a_transfer_survives_json(transfer: Transfer) -> None:
    assert Transfer.from_dict(json.loads(json.dumps(transfer.as_dict()))) == transfer


def test_what_proves_the_goal_is_in_the_engines_own_keys() -> None:
    (there,) = transfers_of(planned(REQUEST, findings()))
    (back,) = transfers_of(way_back(REQUEST, findings()))
    assert there.expected_mount() == {
        "Type": "bind", "Source": "/srv/app/postgres", "Destination": "/var/lib/postgresql/data", "RW": True,
    }  # fmt: skip
    assert back.expected_mount() == {
        "Type": "volume", "Name": "a" * 64, "Destination": "/var/lib/postgresql/data", "RW": True,
    }  # fmt: skip
    assert replace(there, goal=Location(LAYER, "")).expected_mount() == {}


def test_the_data_directory_may_lie_below_its_mount() -> None:
    (there,) = transfers_of(planned(REQUEST, findings(a_move(subpath="18/docker"))))
    assert there.data_at(there.goal) == "/srv/app/postgres/18/docker"
    (plain,) = transfers_of(planned(REQUEST, findings()))
    assert plain.data_at(plain.goal) == "/srv/app/postgres"


def test_a_choice_without_a_strategy_makes_no_move_step() -> None:
    """A plan with a blocker is shown and never run, so it must not break either."""
    found = findings()
    choices = {name_of(move): Choice("", "none", {}) for move in found.moves}
    assert planner.transfers_for(REQUEST, found, choices, "op-1")[0].strategy == ""
