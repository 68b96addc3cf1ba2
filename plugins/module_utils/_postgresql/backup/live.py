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

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.compare import (
    compare,
    sequence_subject,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.model import (
    Fingerprint,
    qualified,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.take import take
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import FIRST_OF_USERS
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session

TABLES = f"""
SELECT c.oid::bigint, n.nspname, c.relname, c.relpersistence = 'u', c.relkind::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm', 'S', 'v', 'f') AND c.relpersistence <> 't' AND c.oid >= {FIRST_OF_USERS}
"""


@dataclass(frozen=True)
class Tables:
    """Databases and their relations by their oids, which a physical copy keeps.

    ``unlogged`` has databases with the subject that a comparison gives each.
    """

    names: Mapping[int, str]
    relations: Mapping[int, Mapping[int, str]]
    unlogged: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Look:
    """A live server at one moment; ``snapshot`` as the server prints it."""

    content: Fingerprint
    tables: Tables
    snapshot: str


@dataclass(frozen=True)
class Verdict:
    """``lost`` forbids the backup. ``moved`` may be what was written meanwhile; ``still``: nothing was."""

    still: bool
    lost: tuple[str, ...]
    moved: tuple[str, ...]


def look(session: Session, jobs: int) -> Look:
    """Look at a live server, its snapshot first."""
    taken = snapshot(session)
    return Look(take(session, jobs=jobs), tables_of(session), taken)


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
        relations[database] = {oid: qualified(schema, relation) for oid, schema, relation, *_facts in found}
        unlogged |= {
            (name, (sequence_subject if kind == "S" else str)(qualified(schema, relation)))
            for _oid, schema, relation, is_unlogged, kind in found
            if is_unlogged
        }
    return Tables(names, relations, frozenset(unlogged))


def is_still(before: str, after: str) -> bool:
    """Tell whether no transaction wrote between two snapshots, none having been under way at the first."""
    least, next_one, under_way = before.split(":")
    return before == after and least == next_one and not under_way


def judge(before: Look, after: Tables, after_snapshot: str, restored: Tables, content: Fingerprint) -> Verdict:
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
    # An unlogged table is empty in every physical copy, by design and whatever was in it, and its sequence begins anew.
    different = [
        difference
        for difference in compare(before.content, content)
        if (difference.database, difference.subject) not in before.tables.unlogged
    ]
    still = is_still(before.snapshot, after_snapshot)
    gone = [str(difference) for difference in different if still and difference.lost]
    moved = [str(difference) for difference in different if not (still and difference.lost)]
    return Verdict(still, (*lost, *gone), tuple(moved))


def in_words(verdict: Verdict, content: Fingerprint) -> str:
    """Say what the comparison shows, and no more than that."""
    if verdict.still:
        return f"{read(content)}; nothing was written meanwhile, and nothing that the live server had is missing"
    return (
        f"{read(content)}; no table of the live server is missing. It was written to meanwhile, and showed another"
        f" moment: {len(verdict.moved)} differences"
    )


def read(content: Fingerprint) -> str:
    """Say how much of a restored server was read."""
    tables = [table for database in content.databases.values() for table in database.tables.values()]
    return (
        f"restored into a scratch container, where {len(tables)} tables in {len(content.databases)} databases were read"
        f" in full ({sum(table.rows for table in tables)} rows)"
    )
