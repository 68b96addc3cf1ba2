# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A rung's migration runs when it has something to do, and never a second time unasked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import fill
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.migrations import forbidden, migrations_of
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.model import rung_from
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import SWITCH, Goal, Plan, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations import ledger, perform
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.model import (
    DONE,
    FAILED,
    RECOGNISED,
    RUNNING,
    UNDOING,
    Migration,
    Row,
)

SQL = {"name": "04-fill.sql", "content": "UPDATE a SET b = 1", "expect_rows": "SELECT 3"}
SCRIPT = {"name": "04-fill.sh", "content": "true"}


def row_of(given: dict[str, Any], state: str = DONE, operation: str = "another", **changes: Any) -> Row:
    (migration,) = migrations_of([given])
    at = "2026-01-01T00:00:00Z"
    return replace(
        Row(migration.number, migration.name, migration.sha256, state, "me", "here", at, rows=5, operation=operation),
        **changes,
    )


@dataclass
class Database:
    """Its ledger by series, and how many rows are left to do; ``ran`` says what ran in which series."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    left: int = 0
    fails: bool = False
    ran: list[tuple[str, str]] = field(default_factory=list)

    def scalar(self, _query: str) -> int:
        return self.left

    @contextmanager
    def at_work(self, _series: str) -> Iterator[Database]:
        yield self

    def run(self, _server: Any, _there: Any, series: str, migration: Migration, _operation: str) -> perform.Ran:
        if self.fails:
            raise perform.PartlyDone("It ended with 1.", "a part of it may be done", "look")
        self.ran.append((series, migration.name))
        return perform.Ran(DONE, 3, 0.1)

    def remove(self, _there: Any, series: str, number: int) -> None:
        self.rows[series] = [row for row in self.rows[series] if row.number != number]


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    found = Database()
    monkeypatch.setattr(ledger, "read", lambda _there, series: found.rows.get(series, []))
    monkeypatch.setattr(ledger, "remove", found.remove)
    monkeypatch.setattr(perform, "run", found.run)
    monkeypatch.setattr(perform, "take_back", lambda *_any: found.ran.append(("back", "")))
    monkeypatch.setattr(fill, "host_of", lambda *_any: SimpleNamespace(start_postgresql=lambda: None))
    monkeypatch.setattr(fill, "server_of", lambda *_any: found)
    return found


def a_step(given: dict[str, Any], **args: Any) -> Step:
    return Step("concurrent_migrate", "migrate", SWITCH, {"migrations": [given], **args})


@pytest.fixture
def operation(tmp_path: Path) -> Operation:
    plan = Plan(Goal("concurrent_version", "p", {}), (a_step(SQL),))
    return OperationStore(str(tmp_path / "operations")).begin(plan)


def migrated(given: dict[str, Any], operation: Operation, **args: Any) -> Any:
    return fill.Migrate().apply(a_step(given, **args), Context(None, operation))  # type: ignore[arg-type]


def taken_back(given: dict[str, Any], operation: Operation) -> Any:
    return fill.Migrate().undo(a_step(given), Context(None, operation))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "at,series",
    [("v0.4", "concurrent"), ("v0.4.0", "concurrent"), ("0.9", "concurrent-v0.9"), ("v1.3.0", "concurrent-v1.3.0")],
)
def test_each_rung_has_numbers_of_its_own_and_the_first_those_that_hosts_have(at: str, series: str) -> None:
    assert rung_from({"at": at, "kind": "query"}).ledger_series == series


def test_what_another_rung_ran_under_the_number_is_no_reason_to_skip_it(
    database: Database, operation: Operation
) -> None:
    database.rows["concurrent"] = [row_of({**SQL, "content": "SELECT 1"})]
    assert migrated(SQL, operation, series="concurrent-v0.9")["migrations"] == [{"name": "04-fill.sql", "rows": 3}]
    assert database.ran == [("concurrent-v0.9", "04-fill.sql")]


def test_what_ran_before_there_was_a_series_for_each_rung_does_not_run_again(
    database: Database, operation: Operation
) -> None:
    database.rows["concurrent"] = [row_of(SQL)]
    assert migrated(SQL, operation)["migrations"] == [{"name": "04-fill.sql", "rows": 0}]
    assert database.ran == []


def test_what_the_older_version_wrote_since_is_migrated_too(database: Database, operation: Operation) -> None:
    database.rows["concurrent"], database.left = [row_of(SQL)], 7
    assert migrated(SQL, operation)["migrations"] == [{"name": "04-fill.sql", "rows": 3}]
    assert database.ran == [("concurrent", "04-fill.sql")]


def test_a_script_that_has_more_to_do_is_not_run_a_second_time(database: Database, operation: Operation) -> None:
    given = {**SCRIPT, "expect_rows": "SELECT 3"}
    database.rows["concurrent"], database.left = [row_of(given)], 7
    with pytest.raises(StatefulError, match="7 rows are still to do now"):
        migrated(given, operation)
    assert database.ran == []


@pytest.mark.parametrize(
    "given,row,words",
    [
        (SQL, row_of({**SQL, "content": "SELECT 1"}), r"04-fill\.sql is not what ran as number 4 .*accept: \[4\]"),
        (SCRIPT, row_of(SCRIPT, RUNNING), r"broken off \(running\).*series: concurrent, retry: \[4\]"),
        (SCRIPT, row_of(SCRIPT, FAILED), r"broken off \(failed\)"),
        ({**SQL, "content": "SELECT 1; COMMIT"}, None, "COMMIT would end the transaction"),
    ],
)
def test_what_cannot_be_run_is_told_before_anything_stops_and_is_not_run(
    database: Database, operation: Operation, given: dict[str, Any], row: Row | None, words: str
) -> None:
    database.rows["concurrent"] = [row] if row else []
    (blocker,) = forbidden(migrations_of([given]), database.rows["concurrent"], "concurrent")
    with pytest.raises(StatefulError, match=words) as refused:
        migrated(given, operation)
    assert blocker.text == refused.value.msg
    assert database.ran == []


def test_one_that_is_repeatable_is_begun_again(database: Database, operation: Operation) -> None:
    database.rows["concurrent"] = [row_of(SCRIPT, FAILED)]
    migrated({**SCRIPT, "repeatable": True}, operation)
    assert database.ran == [("concurrent", "04-fill.sh")]


def test_one_that_is_half_taken_back_is_taken_back_again(database: Database, operation: Operation) -> None:
    database.rows["concurrent"] = [row_of(SCRIPT, UNDOING, operation.id)]
    assert taken_back({**SCRIPT, "undo": "true"}, operation) == {"stays": []}
    assert database.ran == [("back", "")]


def test_of_one_that_failed_half_way_the_note_stays_and_the_result_says_so(
    database: Database, operation: Operation
) -> None:
    database.fails = True
    with pytest.raises(StatefulError) as failed:
        migrated(SCRIPT, operation)
    assert (failed.value.msg, failed.value.facts) == ("It ended with 1: a part of it may be done.", {})
    database.rows["concurrent"] = [row_of(SCRIPT, FAILED, operation.id)]
    assert taken_back(SCRIPT, operation) == {"stays": ["04-fill.sh"]}
    assert len(database.rows["concurrent"]) == 1


@pytest.mark.parametrize(
    "given,row,stays,back,notes",
    [
        (SQL, row_of(SQL), [], 0, 1),
        (SQL, row_of(SQL, operation=""), ["04-fill.sql"], 0, 0),
        (SQL, row_of(SQL, RECOGNISED, ""), [], 0, 0),
        ({**SQL, "undo": "SELECT 1"}, row_of(SQL, operation=""), [], 1, 1),
    ],
    ids=["of another operation", "ours", "recognised", "with an undo, which removes its note"],
)
def test_what_is_taken_back_runs_again(
    database: Database, operation: Operation, given: dict[str, Any], row: Row, stays: list[str], back: int, notes: int
) -> None:
    database.rows["concurrent"] = [replace(row, operation=row.operation or operation.id)]
    assert taken_back(given, operation) == {"stays": stays}
    assert (len(database.ran), len(database.rows["concurrent"])) == (back, notes)
