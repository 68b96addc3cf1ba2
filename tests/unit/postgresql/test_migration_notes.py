# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the ledger says of a migration that runs in no transaction, whatever becomes of our session meanwhile."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import UndoRefused
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import DONE as OPERATION_DONE
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import SWITCH, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations import (
    ledger,
    outliving,
    perform,
    run,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.model import (
    DONE,
    FAILED,
    RUNNING,
    SHELL,
    SQL,
    UNDOING,
    Guards,
    Migration,
    Row,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.planner import decide
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.steps import HANDLERS, MIGRATE
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import Ran, SqlError
from tests.unit.postgresql.fakes import a_container

SCRIPT = Migration(1, "01-all.sh", SHELL, "true", undo="false")
PARTLY_BACK = "01-all.sh may be taken back in part in db, or wholly, and the ledger says undoing"


@dataclass
class Database:
    """A session that may be gone, and the server that hands out another. ``noted``: states of the row, in order."""

    noted: list[str] = field(default_factory=list)
    name: str = "db"
    user: str = "app"
    gone: bool = False
    answers: bool = True
    transaction: int = 7
    container: Any = field(default_factory=a_container)
    processes: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def command(self, argv: tuple[str, ...]) -> tuple[int, str]:
        return int(argv[-1] not in self.processes), ""

    def scalar(self, query: str) -> Any:
        if self.gone:
            raise SqlError("the connection is closed")
        return self.transaction if "txid" in query else 1

    def run(self, statement: str) -> None:
        self.scalar(statement)

    def script(self, _text: str) -> Ran:
        self.transaction += 1
        return Ran(1)

    @contextmanager
    def at_work(self, _series: str) -> Iterator[Database]:
        if not self.answers:
            raise StatefulError("The server does not answer.")
        yield Database(self.noted)

    @contextmanager
    def connect(self) -> Iterator[Database]:
        yield self


DONE_ROW = Row(1, "01-all.sh", SCRIPT.sha256, DONE, "app", "host", "2026-01-02T03:04:05Z", operation="operation")


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    made = Database()

    def write(session: Database, _series: str, row: Row) -> None:
        session.run("INSERT")
        made.noted.append(row.state)

    def remove(session: Database, _series: str, _number: int) -> None:
        session.run("DELETE")
        made.noted.append("")

    def read(_session: Database, _series: str) -> list[Row]:
        return [replace(DONE_ROW, state=made.noted[-1])] if made.noted and made.noted[-1] else []

    monkeypatch.setattr(ledger, "write", write)
    monkeypatch.setattr(ledger, "remove", remove)
    monkeypatch.setattr(ledger, "read", read)
    return made


def context_of(database: Database, **facts: Any) -> Any:
    operation = SimpleNamespace(
        id="operation",
        plan=SimpleNamespace(facts=facts),
        history=lambda: SimpleNamespace(state=OPERATION_DONE, copies=list),
    )
    return SimpleNamespace(world=database, operation=operation)


def step_of(migration: Migration) -> Step:
    args = {
        "series": "default",
        "name": migration.name,
        "content": migration.content,
        "undo": migration.undo,
        "guards": {},
    }
    return Step(MIGRATE, f"run {migration.name}", SWITCH, args, proves=True)


def runs(database: Any, migration: Migration = SCRIPT) -> perform.Ran:
    return perform.run(database, database, "default", migration, "operation")


def scripted(monkeypatch: pytest.MonkeyPatch, database: Database, error: Exception | None = None) -> None:
    """Let a script end our session, and fail where there is an error."""

    def execute(*_given: object) -> str:
        database.gone = True
        if error is not None:
            raise error
        return "said"

    monkeypatch.setattr(perform, "execute", execute)


def test_a_script_that_ends_our_session_is_noted_over_another(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, database)
    assert runs(database).output == "said"
    assert database.noted == [RUNNING, DONE]


def test_what_cannot_be_noted_is_not_told_as_undone(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, database)
    database.answers = False
    with pytest.raises(perform.PartlyDone, match="does not answer") as caught:
        runs(database)
    assert caught.value.state.endswith("or all of it, and the ledger says running")
    assert "retry: [1]" in caught.value.next_command
    assert database.noted == [RUNNING]


@pytest.mark.parametrize("error", [StatefulError("It ended with 1."), OSError("a pipe is gone")], ids=str)
def test_whatever_breaks_it_off_is_noted_as_such(
    database: Database, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    scripted(monkeypatch, database, error)
    with pytest.raises(perform.PartlyDone, match=str(error)):
        runs(database)
    assert database.noted == [RUNNING, FAILED]


def test_what_ended_the_session_is_told_and_not_that_it_is_gone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(_text: str) -> Ran:
        database.gone = True
        raise SqlError("terminating connection due to administrator command")

    monkeypatch.setattr(database, "script", ends)
    with pytest.raises(perform.PartlyDone, match="due to administrator command"):
        runs(database, Migration(1, "01-a.sql", SQL, "VACUUM", Guards(transaction=False)))
    assert database.noted == [RUNNING, FAILED]


def test_what_would_be_done_twice_is_not_safe_to_run_again(database: Database) -> None:
    with pytest.raises(perform.PartlyDone, match="ended the transaction") as caught:
        runs(database, Migration(1, "01-a.sql", SQL, "CALL commits()"))
    assert not caught.value.safe_to_rerun
    assert caught.value.facts["again"] is False


def test_what_is_half_taken_back_is_noted_and_taken_back_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.noted.append(DONE)
    step = step_of(SCRIPT)
    context = context_of(database)
    scripted(monkeypatch, database, StatefulError("It ended with 1."))
    for _each in range(2):
        database.gone = False
        with pytest.raises(UndoRefused, match="ended with 1") as caught:
            HANDLERS[MIGRATE].undo(step, context)
        assert database.noted[-1] == UNDOING
        assert caught.value.state == PARTLY_BACK
    database.gone = False
    scripted(monkeypatch, database)
    HANDLERS[MIGRATE].undo(step, context)
    assert database.noted[-1] == ""


def test_what_is_taken_back_and_cannot_be_noted_is_not_told_as_done(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.noted.append(DONE)
    scripted(monkeypatch, database)
    database.answers = False
    server: Any = database
    with pytest.raises(StatefulError, match="does not answer") as caught:
        perform.take_back(server, server, "default", SCRIPT)
    assert caught.value.state == PARTLY_BACK
    assert database.noted == [DONE, UNDOING]


def test_the_backup_of_the_first_one_is_the_way_back_of_those_after_it(database: Database, tmp_path: Path) -> None:
    database.noted.append(DONE)
    backup = {"role": "backup", "path": str(tmp_path)}
    gone = {"role": "backup", "path": str(tmp_path / "gone")}
    step = step_of(replace(SCRIPT, undo=""))
    with pytest.raises(UndoRefused, match="no undo file") as caught:
        HANDLERS[MIGRATE].undo(step, context_of(database, copies=[backup, gone]))
    assert caught.value.copies == [backup]
    assert "the backup that is named in copies" in caught.value.next_command
    with pytest.raises(UndoRefused) as caught:
        HANDLERS[MIGRATE].undo(step, context_of(database))
    assert "named in copies" not in caught.value.next_command


def test_each_of_a_run_knows_its_backup(database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    backup = {"role": "backup", "service": "db", "path": str(tmp_path), "moment": "2026-01-02T03:04:05Z"}
    files = [replace(SCRIPT, number=number, name=f"0{number}-a.sh") for number in (1, 2, 3)]

    def carries(_request: object, operation: Operation) -> None:
        if operation.plan.summary["migration"] == "03-a.sh":
            raise StatefulError("It ended with 1.")
        copies = [backup] if operation.plan.facts["backup"] else []
        operation.journal.evidence(MIGRATE, {"copies": copies, "row": {}})
        operation.journal.state(OPERATION_DONE)

    monkeypatch.setattr(run, "_run", carries)
    looked = run.Looked("app", (), decide(files, []), {}, frozenset())
    monkeypatch.setattr(run, "look", lambda *_given: looked)
    operations = OperationStore(str(tmp_path / "operations"))
    connect: Any = lambda: database  # noqa: E731 - a stand-in
    request = run.Request("p", "default", files, {}, connect, backup_dir=str(tmp_path))
    with pytest.raises(StatefulError, match="ended with 1") as caught:
        run.carry_out(request, operations)
    assert [each["path"] for each in caught.value.copies] == [str(tmp_path)]
    known = {each.plan.summary["migration"]: each.plan.facts["copies"] for each in operations.of_project("p")}
    assert {name: [copy["path"] for copy in copies] for name, copies in known.items()} == {
        "01-a.sh": [],
        "02-a.sh": [str(tmp_path)],
        "03-a.sh": [str(tmp_path)],
    }


def test_a_script_that_goes_on_is_not_begun_a_second_time(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, database)
    database.noted.append(RUNNING)
    database.processes = ("SELFHOST_STATEFUL_OPERATION=operation",)
    with pytest.raises(StatefulError, match="is still running in the container app-db-1") as caught:
        runs(database)
    assert caught.value.next_command == "docker top app-db-1"
    assert database.noted == [RUNNING]
    database.processes = ()
    runs(database)
    assert database.noted == [RUNNING, RUNNING, DONE]


def test_what_takes_a_migration_back_is_not_begun_while_it_goes_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[object, ...]] = []
    monkeypatch.setattr(perform, "execute", lambda *given: begun.append(given[1:]))
    database.noted.append(UNDOING)
    database.processes = ("SELFHOST_STATEFUL_OPERATION=operation",)
    with pytest.raises(UndoRefused, match=r"What takes 01-all\.sh back, .* is still running") as caught:
        HANDLERS[MIGRATE].undo(step_of(SCRIPT), context_of(database))
    assert caught.value.state == "what takes 01-all.sh back goes on in db, and the ledger says undoing"
    assert caught.value.next_command == "docker top app-db-1"
    with pytest.raises(StatefulError, match="is still running"):
        runs(database)
    assert (database.noted, begun) == ([UNDOING], [])
    database.processes = ()
    HANDLERS[MIGRATE].undo(step_of(SCRIPT), context_of(database))
    assert begun == [("What takes 01-all.sh back", "false", "operation")]


def test_the_processes_of_a_script_are_found_by_its_operation() -> None:
    environment = {"PATH": os.environ["PATH"], outliving.VARIABLE: "there"}
    with subprocess.Popen(["sleep", "60"], env=environment) as sleeping:
        asked = ["sh", "-c", outliving.IS_RUNNING, "sh"]
        found = [
            subprocess.run([*asked, f"{outliving.VARIABLE}={which}"], check=False).returncode
            for which in ("there", "ther")
        ]
        sleeping.kill()
    assert found == [0, 1]


def test_a_text_that_is_accepted_leaves_the_note_of_the_run_as_it_was() -> None:
    said: list[tuple[str, tuple[Any, ...]]] = []
    session: Any = SimpleNamespace(run=lambda statement, values: said.append((statement, values)))
    ledger.accept(session, "default", SCRIPT)
    ((statement, values),) = said
    assert "SET name = %s, sha256 = %s WHERE series = %s AND number = %s" in statement
    assert values == ("01-all.sh", SCRIPT.sha256, "default", 1)
