# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demo must not be able to end well with anything missing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.demo import report

VOLUME = {"Type": "volume", "Name": "ab" * 32, "Source": "/engine/volumes/x/_data", "RW": True}
BIND = {"Type": "bind", "Source": "/live/postgres", "RW": True}


def counted(seed: int, probe: int, keys: int, probe_keys: int) -> dict[str, Any]:
    tables = {"seed": seed, "probe": probe}
    return {"tables": tables, "probe_table": "probe", "keys": keys, "probe_keys": probe_keys}


GOOD = report.Outcome(
    before=counted(100, 10, 60, 10),
    after=counted(100, 50, 120, 70),
    mounts_before={"db": VOLUME},
    mounts_after={"db": BIND},
    written={
        "postgres": {"acknowledged": 49, "attempts": 51, "longest_gap_seconds": 0.5},
        "redis": {"acknowledged": 70, "attempts": 70, "longest_gap_seconds": 0.75},
    },
    acknowledged_missing=0,
    storage={"downtime_seconds": 0.6, "downtime_phases": {"stop": 0.2, "move_and_create": 0.4}},
    project_dir="/live",
)


def test_what_is_as_claimed_has_no_failure() -> None:
    assert report.failures(GOOD) == []


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"acknowledged_missing": 1}, "1 acknowledged writes are missing"),
        ({"after": counted(99, 50, 120, 70)}, "table seed: 100 rows before, 99 after"),
        ({"after": counted(100, 48, 120, 70)}, "49 rows acknowledged (and 2 cut off), but 48 are there"),
        ({"after": counted(100, 52, 120, 70)}, "49 rows acknowledged (and 2 cut off), but 52 are there"),
        ({"after": counted(100, 50, 120, 69)}, "70 keys acknowledged (and 0 cut off), but 69 are there"),
        ({"after": counted(100, 50, 59, 70)}, "Redis: 60 keys before, 59 after"),
        ({"mounts_after": {"db": VOLUME}}, "db does not run on a bind mount"),
        ({"mounts_after": {"db": {}}}, "db does not run on a bind mount"),
        ({"mounts_after": {"db": {**BIND, "Source": "/elsewhere"}}}, "db does not run on a bind mount"),
    ],
)
def test_what_is_not_as_claimed_is_said(broken: dict[str, Any], words: str) -> None:
    found = report.failures(replace(GOOD, **broken))
    assert len(found) == 1
    assert words in found[0]


def test_the_table_and_the_file_say_the_same() -> None:
    told, shown = report.as_json(GOOD), report.table(GOOD)
    assert (told["rows_before"], told["rows_after"]) == (110, 150)
    assert (told["redis_keys_before"], told["redis_keys_after"]) == (60, 120)
    assert (told["downtime_seconds"], told["longest_gap_seconds"]) == (0.6, 0.75)
    assert told["mounts"]["db"] == {"before": VOLUME, "after": BIND}
    for words in ("bind ./postgres", "anonymous volume abababa", "150  (+40 by the writer, +0 by Mastodon)",
                  "119 writes, of which 0 are missing", "move and create"):  # fmt: skip
        assert words in shown
