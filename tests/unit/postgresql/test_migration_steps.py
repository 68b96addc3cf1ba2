# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A migration as an operation: what is taken back, its mark and its row agree in the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations import ledger, perform, run
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.ending import (
    ending_of_migrations,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.files import of_list, parse
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.model import (
    DONE,
    FAILED,
    RECOGNISED,
    UNDOING,
    Migration,
    Row,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.steps import (
    HANDLERS,
    goal_of,
    plan_one,
)

MARKER = {"read": ["read"], "set": ["set"], "remove": ["remove"], "expected": "yes"}
GIVEN = {"name": "01-inc.sql", "content": "UPDATE t SET n = n + 1", "undo": "UPDATE t SET n = n - 1", "marker": MARKER}


@dataclass
class World:
    """A server with its ledger and one mark. ``state``: how the migration ends; ``fails``: exit codes by command."""

    state: str = DONE
    mark: bool = False
    name: str = "db"
    rows: list[Row] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    fails: dict[str, int] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def connect(self) -> Iterator[World]:
        yield self

    @contextmanager
    def at_work(self, _series: str) -> Iterator[World]:
        yield self

    def masked(self, text: str, *_more: str) -> str:
        return text

    def command(self, argv: tuple[str, ...]) -> tuple[int, str]:
        if argv[0] in self.fails:
            return self.fails[argv[0]], "it fails"
        if argv[0] != "read":
            self.mark = argv[0] == "set"
        return 0, "yes" if self.mark else ""

    def run(self, _server: Any, _there: Any, _series: str, migration: Migration, operation: str) -> perform.Ran:
        row = Row(1, migration.name, migration.sha256, self.state, "me", "here", "2026-01-01T00:00:00Z")
        self.rows.append(Row.from_dict({**row.as_dict(), "operation": operation}))
        return perform.Ran(self.state, 1, 0.1)

    def remove(self, *_any: Any) -> None:
        self.rows.clear()

    def take_back(self, *_any: Any) -> int:
        self.ran.append("undo")
        self.rows.clear()
        return 1


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    found = World()
    monkeypatch.setattr(ledger, "read", lambda *_any: list(found.rows))
    monkeypatch.setattr(ledger, "remove", found.remove)
    monkeypatch.setattr(perform, "run", found.run)
    monkeypatch.setattr(perform, "take_back", found.take_back)
    return found


@pytest.fixture
def store(tmp_path: Path) -> OperationStore:
    return OperationStore(str(tmp_path / "operations"))


def begun(store: OperationStore, *environment: str, **changes: Any) -> Operation:
    contents, guards = of_list([{**GIVEN, **changes}])
    (migration,) = parse(contents, guards)
    goal = goal_of(migration, project="p", series="default", database="postgres")
    return store.begin(plan_one(migration, guards[migration.name], goal, {"subject": {}, "environment": environment}))


def done(store: OperationStore, world: Any, *environment: str, **changes: Any) -> Operation:
    operation = begun(store, *environment, **changes)
    execute.run(operation, HANDLERS, world)
    return operation


def taken_back(store: OperationStore, operation: Operation, world: Any, *environment: str) -> str:
    ending = ending_of_migrations(store, lambda _known: world, lambda: world, check_mode=True, environment=environment)
    said = str(ending.roll_back(operation)["plan_text"])
    execute.undo(operation, HANDLERS, world, reason="It was rolled back on request.")
    return said


@pytest.mark.parametrize(
    "state,before,after,ran",
    [(RECOGNISED, True, True, []), (RECOGNISED, False, False, []), (DONE, False, False, ["undo"])],
    ids=["by a mark", "by done_when, and marked by us", "run"],
)
def test_a_mark_of_what_was_done_by_other_means_outlives_its_note(
    store: OperationStore, world: World, state: str, before: bool, after: bool, ran: list[str]
) -> None:
    world.state, world.mark = state, before
    operation = done(store, world)
    assert world.mark
    said = taken_back(store, operation, world)
    assert (world.mark, world.rows, world.ran) == (after, [], ran)
    assert ("stays done" in said) is (state == RECOGNISED)
    assert ("undo file" in said) is (state == DONE)


@pytest.mark.parametrize(
    "marker,fails,words",
    [
        ({**MARKER, "remove": []}, {}, "still there and no command is given that removes it"),
        ({**MARKER, "remove": ["set"]}, {}, "still there after it was removed"),
        (MARKER, {"read": 127}, "The mark cannot be read: read ended with 127: it fails"),
        (MARKER, {"remove": 1}, "could not be removed"),
    ],
)
def test_what_stays_marked_is_not_taken_back(
    store: OperationStore, world: World, marker: dict[str, Any], fails: dict[str, int], words: str
) -> None:
    operation = done(store, world, marker=marker)
    world.fails = fails
    with pytest.raises(execute.UndoRefused, match=words):
        taken_back(store, operation, world)
    assert (world.mark, world.ran, len(world.rows)) == (True, [], 1)

    world.fails, world.mark = {}, False
    taken_back(store, operation, world)
    assert world.ran == ["undo"]


@pytest.mark.parametrize("left,marked", [(UNDOING, False), (DONE, True)])
def test_what_is_half_taken_back_is_marked_no_more(
    store: OperationStore, world: World, monkeypatch: pytest.MonkeyPatch, left: str, marked: bool
) -> None:
    operation = done(store, world)

    def breaks_off(*_any: Any) -> int:
        world.rows[:] = [replace(row, state=left) for row in world.rows]
        raise StatefulError("It ended with 1.")

    monkeypatch.setattr(perform, "take_back", breaks_off)
    with pytest.raises(execute.UndoRefused, match=r"ended with 1\.$"):
        taken_back(store, operation, world)
    assert world.mark is marked


def test_what_was_run_again_since_and_broken_off_is_not_told_as_taken_back(store: OperationStore, world: World) -> None:
    operation = done(store, world)
    world.rows[:] = [replace(row, state=FAILED, operation="another") for row in world.rows]
    with pytest.raises(
        execute.UndoRefused, match=r"was run again since, by another, and that was broken off \(failed\)"
    ):
        taken_back(store, operation, world)
    assert (world.ran, operation.history().state) == ([], DONE)


@pytest.mark.parametrize(
    "changes,refused",
    [
        ({}, True),
        ({"marker": None}, False),
        ({"marker": None, "name": "01-inc.sh"}, True),
    ],
    ids=["a marker", "neither", "a script"],
)
def test_variables_that_a_way_back_needs_are_asked_for_by_name(
    store: OperationStore, world: World, changes: dict[str, Any], refused: bool
) -> None:
    operation = done(store, world, "TOKEN", "URL", **changes)
    if refused:
        with pytest.raises(InvalidInput, match=r"its way back needs them: TOKEN\.") as lacking:
            taken_back(store, operation, world, "URL")
        assert "-e @FILE, where FILE has operation_environment with these" in lacking.value.next_command
        assert (world.ran, len(world.rows)) == ([], 1)
        taken_back(store, operation, world, "URL", "TOKEN")
    else:
        taken_back(store, operation, world)
    assert (world.mark, world.ran) == (False, ["undo"])


MISTYPED = {**MARKER, "expected": "yse"}


def a_request(world: Any, **changes: Any) -> run.Request:
    contents, guards = of_list([{**GIVEN, **changes}])
    return run.Request("p", "default", parse(contents, guards), guards, lambda: world)


@pytest.mark.parametrize("in_head", [False, True])
def test_a_marker_that_was_mistyped_is_taken_from_the_task_and_kept(
    store: OperationStore, world: World, in_head: bool
) -> None:
    def given(marker: dict[str, Any]) -> dict[str, Any]:
        head = f"-- selfhost.stateful:\n--   marker: {json.dumps(marker)}\n"
        return {"content": head + GIVEN["content"], "marker": None} if in_head else {"marker": marker}

    operation = begun(store, **given(MISTYPED))
    with pytest.raises(execute.ProvedFailure, match="cannot be read back") as failed:
        execute.run(operation, HANDLERS, world)  # type: ignore[arg-type]
    assert "put the commands of marker right in the task" in failed.value.next_command
    with pytest.raises(execute.ProvedFailure, match="cannot be read back"):
        run._end_open(a_request(world, **given(MISTYPED)), store, [], [])

    made: list[str] = []
    run._end_open(a_request(world, **given(MARKER)), store, made, [])
    assert (made, operation.history().state) == ([operation.id], DONE)
    taken_back(store, operation, world)
    assert (world.mark, world.ran) == (False, ["undo"])


def test_a_roll_back_goes_on_with_the_variables_that_it_needs_alone(store: OperationStore, world: World) -> None:
    operation = done(store, world, "TOKEN")
    operation.journal.undoing("It was rolled back on request.")
    with pytest.raises(InvalidInput, match=r"its way back needs them: TOKEN\."):
        run._end_open(a_request(world), store, [], [])
    assert (world.mark, world.ran, operation.is_open) == (True, [], True)
    world.environment = {"TOKEN": "any"}
    run._end_open(a_request(world), store, [], [])
    assert (world.mark, world.ran, operation.is_open) == (False, ["undo"], False)


def test_a_roll_back_goes_on_whatever_text_was_accepted_since(store: OperationStore, world: World) -> None:
    operation = done(store, world)
    world.rows[:] = [replace(row, sha256="another") for row in world.rows]
    operation.journal.undoing("It was rolled back on request.")
    run._end_open(a_request(world), store, [], [])
    assert (world.mark, world.ran, operation.is_open) == (False, ["undo"], False)


def test_another_text_or_series_has_no_say_in_a_marker(store: OperationStore, world: World) -> None:
    operation = begun(store, marker=MISTYPED)
    with pytest.raises(execute.ProvedFailure):
        execute.run(operation, HANDLERS, world)  # type: ignore[arg-type]
    for request in (a_request(world, content="SELECT 1"), replace(a_request(world), series="another")):
        with pytest.raises(execute.ProvedFailure, match="cannot be read back"):
            run._end_open(request, store, [], [])


@pytest.mark.parametrize("remove,refused", [(["remove"], False), ([], True)])
def test_a_mark_that_was_never_read_back_is_no_hindrance_to_going_back_where_it_can_be_removed(
    store: OperationStore, world: World, remove: list[str], refused: bool
) -> None:
    operation = begun(store, marker={**MISTYPED, "remove": remove})
    with pytest.raises(execute.ProvedFailure):
        execute.run(operation, HANDLERS, world)  # type: ignore[arg-type]
    if refused:
        with pytest.raises(execute.UndoRefused, match="may be set"):
            taken_back(store, operation, world)
    else:
        taken_back(store, operation, world)
    assert (world.mark, world.ran) == ((True, []) if refused else (False, ["undo"]))
