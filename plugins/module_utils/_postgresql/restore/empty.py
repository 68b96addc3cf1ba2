# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Does a running server hold anything that initdb and the image did not put there?"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import logical_restore, sql
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import FIRST_OF_USERS
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session

CATALOGS = {
    "pg_class": "relations",
    "pg_proc": "functions",
    "pg_type": "types",
    "pg_namespace": "schemas",
    "pg_extension": "extensions",
    "pg_cast": "casts",
    "pg_language": "languages",
    "pg_event_trigger": "event triggers",
    "pg_foreign_data_wrapper": "foreign data wrappers",
    "pg_publication": "publications",
    "pg_subscription": "subscriptions",
}
FIRST_WITH_PUBLICATIONS = 100000
# Every database sees the subscriptions of all.
OF_THIS = {"pg_subscription": " AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"}


@dataclass(frozen=True)
class Occupants:
    """What is in the way, in words; ``empty`` are the databases that hold nothing."""

    reasons: tuple[str, ...]
    empty: tuple[str, ...]


def occupants(session: Session, version: int, *, ours: Collection[str] = ()) -> Occupants:
    """Ask a server for what it holds; ``ours`` are roles and tablespaces that an interrupted restore made."""
    reasons, empty = [], []
    for (role,) in session.rows("SELECT rolname FROM pg_roles WHERE oid <> 10 AND rolname !~ '^pg_' ORDER BY 1"):
        if role not in ours:
            reasons.append(f"the role {role}")
    for (space,) in session.rows("SELECT spcname FROM pg_tablespace WHERE spcname !~ '^pg_' ORDER BY 1"):
        if space not in ours:
            reasons.append(f"the tablespace {space}")
    for name, open_to_us in session.rows("SELECT datname, datallowconn FROM pg_database ORDER BY datname"):
        if name == "template0" or name.startswith((logical_restore.TEMPORARY, logical_restore.REPLACED)):
            continue
        content = content_of(session, name, version) if open_to_us else ["no connections"]
        if content:
            reasons.append(f"the database {name} ({', '.join(content)})")
        else:
            empty.append(name)
    return Occupants(tuple(reasons), tuple(empty))


def content_of(session: Session, database: str, version: int) -> list[str]:
    """Return what a database holds beyond what it was made with, in words; empty for nothing."""
    questions = [
        f"(SELECT count(*) FROM {catalog} WHERE oid >= {FIRST_OF_USERS}{OF_THIS.get(catalog, '')})"
        for catalog in CATALOGS
        if version >= FIRST_WITH_PUBLICATIONS or catalog not in ("pg_publication", "pg_subscription")
    ]
    questions.append("(SELECT count(*) FROM pg_largeobject_metadata)")
    with session.sibling(database) as there:
        (found,) = there.rows(f"SELECT {', '.join(questions)}")
        words = (*list(CATALOGS.values())[: len(questions) - 1], "large objects")
        held = [f"{count} {word}" for word, count in zip(words, found) if count]
        some = there.rows(
            "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            f" WHERE c.oid >= {FIRST_OF_USERS} AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY 1 LIMIT 3"
        )
    return [*held, *([f"such as {', '.join(sql.literal(name) for (name,) in some)}"] if some else [])]
