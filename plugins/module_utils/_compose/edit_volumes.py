# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Drop the top-level named volumes that nothing uses any more once a bind mount has taken their place."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.document import Document, Node, parse
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import (
    interpolated,
    is_path,
    split_short,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_masking import mask
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_text import apply, splice, without_pair
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput


def volumes_used(text: str) -> frozenset[str]:
    """The volume names that a compose file's services and fragments may refer to, ``*`` when that cannot be told."""
    return frozenset(_used(parse(text)))


def drop_unused_volumes(text: str, names: Collection[str], kept: Collection[str] = ()) -> str:
    """Drop these volumes' declarations where nothing refers to them; the whole key when none is left."""
    for name in names:
        document = parse(text)
        used = volumes_used(text)
        if name in kept or "*" in kept or name in used or "*" in used:
            continue
        text = _without(document, name) or text
    return text


def _without(document: Document, name: str) -> str | None:
    """The text without this declaration, or ``None`` where it has to stay."""
    top = document.root.pair("volumes")
    declared = document.top_level_volumes()
    pair = declared.pair(name) if declared is not None else None
    if top is None or declared is None or pair is None or document.is_shared(declared):
        return None
    alone = len(list(declared.pairs())) == 1
    dropped = document.text[top[0].start if alone else pair[0].start : document.line_end(pair[1].end)]
    # What is dropped goes into the journal to be brought back; a password among a driver's options must not.
    if any(mask(line) != line for line in dropped.splitlines()):
        return None
    if alone:
        text = _without_section(document, document.root, top)
    else:
        text = apply(document.text, [without_pair(document, declared, *pair)])
    if not document.text.endswith("\n"):
        text = text.rstrip("\r\n")
    try:
        after = parse(text)
    except InvalidInput:
        # An alias elsewhere leans on an anchor in the declaration.
        return None
    return text if _data(document, name) == _data(after, name) else None


def _without_section(document: Document, root: Node, top: tuple[Node, Node]) -> str:
    key, value = top
    if root.flow:
        return apply(document.text, [without_pair(document, root, key, value)])
    # A comment between the key and its only entry goes with them: it would be left hanging in the air.
    start, end = document.line_start(key.start), document.after_line(value.end)
    return _without_one_blank_line(splice(document.text, start, end, ""), start)


def _without_one_blank_line(text: str, at: int) -> str:
    """Where a section stood between two blank lines, or before the end of the file, one blank line goes with it."""
    before, after = text[:at], text[at:]
    lines = before.split("\n")
    if len(lines) >= 2 and not lines[-2].strip() and (not after.strip() or not after.split("\n", 1)[0].strip()):
        before = "\n".join([*lines[:-2], ""])
    return before + after


def _data(document: Document, name: str) -> dict[str, object]:
    data = {key.value: value.data() for key, value in document.root.pairs() if key.value != "volumes"}
    declared = document.top_level_volumes()
    others = {key.value: value.data() for key, value in declared.pairs() if key.value != name} if declared else {}
    return {**data, **({"volumes": others} if others else {})}


def _used(document: Document) -> Iterator[str]:
    for key, value in document.root.pairs():
        if key.value not in ("volumes", "networks", "configs", "secrets"):
            yield from _used_under(value)
        if key.value.startswith("x-"):
            # A fragment's list may be a service's volumes by way of an alias.
            yield from (name for name in _names_in_lists(value) if name != "*")


def _used_under(node: Node) -> Iterator[str]:
    for key, value in node.pairs():
        if key.value == "volumes":
            yield from _names_in_lists(value)
        elif value.kind == "mapping":
            yield from _used_under(value)


def _names_in_lists(node: Node) -> Iterator[str]:
    for child in node.children if node.kind in ("mapping", "sequence") else ():
        if node.kind == "sequence":
            item = child.resolved
            source = item.get("source") if item.kind == "mapping" else item
            yield from _name(source.value) if source is not None else ()
        yield from _names_in_lists(child)


def _name(spec: str) -> Iterator[str]:
    source = split_short(spec)[0]
    if not is_path(source):
        yield "*" if interpolated(source) else source
