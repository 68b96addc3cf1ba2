# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Proof, from files alone, that a stopped server left everything on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import shell
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.aof import manifest_name, read_manifest
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.facts import RedisFacts
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.rdb import incomplete, read_rdb_header
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.session import RedisError

CLOCK_GRAIN = 0.1
"""Seconds by which a file's time may lie before the moment of writing: the kernel stamps by its tick."""


def prove_stopped(directory: str, facts: RedisFacts, *, stop_began: float) -> dict[str, Any]:
    """Return the evidence (file, bytes, mtime, ...) or raise. ``directory`` is ``facts.dir`` on the host.

    ``stop_began`` is in seconds since the epoch: an RDB file that is older was
    not written by this stop.
    """
    problems: list[str] = []
    evidence: dict[str, Any] = {}
    if facts.appendonly and facts.starts_with_aof:
        problems += _aof_problems(directory, facts)
        evidence.update(_aof_evidence(directory, facts) if not problems else {})
    else:
        path = os.path.join(directory, facts.dbfilename)
        problems += rdb_problems(path, stop_began=stop_began)
        evidence.update(_rdb_evidence(path) if not problems else {})
    if problems:
        raise RedisError(
            "Redis has stopped, but its data is not complete on disk: " + "; ".join(problems),
            state=f"the data directory {directory} is as Redis left it",
            safe_to_rerun=False,
            next_command=shell("ls", "-la", directory),
        )
    return evidence


def rdb_problems(path: str, *, stop_began: float) -> Iterator[str]:
    """Yield what speaks against an RDB file as the result of a stop."""
    if not os.path.isfile(path):
        yield f"there is no {path}"
        return
    wrong = incomplete(path)
    if wrong:
        yield f"{path} {wrong}"
    written = os.stat(path).st_mtime
    if written < stop_began - CLOCK_GRAIN:
        yield f"{path} was written {stop_began - written:.1f} s before the stop began, not by it"


def _aof_problems(directory: str, facts: RedisFacts) -> Iterator[str]:
    if not facts.multipart_aof:
        path = os.path.join(directory, facts.appendfilename)
        if not os.path.isfile(path):
            yield f"there is no {path}"
        return
    folder = os.path.join(directory, facts.appenddirname)
    try:
        parts = read_manifest(folder, facts.appendfilename)
    except (OSError, ValueError) as error:
        yield f"the manifest {os.path.join(folder, manifest_name(facts.appendfilename))} cannot be read: {error}"
        return
    if not parts:
        yield f"the manifest in {folder} names no file"
    for part in parts:
        path = os.path.join(folder, part.name)
        if not os.path.isfile(path):
            yield f"there is no {path}, which the manifest names"
        elif path.endswith(".rdb") and incomplete(path):
            yield f"{path} {incomplete(path)}"


def _rdb_evidence(path: str) -> dict[str, Any]:
    header, status = read_rdb_header(path), os.stat(path)
    return {
        "kind": "rdb",
        "file": path,
        "bytes": status.st_size,
        "mtime": status.st_mtime,
        "rdb_version": header.version if header else 0,
    }


def _aof_evidence(directory: str, facts: RedisFacts) -> dict[str, Any]:
    if not facts.multipart_aof:
        path = os.path.join(directory, facts.appendfilename)
        return {"kind": "aof", "file": path, "bytes": os.path.getsize(path), "mtime": os.stat(path).st_mtime}
    folder = os.path.join(directory, facts.appenddirname)
    paths = [os.path.join(folder, part.name) for part in read_manifest(folder, facts.appendfilename)]
    return {
        "kind": "aof",
        "file": folder,
        "parts": [os.path.basename(path) for path in paths],
        "bytes": sum(os.path.getsize(path) for path in paths),
        "mtime": max(os.stat(path).st_mtime for path in paths),
    }
