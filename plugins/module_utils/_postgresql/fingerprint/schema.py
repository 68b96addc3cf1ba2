# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the objects of one database are defined, in words that no major and no libc changes.

Only facts of the catalog are said. What the server prints back from a parsed tree (a view, an
expression, a default) reads differently from major to major, so that only its presence counts,
and its plain ingredients: names, columns, types. What belongs to an extension is left to it.
"""

from __future__ import annotations

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.model import (
    DEFINITION,
    qualified,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import FIRST_OF_USERS
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session

USERS_SCHEMA = "n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'"

RELATION_KINDS = {
    "r": "table",
    "p": "table",
    "f": "foreign table",
    "v": "view",
    "m": "materialized view",
    "c": "type",
}
FOREIGN_KEY_ACTIONS = (
    "CASE {} WHEN 'r' THEN 'restrict' WHEN 'c' THEN 'cascade' WHEN 'n' THEN 'set null' WHEN 'd' THEN 'set default' END"
)


OF_AN_EXTENSION = "'e'"
OF_OTHERS = "'e', 'i'"
"""Also what came along with another object, as the constructors of a range do: how many is the major's affair."""


def own(catalog: str, oid: str, kinds: str = OF_AN_EXTENSION) -> str:
    """Return the condition that an object is nobody's part."""
    return (
        f"NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = '{catalog}'::regclass AND d.objid = {oid}"
        f" AND d.deptype IN ({kinds}))"
    )


def objects(session: Session, version: int) -> dict[str, dict[str, str]]:
    """Return object → part → words; ``version`` is the server's server_version_num."""
    found: dict[str, dict[str, str]] = {}
    for kind, schema, name, arguments, part, part_name, words in session.rows(_everything(version)):
        full = f"{RELATION_KINDS.get(kind, kind)} {qualified(*filter(None, (schema, name)))}{arguments}"
        found.setdefault(full, {})[f"{part} {qualified(part_name)}" if part_name else DEFINITION] = words
    return {name: dict(sorted(found[name].items())) for name in sorted(found)}


def _everything(version: int) -> str:
    """Return one question for all: where psql stands in for the driver, each one costs a process of its own.

    Its columns: kind, schema and name of an object, the arguments of a function; kind and name of the part, both
    empty for the object itself; what is said of it.
    """
    return " UNION ALL ".join(
        (
            _relations(version),
            _columns(version),
            _constraints(version),
            _indexes(version),
            _triggers(version),
            POLICIES,
            RULES,
            FUNCTIONS,
            TYPES,
            DOMAIN_CONSTRAINTS,
            *_others(version),
        )
    )


def _relations(version: int) -> str:
    partitioned = (
        "(SELECT 'partitioned by ' || CASE p.partstrat WHEN 'r' THEN 'range' WHEN 'l' THEN 'list' ELSE 'hash' END"
        " FROM pg_partitioned_table p WHERE p.partrelid = c.oid)"
        if version >= 100000
        else "NULL"
    )
    return f"""
SELECT c.relkind::text, n.nspname::text, c.relname::text, '', '', '', concat_ws(', ',
       {partitioned},
       CASE c.relpersistence WHEN 'u' THEN 'unlogged' END,
       CASE WHEN c.relkind = 'm' AND NOT c.relispopulated THEN 'not populated' END,
       CASE WHEN c.relrowsecurity THEN 'row security' END,
       CASE WHEN c.relforcerowsecurity THEN 'forced row security' END,
       CASE WHEN c.relkind IN ('r', 'p') THEN CASE c.relreplident WHEN 'f' THEN 'replica identity full'
            WHEN 'i' THEN 'replica identity by index' WHEN 'n' THEN 'no replica identity' END END,
       (SELECT 'with ' || string_agg(o, ' ' ORDER BY o COLLATE "C") FROM unnest(c.reloptions) o),
       (SELECT 'child of ' || string_agg(format('%s.%s', pn.nspname, pc.relname), ' ' ORDER BY h.inhseqno)
          FROM pg_inherits h JOIN pg_class pc ON pc.oid = h.inhparent JOIN pg_namespace pn ON pn.oid = pc.relnamespace
         WHERE h.inhrelid = c.oid))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'c') AND {USERS_SCHEMA} AND {own("pg_class", "c.oid")}
"""


