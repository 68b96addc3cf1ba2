# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan of an image change: what forbids it, and in which order its steps are safe."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import PREPARE, SWITCH
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import plan_text, planner, preflight
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.compatibility import compare
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    CandidateImage,
    ImageFindings,
    ImageRequest,
    Wanted,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.steps import RefreshService
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.strategy import choose_way
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Tablespace
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    ANONYMOUS,
    BIND,
    POSTGRESQL,
    REPLICA,
    DataPath,
    Findings,
    MountRequest,
    Move,
    Place,
    PlannedRewrite,
    Request,
    StoppedContainer,
    StoreFacts,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.strategy import Choice

from .subjects import DOWNGRADED, IMAGE, SUBJECT, UPGRADED

HERE = Place("/srv/app/postgres17", False, True, "ext4", 1, "/", 1 << 40, False)
DATA = DataPath(
    "db", "/var/lib/postgresql/data", BIND, "/srv/app/postgres", POSTGRESQL, container="c1", running=True,
    size_bytes=1 << 30, facts=StoreFacts(POSTGRESQL, "15", "/var/lib/postgresql/data"),
)  # fmt: skip
MOVE = Move(DATA, HERE.path, "./postgres17", HERE, {})
DB = StoppedContainer("c1", "app-db-1", "db", "always", 0, 10)
WEB = StoppedContainer("c2", "app-web-1", "web", "always", 0, 10)
REQUEST = ImageRequest(
    Request("app", "/srv/app", (MountRequest("db", HERE.path, "/var/lib/postgresql/data", "./postgres17"),)),
    "db",
    "postgres:17",
)


def found(candidate: CandidateImage, asked: str = "auto", **more: Any) -> ImageFindings:
    subject = more.pop("subject", SUBJECT)
    comparison = compare(subject, candidate, standby_possible=True, reflinks=False, same_filesystem=True)
    way = choose_way(comparison, asked)
    stays = way.strategy == "swap"
    findings = Findings(
        moves=() if stays else (MOVE,),
        rewrite=PlannedRewrite(("/srv/app/compose.yml",), "replaced"),
        dependents=((WEB,),),
        stores=(DB,),
        backup_place=HERE,
    )
    whole: dict[str, Any] = {
        "findings": findings, "move": MOVE, "wanted": Wanted("/var/lib/postgresql/data", ""), "way": way,
        "copying": Choice(REPLICA, "", {}), "programs_place": HERE, **more,
    }  # fmt: skip
    return ImageFindings(subject, candidate, comparison, **whole)


def steps(findings: ImageFindings) -> list[Any]:
    transfer = planner.transfer_for(REQUEST, findings, "op-1")
    return list(planner.steps_for(REQUEST, findings, transfer, "op-1", "/backups/op-1"))


def test_an_upgrade_prepares_all_it_can_and_proves_before_it_lets_anybody_in() -> None:
    planned = steps(found(UPGRADED))
    kinds = [step.kind for step in planned]
    assert [step.kind for step in planned if step.phase == PREPARE] == [
        "backup", "count_before", "keep_image", "keep_image", "make_upgradable_cluster", "make_standby_to_rebuild",
    ]  # fmt: skip
    order = [
        "look_again", "await_upgrade", "arrange_stop", "hold_restarts", "stop_dependents", "stop_stores",
        "promote_standby_to_rebuild", "upgrade", "rewrite", "create_containers", "start_stores", "prove_goal",
    ]  # fmt: skip
    assert [kind for kind in kinds if kind in order] == order
    after = kinds[kinds.index("prove_goal") + 1 :]
    assert after.index("start_dependents") < after.index("discard")
    assert after.index("start_dependents") < after.index("keep_in_place") < after.index("discard")
    assert [step.kind for step in planned if step.proves] == ["prove_goal"]
    json.dumps([step.as_dict() for step in planned])


def test_it_is_told_what_is_done_and_why_nothing_faster() -> None:
    assert found(UPGRADED).way.reason == (
        "the files are taken from 15.4 to 17.2 by hard links on a standby that is promoted, and the original stays"
        " (no swap: a server of 17 cannot run on the files of 15)"
    )
    assert found(UPGRADED, "pg_upgrade").way.reason.endswith("and the original stays")


