# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take our own hunks back out of a file that was edited since."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.document import parse
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_hunks import (
    CONTEXT,
    Edited,
    Hunk,
    edited,
    lines_above,
    lines_below,
    places_of,
    split_lines,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_masking import mask
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError


class HunkConflict(StatefulError):
    """The very lines that we wrote were changed since; what stands there now is in the message."""


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
    lines = split_lines(text)
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
        above = _agreeing(lines_above(lines, at)[::-1], hunk.context_before[::-1])
        below = _agreeing(lines_below(lines, at + size), hunk.context_after)
        unchanged = above == len(hunk.context_before) and below == len(hunk.context_after)
        if not any(wanted) and not unchanged and not (above and below and above + below > CONTEXT):
            continue
        rank = (above + below, -abs(at - hunk.line + 1))
        if best is None or rank > best:
            best, found = rank, at
    return found


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
        places_of(after)
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


def _extent(text: str, hunk: Hunk, length: int) -> tuple[int, int]:
    """The lines between which the hunk's place lies in the file as it is now."""
    if len(hunk.place) != 2:
        return 0, length
    try:
        places = places_of(text)
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
