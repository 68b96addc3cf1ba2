# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tell whether a text that comes in pieces is one JSON document, in constant memory.

https://www.rfc-editor.org/rfc/rfc8259. What json.loads() would build of a dump of some gigabytes, no host has room for.
"""

from __future__ import annotations

import re

_BLANK = b" \t\r\n"
_PLAIN_PART_OF_A_STRING = re.compile(rb'[^"\\\x00-\x1f]*')
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORD = re.compile(rb"[-+.0-9A-Za-z]+")
_ESCAPED = b'"\\/bfnrt'
_HEX = b"0123456789abcdefABCDEF"
_WORDS = (b"true", b"false", b"null")
LONGEST_WORD = 1 << 16
"""A number may have any length; one that is longer is none that anybody means."""

# What may come next.
VALUE, FIRST_VALUE, FIRST_KEY, KEY, COLON, AFTER, END = range(7)


class NoJson(ValueError):
    """The text is no JSON; the message says where."""


class JsonText:
    """Takes a text piece by piece (:meth:`feed`) to its end (:meth:`close`); either raises :class:`NoJson`."""

    def __init__(self) -> None:
        self._inside = bytearray()
        self._expected = VALUE
        self._in_string = False
        self._escape = b""
        self._word = b""
        self._offset = 0

    def feed(self, piece: bytes) -> None:
        at = 0
        while at < len(piece):
            if self._in_string:
                at = self._string(piece, at)
            elif self._word:
                at = self._continued(piece, at)
            else:
                at = self._token(piece, at)
        self._offset += len(piece)

    def close(self) -> None:
        if self._word:
            self._ended()
        if self._in_string or self._expected != END:
            raise NoJson(f"it ends in the middle, after {self._offset} bytes")

    def _token(self, piece: bytes, at: int) -> int:
        char = piece[at : at + 1]
        if char in _BLANK:
            return at + 1
        expected = self._expected
        if char == b'"' and expected in (VALUE, FIRST_VALUE, FIRST_KEY, KEY):
            self._in_string = True
            return at + 1
        if char in b"{[" and expected in (VALUE, FIRST_VALUE):
            self._inside += char
            self._expected = FIRST_KEY if char == b"{" else FIRST_VALUE
            return at + 1
        if char == b"}" and expected in (FIRST_KEY, AFTER) and self._inside.endswith(b"{"):
            return self._closed(at)
        if char == b"]" and expected in (FIRST_VALUE, AFTER) and self._inside.endswith(b"["):
            return self._closed(at)
        if char == b":" and expected == COLON:
            self._expected = VALUE
            return at + 1
        if char == b"," and expected == AFTER:
            self._expected = KEY if self._inside.endswith(b"{") else VALUE
            return at + 1
        if expected in (VALUE, FIRST_VALUE) and _WORD.match(char):
            return self._continued(piece, at)
        raise self._wrong(piece, at)

    def _continued(self, piece: bytes, at: int) -> int:
        """Take what belongs to a number or a word; where the piece ends with it, more may follow."""
        found = _WORD.match(piece, at)
        if found:
            self._word += found.group()
            at = found.end()
            if len(self._word) > LONGEST_WORD:
                raise self._wrong(piece, at)
        if at < len(piece):
            self._ended()
        return at

    def _ended(self) -> None:
        if self._word not in _WORDS and not _NUMBER.fullmatch(self._word):
            shown = self._word[:40].decode("ascii", "replace")
            raise NoJson(f"{shown!r} is no value (before byte {self._offset})")
        self._word = b""
        self._valued()

    def _string(self, piece: bytes, at: int) -> int:
        if self._escape:
            return self._escaped(piece, at)
        found = _PLAIN_PART_OF_A_STRING.match(piece, at)
        at = found.end() if found else at
        if at == len(piece):
            return at
        char = piece[at : at + 1]
        if char == b"\\":
            self._escape = char
        elif char == b'"':
            self._in_string = False
            if self._expected in (FIRST_KEY, KEY):
                self._expected = COLON
            else:
                self._valued()
        else:
            raise self._wrong(piece, at)
        return at + 1

    def _escaped(self, piece: bytes, at: int) -> int:
        char = piece[at : at + 1]
        if self._escape == b"\\":
            if char == b"u":
                self._escape += char
            elif char in _ESCAPED:
                self._escape = b""
            else:
                raise self._wrong(piece, at)
        elif char in _HEX:
            self._escape = self._escape + char if len(self._escape) < 5 else b""
        else:
            raise self._wrong(piece, at)
        return at + 1

    def _closed(self, at: int) -> int:
        del self._inside[-1:]
        self._valued()
        return at + 1

    def _valued(self) -> None:
        self._expected = AFTER if self._inside else END

    def _wrong(self, piece: bytes, at: int) -> NoJson:
        shown = piece[at : at + 20].decode("utf-8", "replace")
        return NoJson(f"{shown!r} at byte {self._offset + at} does not belong there")
