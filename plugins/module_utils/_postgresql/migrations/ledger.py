# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was done, kept in the database that it was done to: a table in a schema of the collection's own."""

from __future__ import annotations

import os
import socket

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.model import Migration, Row
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session

SCHEMA = "selfhost_stateful"
TABLE = f"{SCHEMA}.migrations"
CREATE = (
    f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}",
    f"CREATE TABLE IF NOT EXISTS {TABLE} ("
    "series text NOT NULL, number integer NOT NULL, name text NOT NULL, sha256 text NOT NULL, state text NOT NULL,"
    " who text NOT NULL, host text NOT NULL, at timestamptz NOT NULL, seconds double precision, rows bigint,"
    " operation text NOT NULL, PRIMARY KEY (series, number))",
)
KEY = 0x5E1F57A7
"""The first half of the advisory lock's key; the second is the hash of the series."""


def exists(session: Session) -> bool:
    return bool(session.scalar("SELECT to_regclass(%s) IS NOT NULL", (TABLE,)))


def make(session: Session) -> None:
    """Create the table where it is not there; the caller holds :func:`lock`."""
    if not exists(session):
        for statement in CREATE:
            session.run(statement)


def read(session: Session, series: str) -> list[Row]:
    """Return the rows of a series in order; none where there is no ledger."""
    if not exists(session):
        return []
    # Spelled out in UTC: the session's zone is an accident of the server's configuration.
    when = "to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    found = session.rows(
        f"SELECT number, name, sha256, state, who, host, {when}, seconds, rows, operation FROM {TABLE}"
        " WHERE series = %s ORDER BY number",
        (series,),
    )
    return [
        Row(
            number=number,
            name=name,
            sha256=sha256,
            state=state,
            who=who,
            host=host,
            at=at,
            seconds=None if seconds is None else float(seconds),
            rows=rows,
            operation=operation,
        )
        for number, name, sha256, state, who, host, at, seconds, rows, operation in found
    ]


def write(session: Session, series: str, row: Row) -> None:
    """Put a row in, or in the place of the one that has its number."""
    columns = ("series", "number", "name", "sha256", "state", "who", "host", "operation")
    values = (series, row.number, row.name, row.sha256, row.state, row.who, row.host, row.operation)
    rows = "NULL" if row.rows is None else str(row.rows)
    seconds = "NULL" if row.seconds is None else repr(row.seconds)
    updates = ", ".join(f"{name} = excluded.{name}" for name in (*columns[2:], "at", "seconds", "rows"))
    session.run(
        f"INSERT INTO {TABLE} ({', '.join(columns)}, at, seconds, rows)"
        f" VALUES ({', '.join(['%s'] * len(columns))}, clock_timestamp(), {seconds}, {rows})"
        f" ON CONFLICT (series, number) DO UPDATE SET {updates}",
        values,
    )


def accept(session: Session, series: str, migration: Migration) -> None:
    """Note another text for what ran; who ran it, when, and how many rows it changed stay as they were."""
    values = (migration.name, migration.sha256, series, migration.number)
    session.run(f"UPDATE {TABLE} SET name = %s, sha256 = %s WHERE series = %s AND number = %s", values)


def remove(session: Session, series: str, number: int) -> None:
    session.run(f"DELETE FROM {TABLE} WHERE series = %s AND number = %s", (series, number))


def lock(session: Session, series: str) -> bool:
    """Take the lock of a series for as long as the session lives; False where another session has it."""
    return bool(session.scalar("SELECT pg_try_advisory_lock(%s, hashtext(%s))", (_signed(KEY), series)))


def holder(session: Session, series: str) -> str:
    """Say who has the lock of a series, as far as the server tells."""
    found = session.rows(
        "SELECT a.pid, a.usename, a.application_name, coalesce(a.client_addr::text, 'the local socket'),"
        " to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ') FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE l.locktype = 'advisory' AND l.granted AND l.classid::bigint = %s"
        " AND l.objid::bigint = (hashtext(%s)::bigint & 4294967295)"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        (KEY, series),
    )
    for pid, user, application, client, since in found:
        return f"backend {pid} of {user} ({application}, from {client}, since {since})"
    return "a session that has just ended"


def _signed(key: int) -> int:
    return key - (1 << 32) if key >= 1 << 31 else key


def begun(migration: Migration, state: str, operation: str, session: Session) -> Row:
    """Return the row of a migration in ``state``, by whoever runs this; the server sets its time."""
    admin = os.environ.get("SUDO_USER", "")
    return Row(
        number=migration.number,
        name=migration.name,
        sha256=migration.sha256,
        state=state,
        who=f"{session.user} ({admin})" if admin else session.user,
        host=socket.gethostname(),
        at="",
        operation=operation,
    )
