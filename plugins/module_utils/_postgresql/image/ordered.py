# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of a database is ordered by a library, libc or ICU, as parts of queries of its catalog. Pure.

An index depends on an order where its key is text, where the type of its key holds text (a row, a range, jsonb), and
where its expression or its predicate compares text: pg_index names only the first as a collation of the index. What
a function hides from the catalog is not seen: its author has declared it immutable.
"""

from __future__ import annotations

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import FIRST_OF_USERS

OWN = "default"
"""The name of the collation that stands for the database's own, and its oid."""
OWN_OID = 100
JSONB_OID = 3802
"""It orders its strings by the database's own collation, and has none itself."""
NO_ORDER_OF_LIBC = ("c", "posix")
WITH_NONDETERMINISTIC = 120000
WITH_MULTIRANGES = 140000
# The collations that the node tree of an expression compares by, each of a list in one row.
NAMED_IN_TREES = "':inputcollids? (?:[(]o )?([0-9 ]+)'"


def orders_by_library(provider: str, locale: str) -> bool:
    """Tell whether a collation's order is a matter of the library that provides it, which another image may change."""
    if provider == "i":
        return True
    return provider == "c" and locale.lower() not in NO_ORDER_OF_LIBC and not locale.lower().startswith("c.")


def is_sensitive(version: int) -> str:
    """Return the condition on pg_collation ``c`` that :func:`orders_by_library` is in Python."""
    libc = "lower(c.collcollate) NOT IN ('c', 'posix') AND c.collcollate NOT ILIKE 'c.%'"
    if version < 100000:  # every collation is libc's then, and the one of oid 100 stands for the database's
        return f"(c.oid <> {OWN_OID} AND {libc})"
    return f"(c.collprovider = 'i' OR c.collprovider = 'c' AND {libc})"


def from_text_indexes(version: int, own_is_sensitive: bool) -> str:
    """Return the FROM and the WHERE of a query for the indexes of a database whose order is a library's.

    ``i`` is their pg_index, ``r`` their pg_class. ``own_is_sensitive``: whether the database's own collation is one.
    """
    # A hash keeps no order, but what is equal is its matter, too. A partitioned index has no content of its own.
    return (
        "FROM pg_index i JOIN pg_class r ON r.oid = i.indexrelid JOIN pg_am a ON a.oid = r.relam"
        f" WHERE i.indexrelid >= {FIRST_OF_USERS} AND r.relkind = 'i' AND r.relpersistence <> 't'"
        f" AND (a.amname <> 'hash' AND {_by_vector('i.indcollation', version, own_is_sensitive)}"
        f" OR a.amname = 'hash' AND {_by_equality('i.indcollation', version)}"
        f" OR a.amname <> 'hash' AND EXISTS (SELECT FROM pg_attribute k WHERE k.attrelid = i.indexrelid"
        f" AND k.atttypid IN ({_types(version, own_is_sensitive)}))"
        f" OR {_by_tree('i.indexprs', version, own_is_sensitive)}"
        f" OR {_by_tree('i.indpred', version, own_is_sensitive)})"
    )


def partitioned_by_text(version: int, own_is_sensitive: bool) -> str:
    """Return the FROM and the WHERE of a query for the tables, ``p``, of which an order says where a row belongs.

    By ranges it is the order itself; by hashes and lists what is equal, which only a nondeterministic collation tells.
    """
    return (
        "FROM pg_partitioned_table p"
        f" WHERE p.partstrat = 'r' AND ({_by_vector('p.partcollation', version, own_is_sensitive)}"
        " OR EXISTS (SELECT FROM pg_attribute k WHERE k.attrelid = p.partrelid AND k.attnum = ANY (p.partattrs)"
        f" AND k.atttypid IN ({_types(version, own_is_sensitive)})))"
        f" OR p.partstrat <> 'r' AND {_by_equality('p.partcollation', version)}"
        f" OR {_by_tree('p.partexprs', version, own_is_sensitive)}"
    )