def test_both_images_have_a_name_of_ours_while_they_are_needed() -> None:
    keeping = [step.args for step in steps(found(UPGRADED)) if step.kind == "keep_image"]
    assert [args["image"] for args in keeping] == [IMAGE.id, UPGRADED.id]
    assert len({args["name"] for args in keeping}) == 2


def test_a_volume_that_is_left_is_held_from_before_anything_changes() -> None:
    findings = found(UPGRADED)
    volume = replace(DATA, kind=ANONYMOUS, volume="0" * 64)
    planned = steps(replace(findings, move=replace(MOVE, data=volume)))
    kinds = [step.kind for step in planned]
    assert next(step for step in planned if step.kind == "hold_volume").phase == PREPARE
    assert kinds.index("keep_image") < kinds.index("hold_volume"), "its image goes after it where all is undone"
    assert kinds.index("retain") < kinds.index("analyze") < kinds.index("release_volume")


def test_the_copy_that_is_upgraded_lies_beside_the_new_cluster_and_not_in_its_place() -> None:
    planned = {step.kind: step for step in steps(found(UPGRADED))}
    main = planned["upgrade"].args["transfer"]
    copy = planned["make_standby_to_rebuild"].args["transfer"]
    assert main["staging"] == "/srv/app/.postgres17.partial-op-1/new"
    assert copy["goal"]["path"] == "/srv/app/.postgres17.partial-op-1/old"
    assert copy["origin"]["path"] == main["origin"]["path"] == "/srv/app/postgres"
    assert (main["goal"]["path"], main["goal"]["image"]) == ("/srv/app/postgres17", UPGRADED.id)
    # What could write to the original is asked of every container, whatever its image.
    assert "image" not in copy["origin"]


def test_a_dump_takes_the_same_steps_but_for_the_way_in_which_the_new_cluster_is_filled() -> None:
    upgrading, dumping = steps(found(UPGRADED)), steps(found(UPGRADED, "dump"))
    others = {"make_upgradable_cluster": "make_cluster", "upgrade": "reload"}
    shared = [step for step in upgrading if step.kind != "await_upgrade"]
    assert [others.get(step.kind, step.kind) for step in shared] == [step.kind for step in dumping]
    loading = next(step for step in dumping if step.kind == "reload")
    made = next(step for step in dumping if step.kind == "make_cluster")
    assert (loading.args["made_by"], loading.args["verify"]) == (made.name, "fast")


def test_down_a_major_leads_a_dump_that_is_named_and_no_auto() -> None:
    older = replace(IMAGE, id="sha256:" + "cd" * 32, major="13", version="13.22", server_version_num=130022)
    assert found(older).way.strategy == ""
    assert "strategy: dump" in found(older).way.against["dump"]
    assert found(older, "dump").way.strategy == "dump"


def test_a_swap_leaves_the_data_where_it_is() -> None:
    newer = replace(IMAGE, id="sha256:" + "ab" * 32)
    findings = found(newer)
    planned = steps(findings)
    assert findings.way.strategy == "swap"
    assert {step.kind for step in planned} & {"make_upgradable_cluster", "upgrade", "keep_in_place", "retain"} == set()
    (transfer,) = next(step for step in planned if step.kind == "stop_stores").args["transfers"]
    assert transfer["origin"]["path"] == transfer["goal"]["path"]
    assert transfer["origin"]["image"] != transfer["goal"]["image"]
    assert next(step for step in planned if step.kind == "rewrite").args["mounts"] == []


OTHER_ORDER = replace(IMAGE, id="sha256:" + "ab" * 32, libc_version="2.99")


def test_another_order_of_text_is_seen_to_before_the_proof() -> None:
    kinds = [step.kind for step in steps(found(OTHER_ORDER)) if step.phase == SWITCH]
    assert kinds[0] == "look_again"
    assert kinds.index("start_stores") < kinds.index("refresh_service") < kinds.index("prove_goal")


