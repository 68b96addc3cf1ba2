# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What belongs to a cluster and to none of its databases, as data: roles, tablespaces, and the databases' own frames.

As data it can be compared with what another cluster has before anything is said to it: a
role that exists is kept, instead of an error that has to be told from others by its text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import sql
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session

WITH_PARAMETER_GRANTS = 150000
PUBLIC = ""
"""The grantee that is everybody."""

ATTRIBUTES = {
    "rolsuper": "SUPERUSER",
    "rolinherit": "INHERIT",
    "rolcreaterole": "CREATEROLE",
    "rolcreatedb": "CREATEDB",
    "rolcanlogin": "LOGIN",
    "rolreplication": "REPLICATION",
    "rolbypassrls": "BYPASSRLS",
}

# Their values stand in the catalog as a list that is quoted already (GUC_LIST_QUOTE).
LISTS = frozenset(
    (
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    )
)

# Every server knows them, and pg_settings leaves them out (GUC_NO_SHOW_ALL).
NOT_SHOWN = frozenset(("role", "seed", "session_authorization"))


@dataclass(frozen=True)
class Role:
    """A role; ``password`` is the hash that the catalog holds, empty for none."""

    name: str
    attributes: tuple[str, ...]
    connection_limit: int
    password: str = field(repr=False)
    valid_until: str
    comment: str


@dataclass(frozen=True)
class Membership:
    """``member`` is in ``role``. ``inherit`` and ``set`` are None before 16, which has no such options."""

    role: str
    member: str
    admin: bool
    inherit: bool | None
    set: bool | None


@dataclass(frozen=True)
class RoleSetting:
    """A setting of a role, of a database, or of a role in a database; an empty name stands for all."""

    role: str
    database: str
    name: str
    value: str


@dataclass(frozen=True)
class Grant:
    """A privilege on a database or on a tablespace."""

    grantee: str
    privilege: str
    grantable: bool


@dataclass(frozen=True)
class ParameterGrant:
    """A privilege on a server setting, which 15 and later have."""

    parameter: str
    grantee: str
    privilege: str
    grantable: bool


@dataclass(frozen=True)
class Space:
    """A tablespace; ``grants`` is None where they are the default."""

    name: str
    owner: str
    location: str
    options: tuple[str, ...]
    comment: str
    grants: tuple[Grant, ...] | None


@dataclass(frozen=True)
class Frame:
    """A database without its content; ``grants`` is None where they are the default."""

    name: str
    owner: str
    encoding: str
    collate: str
    ctype: str
    provider: str
    locale: str
    icu_rules: str
    tablespace: str
    connection_limit: int
    is_template: bool
    comment: str
    grants: tuple[Grant, ...] | None


@dataclass(frozen=True)
class Globals:
    """All of it; the predefined roles (``pg_…``) are no part of it, memberships in them are."""

    superuser: str
    roles: tuple[Role, ...]
    memberships: tuple[Membership, ...]
    settings: tuple[RoleSetting, ...]
    tablespaces: tuple[Space, ...]
    databases: tuple[Frame, ...]
    parameters: tuple[ParameterGrant, ...] = ()

    def frame(self, database: str) -> Frame:
        return next(frame for frame in self.databases if frame.name == database)


def as_dict(found: Globals) -> dict[str, Any]:
    """Return the globals as JSON has them, password hashes included."""
    return asdict(found)


def from_dict(raw: Mapping[str, Any]) -> Globals:
    """Read back what :func:`as_dict` returned."""
    return Globals(
        superuser=raw["superuser"],
        roles=tuple(Role(**{**role, "attributes": tuple(role["attributes"])}) for role in raw["roles"]),
        memberships=tuple(Membership(**each) for each in raw["memberships"]),
        settings=tuple(RoleSetting(**each) for each in raw["settings"]),
        tablespaces=tuple(
            Space(**{**space, "options": tuple(space["options"]), "grants": _grants_from(space["grants"])})
            for space in raw["tablespaces"]
        ),
        databases=tuple(Frame(**{**frame, "grants": _grants_from(frame["grants"])}) for frame in raw["databases"]),
        parameters=tuple(ParameterGrant(**each) for each in raw.get("parameters", ())),
    )


def _grants_from(raw: list[dict[str, Any]] | None) -> tuple[Grant, ...] | None:
    return None if raw is None else tuple(Grant(**each) for each in raw)


# -- what a server has ---------------------------------------------------------


