# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Enough of the ``.env`` format to find compose's own settings and the values to keep secret."""

from __future__ import annotations

import re

_LINE = re.compile(r"^\s*(?:export\s+)?([A-Za-z_][\w.-]*)\s*[=:]\s*(.*?)\s*$")


def read_dotenv(path: str) -> dict[str, str]:
    """Return the variables of the file at ``path``, or none where there is no such file."""
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            return parse_dotenv(file.read())
    except OSError:
        return {}


def parse_dotenv(text: str) -> dict[str, str]:
    """Return ``KEY=value`` pairs; quotes are taken off, nothing is interpolated, comments are left out."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match and not line.lstrip().startswith("#"):
            found[match.group(1)] = _value(match.group(2))
    return found


def _value(raw: str) -> str:
    if raw[:1] in "'\"" and raw[:1] and raw.find(raw[0], 1) > 0:
        return raw[1 : raw.find(raw[0], 1)]
    return re.split(r"\s#", raw, maxsplit=1)[0].rstrip()
