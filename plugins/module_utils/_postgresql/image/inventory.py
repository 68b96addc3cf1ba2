# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a running cluster holds that another image has to bring: asked in every database, template1 among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import paths
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import each_database
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import contents
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    Collation,
    Extension,
    Inventory,
    Library,
    Setting,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.ordered import (
    OWN,
    collations_of_ranges_and_trees,
    from_text_indexes,
    is_sensitive,
    orders_by_library,
    partitioned_by_text,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import FIRST_OF_USERS, Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session

HASHED = "md5[0-9a-f]{32}"
SET_FOR_THE_SERVER = ("configuration file", "command line", "environment variable", "global")
# What our own sessions set hides what the files say.
SET_BY_SESSIONS = ("client", "session")


def take_inventory(session: Session, cluster: Cluster) -> Inventory:
    """Ask a running server, as a superuser, what another image has to bring. Changes nothing, returns no secret."""
    version = cluster.server_version_num
    own = own_collations(session, cluster)
    sensitive = {collation.database for collation in own}
    names = tuple(database.name for database in cluster.databases if database.allows_connections)
    found = each_database(session, names, lambda there: _in_database(there, version, there.database in sensitive))
    each: list[_InDatabase] = list(found.values())
    return Inventory(
        extensions=tuple(extension for part in each for extension in part.extensions),
        settings=_settings(session, cluster.shared_preload_libraries),
        collations=(*own, *(collation for part in each for collation in part.collations)),
        text_indexes=sum(part.text_indexes for part in each),
        auth_methods=_auth_methods(session, cluster),
        md5_roles=tuple(
            name
            for (name,) in session.rows(
                "SELECT rolname FROM pg_authid WHERE rolpassword ~ %s ORDER BY rolname", (f"^{HASHED}$",)
            )
        ),
        password_encryption=_password_encryption(session),
        text_index_bytes=sum(part.text_index_bytes for part in each),
        largest_text_index=max((part.largest_text_index for part in each), default=0),
        text_partitions=sum(part.text_partitions for part in each),
        subscriptions=session.scalar("SELECT count(*) FROM pg_subscription") if version >= 100000 else 0,
        libraries=tuple(library for part in each for library in part.libraries),
    )


@dataclass(frozen=True)
class _InDatabase:
    extensions: tuple[Extension, ...]
    libraries: tuple[Library, ...]
    collations: tuple[Collation, ...]
    text_indexes: int
    text_index_bytes: int
    largest_text_index: int
    text_partitions: int


def _in_database(session: Session, version: int, own_is_sensitive: bool) -> _InDatabase:
    name = session.database
    extensions = session.rows("SELECT extname, extversion FROM pg_extension ORDER BY extname")
    libraries = session.rows(
        "SELECT DISTINCT p.probin, coalesce(e.extname, '') FROM pg_proc p LEFT JOIN pg_depend d"
        " ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'"
        " LEFT JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid"
        " WHERE p.oid >= %s AND p.probin IS NOT NULL ORDER BY 1, 2",
        (FIRST_OF_USERS,),
    )
    indexes, index_bytes, largest = session.rows(_text_indexes(version, own_is_sensitive))[0]
    partitions = (
        session.scalar(f"SELECT count(*) {partitioned_by_text(version, own_is_sensitive)}") if version >= 100000 else 0
    )
    return _InDatabase(
        extensions=tuple(Extension(name, *row) for row in extensions),
        libraries=tuple(Library(name, contents.library_of(probin), extension) for probin, extension in libraries),
        collations=tuple(Collation(name, *row) for row in session.rows(_named_collations(version))),
        text_indexes=indexes,
        text_index_bytes=index_bytes,
        largest_text_index=largest,
        text_partitions=partitions,
    )


def own_collations(session: Session, cluster: Cluster) -> tuple[Collation, ...]:
    """Return the collation of each database that has an order to lose; template0 has none, and records no version."""
    versions: dict[str, tuple[str, str]] = {}
    if cluster.server_version_num >= 150000:
        for name, recorded, actual in session.rows(
            "SELECT datname, coalesce(datcollversion, ''), coalesce(pg_database_collation_actual_version(oid), '')"
            " FROM pg_database"
        ):
            versions[name] = recorded, actual
    found = []
    for database in cluster.databases:
        locale = database.locale if database.provider == "i" else database.collate
        if database.name != "template0" and orders_by_library(database.provider, locale):
            recorded, actual = versions.get(database.name, ("", ""))
            found.append(Collation(database.name, OWN, database.provider, recorded, actual, locale))
    return tuple(found)


def _named_collations(version: int) -> str:
    """Ask which collations beside the database's own are named by columns, indexes, domains and ranges."""
    locale = "c.colllocale" if version >= 170000 else "c.colliculocale" if version >= 150000 else "c.collcollate"
    told = (
        f"c.collprovider::text AS provider, coalesce(c.collversion, '') AS recorded,"
        f" coalesce(pg_collation_actual_version(c.oid), '') AS actual, coalesce({locale}, c.collcollate) AS locale"
        if version >= 100000
        else "'c' AS provider, '' AS recorded, '' AS actual, c.collcollate AS locale"
    )
    return (
        f"SELECT c.collname, {told} FROM pg_collation c WHERE {is_sensitive(version)}"
        f" AND c.oid IN (SELECT attcollation FROM pg_attribute WHERE attrelid >= {FIRST_OF_USERS} AND NOT attisdropped"
        f" UNION SELECT typcollation FROM pg_type WHERE oid >= {FIRST_OF_USERS}"
        f" UNION {collations_of_ranges_and_trees()}) ORDER BY c.collname"
    )


def _text_indexes(version: int, own_is_sensitive: bool) -> str:
    return (
        "SELECT count(*), coalesce(sum(pg_relation_size(i.indexrelid)), 0)::bigint,"
        " coalesce(max(pg_relation_size(i.indexrelid)), 0)"
        f" {from_text_indexes(version, own_is_sensitive)}"
    )


def _settings(session: Session, preloaded: str) -> tuple[Setting, ...]:
    modules = tuple(part.strip().strip('"').rpartition("/")[2] for part in preloaded.split(",") if part.strip())
    server = session.rows(
        "SELECT name, setting, source, coalesce(sourcefile || ':' || sourceline, '') AS place,"
        " setting IS DISTINCT FROM boot_val AS differs FROM pg_settings"
        f" WHERE source IN ({_listed(SET_FOR_THE_SERVER)})"
        " UNION ALL SELECT s.name, f.setting, 'configuration file', f.sourcefile || ':' || f.sourceline,"
        " f.setting IS DISTINCT FROM s.boot_val FROM pg_file_settings f"
        " JOIN pg_settings s ON lower(s.name) = lower(f.name)"
        f" WHERE f.applied AND s.source IN ({_listed(SET_BY_SESSIONS)}) ORDER BY name"
    )
    stored = session.rows(
        "SELECT coalesce(d.datname, ''), coalesce(r.rolname, ''), entry FROM pg_db_role_setting s"
        " LEFT JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole,"
        " unnest(s.setconfig) AS entry ORDER BY 1, 2, 3"
    )
    return (
        *(Setting(name, _shown(name, value, modules), *rest) for name, value, *rest in server),
        *(_stored(database, role, entry, modules) for database, role, entry in stored),
    )


def _listed(words: Sequence[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


def _stored(database: str, role: str, entry: str, modules: Sequence[str]) -> Setting:
    """Return what ALTER DATABASE or ALTER ROLE has set."""
    name, _equals, value = entry.partition("=")
    where = [f"database {database}"] if database else []
    where += [f"role {role}"] if role else []
    source = {(True, True): "database user", (True, False): "database", (False, True): "user"}.get(
        (bool(database), bool(role)), "global"
    )
    return Setting(name, _shown(name, value, modules), source, ", ".join(where) or "every role")


def _shown(name: str, value: Any, modules: Sequence[str]) -> str:
    """Return a value that may be seen: commands and conninfo may hold passwords, an application's own anything."""
    prefix, dot, _rest = name.partition(".")
    if name.endswith(("_command", "_conninfo")) or (dot and prefix not in modules):
        return ""
    return str(value if value is not None else "")


def _auth_methods(session: Session, cluster: Cluster) -> tuple[str, ...]:
    version = cluster.server_version_num
    if version >= 100000:
        order = "rule_number" if version >= 160000 else "line_number"
        rules = session.rows(
            f"SELECT auth_method FROM pg_hba_file_rules WHERE auth_method IS NOT NULL ORDER BY {order}"
        )
        return tuple(dict.fromkeys(method for (method,) in rules))
    try:
        with open(paths.seen_path(session.container, cluster.hba_file), encoding="utf-8", errors="replace") as file:
            return contents.hba_methods(file.read())
    except OSError as error:
        raise StatefulError(f"{cluster.hba_file} of {session.container.name} cannot be read: {error}.") from error


def _password_encryption(session: Session) -> str:
    told = str(session.scalar("SELECT reset_val FROM pg_settings WHERE name = 'password_encryption'"))
    return "md5" if told in ("on", "true", "yes", "1") else told  # before 10 it was a switch
