# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Does a directory on the host hold the files of a Redis server? Asked of volumes that nothing uses any more."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._redis.rdb import RdbHeader, read_rdb_header

APPEND_ONLY = (".aof", ".aof.manifest")


@dataclass(frozen=True)
class RedisFiles:
    """What was found. ``last_write`` is in seconds since the epoch; ``written_by`` is the server's version."""

    directory: str
    rdb_files: tuple[str, ...]
    rdb_version: int
    written_by: str
    append_only: bool
    bytes: int
    last_write: float


def inspect_directory(directory: str) -> RedisFiles | None:
    """Return the Redis files directly in ``directory`` (and its append-only folder), or None. Reads headers only."""
    headers: dict[str, RdbHeader] = {}
    append_only: list[str] = []
    for path in _files(directory):
        if path.endswith(APPEND_ONLY) or "appendonly.aof" in os.path.basename(path):
            append_only.append(path)
        else:
            header = _header(path)
            if header is not None:
                headers[path] = header
    paths = [*headers, *append_only]
    if not paths:
        return None
    newest = max(headers, key=lambda path: os.stat(path).st_mtime, default="")
    bases = [header for header in map(_header, append_only) if header is not None]
    header = headers.get(newest) or (bases[0] if bases else RdbHeader(0))
    return RedisFiles(
        directory=directory,
        rdb_files=tuple(sorted(os.path.basename(path) for path in headers)),
        rdb_version=header.version,
        written_by=header.written_by,
        append_only=bool(append_only),
        bytes=sum(os.path.getsize(path) for path in paths),
        last_write=max(os.stat(path).st_mtime for path in paths),
    )


def _files(directory: str) -> list[str]:
    found = []
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError:
        return []
    for entry in entries:
        if entry.is_file(follow_symlinks=False):
            found.append(entry.path)
        elif entry.is_dir(follow_symlinks=False) and entry.name == "appendonlydir":
            found += _files(entry.path)
    return found


def _header(path: str) -> RdbHeader | None:
    try:
        return read_rdb_header(path)
    except OSError:
        return None
