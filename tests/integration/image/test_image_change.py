# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Another image serves the same data: what must be the same afterwards, and on every way back."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import OPERATION_LABEL, ROLE_LABEL
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import toolbox
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.bench import ROLE
from tests.integration.image.lab import (
    DB,
    MOMENTS,
    another_build,
    around,
    assert_words,
    build,
    image_id,
    now_runs,
    service,
)
from tests.integration.image_lab import image_lab
from tests.integration.storage.lab import Lab, children, wait_until
from tests.sandbox import images


def test_upgrade_under_writes_and_its_way_back(tmp_path: Path) -> None:
    """Settings, roles and order come along; the way back tells what it would lose, and the original is whole."""
    with service(tmp_path, "15", "17", dependent=True) as lab, lab.prober() as probe:
        project = lab.project
        project.sql("CREATE ROLE app LOGIN PASSWORD 'secret'")
        project.sql("ALTER SYSTEM SET work_mem = '7MB'")
        conf = project.directory / "postgres" / "postgresql.conf"
        # One that 17 does not know any more, and one of an included file.
        conf.write_text(conf.read_text() + "old_snapshot_threshold = 60\ninclude_if_exists 'ours.conf'\n")
        (conf.parent / "ours.conf").write_text("log_min_duration_statement = 4321\n")
        verifier = project.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'")
        before = around(lab)
        planned = lab.run(check=True).ok()
        assert (planned["changed"], planned["plan"]["strategy"]) == (True, "pg_upgrade")
        assert around(lab) == before

        result = lab.run().ok()
        now_runs(lab)
        lab.assert_moved(probe)
        assert project.sql("SHOW server_version_num").startswith("17")
        assert project.sql("SHOW work_mem").strip() == "7MB"
        assert project.sql("SHOW log_min_duration_statement").strip() == "4321ms"
        assert [line.partition(" ")[0] for line in result["settings_left_out"]] == ["old_snapshot_threshold"]
        assert project.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'") == verifier
        assert_words(lab)
        assert result["verification"]["logins_proved"] == ["web as app to postgres at db:5432"]
        originals = [copy["path"] for copy in result["copies"] if copy["role"] == "original"]
        assert originals == [str(project.directory / "postgres")]
        assert lab.run().ok()["changed"] is False

        refused = lab.end("rolled_back")
        assert "transactions" in refused.refusal()
        assert project.sql("SHOW server_version_num").startswith("17")
        lab.end("rolled_back", discard_writes=True).ok()
        project.wait_ready()
        assert project.sql("SHOW server_version_num").startswith("15")
        lab.assert_seed()
        assert_words(lab)
        project.compose("up", "-d", "--force-recreate")
        project.wait_ready()
        lab.assert_seed()


@pytest.mark.faults
def test_the_layout_of_18_and_a_way_back_without_writes(tmp_path: Path) -> None:
    """Mount and data directory change together; what was only read since is no reason to refuse the way back."""
    with service(tmp_path, "17", "18") as lab:
        result = lab.run().ok()
        now_runs(lab)
        lab.project.wait_ready()
        mounted = lab.inspected()["db"]["Mounts"]
        assert [(m["Type"], m["Destination"]) for m in mounted] == [("bind", "/var/lib/postgresql")]
        assert (lab.sources["db"] / "18" / "docker" / "PG_VERSION").read_text().strip() == "18"
        lab.assert_seed()
        lab.end("rolled_back").ok()
        lab.project.wait_ready()
        assert lab.project.sql("SHOW server_version_num").startswith("17")
        lab.assert_seed()
        kept = [copy["path"] for copy in result["copies"] if copy["role"] == "original"]
        assert kept == [str(lab.project.directory / "postgres")]
        # Of the change that was rolled back the backup is left, and of the roll back the new cluster.
        freed = lab.end("committed", id=result["operation"], remove_backups=True).ok()
        assert [copy["role"] for copy in freed["removed"]] == ["backup"]
        assert [copy["path"] for copy in lab.end("committed").ok()["removed"]] == [str(lab.sources["db"])]
        lab.assert_seed()


