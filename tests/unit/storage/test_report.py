# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person reads before and after."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import History, Record, fold
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import planner, report
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import AUTO, Findings
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.preflight import name_of
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.strategy import choose
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Transfer
from tests.unit.storage.findings import REQUEST, a_move, findings

FOUND = findings()


def choices(found: Findings = FOUND) -> dict[str, Any]:
    return {name_of(move): choose(move, AUTO) for move in found.moves}


def transfers(found: Findings = FOUND) -> tuple[Transfer, ...]:
    return planner.transfers_for(REQUEST, found, choices(found), "op-1")


@pytest.mark.parametrize(
    "size, text",
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (1 << 30, "1.0 GiB"),
     (5 << 40, "5.0 TiB"), (5000 << 40, "5000.0 TiB")],
)  # fmt: skip
def test_sizes(size: int, text: str) -> None:
    assert report.size_text(size) == text


IN_THE_WAY = (Blocker("It is full.", "df -h /"), Blocker("It drifts."))


def test_the_plan_says_what_moves_what_stops_and_what_changes() -> None:
    text = report.plan_text(REQUEST, FOUND, choices(), IN_THE_WAY, ["It floats."], "/srv/app/backups/op-1")
    assert text.splitlines() == [
        "Project app in /srv/app",
        "  db: postgresql 17, 1.0 GiB, at /var/lib/postgresql/data",
        "    from  anonymous volume aaaaaaaaaaaa (/engine/volumes/v/_data)",
        "    to    /srv/app/postgres",
        "    by    rename: both places are on one file system",
        "  Backup first, while the services run (auto): /srv/app/backups/op-1",
        "  Stops, in this order: app-web-1, app-api-1, app-db-1",
        "  Changes /srv/app/compose.yaml (added an entry)",
        "  Downtime of the stores, estimated: about 2.0 s",
        "  Note: It floats.",
        "  BLOCKER: It is full.",
        "    $ df -h /",
        "  BLOCKER: It drifts.",
    ]


def test_a_plan_without_a_backup_promises_none() -> None:
    request = replace(REQUEST, backup="none")
    assert "Backup" not in report.plan_text(request, FOUND, choices(), (), (), "/b")
    assert report.summary(request, FOUND, choices(), transfers(), "/b")["backup"] == {"mode": "none", "directory": ""}


def test_the_summary_is_the_same_for_machines() -> None:
    told = report.summary(REQUEST, FOUND, choices(), transfers(), "/b")
    (move,) = told["moves"]
    assert (move["service"], move["strategy"], move["to"], move["version"]) == (
        "db",
        "rename",
        "/srv/app/postgres",
        "17",
    )
    assert move["from"] == {"kind": "anonymous", "path": "/engine/volumes/v/_data", "volume": "a" * 64}
    assert told["stops"] == ["app-web-1", "app-api-1", "app-db-1"]
    assert told["files"] == ["/srv/app/compose.yaml"]


def test_a_store_that_does_not_run_is_not_stopped() -> None:
    found = findings(a_move(running=False), dependents=())
    assert report.summary(REQUEST, found, choices(found), transfers(found), "/b")["stops"] == []


def journal(**evidence: dict[str, Any]) -> History:
    names = {"stop": "stop the stores", "start": "start the stores", "prove": "prove", "count": "count again"}
    return fold([Record("evidence", 1.0, names.get(name, name), data) for name, data in evidence.items()])


def test_the_downtime_is_from_the_stop_to_the_answer() -> None:
    history = journal(
        copy={"bytes_copied": 5}, stop={"stopping_at": 100.0, "stopped_at": 100.4}, start={"starting_at": 100.5},
        prove={"ready_at": 101.25, "mounts": {"db": {"Type": "bind"}}, "verification": {"db": {"identity_equal": 1}}},
        count={"before": {"a": 1}, "after": {"a": 2}, "fewer": []}, move={"bytes_copied": 7},
    )  # fmt: skip
    told = report.outcome(history, transfers(), {"prove": 0.12345})
    assert told["downtime_seconds"] == 1.25
    assert told["downtime_phases"] == {"stop": 0.4, "restart": 0.75, "move_and_create": pytest.approx(0.1)}
    assert told["bytes_copied"] == 12
    assert told["mounts"] == {"db": {"Type": "bind"}}
    assert told["verification"] == {
        "db": {"identity_equal": 1}, "counts": {"before": {"a": 1}, "after": {"a": 2}}, "fewer": [],
    }  # fmt: skip
    assert told["steps"] == {"prove": 0.123}


def test_what_did_not_run_had_no_downtime() -> None:
    history = journal(stop={"stopping_at": 100.0}, prove={"ready_at": 105.0})
    found = findings(a_move(running=False))
    assert report.outcome(history, transfers(found), {})["downtime_seconds"] == 0.0


def test_an_unfinished_operation_claims_nothing() -> None:
    told = report.outcome(fold([]), transfers(), {})
    assert (told["downtime_seconds"], told["downtime_phases"], told["mounts"], told["copies"]) == (0.0, {}, {}, [])


def test_fewer_rows_are_said_and_explained() -> None:
    history = journal(count={"fewer": ["public.a: 3 rows, and 5 before"]})
    (said,) = report.fewer_warnings(history)
    assert "public.a: 3 rows, and 5 before" in said
    assert report.fewer_warnings(fold([])) == []
