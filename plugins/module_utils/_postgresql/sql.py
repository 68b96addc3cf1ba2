# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SQL as text: values, identifiers, and results that any client can hand over.

The same statement must work through a driver and through ``psql``, so values are
bound here, and a query answers with one JSON text that both decode alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Union

Value = Union[str, int, bool, None]


def literal(value: Value) -> str:
    """Return ``value`` as an SQL literal that holds under any ``standard_conforming_strings``."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if "\0" in value:
        raise ValueError("a text value cannot hold a NUL character")
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    # A backslash in a plain literal means what a setting says; in E'' it is always an escape.
    return f" E'{escaped}'" if "\\" in value else f"'{escaped}'"


def identifier(name: str) -> str:
    """Return ``name`` quoted, as it stands in the catalog."""
    if not name or "\0" in name:
        raise ValueError(f"not an identifier: {name!r}")
    return '"' + name.replace('"', '""') + '"'


def split_list(value: str) -> list[str]:
    """Return the parts of a list as the catalog holds it: ``"$user", public``."""
    parts: list[str] = []
    part, quoted, index = "", False, 0
    while index < len(value):
        char = value[index]
        if char == '"' and quoted and value[index + 1 : index + 2] == '"':
            part, index = part + '"', index + 1
        elif char == '"':
            quoted = not quoted
        elif char == "," and not quoted:
            parts, part = [*parts, part], ""
        elif quoted or not char.isspace():
            part += char
        index += 1
    return [*parts, part] if value.strip() else []


def bind(sql: str, params: Sequence[Value]) -> str:
    """Put ``params`` in the place of each ``%s``; ``%%`` is a percent sign, as it is for the driver."""
    if not params:
        return sql
    pieces = sql.replace("%%", "\0").split("%s")
    if len(pieces) != len(params) + 1:
        raise ValueError(f"{len(pieces) - 1} placeholders, {len(params)} values")
    bound = pieces[0].replace("\0", "%")
    for value, piece in zip(params, pieces[1:]):
        bound += literal(value) + piece.replace("\0", "%")
    return bound


def as_json(query: str) -> str:
    """Wrap a query so that its whole answer is one text value; see :func:`from_json`."""
    shown = re.fullmatch(r"\s*SHOW\s+([\w.]+)\s*;?\s*", query, re.IGNORECASE)
    if shown:  # no subquery can hold it
        query = f"SELECT current_setting({literal(shown.group(1))})"
    # The line break ends a trailing comment of the query.
    plain = query.rstrip("; \n\t")
    return f"SELECT coalesce(json_agg(answer), '[]')::text FROM (\n{plain}\n) AS answer"


def from_json(text: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query that went through :func:`as_json`.

    Numbers, booleans, NULL and text keep their kind; all other types arrive as
    PostgreSQL prints them. Columns may share a name.
    """
    rows = json.loads(text, object_pairs_hook=lambda pairs: tuple(value for _name, value in pairs), parse_float=Decimal)
    return list(rows)