@pytest.mark.parametrize("moments", [["in"], pytest.param(MOMENTS, marks=pytest.mark.faults)])
def test_another_build_of_one_major_serves_the_same_files(tmp_path: Path, moments: list[str]) -> None:
    """By the image's id; killed at every step; the way back keeps what was written since."""
    with service(tmp_path, "17", "17") as lab, another_build(lab, "postgres:17") as reference:
        lab.options["image"] = reference
        lab.sources.clear()
        before = lab.images["db"]
        with lab.prober() as probe:
            result = lab.sweep(moments=moments, effects=[1])
            assert result["plan"]["strategy"] == "swap"
            now_runs(lab)
            lab.assert_nothing_lost(probe)
        lab.assert_as_before()
        lab.project.sql("INSERT INTO words VALUES ('since')")
        lab.end("rolled_back").ok()
        lab.project.wait_ready()
        assert lab.inspected()["db"]["Image"] == before
        assert lab.project.sql("SELECT count(*) FROM words WHERE w = 'since'").strip() == "1"


@pytest.mark.faults
@pytest.mark.parametrize(("strategy", "verb"), [("pg_upgrade", "upgrade"), ("dump", "reload")])
def test_another_cluster_killed_while_it_is_made(tmp_path: Path, strategy: str, verb: str) -> None:
    """What was begun is thrown away, the service comes up on the old image, and a new attempt succeeds."""
    steps = ["make the new cluster of db", f"{verb} {DB}"]
    if strategy == "pg_upgrade":
        steps.append("be ready to upgrade db")
    with service(tmp_path, "15", "17", options={"strategy": strategy}) as lab, lab.prober() as probe:
        lab.sweep(moments=MOMENTS, effects=[1], steps=steps)
        now_runs(lab)
        lab.assert_moved(probe)
        assert_words(lab)
        struck = {name for name, _moment, _effect, undone in lab.points() if not undone}
        assert struck == set(steps)


@pytest.mark.faults
def test_another_container_upgrades_where_the_one_that_waits_is_killed(tmp_path: Path) -> None:
    with service(tmp_path, "15", "17", options={"strategy": "pg_upgrade"}) as lab, lab.prober() as probe:
        pause = lab.paused(f"upgrade {DB}", "before")
        helpers = [one for one in lab.engine.api("/containers/json") if one["Labels"].get(ROLE_LABEL) == ROLE]
        (waiting,) = [one for one in helpers if one["Labels"][OPERATION_LABEL].startswith(lab.project.name)]
        lab.engine.docker("kill", waiting["Id"])
        pause.end().ok()
        now_runs(lab)
        lab.assert_moved(probe)
        assert_words(lab)
        assert lab.engine.docker("ps", "-aq", "--no-trunc", "--filter", f"id={waiting['Id']}") == ""


@pytest.mark.faults
def test_a_tag_that_was_built_anew_and_does_not_start_is_undone(tmp_path: Path) -> None:
    """The image that runs has no name any more but the one that we keep it by, and is what the service goes back to."""
    with service(tmp_path, "17", "17", options={"ready_timeout": 5}) as lab, another_build(lab, "postgres:17") as tag:
        file = lab.project.directory / "docker-compose.yml"
        file.write_text(file.read_text().replace(images.ref("postgres:17"), tag))
        lab.project.up()
        lab.remember()
        lab.sources.clear()
        lab.options["image"] = tag
        build(lab, "postgres:17", tag, 'CMD ["postgres", "-c", "no_such_setting=1"]')
        assert image_id(lab, tag) != lab.images["db"]
        with lab.prober() as probe:
            answer = lab.run()
            assert "no_such_setting" in answer.refusal()
            assert "undone" in answer.data["state"]
            lab.assert_not_moved(probe)