def _chosen(version: int, own_is_sensitive: bool) -> str:
    own = f"c.oid = {OWN_OID} OR " if own_is_sensitive else ""
    return f"({own}{is_sensitive(version)})"


def _by_vector(vector: str, version: int, own_is_sensitive: bool) -> str:
    """Return the condition that one of a vector of collations orders by a library."""
    return (
        f"EXISTS (SELECT FROM generate_subscripts({vector}, 1) AS at JOIN pg_collation c ON c.oid = ({vector})[at]"
        f" WHERE {_chosen(version, own_is_sensitive)})"
    )


def _by_equality(vector: str, version: int) -> str:
    """Return the condition that a library says what is equal: everywhere else that is a matter of bytes."""
    if version < WITH_NONDETERMINISTIC:
        return "false"
    return (
        f"EXISTS (SELECT FROM generate_subscripts({vector}, 1) AS at JOIN pg_collation c ON c.oid = ({vector})[at]"
        " WHERE NOT c.collisdeterministic)"
    )


def _by_tree(tree: str, version: int, own_is_sensitive: bool) -> str:
    """Return the condition that an expression compares by such a collation, as its node tree names it."""
    return (
        f"EXISTS (SELECT FROM {_named_in(tree)} JOIN pg_collation c ON c.oid::text = one.id"
        f" WHERE {_chosen(version, own_is_sensitive)})"
    )


def _named_in(tree: str) -> str:
    return (
        f"regexp_matches({tree}::text, {NAMED_IN_TREES}, 'g') AS named(found),"
        " unnest(string_to_array(found[1], ' ')) AS one(id)"
    )


def collations_of_ranges_and_trees() -> str:
    """Return a query for the collations that no column names: ranges order by them, and indexes compare by them."""
    tree = "concat(i.indexprs::text, i.indpred::text)"
    return (
        f"SELECT rngcollation FROM pg_range WHERE rngtypid >= {FIRST_OF_USERS}"
        f" UNION SELECT one.id::oid FROM pg_index i, {_named_in(tree)}"
        f" WHERE i.indexrelid >= {FIRST_OF_USERS} AND one.id <> ''"
    )


def _types(version: int, own_is_sensitive: bool) -> str:
    """Return a query for the types that have no collation and hold text all the same, or other such types."""
    jsonb = f" UNION SELECT {JSONB_OID}::oid" if own_is_sensitive else ""
    multiranges = " UNION ALL SELECT rngtypid, rngmultitypid FROM pg_range" if version >= WITH_MULTIRANGES else ""
    chosen = f"IN (SELECT c.oid FROM pg_collation c WHERE {_chosen(version, own_is_sensitive)})"
    return (
        "WITH RECURSIVE held(oid) AS ("
        "SELECT w.reltype FROM pg_attribute m JOIN pg_class w ON w.oid = m.attrelid"
        f" WHERE m.attnum > 0 AND NOT m.attisdropped AND w.reltype <> 0 AND m.attcollation {chosen}"
        f" UNION SELECT rngtypid FROM pg_range WHERE rngcollation {chosen}{jsonb}"
        " UNION SELECT u.whole FROM held JOIN ("
        "SELECT typelem AS part, oid AS whole FROM pg_type WHERE typelem <> 0 AND typlen = -1"
        " UNION ALL SELECT typbasetype, oid FROM pg_type WHERE typtype = 'd'"
        f" UNION ALL SELECT rngsubtype, rngtypid FROM pg_range{multiranges}"
        " UNION ALL SELECT m.atttypid, w.reltype FROM pg_attribute m JOIN pg_class w ON w.oid = m.attrelid"
        " WHERE m.attnum > 0 AND NOT m.attisdropped AND w.reltype <> 0"
        ") u ON u.part = held.oid) SELECT oid FROM held"
    )