@pytest.mark.parametrize(
    ("wanted", "asked", "reorders"),
    [(OTHER_ORDER, "swap", True), (UPGRADED, "pg_upgrade", False), (UPGRADED, "dump", False)],
)
def test_an_undo_lets_nobody_in_before_the_order_of_text_is_back(
    wanted: CandidateImage, asked: str, reorders: bool
) -> None:
    """Undone in reverse, the old server runs first, then its indexes are built anew, and then its users come."""
    undone = [step.kind for step in reversed(steps(found(wanted, asked)))]
    assert undone.index("create_containers") < undone.index("stop_stores") < undone.index("stop_dependents")
    assert ("order_back" in undone) == reorders
    if reorders:
        assert undone.index("refresh_service") < undone.index("create_containers")
        assert undone.index("stop_stores") < undone.index("order_back") < undone.index("stop_dependents")
        promise = next(step for step in steps(found(wanted, asked)) if step.kind == "order_back")
        named = {step.name: step.kind for step in steps(found(wanted, asked))}
        assert named[promise.args["stopped_by"]] == "stop_stores"
        assert named[promise.args["refreshed_by"]] == "refresh_service"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image_is_built": True}, "builds the image"),
        ({"programs_place": replace(HERE, free_bytes=1 << 20)}, "programs of the image"),
        ({"subject": replace(SUBJECT, cluster=replace(SUBJECT.cluster, tablespaces=(Tablespace(1, "fast", "/ssd"),)))},
         "fast (/ssd)"),
    ],
)  # fmt: skip
def test_what_forbids_it(change: dict[str, Any], told: str) -> None:
    refused = [blocker.text for blocker in preflight.blockers(REQUEST, found(UPGRADED, **change))]
    assert any(told in text for text in refused), refused


def test_no_way_leads_down() -> None:
    findings = found(DOWNGRADED)
    assert findings.way.strategy == ""
    refused = preflight.blockers(REQUEST, findings)
    assert "swap" in refused[0].text
    assert "BLOCKER" in plan_text.plan_text(REQUEST, findings, refused, [], "/backups")


def test_the_estimate_counts_against_the_limit() -> None:
    findings = found(UPGRADED)
    limited = replace(REQUEST, storage=replace(REQUEST.storage, max_downtime=0.1))
    assert any("max_downtime" in blocker.text for blocker in preflight.blockers(limited, findings))
    assert not any("max_downtime" in blocker.text for blocker in preflight.blockers(REQUEST, findings))


def test_an_update_that_no_way_back_takes_back_is_told() -> None:
    updating = replace(IMAGE, id="sha256:" + "ab" * 32, extensions={"plpgsql": "1.0", "hstore": "1.9"})
    findings = found(replace(updating, updates={"hstore": ("1.8", "1.9")}))
    assert any("hstore (1.8)" in told and "no way back" in told for told in preflight.warnings(REQUEST, findings))
    (step,) = [step for step in steps(findings) if step.kind == "refresh_service"]
    assert RefreshService().undo(step, None) == {"stays": ["the update of hstore in app"]}  # type: ignore[arg-type]


OTHER_LIBC = {"libc_version": "2.99"}
INDEXED = replace(SUBJECT, inventory=replace(SUBJECT.inventory, text_index_bytes=10 << 30, largest_text_index=4 << 30))


@pytest.mark.parametrize(
    ("candidate", "free", "enough"),
    [
        # The largest with its WAL, and the backup.
        (replace(IMAGE, id="sha256:" + "ab" * 32, **OTHER_LIBC), 7 << 30, True),
        (replace(IMAGE, id="sha256:" + "ab" * 32, **OTHER_LIBC), 6 << 30, False),
        # All of them, beside the copy, which holds the old ones.
        (replace(UPGRADED, **OTHER_LIBC), 14 << 30, True),
        (replace(UPGRADED, **OTHER_LIBC), 13 << 30, False),
        (UPGRADED, 4 << 30, True),
    ],
)
def test_indexes_that_are_built_anew_have_room(candidate: CandidateImage, free: int, enough: bool) -> None:
    here = replace(HERE, free_bytes=free)
    findings = found(candidate, subject=INDEXED, data_place=here, move=replace(MOVE, place=here))
    findings = replace(findings, findings=replace(findings.findings, backup_place=here))
    missing = [blocker.text for blocker in preflight.blockers(REQUEST, findings) if "built anew" in blocker.text]
    assert bool(missing) is not enough, missing
