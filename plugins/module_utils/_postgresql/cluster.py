# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts of a running cluster that decide how its data can be copied or moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import paths
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.control import read_control
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import (
    Cluster,
    Database,
    Slot,
    Tablespace,
    major_from,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session

NEXT_XID = "SELECT txid_snapshot_xmax(txid_current_snapshot())"
"""Asks for the transaction that is next to begin: by it writes are told that somebody made since."""

BOOTSTRAP_OID = 10
# pg_default and pg_global have fixed oids and lie in the data directory.
BUILT_IN_TABLESPACES = (1663, 1664)


def observe_cluster(session: Session) -> Cluster:
    """Ask a running server for its facts; the login must be a superuser. Changes nothing."""
    version = server_version(session)
    require_superuser(session, "see where the cluster keeps its files")
    settings = _settings(session)
    in_recovery, superuser, busy_senders, prepared, database_bytes, wal_bytes, segment = _measures(session, version)
    databases = _databases(session, version)
    unlogged, relations = _relations(session, databases)
    return Cluster(
        server_version_num=version,
        major=major_from(version),
        system_identifier=system_identifier(session),
        superuser=superuser,
        in_recovery=in_recovery,
        data_directory=settings["data_directory"],
        config_file=settings["config_file"],
        hba_file=settings["hba_file"],
        ident_file=settings["ident_file"],
        port=int(settings["port"]),
        unix_socket_directories=_list(settings["unix_socket_directories"]),
        wal_level=settings["wal_level"],
        max_wal_senders=int(settings["max_wal_senders"]),
        free_wal_senders=int(settings["max_wal_senders"]) - busy_senders,
        max_connections=int(settings["max_connections"]),
        data_checksums=settings["data_checksums"] == "on",
        wal_segment_bytes=segment,
        archive_mode=settings["archive_mode"],
        shared_preload_libraries=settings["shared_preload_libraries"],
        synchronous_standby_names=settings["synchronous_standby_names"],
        # A switch up to 9.6, where it meant md5.
        password_encryption="md5" if settings["password_encryption"] == "on" else settings["password_encryption"],
        databases=databases,
        tablespaces=_tablespaces(session),
        slots=_slots(session, version),
        prepared_transactions=prepared,
        unlogged_tables=unlogged,
        relations=relations,
        database_bytes=database_bytes,
        wal_bytes=wal_bytes,
    )


def server_version(session: Session) -> int:
    """Return server_version_num: 170002 for 17.2, 90624 for 9.6.24."""
    return int(session.scalar("SELECT current_setting('server_version_num')"))


def require_superuser(session: Session, to: str) -> None:
    """Raise :class:`StatefulError` unless the login is a superuser; ``to`` says what it could not do else."""
    is_superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = "
    if session.scalar(f"{is_superuser}current_user"):
        return
    if session.scalar(f"{is_superuser}session_user"):
        became = session.scalar("SELECT current_user::text")
        raise StatefulError(
            f"In the database {session.database}, {session.user} becomes the role {became} by a default (ALTER DATABASE"
            f" or ALTER ROLE, SET role), which is no superuser, so it cannot {to}.",
            next_command="set login_db to a database without that default, such as 'template1', and run the same task"
            " again",
        )
    owner = session.scalar("SELECT rolname FROM pg_roles WHERE oid = %s", (BOOTSTRAP_OID,))
    raise StatefulError(
        f"The role {session.user} is no superuser, so it cannot {to}.",
        next_command=f"set login_user to a superuser, such as {owner!r}, and run the same task again",
    )


def system_identifier(session: Session) -> int:
    """Return the identity of the cluster that answers; it never changes and is never shared by accident."""
    if session.scalar("SELECT to_regprocedure('pg_control_system()') IS NOT NULL"):
        return int(session.scalar("SELECT system_identifier FROM pg_control_system()"))
    directory = session.scalar("SELECT current_setting('data_directory')")
    return read_control(paths.seen_path(session.container, directory)).system_identifier


def each_database(session: Session, names: tuple[str, ...], ask: Callable[[Session], Any]) -> dict[str, Any]:
    """Ask the same in several databases of the cluster, each in a session of its own."""
    answers = {}
    for name in names:
        with session.sibling(name) as there:
            answers[name] = ask(there)
    return answers


SETTINGS = (
    "data_directory",
    "config_file",
    "hba_file",
    "ident_file",
    "port",
    "unix_socket_directories",
    "wal_level",
    "max_wal_senders",
    "max_connections",
    "data_checksums",
    "archive_mode",
    "shared_preload_libraries",
    "synchronous_standby_names",
    "password_encryption",
)


def _settings(session: Session) -> dict[str, str]:
    wanted = ", ".join(f"current_setting('{name}') AS {name}" for name in SETTINGS)
    return dict(zip(SETTINGS, session.rows(f"SELECT {wanted}")[0]))


def _measures(session: Session, version: int) -> tuple[Any, ...]:
    wal = "(SELECT coalesce(sum(size), 0)::bigint FROM pg_ls_waldir())" if version >= 100000 else "0"
    # Before 11 the server prints a unit that pg_size_bytes may not know yet; the size was fixed at build time.
    segment = "pg_size_bytes(current_setting('wal_segment_size'))" if version >= 110000 else "16777216"
    return session.rows(
        "SELECT pg_is_in_recovery(),"
        f" (SELECT rolname FROM pg_roles WHERE oid = {BOOTSTRAP_OID}),"
        " (SELECT count(*) FROM pg_stat_replication),"
        " (SELECT count(*) FROM pg_prepared_xacts),"
        " (SELECT coalesce(sum(pg_database_size(oid)), 0)::bigint FROM pg_database),"
        f" {wal}, {segment}"
    )[0]


def _list(value: str) -> tuple[str, ...]:
    return tuple(part.strip().strip('"') for part in value.split(",") if part.strip())


def _databases(session: Session, version: int) -> tuple[Database, ...]:
    provider = "datlocprovider::text" if version >= 150000 else "'c'"
    locale = "datlocale" if version >= 170000 else "daticulocale" if version >= 150000 else "NULL"
    found = session.rows(
        "SELECT datname, pg_get_userbyid(datdba), pg_database_size(oid), pg_encoding_to_char(encoding), datcollate,"
        f" datctype, {provider}, coalesce({locale}, ''), datallowconn, datistemplate FROM pg_database ORDER BY datname"
    )
    return tuple(Database(*row) for row in found)


def _relations(session: Session, databases: tuple[Database, ...]) -> tuple[int, int]:
    def ask(there: Session) -> tuple[int, int]:
        unlogged, relations = there.rows(
            "SELECT sum(CASE WHEN relpersistence = 'u' AND relkind IN ('r', 'm') THEN 1 ELSE 0 END), count(*)"
            " FROM pg_class WHERE relkind IN ('r', 'i', 't', 'S', 'm')"
        )[0]
        return unlogged, relations

    open_ones = tuple(database.name for database in databases if database.allows_connections)
    counted = each_database(session, open_ones, ask).values()
    return sum(unlogged for unlogged, _all in counted), sum(relations for _unlogged, relations in counted)


def _tablespaces(session: Session) -> tuple[Tablespace, ...]:
    found = session.rows(
        "SELECT oid::bigint, spcname, pg_tablespace_location(oid) FROM pg_tablespace"
        " WHERE oid NOT IN (%s, %s) ORDER BY spcname",
        BUILT_IN_TABLESPACES,
    )
    return tuple(Tablespace(*row) for row in found)


def _slots(session: Session, version: int) -> tuple[Slot, ...]:
    lasting = "WHERE NOT temporary" if version >= 100000 else ""
    found = session.rows(f"SELECT slot_name, slot_type, active FROM pg_replication_slots {lasting} ORDER BY slot_name")
    return tuple(Slot(*row) for row in found)