def _columns(version: int) -> str:
    identity = "CASE a.attidentity WHEN 'a' THEN 'identity always' WHEN 'd' THEN 'identity' END"
    # A generated column has its expression where others have their default.
    generated = "CASE WHEN a.attgenerated <> '' THEN 'generated' WHEN a.atthasdef THEN 'default' END"
    return f"""
SELECT c.relkind::text, n.nspname, c.relname, '', 'column', a.attname, concat_ws(', ',
       format_type(a.atttypid, a.atttypmod),
       CASE WHEN a.attcollation <> t.typcollation THEN 'collation ' || l.collname END,
       CASE WHEN a.attnotnull THEN 'not null' END,
       {generated if version >= 120000 else "CASE WHEN a.atthasdef THEN 'default' END"},
       {identity if version >= 100000 else "NULL"})
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'c') AND a.attnum > 0 AND NOT a.attisdropped
      AND {USERS_SCHEMA} AND {own("pg_class", "c.oid")}
"""


def _names_of(columns: str, relation: str, order: str = "u.place") -> str:
    """Return the names of the columns in an array of their numbers."""
    return (
        f"(SELECT string_agg(a.attname, ' ' ORDER BY {order})"
        f" FROM unnest({columns}) WITH ORDINALITY AS u(number, place)"
        f" JOIN pg_attribute a ON a.attrelid = {relation} AND a.attnum = u.number)"
    )


def _constraints(version: int) -> str:
    # Those that a partition has of its parent are made with it, under names that majors choose. That a column is
    # not null is said of the column: only from 18 on it is a constraint, too.
    parents = "AND k.conparentid = 0" if version >= 110000 else ""
    return f"""
SELECT c.relkind::text, n.nspname, c.relname, '', 'constraint', k.conname, concat_ws(' ',
       CASE k.contype WHEN 'c' THEN 'check' WHEN 'p' THEN 'primary key' WHEN 'u' THEN 'unique' WHEN 'x' THEN 'exclude'
            ELSE 'foreign key' END,
       CASE k.contype WHEN 'c' THEN {_names_of("k.conkey", "k.conrelid", 'a.attname::text COLLATE "C"')}
            ELSE {_names_of("k.conkey", "k.conrelid")} END,
       CASE k.contype WHEN 'f' THEN (SELECT format('to %s.%s', fn.nspname, fc.relname) FROM pg_class fc
            JOIN pg_namespace fn ON fn.oid = fc.relnamespace WHERE fc.oid = k.confrelid) END,
       CASE k.contype WHEN 'f' THEN {_names_of("k.confkey", "k.confrelid")} END,
       'on update ' || {FOREIGN_KEY_ACTIONS.format("k.confupdtype")},
       'on delete ' || {FOREIGN_KEY_ACTIONS.format("k.confdeltype")},
       CASE k.confmatchtype WHEN 'f' THEN 'match full' END,
       CASE WHEN k.condeferrable THEN 'deferrable' END,
       CASE WHEN k.condeferred THEN 'initially deferred' END,
       CASE WHEN NOT k.convalidated THEN 'not valid' END)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype IN ('c', 'p', 'u', 'x', 'f') {parents} AND {USERS_SCHEMA} AND {own("pg_class", "c.oid")}
"""


def _indexes(version: int) -> str:
    keys = "i.indnkeyatts" if version >= 110000 else "i.indnatts"
    nulls = "CASE WHEN i.indnullsnotdistinct THEN 'nulls not distinct' END" if version >= 150000 else "NULL"
    return f"""
SELECT c.relkind::text, n.nspname, c.relname, '', 'index', x.relname, concat_ws(' ',
       CASE WHEN i.indisprimary THEN 'primary' WHEN i.indisunique THEN 'unique' END,
       m.amname,
       (SELECT string_agg(concat_ws(' ', coalesce(a.attname, '(expression)'), o.opcname,
               CASE WHEN k.coll NOT IN (0, coalesce(a.attcollation, 100)) THEN 'collation ' || l.collname END,
               CASE WHEN k.place > {keys} THEN 'included' END,
               CASE WHEN k.opt & 1 = 1 THEN 'desc' END, CASE WHEN k.opt & 2 = 2 THEN 'nulls first' END),
               ', ' ORDER BY k.place)
          FROM unnest(i.indkey, i.indclass, i.indoption, i.indcollation) WITH ORDINALITY
               AS k(number, class, opt, coll, place)
               LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number AND k.number <> 0
               LEFT JOIN pg_opclass o ON o.oid = k.class
               LEFT JOIN pg_collation l ON l.oid = k.coll),
       {nulls},
       CASE WHEN i.indpred IS NOT NULL THEN 'partial' END,
       CASE WHEN i.indisreplident THEN 'replica identity' END,
       CASE WHEN i.indisclustered THEN 'clustered' END)
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
     JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indisvalid AND {USERS_SCHEMA} AND {own("pg_class", "c.oid")}
"""


