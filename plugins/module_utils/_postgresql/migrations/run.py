# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run what is left to run, in order, each once."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, refusal
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.detached import run_detached
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.report import to_end
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations import head, ledger, planner
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.ending import check_environment
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.model import (
    SQL,
    Migration,
    Row,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.planner import (
    ACCEPT,
    KEEP,
    RUN,
    Decided,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.server import (
    Server,
    is_done_already,
    still_to_do,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.steps import (
    HANDLERS,
    MARK,
    MODULE,
    Mark,
    goal_of,
    migration_of,
    plan_one,
)

NONE = "none"


@dataclass(frozen=True)
class Request:
    """What is wanted. ``connect`` finds the server anew, because sockets do not survive a fork.

    ``project`` is the name that work on this server excludes other work by, ``guards``
    those that were given beside the files, ``subject`` how the server is found again.
    """

    project: str
    series: str
    migrations: Sequence[Migration]
    guards: Mapping[str, Mapping[str, Any]]
    connect: Callable[[], Server] = field(repr=False)
    subject: Mapping[str, Any] = field(default_factory=dict)
    accept: Collection[int] = ()
    retry: Collection[int] = ()
    until: int | None = None
    backup: str = "auto"
    backup_dir: str = ""


@dataclass(frozen=True)
class Looked:
    """What was found: the ledger, what is to be done, and how many rows the queries say are left, by name."""

    database: str
    rows: tuple[Row, ...]
    decided: Decided
    to_do: Mapping[str, int]
    recognised: frozenset[str]


def look(request: Request, server: Server) -> Looked:
    """Ask the ledger, and the guards of what would run; changes nothing, also where a query of theirs would."""
    with server.connect() as session:
        rows = ledger.read(session, request.series)
        decided = planner.decide(
            request.migrations, rows, accept=request.accept, retry=request.retry, until=request.until
        )
        to_do, recognised = {}, set()
        # A guard may ask for what an earlier migration is still to make: that is no failure before it ran.
        with session.as_application() as theirs:
            for decision in decided.of(RUN):
                migration = decision.migration
                theirs.run("BEGIN TRANSACTION READ ONLY")
                try:
                    if is_done_already(server, theirs, migration, decision.row):
                        recognised.add(migration.name)
                    elif migration.kind == SQL:
                        left = still_to_do(theirs, migration)
                        to_do.update({migration.name: left} if left is not None else {})
                except StatefulError:
                    continue
                finally:
                    theirs.run("ROLLBACK")
        return Looked(session.database, tuple(rows), decided, to_do, frozenset(recognised))


def text_of(request: Request, looked: Looked, server: Server) -> str:
    """Return the plan as an admin reads it."""
    lines = [f"Migrations of {server.name}, database {looked.database}, series {request.series}"]
    for decision in looked.decided.decisions:
        name, row = decision.migration.name, decision.row
        if decision.action == ACCEPT:
            lines.append(f"  {name}: accept its new text, which is not run")
        elif decision.action == KEEP:
            lines.append(f"  {name}: {f'{row.state} on {row.at}' if row else 'not wanted yet'}")
        elif name in looked.recognised:
            lines.append(f"  {name}: is done already, and is noted as such")
        else:
            rows = f", {looked.to_do[name]} rows to do" if name in looked.to_do else ""
            how = "in one transaction" if decision.migration.in_transaction else "in no transaction"
            lines.append(f"  {name}: run {how}{rows}")
    lines += [f"  BLOCKER: {blocker.text}" for blocker in looked.decided.blockers]
    if looked.decided.of(RUN):
        where = "no backup is taken first" if request.backup == NONE else f"a backup goes to {request.backup_dir} first"
        lines.append(f"  {where}")
    return "\n".join(lines)


def check(request: Request) -> dict[str, Any]:
    """Say what would be done; changes nothing."""
    server = request.connect()
    looked = look(request, server)
    pending = [
        {"name": decision.migration.name, "rows": looked.to_do.get(decision.migration.name)}
        for decision in looked.decided.of(RUN)
    ]
    return {
        "changed": bool(pending or looked.decided.of(ACCEPT)),
        "ran": [],
        "operations": [],
        "pending": pending,
        "ledger": [row.as_dict() for row in looked.rows],
        "plan_text": text_of(request, looked, server),
        "blockers": [blocker.text for blocker in looked.decided.blockers],
        "warnings": list(looked.decided.warnings),
    }


def carry_out(request: Request, operations: OperationStore) -> dict[str, Any]:
    """Run them; the caller holds the project's lock. Raises StatefulError, with what was done before in ``ran``."""
    server = request.connect()
    done: list[dict[str, Any]] = []
    made: list[str] = []
    _end_open(request, operations, made, done)
    looked = look(request, server)
    if looked.decided.blockers:
        raise refusal(looked.decided.blockers, plan_text=text_of(request, looked, server))
    text = text_of(request, looked, server)
    _accept(request, server, looked)
    backup = request.backup
    copies: list[dict[str, Any]] = []
    for decision in looked.decided.of(RUN):
        migration = decision.migration
        goal = goal_of(migration, project=request.project, series=request.series, database=looked.database)
        path = os.path.join(request.backup_dir, operations.next_id(goal))
        taken = {"format": backup, "path": path} if backup != NONE else {}
        # The backup before the first one is also the way back of those after it.
        facts = {
            "subject": dict(request.subject),
            "backup": taken,
            "copies": copies,
            "environment": sorted(server.environment),
        }
        operation = operations.begin(plan_one(migration, request.guards.get(migration.name, {}), goal, facts))
        try:
            _run(request, operation)
        except StatefulError as error:
            error.facts.update(ran=done, operations=made, plan_text=text)
            error.copies = error.copies or copies
            raise
        backup = NONE  # one before the first
        copies = [*copies, *(copy.as_dict() for copy in operation.history().copies())]
        made.append(operation.id)
        done.append(told(operation))
    with server.connect() as session:
        rows = ledger.read(session, request.series)
    return {
        "changed": bool(made or looked.decided.of(ACCEPT)),
        "ran": done,
        "operations": made,
        "ledger": [row.as_dict() for row in rows],
        "plan_text": text,
        "warnings": list(looked.decided.warnings),
    }


def _run(request: Request, operation: Operation) -> None:
    name = operation.plan.summary["migration"]

    def work() -> dict[str, Any]:
        try:
            execute.run(operation, HANDLERS, request.connect())
        except execute.UndoneFailure as failure:
            # The heart speaks of services; of a migration something else is true.
            failure.state = failure.facts.pop("left", f"nothing of {name} is done; those before it are")
            failure.next_command = failure.facts.pop(
                "then", f"put right what msg names, and run the same task again: it goes on at {name}"
            )
            failure.safe_to_rerun = failure.facts.pop("again", True)
            raise
        return {}

    run_detached(work, result_path=operation.result_path, log_path=operation.worker_log)


def _end_open(request: Request, operations: OperationStore, made: list[str], done: list[dict[str, Any]]) -> None:
    """Bring to its end what an earlier run left open: done where the ledger says so, else undone to be begun anew."""
    open_one = operations.open_for(request.project)
    if open_one is None:
        return
    why = ""
    if open_one.plan.goal.module != MODULE:
        why = f"is open on {request.project}; it has to end before a migration can begin"
    elif open_one.plan.facts["subject"] != request.subject:
        why = f"is open on another server or database of {request.project}"
    if why:
        raise StatefulError(
            f"The operation {open_one.id} {why}.",
            state=f"the operation {open_one.id} stands at the step '{open_one.history().current_step or 'none'}'",
            next_command=to_end(open_one),
            operation=open_one.id,
        )
    world = request.connect()
    context = execute.Context(world=world, operation=open_one, evidence=dict(open_one.history().evidence))
    step = next(step for step in open_one.plan.steps if step.proves)
    handlers = {**HANDLERS, MARK: Mark(_as_given(request, open_one, migration_of(step)))}
    history = open_one.history()
    if history.undoing and history.proved:
        check_environment(open_one, world.environment)
    # Whether it is done still is of no matter to a roll back that was broken off: that goes on.
    if not history.undoing and handlers[step.kind].is_done(step, context) is not None:
        execute.run(open_one, handlers, world)
        made.append(open_one.id)
        done.append(told(open_one))
    else:
        execute.undo(open_one, handlers, world, reason="It was interrupted.")


def _as_given(request: Request, operation: Operation, planned: Migration) -> Migration:
    """Return the migration with the marker that the task has now; what it does is as it was planned.

    A marker that was mistyped would else hold up every migration of the server.
    """
    if operation.plan.goal.wants["series"] != request.series:
        return planned
    body = head.body(planned.kind, planned.content)
    same = (
        each for each in request.migrations if each.name == planned.name and head.body(each.kind, each.content) == body
    )
    return next(same, planned)


def _accept(request: Request, server: Server, looked: Looked) -> None:
    accepted = looked.decided.of(ACCEPT)
    if not accepted:
        return
    with server.at_work(request.series) as session:
        for decision in accepted:
            ledger.accept(session, request.series, decision.migration)


def told(operation: Operation) -> dict[str, Any]:
    """Return what a result says of one migration that ran."""
    history = operation.history()
    step = next(step for step in operation.plan.steps if step.proves)
    evidence = history.evidence.get(step.name, {})
    row = evidence.get("row", {})
    return {
        "name": step.args["name"],
        "operation": operation.id,
        "state": row.get("state", ""),
        "rows": row.get("rows"),
        "seconds": row.get("seconds"),
        "output": evidence.get("output", ""),
        "copies": [copy.as_dict() for copy in history.copies()],
    }
