# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A compose file as a tree of nodes that know where in the text they stand.

PyYAML's own node tree resolves aliases and so loses their places. This one is
built from the parser's events: an alias stays a node of its own, and ``end``
is the end of the content, never of the comments and blank lines behind it.
All positions are offsets of characters in the text as given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError

try:
    import yaml

    YAML_IMPORT_ERROR: ImportError | None = None
except ImportError as missing:  # pragma: no cover - told by parse()
    YAML_IMPORT_ERROR = missing

NULLS = frozenset(("", "~", "null", "Null", "NULL"))

# PyYAML takes no tab between tokens, compose does: behind content and before a
# comment a space says the same, and every offset stays.
_TAB = re.compile(r"(?<=[^\s])[ \t]*\t[ \t]*|^[ \t]*\t[ \t]*(?=#|\r?$)", re.MULTILINE)


@dataclass(frozen=True)
class Node:
    """``kind`` is scalar, sequence, mapping or alias.

    ``children`` are a sequence's items, a mapping's keys and values in turn,
    or the one node that an alias stands for. ``style`` is a scalar's quote or
    block indicator. ``start`` includes an anchor and a tag.
    """

    kind: str
    start: int
    end: int
    value: str = ""
    style: str | None = None
    flow: bool = False
    anchor: str | None = None
    tag: str | None = None
    children: tuple[Node, ...] = ()

    @property
    def is_null(self) -> bool:
        return self.kind == "scalar" and self.style is None and self.tag is None and self.value in NULLS

    @property
    def resolved(self) -> Node:
        return self.children[0] if self.kind == "alias" else self

    def pairs(self) -> Iterator[tuple[Node, Node]]:
        children = iter(self.children if self.kind == "mapping" else ())
        return zip(children, children)

    def pair(self, key: str) -> tuple[Node, Node] | None:
        return next(((k, v) for k, v in self.pairs() if k.kind == "scalar" and k.value == key), None)

    def get(self, key: str) -> Node | None:
        found = self.pair(key)
        return found[1] if found else None

    def names(self) -> list[str]:
        return [key.value for key, _unused in self.pairs()]

    def data(self) -> Any:
        """Everything that the text means, and nothing about where it stands. Aliases are not followed."""
        if self.kind == "mapping":
            return ("mapping", self.tag, self.anchor, {k.value: v.data() for k, v in self.pairs()})
        if self.kind == "sequence":
            return ("sequence", self.tag, self.anchor, [item.data() for item in self.children])
        return (self.kind, self.tag, self.anchor, self.style is None, self.value)


@dataclass(frozen=True)
class Document:
    text: str
    root: Node
    aliased: frozenset[int]
    """The ``start`` of every node that an alias elsewhere refers to."""

    @property
    def eol(self) -> str:
        """The line end that most lines have."""
        crlf = self.text.count("\r\n")
        return "\r\n" if crlf * 2 > self.text.count("\n") else "\n"

    def line(self, offset: int) -> int:
        return self.text.count("\n", 0, offset) + 1

    def line_start(self, offset: int) -> int:
        """Where the line that holds ``offset`` begins, behind a byte order mark."""
        start = self.text.rfind("\n", 0, offset) + 1
        return start + self.text.startswith("\ufeff", start)

    def line_end(self, offset: int) -> int:
        """The offset behind the line end of the line that holds ``offset``."""
        found = self.text.find("\n", offset)
        return len(self.text) if found < 0 else found + 1

    def after_line(self, offset: int) -> int:
        """Where a line can be inserted behind content that ends at ``offset``."""
        return offset if offset and self.text[offset - 1] == "\n" else self.line_end(offset)

    def column(self, offset: int) -> int:
        return offset - self.line_start(offset)

    def is_shared(self, node: Node) -> bool:
        return node.start in self.aliased

    def services(self) -> Node:
        services = self.root.get("services")
        if services is None:
            raise InvalidInput(
                "the file has no 'services:' key (the format from before 2016, without it, cannot be edited)"
                if self.root.children and self.root.get("include") is None
                else "the file declares no services of its own"
            )
        if services.kind != "mapping":
            raise InvalidInput(f"line {self.line(services.start)}: 'services' is not a mapping in this file")
        return services

    def top_level_volumes(self) -> Node | None:
        volumes = self.root.get("volumes")
        return volumes if volumes is not None and volumes.kind == "mapping" else None


def has_content(text: str) -> bool:
    """Whether there is anything but comments and blank lines."""
    lines = (line.strip() for line in text.lstrip("\ufeff").splitlines())
    return any(line and not line.startswith("#") and line != "---" for line in lines)


