# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put a bind mount in the place of an entry that a list already has, in the entry's own form."""

from __future__ import annotations

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.document import Document, Node
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import (
    Mount,
    long_form,
    needs_long_form,
    quoted,
    read_entry,
    short_form,
    written_source,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_service import CannotEditInPlace
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_text import (
    apply,
    flow_item,
    put_value,
    splice,
    without_pair,
)


def with_entry_replaced(document: Document, item: Node, mount: Mount, *, flow: bool) -> str:
    """The text with ``item`` made a bind mount; options that a bind mount has too are kept.

    :param flow: whether the list that holds the item is in flow form.
    """
    entry = read_entry(item)
    options = entry.options if entry is not None else ()
    if item.kind == "mapping":
        return _with_long_entry(document, item, mount, long_form(mount, options, '"' if item.flow else None))
    if flow:
        new = flow_item(mount, item.style, options)
    elif needs_long_form(mount):
        inner = document.eol + " " * document.column(item.start)
        new = inner.join(f"{key}: {value}" for key, value in long_form(mount, options).items())
    else:
        new = quoted(short_form(mount, options), item.style)
    return splice(document.text, item.start, item.end, new)


def _with_long_entry(document: Document, item: Node, mount: Mount, wanted: dict[str, str]) -> str:
    """Change type and source where they stand; what only a volume or a tmpfs has goes."""
    unwanted = [pair for pair in item.pairs() if pair[0].value in ("volume", "tmpfs")]
    changes = [without_pair(document, item, *pair) for pair in unwanted]
    plain = {"type": "bind", "source": written_source(mount.source), "read_only": "true"}
    if mount.replaces:
        plain["target"] = wanted["target"]
    missing = []
    for key in (key for key in plain if key in wanted):
        value = item.get(key)
        if value is None:
            missing.append(key)
        elif value.kind != "scalar" or value.anchor is not None or value.tag is not None:
            raise CannotEditInPlace(f"line {document.line(value.start)}: '{key}' of this entry is an anchor's")
        elif value.value != plain[key]:
            new = "true" if key == "read_only" else quoted(plain[key], value.style or ('"' if item.flow else None))
            changes.append(put_value(document, value, new))
    if missing:
        first_key, first_value = next(pair for pair in item.pairs() if pair not in unwanted)
        if item.flow:
            quote = '"' if first_key.style == '"' else ""
            added = "".join(f", {quote}{key}{quote}: {wanted[key]}" for key in missing)
            changes.append((first_value.end, first_value.end, added))
        else:
            indent = " " * document.column(first_key.start)
            added = "".join(f"{document.eol}{indent}{key}: {wanted[key]}" for key in missing)
            at = _content_line_end(document, first_value.end)
            changes.append((at, at, added))
    return apply(document.text, changes)


def _content_line_end(document: Document, offset: int) -> int:
    """The end of the line that holds ``offset``, before its line end."""
    end = document.text.find("\n", offset)
    end = len(document.text) if end < 0 else end
    return end - 1 if document.text[end - 1 : end] == "\r" else end