def _triggers(version: int) -> str:
    # The clones on partitions follow their parent; before 13 they are marked as internal.
    parents = "AND g.tgparentid = 0" if version >= 130000 else ""
    return f"""
SELECT c.relkind::text, n.nspname, c.relname, '', 'trigger', g.tgname, concat_ws(' ',
       format('calls %s.%s', fn.nspname, f.proname), 'of the type', g.tgtype::text,
       CASE WHEN g.tgconstraint <> 0 THEN 'constraint' END,
       {_names_of("g.tgattr::int2[]", "g.tgrelid")},
       CASE g.tgenabled WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'on replicas' WHEN 'A' THEN 'always' END,
       CASE WHEN g.tgdeferrable THEN 'deferrable' END, CASE WHEN g.tginitdeferred THEN 'initially deferred' END,
       CASE WHEN g.tgqual IS NOT NULL THEN 'conditional' END,
       CASE WHEN g.tgnargs > 0 THEN 'with arguments ' || left(md5(g.tgargs), 12) END)
FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_proc f ON f.oid = g.tgfoid JOIN pg_namespace fn ON fn.oid = f.pronamespace
WHERE NOT g.tgisinternal {parents} AND {USERS_SCHEMA} AND {own("pg_class", "c.oid")}
"""


POLICIES = f"""
SELECT c.relkind::text, n.nspname, c.relname, '', 'policy', p.polname, concat_ws(' ',
       CASE p.polcmd WHEN 'r' THEN 'select' WHEN 'a' THEN 'insert' WHEN 'w' THEN 'update' WHEN 'd' THEN 'delete'
            ELSE 'all' END,
       'to ' || coalesce((SELECT string_agg(r.rolname, ' ' ORDER BY r.rolname::text COLLATE "C") FROM pg_roles r
                          WHERE r.oid = ANY (p.polroles)), 'everybody'),
       CASE WHEN p.polqual IS NOT NULL THEN 'using' END, CASE WHEN p.polwithcheck IS NOT NULL THEN 'with check' END)
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE {USERS_SCHEMA} AND {own("pg_class", "c.oid")}
"""

RULES = f"""
SELECT c.relkind::text, n.nspname, c.relname, '', 'rule', w.rulename, concat_ws(' ',
       CASE w.ev_type WHEN '1' THEN 'select' WHEN '2' THEN 'update' WHEN '3' THEN 'insert' ELSE 'delete' END,
       CASE WHEN w.is_instead THEN 'instead' END)
FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE w.rulename <> '_RETURN' AND {USERS_SCHEMA} AND {own("pg_class", "c.oid")}
"""

FUNCTIONS = f"""
SELECT 'function', n.nspname, p.proname, format('(%s)', oidvectortypes(p.proargtypes)), '', '', concat_ws(' ',
       'returns', CASE WHEN p.proretset THEN 'setof' END, format_type(p.prorettype, NULL), 'in', l.lanname,
       CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' END,
       CASE WHEN p.proisstrict THEN 'strict' END, CASE WHEN p.prosecdef THEN 'security definer' END,
       'as', left(md5(concat_ws(' ', p.prosrc, p.probin, p.proconfig::text)), 12))
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE {USERS_SCHEMA} AND {own("pg_proc", "p.oid", OF_OTHERS)}
"""

# Arrays, the types of rows and, from 14 on, multiranges come along with others.
TYPES = f"""
SELECT 'type', n.nspname, t.typname, '', '', '', CASE t.typtype
       WHEN 'e' THEN 'enum ' || (SELECT string_agg(quote_literal(e.enumlabel), ' ' ORDER BY e.enumsortorder)
                                 FROM pg_enum e WHERE e.enumtypid = t.oid)
       WHEN 'd' THEN concat_ws(' ', 'domain over', format_type(t.typbasetype, t.typtypmod),
                               CASE WHEN t.typnotnull THEN 'not null' END,
                               CASE WHEN t.typdefault IS NOT NULL THEN 'default' END)
       WHEN 'r' THEN 'range of ' || (SELECT format_type(r.rngsubtype, NULL) FROM pg_range r WHERE r.rngtypid = t.oid)
       ELSE 'base type' END
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE t.typtype IN ('e', 'd', 'r', 'b') AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
      AND {USERS_SCHEMA} AND {own("pg_type", "t.oid")}
"""

