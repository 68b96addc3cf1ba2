# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a service holds, in files of this host: each has its name once it is whole, and is for root alone."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import archive
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import World
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import container_of
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import durable
from ansible_collections.selfhost.stateful.plugins.module_utils._stream.files import destination

SCRIPT_ENDS = b"-- PostgreSQL database cluster dump complete"
TAIL = 200
"""Bytes at the end of a script in which its last comment stands."""


def exported(world: World, service: str, path: str) -> str:
    """Export a service's database to a file, which has its name once it is whole."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    part, call = f"{path}.part", ("postgres:export", service)
    answer = world.dokku.exported(part, *call)
    with open(part, "rb") as handle:
        begins = handle.read(len(archive.BEGINS))
    if answer.rc != 0 or begins != archive.BEGINS:
        durable.remove_file(part)
        raise world.dokku.failed(call, answer, next_command=shell("df", "-h", os.path.dirname(path)))
    os.rename(part, path)
    durable.fsync_parent(path)
    return path


def dumped(
    world: World, service: str, argv: Sequence[str], path: str, *, begins: bytes = b"", ends: bytes = b""
) -> str:
    """Keep the output of a program in a service's container, which has to begin and to end so."""
    found = world.service(service)
    environment = {"PGPASSWORD": found.dsn.password} if found.dsn else {}
    with destination(path, compressed=False) as file:
        first = last = b""

        def take(piece: bytes) -> None:
            nonlocal first, last
            file.write(piece)
            if len(first) < len(begins):
                first += piece[: len(begins) - len(first)]
            last = (last + piece)[-TAIL:]

        container = container_of(service)
        said = world.engine.stream(container, tuple(argv), stdout=take, environment=environment)
        if said.rc != 0 or not first.startswith(begins) or ends not in last:
            raise StatefulError(
                f"{argv[0]} in {container} ended with {said.rc} before all was told:"
                f" {said.stderr.decode('utf-8', 'replace').strip() or 'it said nothing'}",
                next_command=shell("df", "-h", os.path.dirname(path)),
            )
    return path


def read_back(path: str) -> str:
    """Read an archive to its end, and return what that proves; raises where data is missing that it announces."""
    with open(path, "rb") as handle:
        try:
            return archive.read_to_end(handle).proof
        except archive.Broken as error:
            raise StatefulError(
                f"{path} holds a dump that {error}.", next_command=shell("df", "-h", os.path.dirname(path))
            ) from error


def stamp_of(path: str) -> str:
    """Return what tells a file from another of the same name, without reading it: this is downtime."""
    status = os.stat(path)
    return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"
