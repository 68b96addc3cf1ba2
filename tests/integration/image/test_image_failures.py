# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What may stand in the way of an image change: the service is back on the old image, or nothing was touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.image.lab import DB, around, assert_words, now_runs, service
from tests.integration.storage.lab import fill
from tests.sandbox import images
from tests.sandbox.loopfs import FsType, loopfs

pytestmark = pytest.mark.faults


@pytest.mark.parametrize(
    ("strategy", "step"),
    [
        ("pg_upgrade", "make the new cluster of db"),
        ("pg_upgrade", f"upgrade {DB}"),
        ("dump", f"reload {DB}"),
        ("dump", "start the stores"),
    ],
)
def test_the_file_system_of_the_new_cluster_is_full(tmp_path: Path, strategy: str, step: str) -> None:
    """The service runs on the old image, the message says what is full, and a rerun goes through."""
    with (
        loopfs("ext4", 1500) as place,
        service(tmp_path, "15", "17", place=place, options={"strategy": strategy}) as lab,
    ):
        with lab.prober() as probe:
            pause = lab.paused(step, "before")
            filler = fill(place)
            refused = pause.end().refusal()
            assert "No space left" in refused or str(place) in refused, refused
            lab.assert_not_moved(probe)
            assert_words(lab)
        filler.unlink()
        with lab.prober() as again:
            lab.run().ok()
            now_runs(lab)
            lab.assert_moved(again)


@pytest.mark.parametrize(("kind", "mebibytes"), [("ext4", 3000), ("btrfs", 5000)])
def test_the_disk_becomes_full_while_rows_are_on_their_way(tmp_path: Path, kind: FsType, mebibytes: int) -> None:
    """Whether it takes an empty file yet or not: who fills it is told of it, and all is undone."""
    options = {"strategy": "dump"}
    with loopfs(kind, mebibytes) as place, service(tmp_path, "15", "17", place=place, options=options) as lab:
        for number in range(3):
            rows = f"SELECT g, repeat(md5(g::text), 40) w FROM generate_series(1, {100_000 + number}) g"
            lab.project.sql(f"CREATE TABLE large{number} AS {rows}")
        with lab.prober() as probe:
            pause = lab.paused(f"reload {DB}", "before")
            filler = fill(place)
            os.truncate(filler, filler.stat().st_size - (200 << 20))
            refused = pause.end().refusal()
            assert "No space left" in refused or str(place) in refused, refused
            lab.assert_not_moved(probe)
            assert_words(lab)
        filler.unlink()
        os.sync()  # btrfs gives the room back with its next transaction
        result = lab.run().ok()
        assert result["verification"]["tables_streamed"] == 3


def test_an_extension_that_the_image_lacks_is_found_before_anything_is_done(tmp_path: Path) -> None:
    images.ensure(["postgres:15-postgis"])
    with service(tmp_path, "15-postgis", "17") as lab:
        lab.project.sql("CREATE EXTENSION IF NOT EXISTS postgis")
        before = around(lab)
        for strategy in ("auto", "pg_upgrade", "dump"):
            refused = lab.run(strategy=strategy).refusal()
            assert "lacks the extension postgis" in refused
        assert around(lab) == before
        assert lab.states() == []


def test_tablespaces_are_refused_where_another_cluster_would_be_made(tmp_path: Path) -> None:
    with service(tmp_path, "15", "17") as lab:
        lab.project.exec("db", "install", "-d", "-o", "postgres", "/var/lib/fast")
        lab.project.sql("CREATE TABLESPACE fast LOCATION '/var/lib/fast'")
        before = around(lab)
        for strategy in ("pg_upgrade", "dump"):
            assert "fast (/var/lib/fast)" in lab.run(strategy=strategy).refusal()
        assert around(lab) == before


def test_ten_thousand_relations_come_along(tmp_path: Path) -> None:
    """Their number costs time and nothing else; what holds a lock for each of them is told to allow it."""
    with service(tmp_path, "15", "17") as lab:
        for first in range(0, 5000, 500):
            lab.project.sql(
                f"DO $$BEGIN FOR g IN {first}..{first + 499} LOOP"
                " EXECUTE format('CREATE TABLE many_%s AS SELECT %s AS id', g, g);"
                " EXECUTE format('ALTER TABLE many_%s ADD PRIMARY KEY (id)', g); END LOOP; END$$"
            )
        with lab.prober() as probe:
            result = lab.run().ok()
            now_runs(lab)
            lab.assert_moved(probe)
        assert "relations make pg_upgrade slow" in result["plan_text"]
        assert lab.project.sql("SELECT id FROM many_4321").strip() == "4321"
        count = "SELECT count(*) FROM pg_class WHERE relname LIKE 'many\\_%'"
        assert lab.project.sql(count).strip() == "10000"


def test_rows_that_another_order_has_in_another_partition_undo_the_change(tmp_path: Path) -> None:
    """By bytes, Z comes before a; in the order of glibc, after it."""
    images.ensure(["postgres:15-alpine"])
    with service(tmp_path, "15-alpine", "15") as lab:
        lab.sources.clear()
        lab.project.sql(
            "CREATE TABLE ranged (w text) PARTITION BY RANGE (w);"
            "CREATE TABLE ranged_upper PARTITION OF ranged FOR VALUES FROM ('A') TO ('a');"
            "CREATE TABLE ranged_rest PARTITION OF ranged DEFAULT; INSERT INTO ranged VALUES ('Z'), ('b')"
        )
        with lab.prober() as probe:
            refused = lab.run().refusal()
            assert "1 rows of public.ranged_upper in postgres" in refused
            lab.assert_nothing_lost(probe)
        assert lab.states() == ["rolled_back"]
        lab.assert_as_before()
        assert_words(lab)
        assert lab.project.sql("SELECT count(*) FROM ranged WHERE w = 'Z'").strip() == "1"


def test_the_owner_of_the_files_is_another_one(tmp_path: Path) -> None:
    """From the user 70 to 999 on the same files, another libc, and back."""
    images.ensure(["postgres:15-alpine"])
    with service(tmp_path, "15-alpine", "15", options={"strategy": "swap"}) as lab:
        lab.sources.clear()
        data = lab.project.directory / "postgres"
        assert data.stat().st_uid == 70
        with lab.prober() as probe:
            result = lab.run().ok()
            now_runs(lab)
            lab.assert_nothing_lost(probe)
        assert data.stat().st_uid == 999
        assert result["verification"]["indexes_rebuilt"] >= 1
        assert_words(lab)
        lab.end("rolled_back").ok()
        lab.project.wait_ready()
        assert data.stat().st_uid == 70
        assert_words(lab)
