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
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError

_CONTEXT = 3
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


class HunkConflict(StatefulError):
    """The very lines that we wrote were changed since; what stands there now is in the message."""


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
    old, new = _split(before.lstrip("\ufeff")), _split(after.lstrip("\ufeff"))
    places_before, places_after = _places(before), _places(after)
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
                context_before=tuple(mask(line) for line in _above(new, b)),
                context_after=tuple(mask(line) for line in _below(new, b_end)),
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


def reverse(text: str, hunks: Sequence[Hunk]) -> Edited:
    """Take our own hunks back out of a file as it is now; all other changes made since stay.

    :raises HunkConflict: when the lines of a hunk were changed.
    """
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    result = text[len(mark) :]
    # From the bottom up, so that the line numbers of the hunks above stay true.
    for hunk in sorted(hunks, key=lambda each: each.line)[::-1]:
        result = _reverse_one(result, hunk)
    result = mark + result
    if result != text:
        _assert_nothing_else(text, result, hunks)
    return edited(text, result, "reversed")


def _reverse_one(text: str, hunk: Hunk) -> str:
    lines = _split(text)
    first, last = _extent(text, hunk, len(lines))
    at = _find(lines, hunk, hunk.after, first, last)
    if at is None and _find(lines, hunk, hunk.before, first, last) is not None:
        return text
    if at is None and not any(hunk.after):
        return _bring_back(text, lines, hunk)
    if at is None:
        raise _conflict(lines, hunk, first, last)
    return _splice(text, at, at + len(hunk.after), hunk.before)


def _find(lines: list[str], hunk: Hunk, wanted: tuple[str, ...], first: int, last: int) -> int | None:
    """Where ``wanted`` stands now: where most of the old surroundings are still around it, then nearest.

    Nothing wanted (or blank lines), as after a deletion, matches only where its old surroundings are.
    """
    size = len(wanted)
    best: tuple[int, int] | None = None
    found = None
    for at in range(first, last - size + 1):
        if tuple(lines[at : at + size]) != wanted:
            continue
        above = _agreeing(_above(lines, at)[::-1], hunk.context_before[::-1])
        below = _agreeing(_below(lines, at + size), hunk.context_after)
        unchanged = above == len(hunk.context_before) and below == len(hunk.context_after)
        if not any(wanted) and not unchanged and not (above and below and above + below > _CONTEXT):
            continue
        rank = (above + below, -abs(at - hunk.line + 1))
        if best is None or rank > best:
            best, found = rank, at
    return found


def _above(lines: Sequence[str], at: int) -> list[str]:
    return [_EDGE, *lines][max(0, at + 1 - _CONTEXT) : at + 1]


def _below(lines: Sequence[str], at: int) -> list[str]:
    return [*lines, _EDGE][at : at + _CONTEXT]


def _agreeing(lines: Sequence[str], context: Sequence[str]) -> int:
    count = 0
    for line, known in zip(lines, context):
        if mask(line) != known:
            break
        count += 1
    return count


def _bring_back(text: str, lines: list[str], hunk: Hunk) -> str:
    """Give back a top-level volume whose old surroundings are gone."""
    document = parse(text)
    declared = document.top_level_volumes()
    entry = tuple(line for line in hunk.before if line.strip())
    if hunk.place != ("volumes",) or not entry:
        raise _conflict(lines, hunk, 0, len(lines))
    if declared is None:
        if document.root.get("volumes") is not None or document.root.flow:
            raise _conflict(lines, hunk, 0, len(lines))
        if not entry[0].startswith("volumes"):
            entry = ("volumes:", *entry)
        return _splice(text, len(lines), len(lines), entry)
    known = declared.names()
    names = [name for name in _declared_in(entry) if name not in known]
    if not names:
        return text
    if entry[0].startswith("volumes"):
        entry = entry[1:]
    at = next(document.line(key.start) for key, _value in document.root.pairs() if key.value == "volumes")
    if declared.flow:
        raise _conflict(lines, hunk, at - 1, at)
    return _splice(text, at, at, entry)


