# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hands of the edit: put text, lines and list items into a document in the file's own style."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.document import Document, Node
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import (
    Mount,
    long_form,
    needs_long_form,
    quoted,
    short_form,
)


@dataclass(frozen=True)
class ListStyle:
    """How a file writes the items of a list: ``offset`` columns behind the key, ``gap`` behind the dash."""

    offset: int
    gap: str = " "
    quote: str | None = None
    long: bool = False


def splice(text: str, start: int, end: int, new: str) -> str:
    return text[:start] + new + text[end:]


def insert_lines(document: Document, content_end: int, lines: Sequence[str]) -> str:
    """Insert whole lines behind the line on which content ends; a file without a final newline keeps to that."""
    at = document.after_line(content_end)
    block = document.eol.join(lines)
    if at and document.text[at - 1] != "\n":
        return splice(document.text, at, at, document.eol + block)
    return splice(document.text, at, at, block + document.eol)


def put_value(document: Document, node: Node, value: str) -> tuple[int, int, str]:
    """The splice that gives a key another scalar value, also where none was."""
    return (node.start, node.end, value if node.end > node.start else " " + value)


def apply(text: str, splices: Sequence[tuple[int, int, str]]) -> str:
    for start, end, new in sorted(splices, key=lambda each: each[:2], reverse=True):
        text = splice(text, start, end, new)
    return text


def dash_of(document: Document, item: Node) -> int | None:
    """Where the dash of a block list's item stands, or ``None`` when a comment stands between."""
    before = document.text[: item.start].rstrip()
    at = len(before) - 1
    start = document.line_start(at)
    return at if before.endswith("-") and not document.text[start:at].strip(" \ufeff") else None


def item_style(document: Document, mapping_key: Node, sequence: Node) -> ListStyle | None:
    """The style of one block list."""
    if sequence.kind != "sequence" or sequence.flow or not sequence.children:
        return None
    last = sequence.children[-1]
    dash = dash_of(document, last)
    if dash is None:
        return None
    gap = document.text[dash + 1 : last.start]
    return ListStyle(
        offset=document.column(dash) - document.column(mapping_key.start),
        gap=gap if gap and not gap.strip(" ") else " ",
        quote=last.style if last.kind == "scalar" and last.style in ("'", '"') else None,
        long=last.kind == "mapping",
    )


def volumes_style(document: Document, service: Node) -> ListStyle:
    """How a new ``volumes`` list is written here: as other services write theirs, else as other lists, else as keys."""
    neighbours = [value for unused, value in document.services().pairs() if value.kind == "mapping"]
    pairs = [pair for mapping in neighbours for pair in [mapping.pair("volumes")] if pair is not None]
    for key, value in pairs:
        style = item_style(document, key, value)
        if style is not None:
            return ListStyle(style.offset, style.gap, style.quote)
    for key, value in [*service.pairs(), *_all_pairs(document.root)]:
        style = item_style(document, key, value)
        if style is not None:
            return ListStyle(style.offset, style.gap)
    step = document.column(service.children[0].start) - document.column(document.services().children[0].start)
    return ListStyle(max(step, 2))


def _all_pairs(node: Node) -> Iterator[tuple[Node, Node]]:
    yield from node.pairs()
    for child in node.children if node.kind in ("mapping", "sequence") else ():
        yield from _all_pairs(child)


def item_lines(mount: Mount, column: int, style: ListStyle) -> list[str]:
    """The lines of one item of a block list whose dash stands in ``column``."""
    indent = " " * column
    if not style.long and not needs_long_form(mount):
        return [f"{indent}-{style.gap}{quoted(short_form(mount), style.quote)}"]
    inner = " " * (column + 1 + len(style.gap))
    pairs = [f"{key}: {value}" for key, value in long_form(mount).items()]
    return [f"{indent}-{style.gap}{pairs[0]}", *(inner + pair for pair in pairs[1:])]


def flow_item(mount: Mount, like: str | None, options: Sequence[str] = (), *, long: bool = False) -> str:
    """One item of a flow list. Always quoted: plain scalars have other rules in there."""
    if not long and not needs_long_form(mount):
        return quoted(short_form(mount, options), like if like in ("'", '"') else '"')
    return "{" + ", ".join(f'"{key}": {value}' for key, value in long_form(mount, options, like='"').items()) + "}"


def without_pair(document: Document, mapping: Node, key: Node, value: Node) -> tuple[int, int, str]:
    """The splice that takes one pair out of a mapping: its lines in block form, itself and one comma in flow form."""
    pairs = list(mapping.pairs())
    index = next(number for number, pair in enumerate(pairs) if pair[0].start == key.start)
    following = pairs[index + 1][0].start if index + 1 < len(pairs) else None
    if not mapping.flow:
        start = document.line_start(key.start)
        if document.text[start : key.start].strip() and following is not None:
            # Something else begins on this line, such as the dash of a list's item.
            return (key.start, following, "")
        return (start, document.after_line(value.end), "")
    if following is not None:
        return (key.start, following, "")
    return (pairs[index - 1][1].end if index else key.start, value.end, "")
