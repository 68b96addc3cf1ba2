# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Enough of the ``.env`` format to find compose's own settings and the values to keep secret."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_LINE = re.compile(r"^\s*(?:export\s+)?([A-Za-z_][\w.-]*)\s*[=:]\s*(.*?)\s*$")


# ``${NAME}``, ``${NAME:-default}`` and the like, and the bare ``$NAME`` that only compose 2 knows in there.
_BRACED = re.compile(r"\$\{(\w+)(?:(:?[-+?])([^}]*))?\}")
_ANY = re.compile(_BRACED.pattern + r"|\$([A-Za-z_]\w*)")
_DOUBLED = re.compile(r"(\$\$)")


def read_dotenv(path: str) -> dict[str, str]:
    """Return the variables of the file at ``path``, or none where there is no such file."""
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            return parse_dotenv(file.read())
    except OSError:
        return {}


def parse_dotenv(text: str) -> dict[str, str]:
    """Return ``KEY=value`` pairs; quotes are taken off, nothing is interpolated, comments are left out."""
    return {name: _value(raw) for name, raw in _pairs(text)}


def settings_from(paths: Iterable[str], env: Mapping[str, str], *, v1: bool = False) -> dict[str, str]:
    """Return what compose goes by: the files, variables in them put in, later files over earlier, ``env`` over all.

    Compose 2 puts in the environment's value of a variable first and leaves single
    quotes alone; compose 1 takes the file's own first, whatever the quotes.
    """
    found: dict[str, str] = {}
    for path in paths:
        try:
            with open(path, encoding="utf-8-sig", errors="replace") as file:
                pairs = _pairs(file.read())
        except OSError:
            continue
        for name, raw in pairs:
            literal = raw.startswith("'") and not v1
            known = {**env, **found} if v1 else {**found, **env}
            found[name] = _value(raw) if literal else _interpolated(_value(raw), known, _BRACED if v1 else _ANY)
    return {**found, **env}


def interpolate(text: str, known: Mapping[str, str]) -> str:
    """Put variables into a value of a compose file; a doubled ``$`` stays one, and those of the values are doubled."""
    escaped = {name: value.replace("$", "$$") for name, value in known.items()}
    parts = _DOUBLED.split(text)
    return "".join(part if part == "$$" else _interpolated(part, escaped, _ANY) for part in parts)


def _interpolated(text: str, known: Mapping[str, str], pattern: re.Pattern[str]) -> str:
    def value(match: re.Match[str]) -> str:
        name, operator, word = match.group(1), match.group(2) or "", match.group(3) or ""
        found = known.get(name or match.group(match.lastindex or 0), "")
        is_set = bool(found) if operator.startswith(":") else name in known
        if operator.endswith("+"):
            return word if is_set else ""
        return word if operator.endswith("-") and not is_set else found

    return pattern.sub(value, text)


def _pairs(text: str) -> list[tuple[str, str]]:
    matches = (_LINE.match(line) for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [(match.group(1), match.group(2)) for match in matches if match]


def _value(raw: str) -> str:
    if raw[:1] in "'\"" and raw[:1] and raw.find(raw[0], 1) > 0:
        return raw[1 : raw.find(raw[0], 1)]
    return re.split(r"\s#", raw, maxsplit=1)[0].rstrip()
