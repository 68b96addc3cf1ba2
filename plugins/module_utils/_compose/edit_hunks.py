# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an edit changed, kept so that it can be taken back in a file that was edited since."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.document import has_content, parse
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_masking import mask
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_service import CannotEditInPlace

CONTEXT = 3
_EDGE = "(edge of the file)"


@dataclass(frozen=True)
class Hunk:
    """Lines that an edit put in the place of others.

    Lines carry no line end, so that a file whose line ends were converted since
    still matches. The context is masked: a hunk goes into a journal, where no
    password belongs, and the lines around a mount often hold one.
    """

    line: int
    """Where ``after`` begins in the edited text, counted from 1."""
    before: tuple[str, ...]
    after: tuple[str, ...]
    context_before: tuple[str, ...]
    context_after: tuple[str, ...]
    place: tuple[str, ...]
    """``("services", NAME)``, ``("volumes",)``, or empty for the file as a whole."""

    def as_dict(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Hunk:
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
        }
        return cls(**values)


@dataclass(frozen=True)
class Edited:
    text: str
    hunks: tuple[Hunk, ...]
    changed: bool
    how: str
    """uncommented, appended, replaced, added volumes key, ..., or already there."""


def edited(before: str, after: str, how: str) -> Edited:
    """Wrap a finished edit.

    :raises CannotEditInPlace: when a changed line holds a password besides, as one
        of a service in flow form may: its hunk could not be journaled.
    """
    hunks = hunks_between(before, after)
    if any(mask(line) != line for hunk in hunks for line in (*hunk.before, *hunk.after)):
        raise CannotEditInPlace("a line that would change holds what looks like a password, which no journal may hold")
    return Edited(after, hunks, before != after, how if before != after else "already there")


def hunks_between(before: str, after: str) -> tuple[Hunk, ...]:
    if before == after:
        return ()
    old, new = split_lines(before.lstrip("\ufeff")), split_lines(after.lstrip("\ufeff"))
    places_before, places_after = places_of(before), places_of(after)
    hunks = []
    section = next((line for line, place in places_before if place == ("volumes",)), len(old))
    for a, a_end, b, b_end in _changes(old, new, section):
        # A blank line above a section belongs to whatever stands before it.
        blank = next((n for n, line in enumerate(old[a:a_end]) if line.strip()), 0)
        place = _place_at(places_after, b) if any(new[b:b_end]) else _place_at(places_before, a + blank)
        hunks.append(
            Hunk(
                line=b + 1,
                before=tuple(old[a:a_end]),
                after=tuple(new[b:b_end]),
                context_before=tuple(mask(line) for line in lines_above(new, b)),
                context_after=tuple(mask(line) for line in lines_below(new, b_end)),
                place=place,
            )
        )
    return tuple(hunks)


def _changes(old: Sequence[str], new: Sequence[str], section: int) -> list[tuple[int, int, int, int]]:
    """The changed ranges of both sides; two with nothing but blank lines between them are one.

    The top-level volumes, from line ``section`` of the old side on, are always a
    change of their own: they can come back elsewhere than they stood.
    """
    changes: list[tuple[int, int, int, int]] = []
    for tag, a, a_end, b, b_end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        if tag == "delete":
            start, a_end = _slid(old, a, a_end)
            a, b, b_end = start, b + start - a, b_end + start - a
        elif tag == "insert":
            start, b_end = _slid(new, b, b_end)
            a, a_end, b = a + start - b, a_end + start - b, start
        if changes and a != section and not any(line.strip() for line in old[changes[-1][1] : a]):
            a, b = changes[-1][0], changes[-1][2]
            changes.pop()
        if a < section < a_end and any(line.strip() for line in old[a:section]):
            changes.append((a, section, b, b_end))
            a, b = section, b_end
        changes.append((a, a_end, b, b_end))
    return changes


def _slid(lines: Sequence[str], first: int, last: int) -> tuple[int, int]:
    """Of all equal ways to see one block of lines as inserted or deleted, the one that begins with a key.

    Between two entries that end alike a diff may as well start in the middle of the first.
    """
    ways = [(first, last)]
    while ways[-1][1] < len(lines) and lines[ways[-1][0]] == lines[ways[-1][1]]:
        ways.append((ways[-1][0] + 1, ways[-1][1] + 1))
    ways.insert(0, (first, last))
    while ways[0][0] > 0 and lines[ways[0][0] - 1] == lines[ways[0][1] - 1]:
        ways.insert(0, (ways[0][0] - 1, ways[0][1] - 1))

    def indent(way: tuple[int, int]) -> int:
        line = lines[way[0]]
        return len(line) - len(line.lstrip()) if line.strip() else len(line) + 1000

    return min(ways, key=indent)


def lines_above(lines: Sequence[str], at: int) -> list[str]:
    return [_EDGE, *lines][max(0, at + 1 - CONTEXT) : at + 1]


def lines_below(lines: Sequence[str], at: int) -> list[str]:
    return [*lines, _EDGE][at : at + CONTEXT]


def split_lines(text: str) -> list[str]:
    """The lines without their ends; a final newline ends the last one and begins none."""
    lines = [line[:-1] if line.endswith("\r") else line for line in text.split("\n")]
    return lines if lines[-1] else lines[:-1]


def places_of(text: str) -> list[tuple[int, tuple[str, ...]]]:
    """Where (line, counted from 0) each place of the file begins, in order."""
    if not has_content(text):
        return []
    document = parse(text)
    found: list[tuple[int, tuple[str, ...]]] = []
    for key, value in document.root.pairs():
        line = document.line(key.start) - 1
        found.append((line, ("volumes",) if key.value == "volumes" else ()))
        if key.value == "services":
            found.extend((document.line(name.start) - 1, ("services", name.value)) for name, unused in value.pairs())
    return sorted(found, key=lambda place: place[0])


def _place_at(places: list[tuple[int, tuple[str, ...]]], line: int) -> tuple[str, ...]:
    below = [place for first, place in places if first <= line]
    return below[-1] if below else ()
