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
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.inventory import (
    from_text_indexes,
    own_collations,
    ranges_of_text,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import Extension
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session

FIRST_WITH_COLLATION_VERSIONS = 100000
FIRST_WITH_PARTITIONS = 100000
FIRST_WITH_DATABASE_VERSIONS = 150000
# It has more than one extension and scripts that lead from any version to any.
POSTGIS = "postgis"


def refresh_as_planned(session: Session, planned: Mapping[str, Any]) -> Mapping[str, Any]:
    """Do as :func:`refresh` what a plan says: ``order_changed``, why or empty, and ``updates``, extensions as dicts."""
    updates = [Extension(**extension) for extension in planned["updates"]]
    return refresh(session, order_changed=bool(planned["order_changed"]), updates=updates)


def refresh(
    session: Session, *, order_changed: bool, updates: Sequence[Extension], refuse_misplaced: bool = True
) -> Mapping[str, Any]:
    """Build text indexes anew if their order changed, update the extensions, note the collation versions.

    The session's login is a superuser. Returns how many indexes were built anew and what was updated. May be run again.
    """
    cluster = observe_cluster(session)
    version, rebuilt, updated = cluster.server_version_num, 0, []
    sensitive = {collation.database for collation in own_collations(session, cluster)}
    for database in cluster.databases:
        if not database.allows_connections:
            continue
        with session.sibling(database.name) as there:
            there.without_timeouts()
            if order_changed:
                rebuilt += _rebuild(there, version, database.name in sensitive)
                if refuse_misplaced and version >= FIRST_WITH_PARTITIONS:
                    _refuse_misplaced_rows(there, version, database.name in sensitive)
            updated += [_update(there, extension) for extension in updates if extension.database == database.name]
            if version >= FIRST_WITH_COLLATION_VERSIONS:
                _note_collations(there)
    if version >= FIRST_WITH_DATABASE_VERSIONS:
        # Where none is noted (template0, and whatever musl made) the server refuses to note one.
        for (name,) in session.rows(
            "SELECT quote_ident(datname) FROM pg_database"
            " WHERE datcollversion <> pg_database_collation_actual_version(oid)"
        ):
            session.run(f"ALTER DATABASE {name} REFRESH COLLATION VERSION")
    return {"indexes_rebuilt": rebuilt, "extensions_updated": updated}


def _rebuild(session: Session, version: int, own_is_sensitive: bool) -> int:
    """Build the indexes anew; one that is unique finds the rows that are the same in the new order."""
    names = session.rows(
        f"SELECT i.indexrelid::regclass::text {from_text_indexes(version, own_is_sensitive)}"
        " ORDER BY pg_relation_size(i.indexrelid), 1"
    )
    for (name,) in names:
        session.run(f"REINDEX INDEX {name}")
    return len(names)


def _refuse_misplaced_rows(session: Session, version: int, own_is_sensitive: bool) -> None:
    """Raise where a row lies in another range than the new order has it in: it would not be found any more."""
    partitions = session.rows(
        "WITH RECURSIVE below AS ("
        f"SELECT p.partrelid AS oid {ranges_of_text(version, own_is_sensitive)}"
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
        session.run(f"ALTER EXTENSION {quoted} UPDATE")
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
    with session.sibling(settings={"search_path": f"{schema},public,pg_catalog".replace(" ", "\\ ")}) as there:
        there.without_timeouts().rows("SELECT postgis_extensions_upgrade()")


def _note_collations(session: Session) -> None:
    # One of another encoding is listed in every database, and is none of it.
    for (name,) in session.rows(
        "SELECT format('%I.%I', n.nspname, c.collname) FROM pg_collation c"
        " JOIN pg_namespace n ON n.oid = c.collnamespace"
        " WHERE c.collversion <> pg_collation_actual_version(c.oid) AND c.collencoding IN"
        " (-1, (SELECT encoding FROM pg_database WHERE datname = current_database()))"
    ):
        session.run(f"ALTER COLLATION {name} REFRESH VERSION")
