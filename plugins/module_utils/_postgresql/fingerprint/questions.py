# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is asked about one table, sequence or all large objects, as SQL: one number and one text each.

A content is digested by the server: a hash of each row's text, and the sum of the hashes, which
does not depend on their order and needs no memory. All that the text of a value depends on is
fixed by ``SETTINGS`` and by the expressions here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import sql
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.counts import Relation

SETTINGS = {
    "bytea_output": "hex",
    "datestyle": "ISO,YMD",
    "extra_float_digits": "3",
    "intervalstyle": "postgres",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",
    "timezone": "UTC",
    "xmlbinary": "base64",
    # An owner's row security must fail rather than hide rows.
    "row_security": "off",
    # What an index says is no proof of the rows in the table.
    "enable_indexonlyscan": "off",
    "default_transaction_read_only": "on",
    # A table under maintenance is waited for, and not for ever.
    "lock_timeout": "300000",
    "idle_in_transaction_session_timeout": "0",
}

# The first 64 bits of MD5, as a number that the server can add up; there are no forgers to be met here.
HASH = "('x' || left(md5({}), 16))::bit(64)::bigint"

# The text of a binary value is twice as long and must not pass 1 GB with its row; that of a
# floating-point number was rounded before 12.
BYTEA, FLOAT4, FLOAT8 = 17, 700, 701
EXPRESSIONS = {BYTEA: "md5({})", FLOAT4: "float4send({})", FLOAT8: "float8send({})"}


@dataclass(frozen=True)
class Column:
    """A column in its place; ``type_oid`` is that of the type below all domains that have a fixed one."""

    name: str
    type_oid: int


@dataclass(frozen=True)
class Question:
    """``select`` is what follows ``SELECT <number>,``: a bigint, a text, and where they come from.

    ``subject`` is how an error names it, ``weight`` the rows that are read.
    """

    subject: str
    select: str
    weight: int = 1


def settings(version: int) -> dict[str, str]:
    """Return the settings of a session that takes fingerprints, as far as this server knows them."""
    # Looking through a large catalog is worth no compilation, and the libraries for it may be missing.
    later = ((110000, "jit", "off"), (140000, "idle_session_timeout", "0"), (170000, "transaction_timeout", "0"))
    return {**SETTINGS, **{name: value for since, name, value in later if version >= since}}


def of_rows(table: Relation) -> Question:
    return Question(table.sql, f"count(*), '' FROM ONLY {table.sql}", table.estimate)


def of_content(table: Relation, columns: Sequence[Column]) -> Question:
    """Ask for the rows and their content."""
    values = ", ".join(EXPRESSIONS.get(one.type_oid, "{}").format(sql.identifier(one.name)) for one in columns)
    row = HASH.format(f"ROW({values})::text")
    return Question(
        table.sql, f"count(*), md5(concat_ws(':', count(*), sum({row}))) FROM ONLY {table.sql}", table.estimate
    )


def of_sequence(schema: str, name: str, oid: int, version: int) -> Question:
    """Ask where a sequence is; the text is called, increment and cycles, separated by commas."""
    place = f"{sql.identifier(schema)}.{sql.identifier(name)}"
    if version >= 100000:
        facts, source = "q.seqincrement, q.seqcycle", f"{place} s, pg_sequence q WHERE q.seqrelid = {oid}"
    else:
        facts, source = "s.increment_by, s.is_cycled", f"{place} s"
    return Question(place, f"s.last_value, concat_ws(',', s.is_called, {facts}) FROM {source}")


def of_large_objects(number: int) -> Question:
    """Ask for their number and content.

    Where an object was never written, a restore writes zeros: pages are told without
    those at their end, empty ones are not told at all, and each object's length is.
    """
    # There is a trim for the left only, and for both sides, before 14: the mark in front keeps the left as it is.
    page = "btrim(decode('01', 'hex') || l.data, decode('00', 'hex'))"
    size = "current_setting('block_size')::bigint / 4"
    whole = HASH.format(f"concat_ws(' ', m.oid, coalesce(max(l.pageno * ({size}) + octet_length(l.data)), 0))")
    part = HASH.format(f"concat_ws(' ', l.loid, l.pageno, md5({page}))")
    return Question(
        "pg_largeobject",
        "count(*) FILTER (WHERE r.whole), md5(coalesce(sum(r.hash), 0)::text) FROM ("
        f"SELECT true AS whole, {whole} AS hash FROM pg_largeobject_metadata m"
        " LEFT JOIN pg_largeobject l ON l.loid = m.oid GROUP BY m.oid"
        f" UNION ALL SELECT false, {part} FROM pg_largeobject l WHERE {page} <> decode('01', 'hex')) r",
        number,
    )
