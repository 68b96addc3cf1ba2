# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The comment at the head of a numbered file, in which stands what guards it. Pure: a text in, options out."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.model import SHELL, SQL

HEADER = "selfhost.stateful:"
COMMENT = {SQL: "--", SHELL: "#"}
# At the beginning of a line and in any comment: what looks like a head to who wrote it.
LIKE_HEAD = re.compile(rf"[\s*/#-]*{re.escape(HEADER)}")


def read(name: str, kind: str, content: str) -> dict[str, Any]:
    """Return what the comment at the head says; nothing where it says nothing of ours."""
    import yaml

    lines = _comment(kind, content)
    begins = next((index for index, line in enumerate(lines) if line.lstrip().startswith(HEADER)), None)
    if begins is None:
        return {}
    indent = len(lines[begins]) - len(lines[begins].lstrip())
    block = [lines[begins]]
    for line in lines[begins + 1 :]:
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        block.append(line)
    try:
        said = yaml.safe_load("\n".join(block))
    except yaml.YAMLError as error:
        raise InvalidInput(f"The head of {name} cannot be read: {' '.join(str(error).split())}.") from error
    options = said.get(HEADER[:-1]) if isinstance(said, dict) else None
    # A guard that is not read is one that does not hold.
    if not isinstance(options, dict):
        raise InvalidInput(
            f"The head of {name} has to be options with values, indented below {HEADER}, as `  transaction: false`."
        )
    return options


def _comment(kind: str, content: str) -> list[str]:
    """Return the lines of the comment that a file begins with, without what makes them one."""
    mark = COMMENT[kind]
    lines = []
    for line in content.splitlines():
        if line.startswith(mark):
            lines.append(line[len(mark) :].rstrip())
        elif line.strip():
            break
    return lines


def body(kind: str, content: str) -> str:
    """Return what a file runs, without the comments at its head."""
    mark, lines = COMMENT[kind], content.splitlines()
    first = next((n for n, line in enumerate(lines) if line.strip() and not line.startswith(mark)), len(lines))
    return "\n".join(lines[first:])


def is_unread(kind: str, content: str) -> bool:
    """Tell whether there is a head that :func:`read` does not read: below a statement or another comment, a second."""
    is_read = any(line.lstrip().startswith(HEADER) for line in _comment(kind, content))
    return count(content) > int(is_read)


def count(content: str) -> int:
    """Return how many lines look like the beginning of a head."""
    return sum(1 for line in content.splitlines() if LIKE_HEAD.match(line))
