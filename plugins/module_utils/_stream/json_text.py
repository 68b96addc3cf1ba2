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
_STRING = rb'"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*"'
_SCALAR = rb"(?:-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null)(?![-+.0-9A-Za-z])"
# A token that lies in the piece whole; what does not match it is looked at byte by byte.
_WHOLE = re.compile(rb"[ \t\r\n]*(?:(" + _STRING + rb")|([{\[])|([}\]])|(:)|(,)|(" + _SCALAR + rb"))")
# As many members of an object, or elements of an array, as follow each other without anything nested in them.
_PLAIN = rb"[ \t\r\n]*(?:" + _STRING + rb"|" + _SCALAR + rb")[ \t\r\n]*,"
_MEMBERS = re.compile(rb"(?:[ \t\r\n]*" + _STRING + rb"[ \t\r\n]*:" + _PLAIN + rb")+")
_ELEMENTS = re.compile(rb"(?:" + _PLAIN + rb")+")
_OBJECT = ord("{")
_ARRAY = ord("[")
STRING, OPEN, CLOSE, A_COLON, COMMA, SCALAR = range(1, 7)
_ESCAPED = b'"\\/bfnrt'
_HEX = b"0123456789abcdefABCDEF"
_WORDS = (b"true", b"false", b"null")
LONGEST_WORD = 1 << 16
"""A number may have any length; one that is longer is none that anybody means."""

# What may come next.
VALUE, FIRST_VALUE, FIRST_KEY, KEY, COLON, AFTER, END = range(7)
_CLOSING = {b"{": b"}", b"[": b"]"}
_CLOSABLE = {b"{": (FIRST_KEY, AFTER), b"[": (FIRST_VALUE, AFTER), b"": ()}
# By a token and what it stands in: what may come next, and what may follow in a run.
_NEXT = {
    (OPEN, _OBJECT): (FIRST_KEY, _MEMBERS),
    (OPEN, _ARRAY): (FIRST_VALUE, _ELEMENTS),
    (COMMA, _OBJECT): (KEY, _MEMBERS),
    (COMMA, _ARRAY): (VALUE, _ELEMENTS),
}


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
                at = self._token(piece, self._tokens(piece, at))
        self._offset += len(piece)

    def close(self) -> None:
        if self._word:
            self._ended()
        if self._in_string or self._expected != END:
            raise NoJson(f"it ends in the middle, after {self._offset} bytes")

    def _tokens(self, piece: bytes, at: int) -> int:
        """Take tokens as long as they are whole and in their place; return where that ends."""
        inside, expected, match = self._inside, self._expected, _WHOLE.match
        while (found := match(piece, at)) is not None:
            kind, ends = found.lastindex, found.end()
            if ends == len(piece):
                break  # the next piece may go on with it
            if kind == STRING and expected in (FIRST_KEY, KEY):
                expected = COLON
            elif kind in (STRING, SCALAR) and expected in (VALUE, FIRST_VALUE):
                expected = AFTER if inside else END
            elif kind == A_COLON and expected == COLON:
                expected = VALUE
            elif (
                kind == CLOSE
                and expected in _CLOSABLE[bytes(inside[-1:])]
                and found[CLOSE] == _CLOSING[bytes(inside[-1:])]
            ):
                del inside[-1:]
                expected = AFTER if inside else END
            elif (kind == COMMA and expected == AFTER) or (kind == OPEN and expected in (VALUE, FIRST_VALUE)):
                if kind == OPEN:
                    inside += found[OPEN]
                expected, run = _NEXT[kind, inside[-1]]
                plain = run.match(piece, ends)
                if plain:
                    expected, ends = _NEXT[COMMA, inside[-1]][0], plain.end()
            else:
                break
            at = ends
        self._expected = expected
        return at

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
