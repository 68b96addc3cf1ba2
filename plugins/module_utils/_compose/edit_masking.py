# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Changed lines for a person to read, without the passwords that stand in or beside them."""

from __future__ import annotations

import difflib
import re

MASK = "********"

_SECRET_NAME = (
    r"(?![\w.-]*(?:_file|_method)\b)[\w.-]*(?:passw|passphrase|(?<![a-z])pass(?![a-z])|(?<![a-z])pw(?![a-z])|secret|token|credential"
    r"|(?<![a-z])auth(?![a-z])|(?:api|access|private|encryption|signing|master|session|salt)[_.-]?key"
    r"|(?<![a-z])key(?![a-z])|salt|dsn)[\w.-]*"
)
# ``NAME: value`` and ``NAME=value``; the colon of a mapping is followed by a space,
# so that ``./secrets/token:/run/token`` stays readable.
_ASSIGNMENT = re.compile(rf"({_SECRET_NAME}[\"']?(?:\s*=|\s*:(?=\s|[\"'])))(\s*)(?=\S)(.+)$", re.IGNORECASE)
_OPTION = re.compile(r"(--?[\w-]*(?:pass|secret|token)[\w-]*(?:=|\s+|[\"'],\s*))(\S+)", re.IGNORECASE)
_URL = re.compile(r"(\w[\w+.-]*://)[^\s/@\"']*:[^\s/@\"']*@")
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY")
# Keys without a name beside them: base64 of mixed letters and digits, or hexadecimal; not an image's digest.
_BLOB = re.compile(
    r"(?<![\w+/=:.-])(?:(?=[^\s]*[0-9])(?=[^\s]*[a-z])(?=[^\s]*[A-Z])[A-Za-z0-9+/=]{40,}|[0-9a-f]{32,})(?![\w/.-])"
)


def mask(line: str) -> str:
    """Hide in one line what looks like a secret. Rather one value too many than one too few."""
    if _PEM.search(line):
        return line[: len(line) - len(line.lstrip())] + MASK
    line = _URL.sub(rf"\1{MASK}@", line)
    line = _ASSIGNMENT.sub(rf"\1\2{MASK}", line)
    line = _OPTION.sub(rf"\1{MASK}", line)
    return _BLOB.sub(MASK, line)


def masked_diff(before: str, after: str, path: str) -> dict[str, str]:
    """A value for a result's ``diff``: the changed hunks of a file with three lines around them.

    ``prepared`` is a unified diff with the file's real line numbers; Ansible
    shows it as it is. Empty when nothing changed.
    """
    lines = difflib.unified_diff(
        [mask(line) for line in _lines(before)],
        [mask(line) for line in _lines(after)],
        fromfile=path,
        tofile=path,
        lineterm="",
    )
    return {"prepared": "".join(f"{line}\n" for line in lines)}


def _lines(text: str) -> list[str]:
    lines = [line.rstrip("\r") for line in text.split("\n")]
    return lines[:-1] if lines and not lines[-1] else lines
