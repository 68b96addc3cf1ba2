# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From version to version on the real engine: all of the data comes along, or everything is as it was."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.concurrent.lab import RUNGS, Lab, laid_out
from tests.sandbox import images
from tests.sandbox.engine import Engine
from tests.support.killing import kill_worker

IMAGES = ("concurrent:v0.2.5", "concurrent:v0.3.0", "concurrent:v0.4.0", "concurrent:v1.2.0", "postgres:17", "redis:8")
pytestmark = pytest.mark.xdist_group("concurrent")
LAYOUT: dict[str, Any] = {"postgres": "17", "redis": "8"}
EMOJI = (
    "SELECT count(*) FROM associations WHERE schema LIKE '%/associations/emoji/0.0.1.json'"
    " AND variant IS DISTINCT FROM payload->'body'->>'imageUrl'"
)


@pytest.fixture(scope="module")
def engine(shared_engine: Engine) -> Engine:
    images.ensure(IMAGES, shared_engine)
    return shared_engine


@pytest.fixture(scope="module")
def host(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Yield a v0.2 that tests leave as they found it."""
    with laid_out(tmp_path_factory.mktemp("concurrent"), engine, **LAYOUT) as lab:
        lab.project.git("fetch", "-q", "--tags")
        yield lab


def test_everything_is_reloaded_then_filled_then_taken_back(engine: Engine, tmp_path: Path) -> None:
    with laid_out(tmp_path, engine, **LAYOUT) as lab:
        before, items = lab.rows(), lab.stream_items()
        old = lab.state()
        seen = lab.run("concurrent_info", version="v0.4.0", fetch=True, ladder=list(RUNGS.values()))
        foreseen = lab.to("v0.3.0", "v0.3", check=True)
        untouched = lab.state()

        reloaded = lab.to("v0.3.0", "v0.3", backup="auto")
        again = lab.to("v0.3.0", "v0.3")
        assert [(stop["version"], stop["kind"]) for stop in seen["way"]] == [("v0.3.0", "reload"), ("v0.4.0", "query")]
        assert foreseen["changed"]
        assert untouched == old
        assert reloaded["changed"], reloaded
        assert lab.rows() == before
        assert lab.project.sql("SELECT count(*) FROM stream_items") == str(items)
        assert reloaded["verification"]["loaded"]["streams"] == {"streams": before["streams"], "items": items}
        assert {copy["role"] for copy in reloaded["copies"]} == {"backup", "original"}
        assert not again["changed"]
        assert lab.version() == "v0.3.0"
        assert lab.project.web_status() == 200

        filled = lab.to("v0.4.0", "v0.4")
        assert filled["changed"], filled
        assert filled["verification"]["migrations"][0]["rows"] > 0
        assert lab.project.sql(EMOJI) == "0"
        assert lab.rows() == before

        refused = lab.operation(id=reloaded["operation"], state="rolled_back")
        assert filled["operation"] in refused["msg"]  # the newest goes first
        lab.project.sql("INSERT INTO entities (id, c_date) VALUES ('new', now())")
        kept = lab.operation(id=filled["operation"], state="rolled_back")
        assert kept["changed"], kept
        assert lab.version() == "v0.3.0"
        assert lab.rows() == {**before, "entities": before["entities"] + 1}  # nothing is lost

        lossy = lab.operation(id=reloaded["operation"], state="rolled_back")
        assert "has taken about" in lossy["msg"]
        assert lab.version() == "v0.3.0"
        assert lab.project.web_status() == 200
        back = lab.operation(id=reloaded["operation"], state="rolled_back", discard_writes=True)
        assert back["changed"], back
        assert lab.state() == old


def broken(**changes: Any) -> dict[str, Any]:
    """Return the rung of a reload with a trap in the way of its first kind."""
    rung: dict[str, Any] = copy.deepcopy(RUNGS["v0.3"])
    kind = rung["kinds"][0]
    for name, value in changes.items():
        kind[name] = value(kind[name])
    return rung


NONE = "0 entities are there, and 60 were dumped"
TRAPS: dict[str, tuple[dict[str, Any], str]] = {
    "a dump that is cut off": (broken(dump=lambda argv: ["env", "CCADMIN_CUT_AFTER=2000", *argv]), "is no JSON"),
    "a load that loses": (broken(load=lambda argv: ["env", "CCADMIN_LOSE=3", *argv]), "57 entities are there, and 60"),
    "an unknown mode of the dump": (broken(words=lambda _words: ["everything"]), "is no JSON"),
    "an unknown mode of the load": (broken(load=lambda argv: [*argv[:-1], "everything"]), NONE),
    "the word for one": (broken(load=lambda argv: [*argv[:-1], "entity"]), NONE),
    "nothing on its input": (broken(load=lambda argv: ["sh", "-c", f"{' '.join(argv)} </dev/null"]), NONE),
    "something else on its input": (broken(load=lambda argv: ["sh", "-c", f"echo x | {' '.join(argv)}"]), NONE),
    "a table that is not there": (broken(load=lambda argv: ["sh", "-c", f"{' '.join(argv)} -d postgres"]), NONE),
    "a database that is away": (broken(load=lambda argv: [each.replace("db", "nowhere") for each in argv]), "with 2"),
}


@pytest.mark.faults
@pytest.mark.parametrize("trap", TRAPS)
def test_what_ends_well_and_did_not_work_is_found_by_counting(host: Lab, trap: str) -> None:
    before = host.state()
    rung, words = TRAPS[trap]

    failed = host.run("concurrent_version", version="v0.3.0", rung=rung)

    assert failed["failed"], failed
    assert words in failed["msg"]
    assert failed["safe_to_rerun"]
    assert host.state() == before
    assert host.project.web_status() == 200


@pytest.mark.faults
def test_loading_twice_adds_nothing(host: Lab, engine: Engine, tmp_path: Path) -> None:
    rung = broken(load=lambda argv: ["sh", "-c", f"cat > /tmp/all; for i in 1 2; do {' '.join(argv)} </tmp/all; done"])
    with laid_out(tmp_path, engine, **LAYOUT) as lab:
        lab.project.git("fetch", "-q", "--tags")
        before = lab.rows()

        loaded = lab.run("concurrent_version", version="v0.3.0", rung=rung)

        assert loaded["changed"], loaded
        assert lab.rows() == before


@pytest.mark.faults
def test_what_is_the_admins_own_stops_it_before_anything(host: Lab) -> None:
    before, compose = host.state(), host.project.directory / "compose.yml"
    text = compose.read_text()
    compose.write_text(text + "# mine\n")
    changed = host.to("v0.3.0", "v0.3")
    kept = compose.read_text()
    compose.write_text(text)

    host.project.git("checkout", "-q", "-b", "mine")
    try:
        compose.write_text(text.replace("v0.2.5", "v0.2.5-mine"))
        host.project.git("-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qam", "mine")
        conflict = host.to("v0.3.0", "v0.3")
    finally:
        host.project.git("checkout", "-q", "--detach", before["head"])
        host.project.git("branch", "-qD", "mine")

    assert "was changed here and is not committed" in changed["msg"]
    assert kept.endswith("# mine\n")
    assert "are in conflict in docs/compose.yml" in conflict["msg"]
    assert host.state() == before


@pytest.mark.faults
def test_what_is_not_dumped_is_left_behind_only_where_that_was_accepted(host: Lab) -> None:
    sql = host.project.sql
    sql("CREATE TABLE acks (id int); INSERT INTO acks VALUES (1), (2)")
    sql("CREATE ROLE reader")
    sql("ALTER DATABASE concurrent SET work_mem = '8MB'")
    try:
        blocked = host.to("v0.3.0", "v0.3", check=True)
        left = ["table:public.acks", "role:reader", "setting:work_mem"]
        accepted = host.to("v0.3.0", "v0.3", check=True, accept_left=left)
    finally:
        sql("DROP TABLE acks")
        sql("DROP ROLE reader")
        sql("ALTER DATABASE concurrent RESET work_mem")

    assert "table:public.acks (2 rows), role:reader, setting:work_mem. What is to be kept" in blocked["msg"]
    assert accepted["plan"]["left"] == left
    assert "LEFT       table:public.acks (2 rows)" in accepted["plan_text"]


@pytest.mark.faults
def test_what_belongs_to_nothing_stays_behind_only_where_that_was_accepted(engine: Engine, tmp_path: Path) -> None:
    with laid_out(tmp_path, engine, **LAYOUT) as lab:
        lab.project.git("fetch", "-q", "--tags")
        sql = lab.project.sql
        answered = "(SELECT target_id FROM associations WHERE target_type = 'messages' LIMIT 1)"
        sql(f"DELETE FROM messages WHERE id = {answered}")
        orphans = int(
            sql(
                "SELECT count(*) FROM associations a WHERE target_type = 'messages' AND NOT EXISTS"
                " (SELECT FROM messages m WHERE m.id = a.target_id)"
            )
        )
        lab.project.redis("XADD", "left-over", "*", "id", "1")
        before, items, old = lab.rows(), lab.stream_items(), lab.state()

        blocked = lab.to("v0.3.0", "v0.3")
        assert (
            f"orphans:associations ({orphans} that belong to nothing that is there), orphans:items (1 that"
            in blocked["msg"]
        )
        assert lab.state() == old

        reloaded = lab.to("v0.3.0", "v0.3", accept_left=["orphans:associations", "orphans:items"])
        assert reloaded.get("changed"), reloaded
        assert lab.rows() == {**before, "associations": before["associations"] - orphans}
        assert sql("SELECT count(*) FROM stream_items") == str(items - 1)
        assert lab.version() == "v0.3.0"


STEPS = ("quiet", "check the release out", "dump", "set the old data aside", "load", "start everything")


@pytest.mark.faults
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step_the_next_run_ends_it(engine: Engine, tmp_path: Path, step: str) -> None:
    with laid_out(tmp_path, engine, **LAYOUT) as lab:
        lab.project.git("fetch", "-q", "--tags")
        before, items = lab.rows(), lab.stream_items()
        process = lab.start("concurrent_version", version="v0.3.0", rung=RUNGS["v0.3"])
        kill_worker(process, lab.directory / "operations", step)

        ended = lab.to("v0.3.0", "v0.3")

        assert ended["changed"], json.dumps(ended, indent=1)
        assert lab.rows() == before
        assert lab.project.sql("SELECT count(*) FROM stream_items") == str(items)
        assert lab.version() == "v0.3.0"
        assert lab.project.web_status() == 200

        committed = lab.operation(id=ended["operation"], state="committed")
        removed = [each["path"] for each in committed["removed"]]
        # The old cluster and the copy of Redis; and what was half loaded, where the kill left anything of it.
        assert len([path for path in removed if ".discarded-" not in path]) == 2, committed
        assert not [each["path"] for each in committed["removed"] if Path(each["path"]).exists()]
        assert lab.rows() == before


@pytest.mark.faults
@pytest.mark.parametrize(
    "step", ["quiet", "check the release out", "start the api alone", "migrate", "start everything"]
)
def test_killed_at_a_step_of_a_query(engine: Engine, tmp_path: Path, step: str) -> None:
    with laid_out(tmp_path, engine, version="v0.3.0", **LAYOUT) as lab:
        lab.project.git("fetch", "-q", "--tags")
        before = lab.rows()
        process = lab.start("concurrent_version", version="v0.4.0", rung=RUNGS["v0.4"])
        kill_worker(process, lab.directory / "operations", step)

        ended = lab.to("v0.4.0", "v0.4")

        assert ended["changed"], json.dumps(ended, indent=1)
        assert lab.rows() == before
        assert lab.project.sql(EMOJI) == "0"
        assert lab.version() == "v0.4.0"


@pytest.mark.faults
@pytest.mark.parametrize("step", ["quiet", "check the release out", "dump", "set the old data aside", "load"])
def test_rolled_back_after_a_kill(engine: Engine, tmp_path: Path, step: str) -> None:
    with laid_out(tmp_path, engine, **LAYOUT) as lab:
        lab.project.git("fetch", "-q", "--tags")
        before = lab.state()
        process = lab.start("concurrent_version", version="v0.3.0", rung=RUNGS["v0.3"])
        kill_worker(process, lab.directory / "operations", step)

        back = lab.operation(project=lab.project.name, state="rolled_back")

        assert back["changed"], back
        assert lab.state() == before
        assert lab.project.web_status() == 200


@pytest.mark.faults
@pytest.mark.parametrize("undone", ["start everything", "load", "set the old data aside", "check the release out"])
def test_killed_on_the_way_back_the_next_roll_back_ends_it(engine: Engine, tmp_path: Path, undone: str) -> None:
    with laid_out(tmp_path, engine, **LAYOUT) as lab:
        lab.project.git("fetch", "-q", "--tags")
        before = lab.state()
        reloaded = lab.to("v0.3.0", "v0.3")
        assert reloaded["changed"], json.dumps(reloaded, indent=1)
        # The api writes by itself, such as that it has heard of another host.
        wanted = {"id": reloaded["operation"], "state": "rolled_back", "discard_writes": True}
        process = lab.start("operation", **wanted)
        kill_worker(process, lab.directory / "operations", undone, what="undone")

        back = lab.operation(**wanted)

        assert back["changed"], json.dumps(back, indent=1)
        assert lab.state() == before
        assert lab.project.web_status() == 200


@pytest.mark.faults
def test_the_folder_of_the_files_changes_and_the_data_goes_along(engine: Engine, tmp_path: Path) -> None:
    with laid_out(tmp_path, engine, version="v0.4.0", data="composeData", untagged=True, **LAYOUT) as lab:
        lab.project.git("fetch", "-q", "--tags")
        old = lab.state()
        images.ensure(["postgres:18"], engine)
        lab.project.publish_postgres("18")  # what a pull brings today

        moved = lab.to("v1.2.0")
        assert moved["changed"], moved
        assert lab.rows() == old["rows"]
        assert (lab.project.checkout / "_docs/composeData/db/PG_VERSION").read_text().strip() == "17"
        assert not (lab.project.checkout / "docs/composeData").exists()
        assert ":17" in (lab.project.checkout / "_docs/compose.override.yml").read_text()

        back = lab.operation(id=moved["operation"], state="rolled_back")
        assert back["changed"], back
        assert lab.state() == old


@pytest.mark.faults
def test_killed_while_no_folder_has_a_compose_file_the_next_run_ends_it(engine: Engine, tmp_path: Path) -> None:
    with laid_out(tmp_path, engine, version="v0.4.0", **LAYOUT) as lab:
        lab.project.git("fetch", "-q", "--tags")
        before = lab.rows()
        process = lab.start("concurrent_version", version="v1.2.0")
        kill_worker(process, lab.directory / "operations", "check the release out")
        for folder in ("docs", "_docs"):
            (lab.project.checkout / folder / "compose.yml").unlink(missing_ok=True)

        ended = lab.to("v1.2.0")

        assert ended["changed"], json.dumps(ended, indent=1)
        assert lab.rows() == before
        assert lab.version() == "v1.2.0"


@pytest.mark.faults
def test_a_tag_that_floats_means_again_what_it_meant(engine: Engine, tmp_path: Path) -> None:
    rung, words = TRAPS["a load that loses"]
    with laid_out(tmp_path, engine, floating=True, **LAYOUT) as lab:
        lab.project.git("fetch", "-q", "--tags")
        before = lab.state()
        stays = lab.to("v0.3.0", "v0.3")  # the file says latest, and that is still the old one
        lab.project.publish("v0.3.0")

        failed = lab.run("concurrent_version", version="v0.3.0", rung=rung)

        assert "is v0.2.5, and v0.3.0 is wanted" in stays["msg"]
        assert words in failed["msg"]
        assert lab.state() == before
        lab.project.compose("up", "-d", "--force-recreate")
        assert lab.version() == "v0.2.5"
