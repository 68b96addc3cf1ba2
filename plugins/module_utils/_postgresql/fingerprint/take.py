# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take the fingerprint of a running cluster.

The server does the work: what comes over here is one number and one digest a table, however
large it is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ansible_collections.selfhost.stateful.plugins.module_utils._clock import moment
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import (
    require_superuser,
    server_version,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.counts import Relation, relations
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint import (
    grants,
    model,
    questions,
    schema,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.answers import Answer, ask_all
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.model import (
    Database,
    Fingerprint,
    Sequence,
    Table,
    qualified,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.questions import (
    Column,
    Question,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session

EXACT = "exact"
ESTIMATED = "estimated"
LARGE_OBJECTS = "(large objects)"
KINDS = {"r": model.TABLE, "m": model.MATERIALIZED_VIEW}
PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}

SEQUENCES = f"""
SELECT n.nspname, c.relname, c.oid::bigint,
       coalesce((SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                    AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'), '')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND {schema.USERS_SCHEMA} ORDER BY 1, 2
"""

# Of a domain the type below counts, as far as the domain is directly above it.
COLUMNS = f"""
SELECT n.nspname, c.relname, a.attname, (CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END)::bigint
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_type t ON t.oid = a.atttypid
WHERE c.relkind IN ('r', 'm') AND a.attnum > 0 AND NOT a.attisdropped AND {schema.USERS_SCHEMA}
ORDER BY 1, 2, a.attnum
"""

INVALID_INDEXES = """
SELECT x.relname, c.relkind::text, n.nspname, c.relname
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class c ON c.oid = i.indrelid
     JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT i.indisvalid AND c.relpersistence <> 't' ORDER BY 3, 4, 1
"""


def take(
    session: Session, *, rows: str = EXACT, content: bool = False, jobs: int = 2, databases: Collection[str] = ()
) -> Fingerprint:
    """Return the fingerprint of the cluster that ``session``, a superuser's, is connected to. Changes nothing.

    ``rows``: ``exact`` reads every table once, ``estimated`` none; ``content`` digests every row and large
    object, and counts on the way. ``jobs``: how many sessions read at the same time. ``databases``: only these,
    else all that allow connections. All of one database is counted in one snapshot where the driver is there to
    hold it (:attr:`Database.one_snapshot`). Raises :class:`SqlError` naming the table that cannot be read.
    """
    version = server_version(session)
    require_superuser(session, "read every table and the roles")
    settings = questions.settings(version)
    with session.sibling(settings=settings) as there:
        known = {
            str(name): bool(allowed) for name, allowed in there.rows("SELECT datname, datallowconn FROM pg_database")
        }
        skipped = databases_to_skip(known, databases)
        taken_at = moment()
        roles, memberships = grants.roles(there), grants.memberships(there)
        altered, on_cluster = grants.settings(there), grants.of_cluster(there, version)
    found = {}
    for name in sorted(set(known) - set(skipped)):
        with session.sibling(name, settings) as there:
            found[name] = _take_database(there, version, counted=rows == EXACT, content=content, jobs=jobs)
    return Fingerprint(
        server_version_num=version,
        taken_at=taken_at,
        databases=found,
        skipped=skipped,
        roles=roles,
        memberships=memberships,
        settings=altered,
        grants=on_cluster,
    )


def databases_to_skip(known: Mapping[str, bool], wanted: Collection[str]) -> dict[str, str]:
    """Return the databases that are left out, each with the reason; raises where a wanted one cannot be read."""
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise InvalidInput(f"No database {', '.join(unknown)} in this cluster; there are {', '.join(sorted(known))}.")
    closed = [name for name in wanted if not known[name]]
    if closed:
        raise InvalidInput(f"The database {', '.join(closed)} does not allow connections.")
    # What is not asked for is not missed either, whether it could be read or not.
    return {
        name: model.NOT_ASKED_FOR if wanted else "does not allow connections"
        for name, allowed in known.items()
        if (name not in wanted if wanted else not allowed)
    }


def _take_database(session: Session, version: int, *, counted: bool, content: bool, jobs: int) -> Database:
    snapshot = ""
    if session.holds_transactions:
        session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        snapshot = session.scalar("SELECT pg_export_snapshot()")
    tables = {qualified(table.schema, table.name): table for table in relations(session)}
    sequences = {
        qualified(where, name): (where, name, int(oid), of) for where, name, oid, of in session.rows(SEQUENCES)
    }
    large_objects = int(session.scalar("SELECT count(*) FROM pg_largeobject_metadata"))
    asked = {name: questions.of_sequence(*one[:3], version) for name, one in sequences.items()}
    if content:
        asked.update(_of_contents(session, tables))
        asked[LARGE_OBJECTS] = questions.of_large_objects(large_objects)
    elif counted:
        asked.update({name: questions.of_rows(table) for name, table in tables.items() if table.populated})
    answers = ask_all(session.sibling, asked, jobs=jobs, snapshot=snapshot)
    return Database(
        properties=_properties(session, version),
        objects=schema.objects(session, version),
        grants=grants.of_database(session),
        tables={
            name: _table(table, answers.get(name))
            for name, table in sorted(tables.items())
            if name not in asked or name in answers
        },
        sequences={name: _sequence(answers[name], one[3]) for name, one in sequences.items() if name in answers},
        extensions=dict(session.rows("SELECT extname, extversion FROM pg_extension ORDER BY extname")),
        invalid_indexes=tuple(
            f"index {qualified(index)} of {schema.RELATION_KINDS.get(kind, 'table')} {qualified(where, table)}"
            for index, kind, where, table in session.rows(INVALID_INDEXES)
        ),
        large_objects=Table(large_objects, True, answers.get(LARGE_OBJECTS, (0, ""))[1]),
        one_snapshot=bool(snapshot),
    )


def _of_contents(session: Session, tables: Mapping[str, Relation]) -> dict[str, Question]:
    columns: dict[str, list[Column]] = {}
    for where, table, name, type_oid in session.rows(COLUMNS):
        columns.setdefault(qualified(where, table), []).append(Column(name, type_oid))
    return {
        name: questions.of_content(table, columns.get(name, ())) for name, table in tables.items() if table.populated
    }


def _table(table: Relation, answer: Answer | None) -> Table:
    rows, content = answer or (table.estimate, "")
    return Table(rows, answer is not None, content, KINDS[table.kind], table.extension)


def _sequence(answer: Answer, extension: str) -> Sequence:
    last_value, facts = answer
    called, increment, cycles = facts.split(",")
    return Sequence(last_value, called == "t", int(increment), cycles == "t", extension)


def _properties(session: Session, version: int) -> dict[str, str]:
    provider = "datlocprovider::text" if version >= 150000 else "'c'"
    locale = "datlocale" if version >= 170000 else "daticulocale" if version >= 150000 else "NULL"
    ((encoding, collate, ctype, by, named, limit, template),) = session.rows(
        f"SELECT pg_encoding_to_char(encoding), datcollate, datctype, {provider}, coalesce({locale}, ''),"
        " datconnlimit, datistemplate FROM pg_database WHERE datname = current_database()"
    )
    return {
        "encoding": encoding,
        "collate": collate,
        "ctype": ctype,
        "locale provider": PROVIDERS.get(by, by),
        "locale": named,
        "connection limit": str(limit),
        "template": "yes" if template else "no",
    }