@pytest.mark.faults
@pytest.mark.parametrize("do", ["fail", "kill"])
@pytest.mark.parametrize(("strategy", "verb"), [("pg_upgrade", "upgrade"), ("dump", "reload")])
def test_another_cluster_that_is_made_and_then_fails_leaves_the_original(
    tmp_path: Path, strategy: str, verb: str, do: str
) -> None:
    """By then the copy has been written to and can be started by nobody, which is no reason not to go back."""
    with service(tmp_path, "17", "18", options={"strategy": strategy}) as lab, lab.prober() as probe:
        fault = {"step": f"{verb} {DB}", "moment": "applied", "do": do}
        answer = lab.run(faults={"faults": [fault]})
        assert answer.failed
        if do == "kill":
            lab.end("rolled_back").ok()
        lab.assert_not_moved(probe)
        assert_words(lab)


@pytest.mark.faults
def test_the_way_back_of_a_swap_killed_at_every_step(tmp_path: Path) -> None:
    """Nothing that was written since is lost, wherever it is killed."""
    with service(tmp_path, "17", "17") as lab, another_build(lab, "postgres:17") as reference:
        lab.options["image"] = reference
        lab.sources.clear()
        lab.run().ok()
        with lab.prober() as probe:
            lab.sweep(settings={"ending": "rolled_back"}, moments=MOMENTS, effects=[1])
            lab.assert_nothing_lost(probe)
        lab.assert_as_before()


@pytest.mark.faults
def test_the_way_back_of_an_upgrade_killed_at_every_step(tmp_path: Path) -> None:
    """The original serves again, as it was at the stop."""
    with service(tmp_path, "15", "17") as lab:
        lab.run().ok()
        lab.project.wait_ready()
        lab.sweep(settings={"ending": "rolled_back"}, moments=MOMENTS, effects=[1])
        lab.project.wait_ready()
        assert lab.project.sql("SHOW server_version_num").startswith("15")
        lab.assert_seed()
        assert_words(lab)
        lab.assert_as_before()
        assert sorted(lab.states()) == ["done", "rolled_back"], lab.story()


@pytest.mark.faults
def test_upgrade_of_a_volume_and_back(tmp_path: Path) -> None:
    """The original stays in its volume, which no prune can take, until the operation is committed."""
    with service(tmp_path, "15", "17", bind_mounts=False) as lab:
        volume = next(m["Name"] for m in lab.inspected()["db"]["Mounts"])
        lab.run().ok()
        lab.project.wait_ready()
        assert lab.engine.docker("ps", "-aq", "--filter", f"volume={volume}").strip(), "nothing holds the volume"
        lab.end("rolled_back").ok()
        lab.project.wait_ready()
        assert [m.get("Name") for m in lab.inspected()["db"]["Mounts"]] == [volume]
        assert lab.project.sql("SHOW server_version_num").startswith("15")
        lab.assert_seed()
        assert_words(lab)


@pytest.mark.faults
def test_upgrade_killed_at_every_step(tmp_path: Path) -> None:
    with service(tmp_path, "15", "17", dependent=True) as lab, lab.prober() as probe:
        lab.sweep(moments=MOMENTS, effects=[1])
        now_runs(lab)
        lab.assert_moved(probe)
        assert_words(lab)


@pytest.mark.faults
def test_an_image_that_lets_the_application_in_no_more_is_undone(tmp_path: Path) -> None:
    """It starts, and answers us: by its own rules for logins, which leave the application out."""
    rules = ["RUN echo 'local all all trust' > /rules.conf", 'CMD ["postgres", "-c", "hba_file=/rules.conf"]']
    with (
        service(tmp_path, "17", "17", dependent=True) as lab,
        another_build(lab, "postgres:17", *rules) as reference,
    ):
        lab.project.sql("CREATE ROLE app LOGIN PASSWORD 'secret'")
        lab.options["image"] = reference
        lab.sources.clear()
        with lab.prober() as probe:
            refused = lab.run().refusal()
            assert "web as app to postgres at db:5432" in refused
            assert "secret" not in refused
            lab.assert_not_moved(probe)