def read_globals(session: Session, version: int) -> Globals:
    """Ask a server of ``version`` (server_version_num) as a superuser. Changes nothing."""
    return Globals(
        superuser=str(session.scalar("SELECT rolname FROM pg_roles WHERE oid = 10")),
        roles=_roles(session),
        memberships=_memberships(session, version),
        settings=_settings(session),
        tablespaces=_tablespaces(session),
        databases=_databases(session, version),
        parameters=parameter_grants(session, version),
    )


def role_names(session: Session) -> set[str]:
    """Return the names of all roles that a server has, the predefined ones among them."""
    return {str(name) for (name,) in session.rows("SELECT rolname FROM pg_roles")}


def tablespace_names(session: Session) -> set[str]:
    return {str(name) for (name,) in session.rows("SELECT spcname FROM pg_tablespace")}


def setting_names(session: Session) -> set[str]:
    """Return the settings that a server knows; those of extensions that are not loaded are not among them."""
    return {*NOT_SHOWN, *(str(name).lower() for (name,) in session.rows("SELECT name FROM pg_settings"))}


def _roles(session: Session) -> tuple[Role, ...]:
    found = session.rows(
        f"SELECT rolname, {', '.join(ATTRIBUTES)}, rolconnlimit, coalesce(rolpassword, ''),"
        " CASE WHEN rolvaliduntil IS NULL THEN '' WHEN NOT isfinite(rolvaliduntil) THEN 'infinity'"
        " ELSE to_char(rolvaliduntil AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' END,"
        " coalesce(shobj_description(oid, 'pg_authid'), '')"
        " FROM pg_authid WHERE rolname !~ '^pg_' ORDER BY rolname"
    )
    return tuple(
        Role(
            name,
            tuple(word if has else f"NO{word}" for word, has in zip(ATTRIBUTES.values(), flags)),
            limit,
            password,
            until,
            comment,
        )
        for name, *flags, limit, password, until, comment in found
    )


def _memberships(session: Session, version: int) -> tuple[Membership, ...]:
    options = "bool_or(inherit_option), bool_or(set_option)" if version >= 160000 else "NULL, NULL"
    found = session.rows(
        f"SELECT r.rolname, m.rolname, bool_or(admin_option), {options} FROM pg_auth_members a"
        " JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member"
        " GROUP BY r.rolname, m.rolname ORDER BY r.rolname, m.rolname"
    )
    return tuple(Membership(*row) for row in found)


def _settings(session: Session) -> tuple[RoleSetting, ...]:
    found = session.rows(
        "SELECT coalesce(r.rolname, ''), coalesce(d.datname, ''), unnest(s.setconfig) FROM pg_db_role_setting s"
        " LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase"
        " WHERE (s.setrole = 0 OR r.oid IS NOT NULL) AND (s.setdatabase = 0 OR d.oid IS NOT NULL) ORDER BY 1, 2"
    )
    return tuple(RoleSetting(role, database, *_split(pair)) for role, database, pair in found)


def _split(pair: str) -> tuple[str, str]:
    name, _equals, value = pair.partition("=")
    return name, value


def _tablespaces(session: Session) -> tuple[Space, ...]:
    grants = _grants(session, "pg_tablespace", "spcname", "spcacl")
    found = session.rows(
        "SELECT spcname, pg_get_userbyid(spcowner), pg_tablespace_location(oid),"
        " coalesce(array_to_json(spcoptions)::text, '[]')::json, coalesce(shobj_description(oid, 'pg_tablespace'), ''),"
        " spcacl IS NULL FROM pg_tablespace WHERE spcname !~ '^pg_' ORDER BY spcname"
    )
    return tuple(
        Space(name, owner, location, tuple(options), comment, None if default else grants.get(name, ()))
        for name, owner, location, options, comment, default in found
    )


def parameter_grants(session: Session, version: int) -> tuple[ParameterGrant, ...]:
    """Return the privileges on settings that a server of ``version`` has given, but those of its first superuser."""
    if version < WITH_PARAMETER_GRANTS:
        return ()
    found = session.rows(
        "SELECT p.parname, coalesce(r.rolname, ''), a.privilege_type, a.is_grantable"
        " FROM pg_parameter_acl p CROSS JOIN LATERAL aclexplode(p.paracl) a LEFT JOIN pg_roles r ON r.oid = a.grantee"
        " WHERE a.grantee = 0 OR (r.oid IS NOT NULL AND r.oid <> 10) ORDER BY 1, 2, 3"
    )
    return tuple(ParameterGrant(*row) for row in found)