DOMAIN_CONSTRAINTS = f"""
SELECT 'type', n.nspname, t.typname, '', 'constraint', k.conname,
       concat_ws(' ', 'check', CASE WHEN NOT k.convalidated THEN 'not valid' END)
FROM pg_constraint k JOIN pg_type t ON t.oid = k.contypid JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE k.contype = 'c' AND {USERS_SCHEMA} AND {own("pg_type", "t.oid")}
"""


def _others(version: int) -> list[str]:
    """Ask for what is told by its name, and little more."""
    left = "format_type(nullif(x.oprleft, 0), NULL)"
    right = "format_type(nullif(x.oprright, 0), NULL)"
    found = [
        _named("schema", "n.nspname", "pg_namespace n", f"{USERS_SCHEMA} AND {own('pg_namespace', 'n.oid')}"),
        _named(
            "event trigger",
            "x.evtname",
            "pg_event_trigger x JOIN pg_proc p ON p.oid = x.evtfoid",
            own("pg_event_trigger", "x.oid"),
            words="concat_ws(' ', 'on', x.evtevent, 'calls', p.proname)",
        ),
        _named("language", "x.lanname", "pg_language x", f"x.lanispl AND {own('pg_language', 'x.oid')}"),
        _named(
            "foreign data wrapper", "x.fdwname", "pg_foreign_data_wrapper x", own("pg_foreign_data_wrapper", "x.oid")
        ),
        _named("server", "x.srvname", "pg_foreign_server x", own("pg_foreign_server", "x.oid")),
        _named("user mapping", "coalesce(x.usename, 'public')", "pg_user_mappings x", "true", schema="x.srvname"),
        _named(
            "cast",
            "format('%s to %s', format_type(x.castsource, NULL), format_type(x.casttarget, NULL))",
            "pg_cast x",
            # What initdb makes has an oid below this, in every major.
            f"x.oid >= {FIRST_OF_USERS} AND {own('pg_cast', 'x.oid', OF_OTHERS)}",
        ),
        _named(
            "operator",
            "x.oprname",
            "pg_operator x JOIN pg_namespace n ON n.oid = x.oprnamespace",
            f"{USERS_SCHEMA} AND {own('pg_operator', 'x.oid')} GROUP BY n.nspname, x.oprname",
            schema="n.nspname",
            words=f"string_agg(concat_ws(' ', {left}, {right}), ', '"
            f' ORDER BY {left} COLLATE "C", {right} COLLATE "C")',
        ),
    ]
    in_schemas = {
        "collation": ("pg_collation", "coll"),
        "conversion": ("pg_conversion", "con"),
        "operator class": ("pg_opclass", "opc"),
        "operator family": ("pg_opfamily", "opf"),
        "text search configuration": ("pg_ts_config", "cfg"),
        "text search dictionary": ("pg_ts_dict", "dict"),
        "text search parser": ("pg_ts_parser", "prs"),
        "text search template": ("pg_ts_template", "tmpl"),
        **({"statistics": ("pg_statistic_ext", "stx")} if version >= 100000 else {}),
    }
    found += [
        _named(
            kind,
            f"x.{prefix}name",
            f"{catalog} x JOIN pg_namespace n ON n.oid = x.{prefix}namespace",
            # Some share a name, by encoding or access method.
            f"{USERS_SCHEMA} AND {own(catalog, 'x.oid')} GROUP BY n.nspname, x.{prefix}name",
            schema="n.nspname",
        )
        for kind, (catalog, prefix) in in_schemas.items()
    ]
    return found + (_replication() if version >= 100000 else [])


def _replication() -> list[str]:
    return [
        _named(
            "publication",
            "x.pubname",
            "pg_publication x",
            "true",
            words="CASE WHEN x.puballtables THEN 'of all tables' ELSE coalesce("
            "(SELECT string_agg(format('%s.%s', t.schemaname, t.tablename), ' ' ORDER BY t.schemaname, t.tablename)"
            " FROM pg_publication_tables t WHERE t.pubname = x.pubname), '') END",
        ),
        _named(
            "subscription",
            "x.subname",
            "pg_subscription x",
            "x.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
        ),
    ]


def _named(kind: str, name: str, source: str, condition: str, *, schema: str = "NULL", words: str = "''") -> str:
    return f"SELECT '{kind}', {schema}, {name}, '', '', '', {words} FROM {source} WHERE {condition}"
