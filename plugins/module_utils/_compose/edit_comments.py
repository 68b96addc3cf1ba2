# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commented mounts that an admin was meant to uncomment, as stock Mastodon files had them.

The hash may stand in column 0 with the indentation behind it, or behind the
indentation; the columns of the commented text among themselves tell its shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.document import Document, Node, parse
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import (
    Entry,
    read_entry,
    same_target,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput

_COMMENT = re.compile(r"(?P<head>[ \t]*)#(?P<space>[ \t]*)(?P<content>[^#\s].*)$")
_HEADER = re.compile(r"volumes:\s*(#.*)?$")
_KEY = re.compile(r"[\w.\"'-]+:(\s|$)")


@dataclass(frozen=True)
class _Comment:
    number: int
    hash_column: int
    column: int
    """Where the commented text begins."""
    content: str


def without_comment(
    document: Document, service: tuple[Node, Node], target: str, *, column: int, header: bool
) -> Iterator[str]:
    """Texts in which a commented entry for ``target`` is active.

    With ``header`` the commented ``volumes:`` line is uncommented too and put
    into ``column``; without it, ``column`` is where the dash belongs.
    """
    lines = document.text.split("\n")
    first, last = service_lines(document, service)
    for block in _blocks(lines, first, last):
        for index, comment in enumerate(block):
            item = _item(block, index)
            entry = _entry(item)
            if entry is None or not same_target(entry, target):
                continue
            above = _header(block[:index], comment.column)
            if header and above is None:
                continue
            if header and above is not None:
                shift = column - above.column
                chosen: Sequence[_Comment] = (above, *item)
            else:
                shift = column - comment.column
                chosen = item
            yield _uncommented(lines, chosen, shift)


def commented_entries(document: Document, service: tuple[Node, Node]) -> Iterator[Entry]:
    """What the comments of a service would mount if they were none."""
    first, last = service_lines(document, service)
    for block in _blocks(document.text.split("\n"), first, last):
        for index in range(len(block)):
            entry = _entry(_item(block, index))
            if entry is not None:
                yield entry


def service_lines(document: Document, service: tuple[Node, Node]) -> tuple[int, int]:
    """The lines (from 0, end exclusive) from a service's key to whatever key comes next."""
    start = service[0].start
    later = [key.start for key, unused in (*document.services().pairs(), *document.root.pairs()) if key.start > start]
    end = document.line(min(later)) - 1 if later else document.text.count("\n") + 1
    return document.line(start) - 1, end


def _blocks(lines: Sequence[str], first: int, last: int) -> Iterator[list[_Comment]]:
    """Comment lines between two lines that are active, those with their hashes in one column together."""
    block: list[_Comment] = []
    for number in range(first, last):
        line = lines[number].rstrip("\r")
        found = _COMMENT.match(line)
        if found is None and line.strip() and not line.lstrip().startswith("#"):
            yield block
            block = []
        if found is not None:
            hash_column = found.start("space") - 1
            if block and block[0].hash_column != hash_column:
                yield block
                block = []
            block.append(_Comment(number, hash_column, found.start("content"), found["content"]))
    yield block


def _item(block: Sequence[_Comment], index: int) -> list[_Comment]:
    """A commented list item: the line of its dash and the deeper ones behind it."""
    first = block[index]
    if not first.content.startswith("- "):
        return []
    item = [first]
    for comment in block[index + 1 :]:
        if comment.number != item[-1].number + 1 or comment.column <= first.column:
            break
        item.append(comment)
    return item


def _entry(item: Sequence[_Comment]) -> Entry | None:
    if not item:
        return None
    left = item[0].column
    body = "\n".join(" " * (comment.column - left) + comment.content for comment in item)
    try:
        sequence = parse("volumes:\n" + body).root.get("volumes")
    except InvalidInput:
        return None
    if sequence is None or len(sequence.children) != 1:
        return None
    return read_entry(sequence.children[0])


def _header(above: Sequence[_Comment], dash_column: int) -> _Comment | None:
    """The commented ``volumes:`` over an item, unless it belongs to a service that is commented out as a whole."""
    header: _Comment | None = None
    for comment in reversed(above):
        if header is not None:
            if comment.column < header.column and _KEY.match(comment.content):
                return None
        elif comment.column < dash_column or (comment.column == dash_column and not comment.content.startswith("- ")):
            if not _HEADER.match(comment.content):
                return None
            header = comment
    return header


def _uncommented(lines: Sequence[str], comments: Sequence[_Comment], shift: int) -> str:
    result = list(lines)
    for comment in comments:
        carriage_return = "\r" * result[comment.number].endswith("\r")
        result[comment.number] = " " * max(comment.column + shift, 0) + comment.content + carriage_return
    return "\n".join(result)
