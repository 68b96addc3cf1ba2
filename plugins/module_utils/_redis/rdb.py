# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The RDB file format, as far as it tells who wrote a file, and whether to its end."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

_MAGIC = re.compile(rb"(REDIS|VALKEY)(\d{3,4})")
_AUX, _EOF = 0xFA, 0xFF
_CHECKSUM_BYTES = 8
"""A CRC-64 of what stands before it follows the EOF mark from version 5 on; zero where rdbchecksum is off."""

MAGIC_BYTES = 9


@dataclass(frozen=True)
class RdbHeader:
    """``version`` is the format's, ``written_by`` the server's where the file says so."""

    version: int
    written_by: str = ""
    aux: Mapping[str, str] = field(default_factory=dict)


def read_rdb_header(path: str) -> RdbHeader | None:
    """Return the header of an RDB file, or None if the file is none."""
    with open(path, "rb") as file:
        magic = _MAGIC.fullmatch(file.read(MAGIC_BYTES))
        if not magic:
            return None
        aux = dict(_aux_fields(file))
    by = aux.get("redis-ver") or aux.get("valkey-ver") or ""
    return RdbHeader(version=int(magic.group(2)), written_by=by, aux=aux)


def incomplete(path: str) -> str:
    """Return in words what is wrong with an RDB file's two ends, or an empty string.

    The server writes to a temporary name and renames, so this finds what a copy
    cut off; damage in between is for ``redis-check-rdb`` to find.
    """
    header = read_rdb_header(path)
    if header is None:
        return "does not begin as an RDB file does"
    trailer = 1 + (_CHECKSUM_BYTES if header.version >= 5 else 0)
    if os.path.getsize(path) < MAGIC_BYTES + trailer:
        return "ends before its end mark"
    with open(path, "rb") as file:
        file.seek(-trailer, os.SEEK_END)
        return "" if file.read(1)[0] == _EOF else "ends before its end mark"


def _aux_fields(file: BinaryIO) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    while True:
        opcode = file.read(1)
        if not opcode or opcode[0] != _AUX:
            return found
        name, value = _string(file), _string(file)
        if name is None or value is None:
            return found
        found.append((name, value))


def _string(file: BinaryIO) -> str | None:
    """Read a length-prefixed string or a number kept as one; None for what a header does not use."""
    first = file.read(1)
    if not first:
        return None
    kind, low = first[0] >> 6, first[0] & 0x3F
    if kind == 0:
        return file.read(low).decode("utf-8", "replace")
    if kind == 1:
        return file.read(low << 8 | file.read(1)[0]).decode("utf-8", "replace")
    if kind == 3 and low in (0, 1, 2):
        return str(int.from_bytes(file.read(1 << low), "little", signed=True))
    return None
