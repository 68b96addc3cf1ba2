# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab of the image swaps sees what is lost: the swaps' own tests believe it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.image_lab import image_lab
from tests.integration.image_parts import PARTS
from tests.sandbox import images

TAGS = [*(
    pytest.param(tag, marks=pytest.mark.matrix)
    for tag in ("17", "13", "18", "15-alpine", "18-alpine", "15-trixie", "15-postgis", "17-postgis")
)]  # fmt: skip
# What each part may lose, done to it on purpose.
LOSSES = {
    "databases": ("postgres", "ALTER DATABASE bytes CONNECTION LIMIT -1"),
    "latin text": ("latin", "DELETE FROM texts WHERE id = 7"),
    "raw bytes": ("bytes", "UPDATE texts SET t = 'tidy'"),
    "roles": ("postgres", "ALTER ROLE lab_scram PASSWORD 'another'"),
    "tablespace": ("postgres", "ALTER TABLE spaced SET TABLESPACE pg_default"),
    "large objects": ("postgres", "SELECT lo_unlink(700003)"),
    "sequences": ("postgres", "SELECT setval('numbered_id_seq', 1)"),
    "partitions": ("postgres", "ALTER TABLE orders DROP CONSTRAINT orders_customer_region_fkey"),
    "text indexes": ("postgres", "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'words_lower'::regclass"),
    "pgcrypto": ("postgres", "DROP EXTENSION pgcrypto"),
    "hstore and citext": ("postgres", "ALTER EXTENSION hstore SET SCHEMA public"),
    "postgis": ("postgres", "DELETE FROM places WHERE id = 3"),
    "settings": ("postgres", "ALTER DATABASE postgres RESET lock_timeout"),
    "unlogged table": ("postgres", "ALTER TABLE passing SET LOGGED"),
    "code": ("postgres", "ALTER TABLE audited DISABLE TRIGGER counted"),
}


@pytest.mark.parametrize("tag", TAGS)
def test_nothing_is_missing_until_something_is(tmp_path: Path, tag: str) -> None:
    with image_lab(tmp_path, tag, user="admin", initdb="--data-checksums") as lab:
        parts = set(lab.available())
        assert parts >= PARTS.keys() - {"pgcrypto", "postgis"}
        assert ("postgis" in parts) == tag.endswith("-postgis")
        with lab.fill().prober() as prober:
            prober.wait_written()
            report = prober.stop()
        lab.project.compose("restart")
        lab.project.wait_ready()

        assert lab.missing() == {}
        assert prober.missing(report) == {"postgres": []}
        assert lab.known["bootstrap role"] == ("admin|t",)
        assert lab.known["settings"][1].splitlines() == [
            "lock_timeout|55000", "max_connections|77", "random_page_cost|1.5", "work_mem|5120",
        ]  # fmt: skip

        assert parts - LOSSES.keys() == {"bootstrap role"}
        for part in parts & LOSSES.keys():
            database, statement = LOSSES[part]
            lab.query(database, statement)
        assert lab.missing().keys() == parts - {"bootstrap role"}
        lab.query("postgres", "DROP DATABASE latin")
        assert "does not exist" in lab.missing()["latin text"]


@pytest.mark.matrix
def test_an_index_in_the_order_of_another_libc_is_seen(tmp_path: Path) -> None:
    with image_lab(tmp_path, "15-alpine") as lab:
        lab.fill("text indexes")
        images.ensure(["postgres:15"], lab.project.engine)
        lab.project.compose("stop")
        file = tmp_path / "docker-compose.yml"
        file.write_text(file.read_text().replace("postgres:15-alpine", "postgres:15"))
        lab.project.up()

        found = lab.missing()

        assert found.keys() == {"text indexes"}
        assert "IndexCorrupted" in found["text indexes"]
        lab.query("postgres", "REINDEX TABLE words")
        assert lab.missing() == {}