def _declared_in(entry: Sequence[str]) -> list[str]:
    section = [*entry] if entry[0].startswith("volumes") else ["volumes:", *entry]
    declared = parse("\n".join(section)).top_level_volumes()
    return declared.names() if declared is not None else []


def _assert_nothing_else(before: str, after: str, hunks: Sequence[Hunk]) -> None:
    """Undo is proved like a change: what the hunks do not concern must mean the same as before."""
    places = {hunk.place for hunk in hunks}
    try:
        # Of lines that belong to the file as a whole, only their text can tell.
        same = () in places or _data_without(before, places) == _data_without(after, places)
        _places(after)
    except InvalidInput as error:
        raise HunkConflict(
            f"taking back our own lines would leave a compose file that does not parse: {error.msg}",
            next_command="take the mount out of the file by hand, then run the same task again",
        ) from error
    if not same:
        raise HunkConflict(
            "taking back our own lines would change more than the lines that we wrote",
            next_command="take the mount out of the file by hand, then run the same task again",
        )


def _data_without(text: str, places: set[tuple[str, ...]]) -> dict[str, Any]:
    root = parse(text).root
    data = {key.value: value.data() for key, value in root.pairs() if key.value not in ("services", "volumes")}
    services = root.get("services")
    for key, value in services.pairs() if services is not None else ():
        if ("services", key.value) not in places:
            data[f"services.{key.value}"] = value.data()
    return data


def _conflict(lines: list[str], hunk: Hunk, first: int, last: int) -> HunkConflict:
    at = min(max(hunk.line - 1, first), max(last - 1, first))
    where = ["the file", "the top-level 'volumes'", f"service '{''.join(hunk.place[1:])}'"][len(hunk.place)]
    ours = "\n".join(mask(line) for line in hunk.after) or "(nothing)"
    now = "\n".join(mask(line) for line in lines[at : min(at + max(len(hunk.after), 1) + 1, max(last, at + 1))])
    return HunkConflict(
        f"the lines that were written into {where} have been changed since, near line {at + 1}.\n"
        f"written then:\n{ours}\nthere now:\n{now}",
        next_command="put the lines back as they were written, or edit the place by hand; then run the same task again",
        conflict={"line": at + 1, "written": [mask(line) for line in hunk.after], "place": list(hunk.place)},
    )


def _splice(text: str, first: int, last: int, lines: Sequence[str]) -> str:
    """Replace the lines ``first`` to ``last`` (counted from 0, end exclusive), with the file's own line ends."""
    raw = text.split("\n")
    crlf = text.count("\r\n") * 2 > text.count("\n")
    end_of_line = "\r" if crlf else ""
    if last == len(raw) and raw[:first]:
        # The last line has no line end: what stands before it now gives up its own.
        kept = raw[: first - 1] + [raw[first - 1].rstrip("\r") + (end_of_line if lines else "")]
    else:
        kept = raw[:first]
    if last - first == len(lines):
        new = [line + "\r" * old.endswith("\r") for line, old in zip(lines, raw[first:last])]
    else:
        new = [line + end_of_line for line in lines]
    if last == len(raw) and new:
        new[-1] = new[-1].rstrip("\r")
    return "\n".join(kept + new + raw[last:])


def _split(text: str) -> list[str]:
    """The lines without their ends; a final newline ends the last one and begins none."""
    lines = [line[:-1] if line.endswith("\r") else line for line in text.split("\n")]
    return lines if lines[-1] else lines[:-1]


def _places(text: str) -> list[tuple[int, tuple[str, ...]]]:
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


def _extent(text: str, hunk: Hunk, length: int) -> tuple[int, int]:
    """The lines between which the hunk's place lies in the file as it is now."""
    if len(hunk.place) != 2:
        return 0, length
    try:
        places = _places(text)
    except InvalidInput:
        # Half of the hunks are taken back: whether the whole is sound is asked at the end.
        return 0, length
    for index, (first, place) in enumerate(places):
        if place == hunk.place:
            return first, places[index + 1][0] if index + 1 < len(places) else length
    raise HunkConflict(
        f"the service '{hunk.place[1]}' that was edited is no longer in the file",
        next_command="bring the service back or edit its mounts by hand, then run the same task again",
    )
