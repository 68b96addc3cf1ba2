# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is who, who owns what, and who may do what: much of it is what the dump of one database leaves behind.

No access list means the default one of the owner, so that both are said alike. What is granted
on the system's own objects and on those of extensions is left out.
"""

from __future__ import annotations

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.model import Role, qualified
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.schema import (
    OF_OTHERS,
    RELATION_KINDS,
    USERS_SCHEMA,
    own,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session

Grants = dict[str, dict[str, str]]

ATTRIBUTES = {
    "rolsuper": "superuser",
    "rolinherit": "inherit",
    "rolcreaterole": "createrole",
    "rolcreatedb": "createdb",
    "rolcanlogin": "login",
    "rolreplication": "replication",
    "rolbypassrls": "bypassrls",
}

# The verifier never leaves the server. It is a hash of one known form, or (before 10) the password itself.
ROLES = f"""
SELECT rolname, rolconnlimit, coalesce(rolvaliduntil::text, ''),
       CASE WHEN rolpassword IS NULL THEN '' WHEN rolpassword LIKE 'SCRAM-SHA-256$%' THEN 'scram-sha-256'
            WHEN rolpassword ~ '^md5[0-9a-f]{{32}}$' THEN 'md5' ELSE 'plain text' END,
       {", ".join(ATTRIBUTES)}
FROM pg_authid WHERE rolname NOT LIKE 'pg\\_%' ORDER BY rolname
"""

# Who is a member of the server's own roles counts; that these are members of each other is the major's affair.
MEMBERSHIPS = """
SELECT m.rolname, r.rolname, bool_or(a.admin_option)
FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member JOIN pg_roles r ON r.oid = a.roleid
WHERE m.rolname NOT LIKE 'pg\\_%' GROUP BY m.rolname, r.rolname ORDER BY 1, 2
"""

SETTINGS = """
SELECT split_part(o, '=', 1), coalesce(r.rolname::text, ''), coalesce(d.datname::text, ''),
       left(md5(substr(o, strpos(o, '=') + 1)), 12)
FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) o
     LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase
ORDER BY 2, 3, 1
"""

# Kind, schema, name, what the name is to be told apart by; owner, access list, and whose default it has.
TABLESPACES = """
SELECT 'tablespace' AS kind, NULL::text AS schema, x.spcname::text AS name, '' AS detail,
       x.spcowner AS owner, x.spcacl AS acl, 't' AS letter FROM pg_tablespace x WHERE x.spcname NOT LIKE 'pg\\_%'
"""
PARAMETERS = "UNION ALL SELECT 'parameter', NULL, x.parname, '', 10, x.paracl, '' FROM pg_parameter_acl x"

OBJECTS = f"""
SELECT 'database' AS kind, NULL::text AS schema, '' AS name, '' AS detail,
       x.datdba AS owner, x.datacl AS acl, 'd' AS letter FROM pg_database x WHERE x.datname = current_database()
UNION ALL SELECT 'schema', NULL, n.nspname, '', n.nspowner, n.nspacl, 'n' FROM pg_namespace n
 WHERE {USERS_SCHEMA} AND {own("pg_namespace", "n.oid")}
UNION ALL SELECT c.relkind::text, n.nspname, c.relname, '', c.relowner, c.relacl,
                 CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND {USERS_SCHEMA} AND {own("pg_class", "c.oid")}
UNION ALL SELECT 'column', n.nspname, c.relname, a.attname, c.relowner, a.attacl, ''
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE a.attacl IS NOT NULL AND NOT a.attisdropped AND {USERS_SCHEMA} AND {own("pg_class", "c.oid")}
UNION ALL SELECT 'function', n.nspname, p.proname, oidvectortypes(p.proargtypes), p.proowner, p.proacl, 'f'
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE {USERS_SCHEMA} AND {own("pg_proc", "p.oid", OF_OTHERS)}
UNION ALL SELECT 'type', n.nspname, t.typname, '', t.typowner, t.typacl, 'T'
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
 WHERE (t.typtype IN ('e', 'd', 'r', 'b') OR c.relkind = 'c')
   AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid) AND {USERS_SCHEMA} AND {own("pg_type", "t.oid")}
UNION ALL SELECT 'language', NULL, x.lanname, '', x.lanowner, x.lanacl, 'l'
  FROM pg_language x WHERE x.lanispl AND {own("pg_language", "x.oid")}
