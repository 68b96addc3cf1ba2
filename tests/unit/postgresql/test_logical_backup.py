# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import AGAIN, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import counts, logical_backup
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.counts import Count
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.globals import Globals
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.helpers import Finished
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.routes import Route
from tests.unit.postgresql.fakes import FakeClock
from tests.unit.postgresql.subjects import CLUSTER
from tests.unit.postgresql.test_globals import GLOBALS


@pytest.fixture(autouse=True)
def roles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a database that is dumped tell of the roles that it was given."""
    monkeypatch.setattr(logical_backup, "read_globals", lambda there, version: there.read_globals())


class Live:
    """A database of tables with rows and a file each; somebody else works in it while it is dumped."""

    holds_transactions = True

    def __init__(self) -> None:
        self.tables: dict[str, tuple[int, str | None]] = {"cache": (500, "base/5/1"), "kept": (7, "base/5/2")}
        self.said: list[str] = []
        self.before_the_dump: Any = lambda: None

    def for_programs(self) -> dict[str, str]:
        return {"role": "none"}

    def sibling(self, database: str) -> Live:
        return self

    def without_timeouts(self) -> Live:
        return self

    def limited(self, seconds: float) -> Live:
        return self

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_error: object) -> None: ...

    def run(self, statement: str) -> None:
        self.said.append(statement)

    def scalar(self, query: str) -> str:
        if "pg_export_snapshot" in query:
            self.before_the_dump()
        return "00000003-1"

    def rows(self, query: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if query == counts.RELATIONS:
            return [("public", name, "r", "", True, rows) for name, (rows, _file) in self.tables.items()]
        if query == counts.FILES:
            return [("public", name, file) for name, (_rows, file) in self.tables.items()]
        # What lies in another file than the snapshot knows shows no row in it.
        held = {name: 0 if file == "base/5/3" else rows for name, (rows, file) in self.tables.items()}
        return [("public", name, rows) for name, rows in held.items() if f"'{name}', count" in query]

    def read_globals(self) -> Globals:
        self.said.append("globals")
        return GLOBALS

    def truncate(self, argv: tuple[str, ...], what: str) -> None:
        """Empty a table as soon as pg_dump lets go of it."""
        self.said.append(argv[0])
        self.tables["cache"] = (0, "base/5/3")

    def alter(self, *_of_the_dump: Any) -> None:
        """Rewrite a table, whose rows all are there as before."""
        self.tables["cache"] = (500, "base/5/3")


def dumped(there: Live, run: Any) -> logical_backup.Dumped:
    return logical_backup._dump_database(there, "app", 170000, (), run, FakeClock(), 1, 60)  # type: ignore[arg-type]


def test_a_table_that_was_emptied_behind_the_dump_is_not_taken_for_an_empty_one() -> None:
    there = Live()
    assert dumped(there, there.truncate).counts == {"public.cache": Count(0, False), "public.kept": Count(7, True)}


def test_a_table_that_was_rewritten_before_the_dump_held_it_is_told_of() -> None:
    there = Live()
    found = dumped(there, there.alter)
    assert found.replaced == ("public.cache",)
    assert not found.counts["public.cache"].exact


def test_what_is_rewritten_as_soon_as_there_is_a_snapshot_is_told_of_too() -> None:
    there = Live()
    there.before_the_dump = there.alter
    found = dumped(there, lambda argv, what: None)
    assert found.replaced == ("public.cache",)
    assert not found.counts["public.cache"].exact


def test_what_stands_still_is_counted_exactly() -> None:
    there = Live()
    assert all(count.exact for count in dumped(there, lambda argv, what: None).counts.values())


def test_the_roles_are_those_of_the_snapshot() -> None:
    there = Live()
    assert dumped(there, there.truncate).globals == GLOBALS
    assert [word for word in there.said if "SAVEPOINT" not in word] == [
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        "globals",
        "pg_dump",
        "ROLLBACK",
    ]


def test_a_dump_that_somebody_came_between_names_what_helps() -> None:
    said = 'pg_dump: error: could not obtain lock on relation "public.t"\nThis usually means that someone requested'
    with pytest.raises(StatefulError, match="jobs: 1") as caught:
        logical_backup.refuse_queue(Finished("logical-backup", ("pg_dump",), 1, said), "The dump")
    assert caught.value.next_command == AGAIN
    logical_backup.refuse_queue(Finished("logical-backup", ("pg_dump",), 1, "pg_dump: error: other"), "The dump")


def test_the_programs_are_who_we_are_whatever_role_a_database_has(tmp_path: Path) -> None:
    helped = []

    def run(helper: Any, **_how: Any) -> Finished:
        helped.append(helper)
        return Finished(helper.role, helper.argv, 0, "")

    there: Any = Live()
    there.container = SimpleNamespace(image_id="sha256:1")
    clients = logical_backup.Clients("sha256:1", Route("/run", 5432, "postgres", "none", ()), run)
    logical_backup.take(
        SimpleNamespace(),  # type: ignore[arg-type]
        there,
        CLUSTER,
        place=str(tmp_path),
        owner=(os.geteuid(), os.getegid()),
        operation="backup-1",
        labels={},
        clients=clients,
    )
    assert {helper.argv[0] for helper in helped} == {"pg_dumpall", "pg_dump"}
    assert all(helper.environment["PGOPTIONS"] == "-c role=none" for helper in helped)