@pytest.mark.faults
def test_an_image_that_does_not_start_is_undone(tmp_path: Path) -> None:
    with (
        service(tmp_path, "15", "17", options={"ready_timeout": 5}) as lab,
        another_build(lab, "postgres:17", 'CMD ["postgres", "-c", "no_such_setting=1"]') as reference,
    ):
        lab.options["image"] = reference
        with lab.prober() as probe:
            answer = lab.run()
            assert "no_such_setting" in answer.refusal()
            assert "undone" in answer.data["state"]
            lab.assert_not_moved(probe)


@pytest.mark.faults
def test_a_dump_takes_what_was_written_since_down_again(tmp_path: Path) -> None:
    """Up by pg_upgrade, a day of writes, down by a dump: settings that only the newer one knows stay behind, listed."""
    with service(tmp_path, "15", "17") as lab, lab.prober() as probe:
        lab.run().ok()
        lab.project.wait_ready()
        lab.project.sql("CREATE ROLE app LOGIN PASSWORD 'secret'; ALTER ROLE app SET transaction_timeout = '1h'")
        lab.options.update(image=images.ref("postgres:15"), strategy="dump", verify="full")
        # The original is still there, and is somebody's data.
        assert "not empty" in lab.run(source="./postgres").refusal()
        result = lab.run(source="./back").ok()
        lab.sources["db"] = lab.project.directory / "back"
        now_runs(lab)
        lab.assert_moved(probe)
        assert lab.project.sql("SHOW server_version_num").startswith("15")
        assert result["settings_left_out"] == ["transaction_timeout"]
        assert_words(lab)


LARGE = """
CREATE SCHEMA shop;
CREATE TYPE mood AS ENUM ('low', 'high');
CREATE TABLE shop.large (
    gone int, id bigint GENERATED ALWAYS AS IDENTITY, "a column" text DEFAULT 'x', id_of int CHECK (id_of >= 0),
    twice bigint GENERATED ALWAYS AS (id_of * 2) STORED, amount numeric, ratio float8, moment timestamptz,
    span interval, day date, raw bytea, price money, words text[], document xml, how mood NOT NULL, holds jsonb,
    "größe" int DEFAULT 7, system_user int DEFAULT 8);
ALTER TABLE shop.large DROP COLUMN gone;
INSERT INTO shop.large ("a column", id_of, amount, ratio, moment, span, day, raw, price, words, document, how, holds)
SELECT (ARRAY[NULL, E'\\\\.', E'a\\tb\\nc\\\\d', '', repeat('é', 300)])[g % 5 + 1], g,
       CASE WHEN g % 7 = 0 THEN 'NaN' ELSE g / 3.0 END, sqrt(g),
       '2021-03-04 05:06:07.000089+02'::timestamptz - g * interval '1 h', interval '1 mon -2 days' * g,
       '0044-03-15 BC'::date + g, decode(md5(g::text), 'hex'), g / 7.0::numeric, ARRAY['{', NULL, g::text],
       xmlparse(CONTENT 'a<b>' || g || '</b>'), (ARRAY['low', 'high'])[g % 2 + 1]::mood,
       jsonb_build_object('g', g, 'text', repeat(md5(g::text), 20))
FROM generate_series(1, 50000) g;
CREATE TABLE shop.parts (id int, word text) PARTITION BY RANGE (id);
CREATE TABLE shop.parts_low PARTITION OF shop.parts FOR VALUES FROM (0) TO (500000);
CREATE TABLE shop.parts_high PARTITION OF shop.parts FOR VALUES FROM (500000) TO (1000000);
INSERT INTO shop.parts SELECT g * 2, repeat('w', 100) FROM generate_series(1, 499999) g;
CREATE TABLE shop.moods (id int, word text) PARTITION BY HASH (id);
CREATE TABLE shop.moods_0 PARTITION OF shop.moods FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE shop.moods_1 PARTITION OF shop.moods FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO shop.moods SELECT g, repeat('w', 100) FROM generate_series(1, 600000) g;
CREATE TABLE shop."a table" AS SELECT g, repeat('w', 100) AS word FROM generate_series(1, 300000) g;
ALTER TABLE shop.large ADD PRIMARY KEY (id);
CREATE TABLE shop.small (of_large bigint REFERENCES shop.large);
INSERT INTO shop.small VALUES (1), (50000);
"""
SETTINGS = """
CREATE ROLE visitor;
ALTER DATABASE store SET role = visitor;
ALTER DATABASE store SET datestyle = 'SQL, DMY';
ALTER DATABASE store SET intervalstyle = 'sql_standard';
ALTER DATABASE store SET extra_float_digits = -5;
ALTER DATABASE store SET search_path = shop;
ALTER DATABASE store SET default_transaction_read_only = on;
ALTER DATABASE store SET statement_timeout = '1ms';
ALTER DATABASE store SET client_encoding = 'UTF8';
ALTER DATABASE template1 SET idle_session_timeout = '600ms';
"""


