# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SQL text taken apart, as far as a migration has to be known before it runs.

The server cannot be asked: by the time that it reads a ``COMMIT`` in the middle of a
file, what stood before it is committed. So statements are found here, with the
quoting rules of https://www.postgresql.org/docs/current/sql-syntax-lexical.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# Runs are taken whole: a group that repeats for each character costs some 200 bytes of memory for every one of them.
_TOKEN = re.compile(
    r"""
    (?P<line>--[^\n\r]*)
  | (?P<block>/\*)
  # What stands on the next line goes on with the same rules: E'…' of two lines.
  | (?P<escape>\b[eE]'[^'\\]*(?:(?:\\.|''|'[^\S\n]*\n\s*')[^'\\]*)*(?:'|\Z))
  | (?P<text>'[^']*(?:''[^']*)*(?:'|\Z))
  | (?P<name>"[^"]*(?:""[^"]*)*(?:"|\Z))
  | (?P<dollar>(?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$)
  # Outside of quotes no SQL has a backslash; to psql it begins a command, also behind a statement: SELECT … \gexec.
  | (?P<meta>\\[^\n]*)
  | (?P<blank>\s+)
  | (?P<word>[^\W\d][\w$]*)
  | (?P<end>;)
  | (?P<other>[\d.,=<>]+|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_NOTHING = ("line", "block", "blank")
TRANSACTION_CONTROL = (
    *("BEGIN", "START TRANSACTION", "COMMIT", "END", "ROLLBACK", "ABORT"),
    *("PREPARE TRANSACTION", "COMMIT PREPARED", "ROLLBACK PREPARED"),
)
"""Statements by which a file would end, or leave, the transaction that it is run in."""


class Statement(str):
    """The text of one statement, without its semicolon; ``words`` are its keywords, in capitals, from the first on."""

    words: tuple[str, ...]

    @property
    def is_transaction_control(self) -> bool:
        """Tell whether it would end the transaction around it. ``ROLLBACK TO`` a savepoint does not."""
        if self.words[:1] == ("ROLLBACK",) and "TO" in self.words[1:3]:
            return False
        return any(self.words[: len(control.split())] == tuple(control.split()) for control in TRANSACTION_CONTROL)

    @property
    def reads_input(self) -> bool:
        """Tell whether it waits for data from the client."""
        return self.words[:1] == ("COPY",) and "STDIN" in self.words

    @property
    def is_meta_command(self) -> bool:
        return self.startswith("\\")


def split(text: str) -> list[Statement]:
    """Return the statements of a file in order; comments alone are none. Meta-commands of psql are told apart."""
    found: list[Statement] = []
    piece: list[str] = []
    words: list[str] = []
    begun = False
    atomic = parentheses = 0
    for kind, token in _tokens(text):
        if kind == "meta" or (kind == "end" and not atomic and not parentheses):
            if begun:
                found.append(_statement("".join(piece), words))
            if kind == "meta":
                found.append(_statement(token, []))
            piece, words, begun, atomic, parentheses = [], [], False, 0, 0
            continue
        if kind == "word":
            words.append(token.upper())
            atomic = _depth(words, atomic)
        elif token in ("(", ")"):
            # Semicolons end nothing in them: CREATE RULE … DO (…; …).
            parentheses = parentheses + 1 if token == "(" else max(parentheses - 1, 0)
        begun = begun or kind not in _NOTHING
        piece.append(token)
    if begun:
        found.append(_statement("".join(piece), words))
    return found


def _statement(text: str, words: list[str]) -> Statement:
    made = Statement(text.strip())
    made.words = tuple(words)
    return made


def _depth(words: list[str], depth: int) -> int:
    """Follow ``BEGIN ATOMIC … END`` of a function's body, from 14 on, in which semicolons end nothing."""
    if words[0] != "CREATE":
        return 0
    if words[-2:] == ["BEGIN", "ATOMIC"]:
        return 1
    if depth and words[-1] == "CASE":
        return depth + 1
    return depth - 1 if depth and words[-1] == "END" else depth


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    # Its last branch takes any character, so that it ends where the text does.
    while (match := _TOKEN.match(text, at)) is not None:
        kind, end = match.lastgroup or "", match.end()
        if kind == "tag":
            kind = "dollar"
        if kind == "block":
            end = _end_of_comment(text, at)
        elif kind == "dollar":
            closing = text.find(match.group("dollar"), end)
            end = len(text) if closing < 0 else closing + len(match.group("dollar"))
        yield kind, text[at:end]
        at = end


def _end_of_comment(text: str, at: int) -> int:
    """Return where a block comment ends; they nest."""
    depth = 0
    for mark in re.compile(r"/\*|\*/").finditer(text, at):
        depth += 1 if mark.group() == "/*" else -1
        if not depth:
            return mark.end()
    return len(text)