def _databases(session: Session, version: int) -> tuple[Frame, ...]:
    provider = "datlocprovider::text" if version >= 150000 else "'c'"
    locale = "datlocale" if version >= 170000 else "daticulocale" if version >= 150000 else "NULL"
    rules = "daticurules" if version >= 160000 else "NULL"
    grants = _grants(session, "pg_database", "datname", "datacl")
    found = session.rows(
        "SELECT datname, pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype,"
        f" {provider}, coalesce({locale}, ''), coalesce({rules}, ''), spcname, datconnlimit, datistemplate,"
        " coalesce(shobj_description(d.oid, 'pg_database'), ''), datacl IS NULL"
        " FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace"
        " WHERE datallowconn ORDER BY datname"
    )
    return tuple(
        Frame(*row[:-1], None if row[-1] else grants.get(row[0], ()))  # type: ignore[call-arg]
        for row in found
    )


def _grants(session: Session, catalog: str, name: str, acl: str) -> dict[str, tuple[Grant, ...]]:
    found = session.rows(
        f"SELECT c.{name}, coalesce(r.rolname, ''), a.privilege_type, a.is_grantable"
        f" FROM {catalog} c CROSS JOIN LATERAL aclexplode(c.{acl}) a LEFT JOIN pg_roles r ON r.oid = a.grantee"
        " WHERE a.grantee = 0 OR r.oid IS NOT NULL ORDER BY 1, 2, 3"
    )
    granted: dict[str, tuple[Grant, ...]] = {}
    for each, *grant in found:
        granted[each] = (*granted.get(each, ()), Grant(*grant))
    return granted


# -- what another server has to be told ------------------------------------------


def role_statements(wanted: Globals, existing: Collection[str]) -> list[str]:
    """Return what makes the roles that do not exist."""
    statements = []
    for role in wanted.roles:
        if role.name in existing:
            continue
        statements += _role("CREATE", role)
    return statements


def superuser_statements(wanted: Globals) -> list[str]:
    """Return what gives the bootstrap superuser of a cluster that was made for ``wanted`` what it had."""
    return _role("ALTER", next(role for role in wanted.roles if role.name == wanted.superuser))


def _role(verb: str, role: Role) -> list[str]:
    clauses = [*role.attributes, f"CONNECTION LIMIT {role.connection_limit}"]
    clauses += [f"PASSWORD {sql.literal(role.password)}"] if role.password else []
    clauses += [f"VALID UNTIL {sql.literal(role.valid_until)}"] if role.valid_until else []
    statements = [f"{verb} ROLE {sql.identifier(role.name)} WITH {' '.join(clauses)}"]
    if role.comment:
        statements.append(f"COMMENT ON ROLE {sql.identifier(role.name)} IS {sql.literal(role.comment)}")
    return statements


def membership_statements(wanted: Globals, version: int) -> list[str]:
    """Return what brings the memberships to a server of ``version``; granting twice is no error."""
    statements = []
    for each in wanted.memberships:
        grant = f"GRANT {sql.identifier(each.role)} TO {sql.identifier(each.member)}"
        options = [f"ADMIN {_truth(each.admin)}"]
        options += [f"INHERIT {_truth(each.inherit)}"] if each.inherit is not None else []
        options += [f"SET {_truth(each.set)}"] if each.set is not None else []
        if version >= 160000:
            grant += f" WITH {', '.join(options)}"
        elif each.admin:
            grant += " WITH ADMIN OPTION"
        statements.append(grant)
    return statements


def parameter_statements(wanted: Globals, version: int) -> list[str]:
    """Return what grants the privileges on settings to a server of ``version``; none where it has no such thing."""
    if version < WITH_PARAMETER_GRANTS:
        return []
    return [
        f"GRANT {each.privilege} ON PARAMETER {_parameter(each.parameter)} TO"
        f" {sql.identifier(each.grantee) if each.grantee != PUBLIC else 'PUBLIC'}"
        f"{' WITH GRANT OPTION' if each.grantable else ''}"
        for each in wanted.parameters
    ]


def parameter_revocations(granted: Iterable[ParameterGrant], roles: Collection[str]) -> list[str]:
    """Return what takes all privileges on settings from ``roles``: with one of them no role can be dropped.

    With what they granted on: a superuser's REVOKE does not reach that otherwise.
    """
    held = dict.fromkeys((each.parameter, each.grantee) for each in granted if each.grantee in roles)
    return [f"REVOKE ALL ON PARAMETER {_parameter(name)} FROM {sql.identifier(role)} CASCADE" for name, role in held]


def _parameter(name: str) -> str:
    return ".".join(map(sql.identifier, name.split(".")))


def unknown_memberships(wanted: Globals, existing: Collection[str]) -> list[Membership]:
    """Return the memberships in predefined roles that a server does not have."""
    return [each for each in wanted.memberships if each.role.startswith("pg_") and each.role not in existing]