# An edit asks for the same few texts again and again, and PyYAML needs a tenth of
# a second for a large one.
@lru_cache(maxsize=16)
def parse(text: str) -> Document:
    """Parse one compose file.

    :raises InvalidInput: with the line, for a text that compose could not read
        either, or that cannot be edited without guessing: several documents,
        keys given twice, bare carriage returns.
    """
    if YAML_IMPORT_ERROR is not None:
        raise StatefulError(
            "the Python library PyYAML is missing on this host; it tells where things stand in a compose file",
            next_command="install it (Debian: apt-get install python3-yaml), "
            "or run the role selfhost.stateful.host_requirements, then run the same task again",
        )
    bare = text.replace("\r\n", "\n\n").find("\r")
    if bare >= 0:
        line = text.count("\n", 0, bare) + 1
        raise InvalidInput(f"line {line}: a carriage return without a line feed, which tools read in different ways")
    events = yaml.parse(_TAB.sub(lambda found: " " * len(found.group()), text), Loader=yaml.SafeLoader)
    try:
        builder = _Builder(text, events)
        root = builder.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise InvalidInput(f"{where}not valid YAML: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InvalidInput(f"line {line}: not valid YAML: {error.reason}") from error
    except RecursionError as error:
        raise InvalidInput("the file is nested too deeply") from error
    document = Document(text, root, frozenset(builder.aliased))
    if root.kind != "mapping":
        raise InvalidInput("the file is empty or not a mapping, so it is no compose file")
    _refuse_duplicates(document, root)
    return document


def _refuse_duplicates(document: Document, mapping: Node) -> None:
    """Compose v2 refuses a key given twice anywhere, v1 takes the last: an edit could land in the wrong one."""
    stack = [mapping]
    while stack:
        node = stack.pop()
        seen: dict[str, Node] = {}
        for key, _unused in node.pairs():
            if key.value in seen and key.value != "<<":
                first = document.line(seen[key.value].start)
                raise InvalidInput(
                    f"line {document.line(key.start)}: the key '{key.value}' is given twice (first in line {first})"
                )
            seen[key.value] = key
        if node.kind != "alias":
            stack.extend(node.children)


def _index(event: Any) -> int:
    return int(event.start_mark.index)


class _Builder:
    """The event stream of one document, read from front to back."""

    def __init__(self, text: str, events: Iterator[Any]) -> None:
        self._text = text
        self._events = events
        self._anchors: dict[str, Node] = {}
        self.aliased: set[int] = set()

    def document(self) -> Node:
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    line = self._text.count("\n", 0, _index(event)) + 1
                    raise InvalidInput(f"line {line}: a second YAML document begins here; one per file can be edited")
                root = self._node(next(self._events))
        return root or Node("scalar", 0, 0)

    def _node(self, event: Any) -> Node:
        start, end = _index(event), int(event.end_mark.index)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                line = self._text.count("\n", 0, start) + 1
                raise InvalidInput(f"line {line}: the alias '*{event.anchor}' has no anchor before it")
            target = self._anchors[event.anchor]
            self.aliased.add(target.start)
            return Node("alias", start, end, value=event.anchor, children=(target,))
        if isinstance(event, yaml.ScalarEvent):
            if event.style in ("|", ">"):
                end = self._block_scalar_end(start, end)
            tag = event.tag if event.tag and not any(event.implicit) else None
            node = Node("scalar", start, end, event.value, event.style, anchor=event.anchor, tag=tag)
        else:
            node = self._collection(event, start)
        if node.anchor is not None:
            self._anchors[node.anchor] = node
        return node

    def _collection(self, event: Any, start: int) -> Node:
        closing = yaml.MappingEndEvent if isinstance(event, yaml.MappingStartEvent) else yaml.SequenceEndEvent
        children = []
        for inner in self._events:
            if isinstance(inner, closing):
                break
            children.append(self._node(inner))
        flow = bool(event.flow_style)
        end = inner.end_mark.index if flow or not children else children[-1].end
        kind = "mapping" if closing is yaml.MappingEndEvent else "sequence"
        return Node(
            kind,
            start,
            end,
            flow=flow,
            anchor=event.anchor,
            tag=None if event.implicit else event.tag,
            children=tuple(children),
        )

    def _block_scalar_end(self, start: int, end: int) -> int:
        """The parser's end of ``|`` and ``>`` lies behind trailing blank lines, which belong to it only with ``+``."""
        body = self._text[start:end]
        header = body.split("\n", 1)[0].split("#", 1)[0]
        return end if "+" in header else start + len(body.rstrip())
