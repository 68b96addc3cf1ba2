# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many of a thing a JSON document holds, read in constant memory.

The document is known to be JSON (``json_text``); so strings and brackets are all that has to be told apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_FLAT = rb'[^"{}\[\]]*(?:' + _STRING + rb'[^"{}\[\]]*)*'
_TOKEN = re.compile(_STRING + rb'|[{}\[\],:"]', re.DOTALL)
_DEEP = re.compile(_STRING + rb"|\{" + _FLAT + rb"\}|\[" + _FLAT + rb'\]|[{}\[\],:"]', re.DOTALL)
_UNENDED = b'"'
"""What is left of a string whose end is in the next piece."""
ANY = "*"
_NAMED = "."
"""Before each name, so that one that is an asterisk is not taken for an array."""
Path = tuple[str, ...]


class JsonCounter:
    """Takes a document piece by piece; ``counts`` says how many values stood at each path, ``*`` for any name.

    ``("streams", "*", "items", "*")`` are the elements of the array ``items`` in each member of ``streams``.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self.counts: dict[Path, int] = dict.fromkeys(paths, 0)
        self._paths = {path: tuple(each if each == ANY else _NAMED + each for each in path) for path in self.counts}
        self._deepest = max((len(path) for path in self.counts), default=0)
        self._rest = b""
        # Of each object and array that is open: the name of its member at hand, and whether that has its value.
        self._names: list[str | None] = []
        self._filled: list[bool] = []

    def feed(self, piece: bytes) -> None:
        data = self._rest + piece
        at = 0
        while True:
            # Nothing is counted inside what is this deep: it may be taken at once where it lies in the piece whole.
            found = (_DEEP if len(self._names) >= self._deepest else _TOKEN).search(data, at)
            if found is None:
                self._between(data[at:])
                self._rest = b""
                return
            self._between(data[at : found.start()])
            at = found.start()
            if found.group() == _UNENDED:
                self._rest = data[at:]
                return
            self._take(found.group())
            at = found.end()

    def _between(self, text: bytes) -> None:
        """Note a number or a word between two tokens."""
        if text.strip(b" \t\r\n"):
            self._value()

    def _value(self) -> None:
        """Note that a value stands here; once, however many pieces of it come."""
        depth = len(self._names)
        if not depth or self._filled[-1]:
            return
        self._filled[-1] = True
        if depth > self._deepest:
            return
        for path, names in self._paths.items():
            if len(names) == depth and all(one in (ANY, other) for one, other in zip(names, self._names)):
                self.counts[path] += 1

    def _take(self, token: bytes) -> None:
        if token in (b"{", b"["):
            self._value()
            self._names.append(None if token == b"{" else ANY)
            self._filled.append(False)
        elif token in (b"}", b"]"):
            self._names.pop()
            self._filled.pop()
        elif token == b",":
            self._filled[-1] = False
            self._names[-1] = None if self._names[-1] != ANY else ANY
        elif token[:1] in (b"{", b"["):
            self._value()
        elif token != b":":
            if self._names and self._names[-1] is None:
                self._names[-1] = _NAMED + json.loads(token) if len(self._names) <= self._deepest else ""
            else:
                self._value()


def count(pieces: Iterable[bytes], paths: Sequence[Path]) -> Mapping[Path, int]:
    """Return how many values of a document stand at each of ``paths``."""
    counter = JsonCounter(paths)
    for piece in pieces:
        counter.feed(piece)
    return counter.counts