def setting_statements(settings: Iterable[RoleSetting], known: Collection[str], alias: Mapping[str, str]) -> list[str]:
    """Return what sets ``settings``, but those that the server does not know; ``alias`` renames databases."""
    return [_setting(each, alias) for each in settings if not is_unknown(each, known)]


def is_unknown(setting: RoleSetting, known: Collection[str]) -> bool:
    """Tell whether a server with the settings ``known`` would refuse this one: a name with a dot is anybody's own."""
    return "." not in setting.name and setting.name.lower() not in known


def _setting(setting: RoleSetting, alias: Mapping[str, str]) -> str:
    database = sql.identifier(alias.get(setting.database, setting.database)) if setting.database else ""
    if setting.role:
        whose = f"ROLE {sql.identifier(setting.role)}{f' IN DATABASE {database}' if database else ''}"
    else:
        whose = f"DATABASE {database}" if database else "ROLE ALL"
    if setting.name.lower() in LISTS:
        value = ", ".join(sql.literal(part) for part in sql.split_list(setting.value)) or "''"
    else:
        value = sql.literal(setting.value)
    return f"ALTER {whose} SET {sql.identifier(setting.name)} TO {value}"


def tablespace_statements(wanted: Globals, existing: Collection[str]) -> list[str]:
    """Return what makes the tablespaces that do not exist, each statement to be run on its own."""
    statements = []
    for space in wanted.tablespaces:
        if space.name in existing:
            continue
        name = sql.identifier(space.name)
        options = f" WITH ({', '.join(space.options)})" if space.options else ""
        statements.append(
            f"CREATE TABLESPACE {name} OWNER {sql.identifier(space.owner)}"
            f" LOCATION {sql.literal(space.location)}{options}"
        )
        if space.comment:
            statements.append(f"COMMENT ON TABLESPACE {name} IS {sql.literal(space.comment)}")
        statements += _grant_statements(f"TABLESPACE {name}", space.owner, space.grants)
    return statements


def creation(frame: Frame, name: str, version: int) -> str:
    """Return what makes an empty database like ``frame`` on a server of ``version``, under ``name``."""
    clauses = [f"OWNER {sql.identifier(frame.owner)}", f"ENCODING {sql.literal(frame.encoding)}"]
    clauses += [f"LC_COLLATE {sql.literal(frame.collate)}", f"LC_CTYPE {sql.literal(frame.ctype)}"]
    if frame.provider == "i":
        clauses += ["LOCALE_PROVIDER icu", f"ICU_LOCALE {sql.literal(frame.locale)}"]
        clauses += [f"ICU_RULES {sql.literal(frame.icu_rules)}"] if frame.icu_rules else []
    elif frame.provider == "b":
        clauses += ["LOCALE_PROVIDER builtin", f"BUILTIN_LOCALE {sql.literal(frame.locale)}"]
    elif version >= 150000:
        clauses.append("LOCALE_PROVIDER libc")
    if frame.tablespace != "pg_default":
        clauses.append(f"TABLESPACE {sql.identifier(frame.tablespace)}")
    return f"CREATE DATABASE {sql.identifier(name)} TEMPLATE template0 {' '.join(clauses)}"


def frame_statements(frame: Frame, name: str) -> list[str]:
    """Return what a database called ``name`` still lacks to be like ``frame``: comment, privileges, limit, template."""
    database = sql.identifier(name)
    statements = []
    if frame.comment:
        statements.append(f"COMMENT ON DATABASE {database} IS {sql.literal(frame.comment)}")
    statements += _grant_statements(f"DATABASE {database}", frame.owner, frame.grants)
    if frame.connection_limit != -1:
        statements.append(f"ALTER DATABASE {database} WITH CONNECTION LIMIT {frame.connection_limit}")
    if frame.is_template:
        statements.append(f"ALTER DATABASE {database} WITH IS_TEMPLATE true")
    return statements


def _grant_statements(what: str, owner: str, grants: tuple[Grant, ...] | None) -> list[str]:
    if grants is None:
        return []
    statements = [f"REVOKE ALL ON {what} FROM PUBLIC", f"REVOKE ALL ON {what} FROM {sql.identifier(owner)}"]
    for grant in grants:
        grantee = sql.identifier(grant.grantee) if grant.grantee != PUBLIC else "PUBLIC"
        option = " WITH GRANT OPTION" if grant.grantable else ""
        statements.append(f"GRANT {grant.privilege} ON {what} TO {grantee}{option}")
    return statements


def _truth(value: bool | None) -> str:
    return "TRUE" if value else "FALSE"