def test_the_rows_of_large_tables_come_along_by_themselves(tmp_path: Path) -> None:
    """Whatever is in them, and whatever the settings of their database: their contents are the same."""
    # 16 knows a word that 15 did not.
    with service(tmp_path, "15", "17", options={"strategy": "dump", "verify": "full"}) as lab:
        lab.project.sql("CREATE DATABASE store ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        lab.project.sql(LARGE, database="store")
        lab.project.sql(SETTINGS)
        result = lab.run().ok()
        now_runs(lab)
        told = result["verification"]
        # The table with a blank in its name and those below a hash went by the dump's files.
        assert told["tables_streamed"] == 3
        assert told["contents_compared"] == told["tables_compared"]
        lab.project.sql("ALTER DATABASE store RESET statement_timeout")
        ask = "SET role none; "
        assert lab.project.sql(f"{ask}SELECT count(*) FROM shop.large", database="store").split()[-1] == "50000"
        assert lab.project.sql(f"{ask}SELECT count(*) FROM shop.parts", database="store").split()[-1] == "499999"


@pytest.mark.faults
@pytest.mark.parametrize("struck", ["old server", "new server", "clients", "one of them", "worker"])
def test_rows_that_are_on_their_way_when_somebody_ends(tmp_path: Path, struck: str) -> None:
    """Half of a table is no table: all is undone, at once, and nobody stands before a pipe that nobody opens."""
    calls = {"old server": "-D /selfhost-stateful/work/old ", "new server": "-D /selfhost-stateful/work/new "}
    calls["clients"] = " ".join(toolbox.IDLE)
    with service(tmp_path, "15", "17", options={"strategy": "dump"}) as lab, lab.prober() as probe:
        lab.project.sql("CREATE TABLE large AS SELECT g, repeat(md5(g::text), 40) w FROM generate_series(1, 300000) g")
        process = lab.start()

        def at_work() -> dict[str, str]:
            found = [one for one in lab.engine.api("/containers/json") if one["Labels"].get(ROLE_LABEL) == ROLE]
            ours = [one for one in found if one["Labels"][OPERATION_LABEL].startswith(lab.project.name)]
            return {who: one["Id"] for one in ours for who, call in calls.items() if call in one["Command"]}

        def taking() -> list[int]:
            """Return the processes of the clients that take rows in."""
            said = lab.engine.docker("top", at_work().get("clients", ""), "-o", "pid,args", check=False)
            return [int(line.split()[0]) for line in said.splitlines() if line.endswith("/rows/0-0.take")]

        def on_their_way() -> bool:
            assert process.poll() is None, lab.finish(process)
            return at_work().keys() == calls.keys() and bool(taking())

        wait_until(on_their_way, "rows are on their way")
        time.sleep(0.2)
        if struck == "worker":
            (worker,) = children(process.pid)
            os.kill(worker, signal.SIGKILL)
            assert lab.finish(process).failed
            lab.end("rolled_back").ok()
        else:
            if struck == "one of them":
                os.kill(taking()[0], signal.SIGKILL)
            else:
                lab.engine.docker("kill", at_work()[struck])
            answer = lab.finish(process)
            assert "undone" in answer.data.get("state", ""), answer.data
        lab.assert_not_moved(probe)


@pytest.mark.faults
@pytest.mark.parametrize("strategy", ["pg_upgrade", "dump"])
def test_a_database_that_makes_its_visitors_somebody_else(tmp_path: Path, strategy: str) -> None:
    """Its indexes are built anew, its extensions updated and its statistics taken by a superuser all the same."""
    with service(tmp_path, "15-bookworm", "17", options={"strategy": strategy, "login_db": "template1"}) as lab:
        lab.project.sql(
            "CREATE ROLE visitor; CREATE TABLE kept (w text PRIMARY KEY); INSERT INTO kept VALUES ('one');"
            "ALTER DATABASE postgres SET role = visitor;"
            "ALTER DATABASE postgres SET default_transaction_read_only = on"
        )
        told = lab.run(login_db="postgres").refusal()
        assert "postgres becomes the role visitor" in told
        lab.run().ok()
        now_runs(lab)
        assert lab.project.sql("SELECT current_user; SET role none; SELECT w FROM kept").split() == ["visitor", "one"]
        lab.end("rolled_back", login_db="template1").ok()
        assert lab.project.sql("SHOW server_version_num").startswith("15")


@pytest.mark.faults
def test_what_cannot_be(tmp_path: Path) -> None:
    """Each is said in a sentence, and nothing is changed."""
    with service(tmp_path, "17", "17") as lab:
        before = around(lab)
        assert "swap" in lab.run(image=images.ref("postgres:15")).refusal()
        assert "not on this engine" in lab.run(image="selfhost-sandbox/no-such:1").refusal()
        assert lab.run(image=images.ref("redis:8")).refusal()
        assert "max_downtime" in lab.run(image=images.ref("postgres:18"), max_downtime=0.1).refusal()
        assert lab.run(service="nobody").refusal()
        lab.sources["db"].mkdir(exist_ok=True)
        occupied = tmp_path / "project" / "postgres18"
        occupied.mkdir()
        (occupied / "file").touch()
        assert "not empty" in lab.run(image=images.ref("postgres:18")).refusal()
        (occupied / "file").unlink()
        occupied.rmdir()
        lab.sources["db"].rmdir()
        assert around(lab) == before
        assert lab.states() == []


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("one", "other", "strategy"),
    [
        ("13-older", "13-newer", "swap"), ("15-bookworm", "15-trixie", "swap"),
        ("13", "15", "pg_upgrade"), ("13", "17", "pg_upgrade"), ("15", "17", "pg_upgrade"), ("15", "18", "pg_upgrade"),
        ("17", "18", "pg_upgrade"), ("15-alpine", "17", "pg_upgrade"), ("15-alpine", "18-alpine", "pg_upgrade"),
        ("15-postgis", "17-postgis", "pg_upgrade"),
        ("17", "15", "dump"), ("18", "13", "dump"), ("13", "18", "dump"), ("15-alpine", "15", "dump"),
        ("15-postgis", "17-postgis", "dump"),
    ],
)  # fmt: skip
def test_everything_comes_along(tmp_path: Path, one: str, other: str, strategy: str) -> None:
    """Encodings, roles, settings, partitions, large objects, extensions, order of text, and each acknowledged row."""
    images.ensure([f"postgres:{tag}" for tag in (one, other)])
    directory = tmp_path / "project"
    directory.mkdir()
    with image_lab(directory, one, user="admin", initdb="--data-checksums") as held:
        parts = [part for part in held.available() if strategy == "swap" or part != "tablespace"]
        with held.fill(*parts).prober() as probe:
            options = {"service": "db", "image": images.ref(f"postgres:{other}")}
            options |= {"strategy": "dump", "verify": "full"} if strategy == "dump" else {}
            lab = Lab(held.project, tmp_path, {}, options, module="postgresql_image")
            assert lab.run().ok()["plan"]["strategy"] == strategy
            held.project.wait_ready()
            probe.wait_written()
            report = probe.stop()
        assert held.missing() == {}
        assert probe.missing(report) == {"postgres": []}
        assert lab.run().ok()["changed"] is False
