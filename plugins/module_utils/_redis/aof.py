# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Append-only files: the manifest of 7.0 and later, and where the last whole command ends."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from typing import BinaryIO

BASE, HISTORY, INCREMENTAL = "b", "h", "i"


@dataclass(frozen=True)
class AofPart:
    """One file of a manifest; ``type`` is base, history (about to be deleted) or incremental."""

    name: str
    sequence: int
    type: str


def manifest_name(appendfilename: str) -> str:
    return f"{appendfilename}.manifest"


def parse_manifest(text: str) -> tuple[AofPart, ...]:
    """Read a manifest; raises ValueError for anything that is none."""
    parts = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            words = shlex.split(line)
            said = dict(zip(words[::2], words[1::2]))
            try:
                part = AofPart(name=said["file"], sequence=int(said["seq"]), type=said["type"])
            except KeyError as missing:
                raise ValueError(f"manifest line without {missing}: {line}") from missing
            if "/" in part.name or part.type not in (BASE, HISTORY, INCREMENTAL):
                raise ValueError(f"manifest line that is none: {line}")
            parts.append(part)
    return tuple(parts)


def read_manifest(directory: str, appendfilename: str) -> tuple[AofPart, ...]:
    """Return the files that count, history left out."""
    with open(os.path.join(directory, manifest_name(appendfilename)), encoding="utf-8") as file:
        return tuple(part for part in parse_manifest(file.read()) if part.type != HISTORY)


def complete_length(path: str) -> int:
    """Return the offset after the last whole command (or transaction) of an AOF without RDB preamble, in bytes.

    A copy of a file that is being appended to may end inside a command.
    """
    with open(path, "rb") as file:
        return _complete_length(file)


def _complete_length(file: BinaryIO) -> int:
    size = os.fstat(file.fileno()).st_size
    good, in_transaction = 0, False
    while True:
        name = _next_command(file, size)
        if name is None:
            return good
        if name == b"MULTI":
            in_transaction = True
        elif name == b"EXEC":
            in_transaction = False
        if not in_transaction:
            good = file.tell()


def _next_command(file: BinaryIO, size: int) -> bytes | None:
    """Skip one command and return its name, empty for an annotation; None at the end or in the middle of one."""
    line = file.readline()
    if line.startswith(b"#") and line.endswith(b"\r\n"):
        return b""
    count = _number(line, b"*")
    if count is None or count < 1:
        return None
    name = b""
    for at in range(count):
        length = _number(file.readline(), b"$")
        if length is None or file.tell() + length + 2 > size:
            return None
        if at == 0:
            name = file.read(length).upper()
            file.seek(2, os.SEEK_CUR)
        else:
            file.seek(length + 2, os.SEEK_CUR)
    return name


def _number(line: bytes, sign: bytes) -> int | None:
    if line[:1] != sign or not line.endswith(b"\r\n"):
        return None
    try:
        return int(line[1:-2])
    except ValueError:
        return None
