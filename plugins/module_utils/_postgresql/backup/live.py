# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a restored copy must have of a server that goes on working, and what it may lack.

A count of the live server is of another moment than the backup, so that it proves something
only where nothing was written in between. What always holds: a table that was there before
the backup and is there after it, under one oid, was there at its moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.counts import (
    Counts,
    compare_counts,
    count_rows,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session

COUNT_SECONDS = 60.0
COUNT_EXACT_UP_TO = 5_000_000

TABLES = """
SELECT c.oid::bigint, n.nspname || '.' || c.relname, c.relpersistence = 'u'
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm', 'S', 'v', 'f') AND c.relpersistence <> 't' AND c.oid >= 16384
"""


@dataclass(frozen=True)
class Tables:
    """Databases and their relations by their oids, which a physical copy keeps; ``unlogged`` by name."""

    names: Mapping[int, str]
    relations: Mapping[int, Mapping[int, str]]
    unlogged: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Look:
    """A live server at one moment; ``snapshot`` as the server prints it."""

    counts: Counts
    tables: Tables
    snapshot: str


@dataclass(frozen=True)
class Verdict:
    """``lost`` forbids the backup. ``moved`` may be what was written meanwhile; ``still``: nothing was."""

    still: bool
    lost: tuple[str, ...]
    moved: tuple[str, ...]


def look(session: Session) -> Look:
    """Look at a live server, its snapshot first."""
    taken = snapshot(session)
    counts = count_rows(session, budget_seconds=COUNT_SECONDS, exact_up_to=COUNT_EXACT_UP_TO)
    return Look(counts, tables_of(session), taken)


def snapshot(session: Session) -> str:
    return str(session.scalar("SELECT txid_current_snapshot()::text"))


def tables_of(session: Session) -> Tables:
    """List the relations of every database that allows connections."""
    names: dict[int, str] = {}
    relations: dict[int, dict[int, str]] = {}
    unlogged = set()
    for database, name in session.rows("SELECT oid::bigint, datname FROM pg_database WHERE datallowconn ORDER BY 2"):
        with session.sibling(name) as there:
            found = there.rows(TABLES)
        names[database] = name
        relations[database] = {oid: relation for oid, relation, _unlogged in found}
        unlogged |= {(name, relation) for _oid, relation, is_unlogged in found if is_unlogged}
    return Tables(names, relations, frozenset(unlogged))


def is_still(before: str, after: str) -> bool:
    """Tell whether no transaction wrote between two snapshots, none having been under way at the first."""
    least, next_one, under_way = before.split(":")
    return before == after and least == next_one and not under_way


def judge(before: Look, after: Tables, after_snapshot: str, restored: Tables, counts: Counts) -> Verdict:
    """Compare what was restored from a physical backup with the server before and after it was taken."""
    lost = []
    for database, name in before.tables.names.items():
        if database not in after.names:
            continue
        if database not in restored.names:
            lost.append(f"the database {name} is missing")
            continue
        here, now = restored.relations[database], after.relations[database]
        relations = before.tables.relations[database].items()
        lost += [f"{name}: {relation} is missing" for oid, relation in relations if oid in now and oid not in here]
    # An unlogged table is empty in every physical copy, by design and whatever was in it.
    different = [
        str(difference)
        for difference in compare_counts(before.counts, counts)
        if (difference.database, difference.table) not in before.tables.unlogged
    ]
    still = is_still(before.snapshot, after_snapshot)
    return Verdict(still, (*lost, *(different if still else ())), () if still else tuple(different))


def in_words(verdict: Verdict, counts: Counts) -> str:
    """Say what the comparison shows, and no more than that."""
    tables = sum(len(tables) for tables in counts.databases.values())
    restored = (
        f"restored into a scratch container, where {tables} tables in {len(counts.databases)} databases were read in"
        f" full ({counts.rows} rows)"
    )
    if verdict.still:
        return f"{restored}; nothing was written meanwhile, and every count equals that of the live server"
    return (
        f"{restored}; no table of the live server is missing. It was written to meanwhile, so that its counts are of"
        f" another moment: {len(verdict.moved)} differ"
    )
