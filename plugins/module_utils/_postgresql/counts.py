# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Count rows before and after a move, exactly where time allows, and say which is which."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import sql
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.compare import (
    Difference,
    compare_rows,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import SqlError

QUERY_CANCELED = "57014"
UNDEFINED_TABLE = "42P01"
COUNTING = "selfhost_stateful_counting"
# One question for this many tables: a cluster with ten thousand of them is common enough.
BATCH_TABLES = 200
BATCH_ROWS = 200_000

# Leaves only: the rows of a partitioned table are those of its partitions. A table
# that was never analyzed has no estimate (-1, or 0 before 14), so its size stands in;
# one that a snapshot still shows and that was dropped has none.
RELATIONS = """
SELECT n.nspname, c.relname, c.relkind::text,
       coalesce((SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                    AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'), ''),
       c.relispopulated,
       (CASE WHEN c.reltuples > 0 THEN c.reltuples
             ELSE coalesce(pg_relation_size(c.oid), 0) / 64 END)::bigint AS estimate
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%'
ORDER BY estimate, n.nspname, c.relname
"""

# A snapshot is held against new rows and not against new files: after a TRUNCATE, a rewrite, or another table under the
# same name it sees nothing where there were rows. These functions tell of the present, whatever snapshot asks them.
FILES = """
SELECT n.nspname, c.relname, pg_relation_filepath(to_regclass(format('%I.%I', n.nspname, c.relname)))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%'
"""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Relation:
    """A table (``kind`` r) or a materialized view (m) with rows of its own.

    ``extension`` is the one that it belongs to, ``estimate`` the planner's rows. A
    view that is not ``populated`` must not be read.
    """

    schema: str
    name: str
    kind: str
    extension: str
    populated: bool
    estimate: int

    @property
    def is_derived(self) -> bool:
        """Tell whether a dump does not carry its rows: a view is computed anew, an extension brings its own tables."""
        return self.kind == "m" or bool(self.extension)

    @property
    def sql(self) -> str:
        return f"{sql.identifier(self.schema)}.{sql.identifier(self.name)}"


@dataclass(frozen=True)
class Count:
    """The rows of one table; an estimate of the planner's statistics where not ``exact``."""

    rows: int
    exact: bool


@dataclass(frozen=True)
class Counts:
    """``databases`` maps database → "schema.table" → :class:`Count`; ``skipped`` names a reason a database."""

    databases: Mapping[str, Mapping[str, Count]]
    skipped: Mapping[str, str]

    @property
    def rows(self) -> int:
        return sum(count.rows for tables in self.databases.values() for count in tables.values())

    @property
    def exact(self) -> bool:
        return all(count.exact for tables in self.databases.values() for count in tables.values())


def as_dict(counts: Counts) -> dict[str, Any]:
    """Return the counts for a journal or a result; an estimate is marked by a tilde."""
    return {
        "databases": {
            database: {name: count.rows if count.exact else f"~{count.rows}" for name, count in tables.items()}
            for database, tables in counts.databases.items()
        },
        "skipped": dict(counts.skipped),
    }


def from_dict(raw: Mapping[str, Any]) -> Counts:
    """Read back what :func:`as_dict` returned."""
    return Counts(
        databases={
            database: {
                name: Count(int(str(rows).lstrip("~")), exact=isinstance(rows, int)) for name, rows in tables.items()
            }
            for database, tables in raw["databases"].items()
        },
        skipped=dict(raw["skipped"]),
    )


def count_rows(
    session: Session,
    *,
    budget_seconds: float,
    exact_up_to: int,
    clock: Callable[[], float] = time.monotonic,
) -> Counts:
    """Count the rows of every table of every database that allows connections.

    Small tables first. A table that is estimated above ``exact_up_to`` rows, and all
    that is left when ``budget_seconds`` are over, is reported with its estimate.
    """
    ends = clock() + budget_seconds
    counted: dict[str, dict[str, Count]] = {}
    skipped: dict[str, str] = {}
    for name, open_to_us in session.rows("SELECT datname, datallowconn FROM pg_database ORDER BY datname"):
        if not open_to_us:
            skipped[name] = "does not allow connections"
            continue
        try:
            with session.sibling(name) as there:
                counted[name] = count_database(there, ends=ends, exact_up_to=exact_up_to, clock=clock)
        except SqlError as error:
            skipped[name] = error.msg
    return Counts(counted, skipped)


def count_database(
    session: Session,
    *,
    ends: float,
    exact_up_to: int,
    clock: Callable[[], float] = time.monotonic,
    in_transaction: bool = False,
) -> dict[str, Count]:
    """Count the tables of the session's own database until ``clock`` says ``ends``.

    ``in_transaction``: whether the session has begun one, which goes on whatever is refused in between.
    """
    tables = relations(session)
    counts = {_name(table.schema, table.name): Count(table.estimate, exact=False) for table in tables}
    countable = [table for table in tables if table.populated and table.estimate <= exact_up_to]
    for batch in batches(countable, lambda table: table.estimate):
        left = ends - clock()
        if left <= 0:
            break
        if in_transaction:
            session.run(f"SAVEPOINT {COUNTING}")
        try:
            counted = session.limited(left).rows(_question(batch))
        except SqlError as error:
            if in_transaction and error.sqlstate in (QUERY_CANCELED, UNDEFINED_TABLE):
                session.run(f"ROLLBACK TO SAVEPOINT {COUNTING}")
            if error.sqlstate == QUERY_CANCELED:
                break
            if error.sqlstate == UNDEFINED_TABLE:  # dropped meanwhile: its neighbours keep their estimates
                continue
            raise
        if in_transaction:
            session.run(f"RELEASE SAVEPOINT {COUNTING}")
        counts.update({_name(schema, table): Count(rows, exact=True) for schema, table, rows in counted})
    return counts


def relations(session: Session) -> list[Relation]:
    """Return everything that has rows of its own in the session's database, the smallest first."""
    return [Relation(*row) for row in session.rows(RELATIONS)]


def files(session: Session) -> dict[str, str | None]:
    """Return the file in which each table lies now, None where nothing has its name any more; from 9.6 on."""
    return {_name(schema, table): file for schema, table, file in session.rows(FILES)}


def unless_replaced(
    counts: Mapping[str, Count], before: Mapping[str, str | None], after: Mapping[str, str | None]
) -> dict[str, Count]:
    """Return the counts, as estimates where a table lies in another file than before (:func:`files`)."""
    return {
        name: replace(count, exact=count.exact and before.get(name) is not None and before[name] == after.get(name))
        for name, count in counts.items()
    }


def replaced(
    tables: Iterable[Relation], before: Mapping[str, str | None], after: Mapping[str, str | None]
) -> tuple[str, ...]:
    """Return the tables with rows of their own in a dump that lie in another file than before (:func:`files`).

    Those that had no rows by the planner's statistics are left out.
    """
    held = [_name(table.schema, table.name) for table in tables if table.estimate and not table.is_derived]
    return tuple(sorted(name for name in held if before.get(name) is None or before[name] != after.get(name)))


def emptied_before(dump: Mapping[str, Iterable[str]], restored: Counts) -> list[str]:
    """Return, of the tables of a dump that were :func:`replaced`, those that came out of it without a row.

    pg_dump took its locks after its snapshot. Who rewrote a table in between (ALTER TABLE) lost none of its rows, and
    the snapshot shows none of them.
    """
    return [
        f"{database}: {name}"
        for database, names in dump.items()
        for name in names
        if restored.databases.get(database, {}).get(name, Count(0, True)).rows == 0
    ]


def emptied_behind(dump: Counts, restored: Counts) -> dict[str, list[str]]:
    """Return, by database, the tables that a dump was counted to have nothing of, and that came out of it with rows.

    That is what a TRUNCATE or a rewrite behind the dump looks like to a count in its snapshot, and earlier versions
    took it for exact. It hides no loss: the rows are those of the dump, which its checksums guard.
    """
    found = {}
    for database, tables in dump.databases.items():
        there = restored.databases.get(database, {})
        names = [name for name, was in tables.items() if was == Count(0, True) and name in there and there[name].rows]
        if names:
            found[database] = names
    return found


def batches(items: Iterable[Item], weight: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Put together what is asked in one question; ``weight`` is the rows that an item will read."""
    batch: list[Item] = []
    rows = 0
    for item in items:
        if batch and (len(batch) == BATCH_TABLES or rows + weight(item) > BATCH_ROWS):
            yield batch
            batch, rows = [], 0
        batch.append(item)
        rows += weight(item)
    if batch:
        yield batch


def _question(batch: list[Relation]) -> str:
    return " UNION ALL ".join(
        f"SELECT {sql.literal(table.schema)}, {sql.literal(table.name)}, count(*) AS n FROM ONLY {table.sql}"
        for table in batch
    )


def _name(schema: str, table: str) -> str:
    return f"{schema}.{table}"


def renamed(found: Counts, name: str, other: str) -> Counts:
    """Return the same with a database under another name."""
    return replace(found, databases={other if each == name else each: rows for each, rows in found.databases.items()})


def compare_counts(before: Counts, after: Counts) -> list[Difference]:
    """Return what differs, tables that lost rows first. An estimate proves nothing and is never compared."""
    found: list[Difference] = []
    for database, tables in before.databases.items():
        if database not in after.databases:
            reason = after.skipped.get(database, "it is not there")
            found.append(Difference(database, "(all tables)", f"could not be counted: {reason}", True))
            continue
        found.extend(compare_rows(database, tables, after.databases[database]))
    for database in after.databases:
        if database not in before.databases and database not in before.skipped:
            found.append(Difference(database, "(all tables)", "came with a new database", False))
    return sorted(found, key=lambda difference: not difference.lost)
