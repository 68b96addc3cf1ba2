# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a cluster needs when other libraries serve it: indexes in the new order of text, and newer extensions.

The indexes come first and the note of the new collation version last: a run that
is killed in between finds the old version noted, and builds them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import AGAIN, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import observe_cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.inventory import own_collations
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import Extension
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.ordered import (
    from_text_indexes,
    partitioned_by_text,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import SqlError

FIRST_WITH_COLLATION_VERSIONS = 100000
FIRST_WITH_PARTITIONS = 100000
FIRST_WITH_DATABASE_VERSIONS = 150000
# It has more than one extension and scripts that lead from any version to any.
POSTGIS = "postgis"
LOCK_TIMEOUT = 60.0
"""Seconds: one session that idles in its transaction must not hold the downtime for ever."""
LOCK_NOT_AVAILABLE = "55P03"


def refresh_as_planned(session: Session, planned: Mapping[str, Any]) -> Mapping[str, Any]:
    """Do as :func:`refresh` what a plan says: ``order_changed``, why or empty, and ``updates``, extensions as dicts."""
    updates = [Extension(**extension) for extension in planned["updates"]]
    return refresh(session, order_changed=bool(planned["order_changed"]), updates=updates)


def refresh(
    session: Session, *, order_changed: bool, updates: Sequence[Extension], prove: bool = True
) -> Mapping[str, Any]:
    """Build text indexes anew if their order changed and note the collation versions there; update the extensions.

    ``prove``: raise where a row lies in another partition than it belongs to, or a version that was noted still
    differs. The session's login is a superuser. Returns how many indexes were built anew and what was updated. May be
    run again.
    """
    cluster = observe_cluster(session)
    version, rebuilt, updated = cluster.server_version_num, 0, []
    sensitive = {collation.database for collation in own_collations(session, cluster)}
    for database in cluster.databases:
        if not database.allows_connections:
            continue
        with _patient(session, database.name) as there:
            if order_changed:
                rebuilt += _rebuild(there, version, database.name in sensitive)
                if prove and version >= FIRST_WITH_PARTITIONS:
                    _refuse_misplaced_rows(there, version, database.name in sensitive)
            updated += [_update(there, extension) for extension in updates if extension.database == database.name]
            if order_changed:
                _note_versions(there, version, prove=prove)
    return {"indexes_rebuilt": rebuilt, "extensions_updated": updated}


def _rebuild(session: Session, version: int, own_is_sensitive: bool) -> int:
    """Build the indexes anew; one that is unique finds the rows that are the same in the new order."""
    names = session.rows(
        f"SELECT i.indexrelid::regclass::text {from_text_indexes(version, own_is_sensitive)}"
        " ORDER BY pg_relation_size(i.indexrelid), 1"
    )
    for (name,) in names:
        _alter(session, f"REINDEX INDEX {name}")
    return len(names)


def _refuse_misplaced_rows(session: Session, version: int, own_is_sensitive: bool) -> None:
    """Raise where a row lies in another range than the new order has it in: it would not be found any more."""
    partitions = session.rows(
        "WITH RECURSIVE below AS ("
        f"SELECT p.partrelid AS oid {partitioned_by_text(version, own_is_sensitive)}"
        " UNION SELECT i.inhrelid FROM below b JOIN pg_inherits i ON i.inhparent = b.oid)"
        " SELECT c.oid::regclass::text, pg_get_partition_constraintdef(c.oid) FROM below b JOIN pg_class c USING (oid)"
        " WHERE c.relkind = 'r' ORDER BY 1"
    )
    for name, constraint in partitions:
        if not constraint:
            continue
        misplaced = session.scalar(f"SELECT count(*) FROM ONLY {name} WHERE NOT ({constraint})")
        if misplaced:
            raise StatefulError(
                f"In the new order of text, {misplaced} rows of {name} in {session.database} belong to another"
                " partition, and would not be found where they are.",
                next_command=f"make {name.partition('.')[2] or name} a partition of a table that is partitioned by"
                f' the column COLLATE "C", whose order is the same everywhere, and {AGAIN}',
            )


def _update(session: Session, extension: Extension) -> str:
    if extension.name == POSTGIS:
        _update_postgis(session)
    else:
        quoted = session.scalar("SELECT quote_ident(%s)", (extension.name,))
        _alter(session, f"ALTER EXTENSION {quoted} UPDATE")
    now = _version_now(session, extension.name)
    wanted = session.scalar("SELECT default_version FROM pg_available_extensions WHERE name = %s", (extension.name,))
    if now != wanted and extension.name == POSTGIS:
        # From some versions it takes two calls, and says so in a notice.
        _update_postgis(session)
        now = _version_now(session, extension.name)
    if now != wanted:
        raise StatefulError(
            f"The extension {extension.name} in {extension.database} is at {now} after its update, and the image has"
            f" {wanted}.",
            next_command=f"update {extension.name} in the running service, as its own manual says, and {AGAIN}",
        )
    return f"{extension.name} in {extension.database}: {extension.version} to {now}"


def _version_now(session: Session, name: str) -> str:
    return str(session.scalar("SELECT extversion FROM pg_extension WHERE extname = %s", (name,)))


def _update_postgis(session: Session) -> None:
    """Let it update itself and all that belongs to it.

    Its scripts look for its types in the search path that a session begins with, which in ours is pg_catalog alone.
    """
    schema = session.scalar("SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = %s", (POSTGIS,))
    search_path = f"{schema},public,pg_catalog".replace(" ", "\\ ")
    with _patient(session, session.database, search_path=search_path) as there:
        _alter(there, "SELECT postgis_extensions_upgrade()")


# One of another encoding is listed in every database, and is none of it.
STALE_COLLATIONS = (
    "SELECT format('COLLATION %I.%I REFRESH VERSION', n.nspname, c.collname) FROM pg_collation c"
    " JOIN pg_namespace n ON n.oid = c.collnamespace"
    " WHERE c.collversion <> pg_collation_actual_version(c.oid) AND c.collencoding IN"
    " (-1, (SELECT encoding FROM pg_database WHERE datname = current_database()))"
)
# Where none is noted (whatever musl made) the server refuses to note one.
STALE_DATABASE = (
    "SELECT format('DATABASE %I REFRESH COLLATION VERSION', datname) FROM pg_database"
    " WHERE datname = current_database() AND datcollversion <> pg_database_collation_actual_version(oid)"
)


def _note_versions(session: Session, version: int, *, prove: bool) -> None:
    """Note the versions that run in a database whose indexes were built anew, and in no other: it is the only warning.

    With ``prove`` they are asked for once more.
    """
    questions = [STALE_COLLATIONS] if version >= FIRST_WITH_COLLATION_VERSIONS else []
    questions += [STALE_DATABASE] if version >= FIRST_WITH_DATABASE_VERSIONS else []
    for question in questions:
        for (what,) in session.rows(question):
            _alter(session, f"ALTER {what}")
        still = [what for (what,) in session.rows(question)]
        if still and prove:
            raise StatefulError(
                f"The indexes of {session.database} were built anew, and a collation version still differs from the"
                f" library's after ALTER {still[0]}."
            )


def _patient(session: Session, database: str, **settings: str) -> Session:
    """Open a session whose statements may take as long as they need, and wait for others no longer than a minute."""
    # Of a database it may be the default, and its extensions are updated all the same.
    writable = {"default_transaction_read_only": "off"}
    held = {**writable, "lock_timeout": str(round(1000 * LOCK_TIMEOUT)), **settings}
    return session.sibling(database, held).without_timeouts(keeping="lock_timeout")


def _alter(session: Session, statement: str) -> None:
    """Run what locks others out; raises with who holds the lock: the service is down as long as this waits."""
    try:
        session.run(statement)
    except SqlError as error:
        if error.sqlstate != LOCK_NOT_AVAILABLE:
            raise
        raise StatefulError(
            f"{statement} in {session.database} waited {LOCK_TIMEOUT:.0f} s for a lock that another session holds, of"
            f" those with an open transaction: {_with_transactions(session)}. End it, or have its application wait.",
        ) from error


def _with_transactions(session: Session) -> str:
    found = session.rows(
        "SELECT pid, usename::text, application_name, coalesce(client_addr::text, 'the local socket'), state"
        " FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND xact_start IS NOT NULL ORDER BY xact_start LIMIT 5"
    )
    told = [f"backend {pid} of {user} ({name}, from {client}, {state})" for pid, user, name, client, state in found]
    return "; ".join(told) or "none is left now"
