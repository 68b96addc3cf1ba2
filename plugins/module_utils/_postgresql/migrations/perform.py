# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run one migration, with its row in the ledger: in one transaction where that can be, else before and after."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import as_stateful
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations import ledger
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.model import (
    DONE,
    FAILED,
    RECOGNISED,
    RUNNING,
    SQL,
    UNDOING,
    Migration,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.outliving import (
    VARIABLE,
    must_have_ended,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.server import (
    OUTPUT,
    Server,
    is_done_already,
    is_marked,
    must_run,
    still_to_do,
    unmet,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.statements import split
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import SqlError, milliseconds

# The shell reads the script from its third descriptor, so that no command in it can read the script from its input.
# Braces: a stream that breaks off is an error of syntax, and nothing of it is run.
WITH_PIPEFAIL = (
    "for shell in bash ash sh; do"
    ' if command -v "$shell" >/dev/null 2>&1 && "$shell" -c "set -o pipefail" 2>/dev/null; then'
    ' exec "$shell" -eu -o pipefail /dev/fd/3 3<&0 </dev/null 2>&1; fi;'
    ' done; echo "no shell here knows pipefail" >&2; exit 127'
)


class PartlyDone(StatefulError):
    """It failed and something of it is there. ``left`` and ``then``, among its facts, are its state and next command.

    Among the facts, because what undoes an operation has words of its own for the others. ``again`` is among them
    where it is False: the next run would do a second time what is there.
    """

    def __init__(self, msg: str, left: str, then: str, *, again: bool = True) -> None:
        known: dict[str, Any] = {} if again else {"again": again}
        super().__init__(msg, state=left, next_command=then, safe_to_rerun=again, left=left, then=then, **known)


@dataclass(frozen=True)
class Ran:
    """What it did; ``rows`` is None where none can be counted, ``output`` what a script or the server said."""

    state: str
    rows: int | None
    seconds: float
    output: str = ""


def run(server: Server, session: Session, series: str, migration: Migration, operation: str) -> Ran:
    """Run it, or find that it is done by other means; the session holds the lock of the series.

    A failure of one in a transaction leaves nothing behind, also of its row; one of
    another leaves the row ``failed`` and raises :class:`PartlyDone`.
    """
    row = next((row for row in ledger.read(session, series) if row.number == migration.number), None)
    if is_done_already(server, session, migration, row):
        ledger.write(session, series, ledger.begun(migration, RECOGNISED, operation, session))
        return Ran(RECOGNISED, None, 0.0)
    begins = _in_one_transaction if migration.in_transaction else _step_by_step
    return begins(server, session, series, migration, operation)


def _in_one_transaction(server: Server, session: Session, series: str, migration: Migration, operation: str) -> Ran:
    began = time.monotonic()
    with _transaction(session, migration) as number:
        before = still_to_do(session, migration)
        ran = session.script(migration.content)
        if str(session.scalar("SELECT txid_current()")) != number:
            raise PartlyDone(
                f"{migration.name} ended the transaction that it was run in.",
                f"what it did before that is done in {server.name}, and the ledger has no row of it",
                "look at what it did, and take it back by hand or give the migration a done_when that sees it",
                again=False,
            )
        _as_ourselves(session)
        lacking = unmet(session, migration, before, ran.rows)
        if lacking:
            raise StatefulError(f"{migration.name}: {lacking}.")
        seconds = round(time.monotonic() - began, 3)
        row = replace(ledger.begun(migration, DONE, operation, session), rows=ran.rows, seconds=seconds)
        ledger.write(session, series, row)
    return Ran(DONE, ran.rows, seconds, _kept("\n".join(ran.remarks)))


@contextmanager
def _transaction(session: Session, migration: Migration) -> Iterator[str]:
    """Hand out the number of a transaction with the limits of a migration."""
    guards = migration.guards
    session.run("BEGIN")
    try:
        session.run(f"SET LOCAL statement_timeout = {milliseconds(guards.statement_timeout)}")
        session.run(f"SET LOCAL lock_timeout = {milliseconds(guards.lock_timeout)}")
        yield str(session.scalar("SELECT txid_current()"))
    except BaseException:
        # A session that is gone has taken its transaction with it.
        with suppress(SqlError):
            session.run("ROLLBACK")
        raise
    session.run("COMMIT")


def _as_ourselves(session: Session) -> None:
    """Become the login again, where the migration took another role: the ledger is not that role's."""
    session.run("RESET SESSION AUTHORIZATION")
    session.run("RESET ROLE")


def _step_by_step(server: Server, session: Session, series: str, migration: Migration, operation: str) -> Ran:
    began = time.monotonic()
    must_have_ended(server, session, series, migration)
    row = ledger.begun(migration, RUNNING, operation, session)
    ledger.write(session, series, row)
    try:
        before = still_to_do(session, migration)
        rows, output = (
            _statements(session, migration) if migration.kind == SQL else _script(server, migration, operation)
        )
        with _living(server, session, series) as there:
            lacking = unmet(there, migration, before, rows)
            if lacking:
                raise StatefulError(f"{migration.name}: {lacking}.")
            done = replace(row, state=DONE, rows=rows, seconds=round(time.monotonic() - began, 3))
            ledger.write(there, series, done)
    except Exception as error:
        # Whatever it was: it has begun, and must not be told as one of which nothing is done.
        failure, noted = as_stateful(error), row
        # Where no session can be had the row goes on saying that it runs, which is read alike.
        with suppress(StatefulError), _living(server, session, series) as there:
            failed = replace(row, state=FAILED, seconds=round(time.monotonic() - began, 3))
            ledger.write(there, series, failed)
            noted = failed
        raise PartlyDone(
            failure.msg,
            f"{migration.name} runs in no transaction: a part of it may be done in {server.name}, or all of it, and"
            f" the ledger says {noted.state}",
            "put right what msg names, and run the same task again: it is repeatable"
            if migration.guards.repeatable
            else f"look at what it did, put it right, and run the same task with retry: [{migration.number}]",
        ) from error
    return Ran(DONE, rows, done.seconds or 0.0, output)


@contextmanager
def _living(server: Server, session: Session, series: str) -> Iterator[Session]:
    """Hand out the session, or where it is gone a fresh one with its lock: a script may restart the server."""
    try:
        session.scalar("SELECT 1")
    except SqlError:
        with server.at_work(series) as fresh:
            yield fresh
        return
    yield session


def _statements(session: Session, migration: Migration) -> tuple[int, str]:
    """Run each statement by itself: several at once would be one transaction again."""
    guards, rows = migration.guards, 0
    remarks: list[str] = []
    session.run(f"SET statement_timeout = {milliseconds(guards.statement_timeout)}")
    session.run(f"SET lock_timeout = {milliseconds(guards.lock_timeout)}")
    try:
        for statement in split(migration.content):
            ran = session.script(statement)
            rows += ran.rows
            remarks += ran.remarks
        # Outside a transaction each statement has a time of its own.
        if session.scalar("SELECT now() <> statement_timestamp()"):
            raise StatefulError(f"{migration.name} leaves a transaction open, which is rolled back: it has no COMMIT.")
    finally:
        # One that was broken off may have left a transaction of its own open; of a session that is gone all this has
        # gone, and why it went is what has to be told.
        with suppress(SqlError):
            session.run("ROLLBACK")
            _as_ourselves(session)
            session.without_timeouts()
    return rows, _kept("\n".join(remarks))


def _script(server: Server, migration: Migration, operation: str) -> tuple[None, str]:
    """Run a script in the container, with the login in the variables that Postgres' programs read."""
    return None, execute(server, migration.name, migration.content, operation)


def execute(server: Server, name: str, content: str, operation: str = "") -> str:
    """Run a script and return the end of what it said; raises where it does not end with 0.

    ``operation`` is what its processes are found by.
    """
    said = bytearray()

    def take(piece: bytes) -> None:
        said.extend(piece)
        del said[:-OUTPUT]

    with server.connect() as session:
        login = session.login
    environment = {
        "PGUSER": login.user,
        "PGDATABASE": login.database,
        "PGPORT": str(login.port),
        **({"PGHOST": login.socket_directory} if login.socket_directory else {}),
        **({"PGPASSWORD": login.password} if login.password else {}),
        **server.variables,
        **({VARIABLE: operation} if operation else {}),
    }
    answer = server.engine.stream(
        server.container.id,
        ("sh", "-c", WITH_PIPEFAIL),
        stdout=take,
        stdin=iter((b"{\n" + content.encode() + b"\n}\n",)),
        environment=environment,
        user=server.user,
        timeout=server.limit,
    )
    text = server.masked(said.decode("utf-8", "replace"), login.password)
    if answer.rc != 0:
        beside = server.masked(answer.error_text(), login.password)
        last = "\n".join([*text.strip().splitlines(), *beside.strip().splitlines()][-8:])
        raise StatefulError(f"{name} ended with {answer.rc}{':' if last else '.'}\n{last}".rstrip())
    return text


def mark(server: Server, migration: Migration) -> None:
    """Set the mark that is kept elsewhere, and read it back."""
    marker = migration.guards.marker
    if marker is None or is_marked(server, marker):
        return
    if marker.set:
        must_run(server, f"The mark of {migration.name} could not be set", marker.set)
    if not is_marked(server, marker):
        raise StatefulError(
            f"{migration.name} is done, and the mark that says so cannot be read back.",
            state=f"{migration.name} is done in {server.name} and in the ledger; only its mark is missing",
            next_command="put the commands of marker right in the task, which is taken from there",
        )


def unmark(server: Server, migration: Migration, *, unsure: bool = False) -> None:
    """Remove the mark where there is a command for that, and read that it is gone; raises where it is not.

    ``unsure``: it was never read back, so that one that is not seen may be there.
    """
    marker = migration.guards.marker
    if marker is None:
        return
    if not is_marked(server, marker):
        if unsure and marker.remove:
            server.command(marker.remove)  # which may fail where there is none
        elif unsure and marker.set:
            raise StatefulError(
                f"The mark of {migration.name} may be set: it could not be read back, and no command is given that"
                " removes it."
            )
        return
    if marker.remove:
        must_run(server, f"The mark of {migration.name} could not be removed", marker.remove)
    if is_marked(server, marker):
        why = "after it was removed" if marker.remove else "and no command is given that removes it"
        raise StatefulError(f"The mark of {migration.name} is still there {why}.")


def take_back(server: Server, session: Session, series: str, migration: Migration) -> int | None:
    """Run what takes a migration back, and remove its row; returns the rows that were changed."""
    rows: int | None = None
    if migration.kind == SQL:
        with _transaction(session, migration):
            rows = session.script(migration.undo).rows
            _as_ourselves(session)
            ledger.remove(session, series, migration.number)
    else:
        must_have_ended(server, session, series, migration)
        # A part of it may be gone from here on, whatever breaks the script off: it must not count as done.
        was = next((row for row in ledger.read(session, series) if row.number == migration.number), None)
        if was is not None:
            ledger.write(session, series, replace(was, state=UNDOING))
        try:
            # Found by what the row names, as the script is that it takes back.
            found_by = was.operation if was is not None else ""
            execute(server, f"What takes {migration.name} back", migration.undo, found_by)
            with _living(server, session, series) as there:
                ledger.remove(there, series, migration.number)
        except StatefulError as error:
            error.state = (
                f"{migration.name} may be taken back in part in {server.name}, or wholly, and the ledger says {UNDOING}"
            )
            raise
    return rows


def _kept(text: str) -> str:
    return text[-OUTPUT:]