UNION ALL SELECT 'foreign data wrapper', NULL, x.fdwname, '', x.fdwowner, x.fdwacl, 'F'
  FROM pg_foreign_data_wrapper x WHERE {own("pg_foreign_data_wrapper", "x.oid")}
UNION ALL SELECT 'server', NULL, x.srvname, '', x.srvowner, x.srvacl, 'S'
  FROM pg_foreign_server x WHERE {own("pg_foreign_server", "x.oid")}
UNION ALL SELECT 'default privileges', n.nspname, r.rolname, x.defaclobjtype::text, x.defaclrole, x.defaclacl, ''
  FROM pg_default_acl x JOIN pg_roles r ON r.oid = x.defaclrole
       LEFT JOIN pg_namespace n ON n.oid = x.defaclnamespace
UNION ALL SELECT 'large objects', NULL, '', '', x.lomowner, x.acl::aclitem[], 'L'
  FROM (SELECT lomowner, lomacl::text AS acl FROM pg_largeobject_metadata GROUP BY 1, 2) x
"""

# MAINTAIN came with 17: every owner has it there, and who is given all privileges anew gets it, too.
PRIVILEGE = "(e.privilege_type || CASE WHEN e.is_grantable THEN ' with grant option' ELSE '' END)"
PRIVILEGES = f"""
SELECT o.kind, o.schema, o.name, o.detail, w.rolname, CASE e.grantee WHEN 0 THEN 'PUBLIC' ELSE r.rolname END,
       string_agg(DISTINCT {PRIVILEGE} COLLATE "C", ', ' ORDER BY {PRIVILEGE} COLLATE "C")
FROM ({{}}) o JOIN pg_roles w ON w.oid = o.owner
     LEFT JOIN LATERAL aclexplode(coalesce(o.acl,
               CASE WHEN o.letter <> '' THEN acldefault(o.letter::"char", o.owner) END)) e
               ON e.privilege_type <> 'MAINTAIN'
     LEFT JOIN pg_roles r ON r.oid = e.grantee
GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
"""


def roles(session: Session) -> dict[str, Role]:
    return {
        name: Role(
            attributes=tuple(said for said, has in zip(ATTRIBUTES.values(), attributes) if has),
            connection_limit=limit,
            valid_until=until,
            password=method,
        )
        for name, limit, until, method, *attributes in session.rows(ROLES)
    }


def memberships(session: Session) -> dict[str, str]:
    return {
        f"{member} in {role}": "admin, member" if admin else "member"
        for member, role, admin in session.rows(MEMBERSHIPS)
    }


def settings(session: Session) -> dict[str, str]:
    """Return what ALTER ROLE and ALTER DATABASE have set; the values may be secrets, so that only digests are read."""
    found = {}
    for name, role, database, digest in session.rows(SETTINGS):
        place = " in ".join(filter(None, (role and f"role {role}", database and f"database {database}")))
        found[f"{name} of {place or 'all roles'}"] = digest
    return found


def of_cluster(session: Session, version: int) -> Grants:
    """Return owners and privileges of what belongs to no database."""
    return _grants(session, TABLESPACES + (PARAMETERS if version >= 150000 else ""))


def of_database(session: Session) -> Grants:
    """Return owners and privileges of every object of the session's database."""
    return _grants(session, OBJECTS)


def _grants(session: Session, objects: str) -> Grants:
    found: Grants = {}
    for kind, schema, name, detail, owner, grantee, privileges in session.rows(PRIVILEGES.format(objects)):
        grants = found.setdefault(_told(kind, schema, name, detail), {})
        grants.setdefault(f"owner {owner}", "nothing")
        if grantee is not None:
            grants[f"owner {owner}" if grantee == owner else f"grant to {grantee}"] = privileges
    return found


def _told(kind: str, schema: str | None, name: str, detail: str) -> str:
    full = qualified(*filter(None, (schema, name)))
    if kind == "function":
        return f"function {full}({detail})"
    if kind == "column":
        return f"column {qualified(detail)} of {full}"
    if kind == "default privileges":
        return f"default privileges of {name}" + (f" in {qualified(schema)}" if schema else "") + f" ({detail})"
    word = "sequence" if kind == "S" else RELATION_KINDS.get(kind, kind)
    return f"{word} {full}".rstrip()
