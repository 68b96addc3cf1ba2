# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Would a directory land in an image? Pure: a build context, its ignore file, a path.

Data moved beside a Dockerfile that says ``COPY .`` is sent to the builder and
ends in a layer, and a directory that the builder cannot read fails the build.
Patterns follow the documented rules of ``.dockerignore``: relative to the
context, ``**`` for any number of directories, ``!`` for exceptions, the last
matching line wins, and a pattern for a directory covers what is below it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BuildContext:
    """``directory`` is absolute; ``ignore_lines`` are those of the ignore file that counts."""

    service: str
    directory: str
    ignore_file: str
    ignore_lines: tuple[str, ...]


def line_to_add(context: BuildContext, path: str) -> str:
    """Return the line that ``ignore_file`` lacks for ``path``, or an empty string where none is needed."""
    relative = relative_inside(context.directory, path)
    if relative == "" or is_ignored(context.ignore_lines, relative):
        return ""
    return relative


def relative_inside(directory: str, path: str) -> str:
    """Return ``path`` relative to ``directory``, or an empty string if it does not lie inside."""
    relative = posixpath.relpath(posixpath.normpath(path), posixpath.normpath(directory))
    return "" if relative == "." or relative.startswith("../") or relative == ".." else relative


def is_ignored(lines: Sequence[str], relative: str) -> bool:
    """Tell whether ``relative`` and all that is below it stays out of the context.

    An exception for something below a directory brings the directory back into
    the context, so a matching ``!`` line below ``relative`` counts against it.
    """
    ignored = False
    for raw in lines:
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        negated = line.startswith("!")
        pattern = posixpath.normpath(line[1:].strip() if negated else line).lstrip("/")
        if _matches(pattern, relative):
            ignored = not negated
        elif negated and pattern.startswith(relative + "/"):
            ignored = False
    return ignored


def _matches(pattern: str, relative: str) -> bool:
    expression = _regex(pattern)
    parts = relative.split("/")
    return any(expression.fullmatch("/".join(parts[:depth])) for depth in range(1, len(parts) + 1))


def _regex(pattern: str) -> re.Pattern[str]:
    out, position = "", 0
    while position < len(pattern):
        if pattern.startswith("**", position):
            position += 3 if pattern.startswith("**/", position) else 2
            # Whole directories, also without the slash: '**name' is no suffix match.
            out += "(?:.*/)?" if position < len(pattern) else ".*"
        elif pattern[position] == "*":
            out += "[^/]*"
            position += 1
        elif pattern[position] == "?":
            out += "[^/]"
            position += 1
        elif pattern[position] == "[" and "]" in pattern[position:]:
            end = pattern.index("]", position)
            out += pattern[position : end + 1]
            position = end + 1
        else:
            escaped = pattern[position] == "\\" and position + 1 < len(pattern)
            out += re.escape(pattern[position + 1] if escaped else pattern[position])
            position += 2 if escaped else 1
    return re.compile(out)
