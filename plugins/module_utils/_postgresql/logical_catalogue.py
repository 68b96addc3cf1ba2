# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a dump says of itself, and how it is told that its files are as they were written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import globals as cluster_globals
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.counts import Counts, from_dict
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.globals import Globals

DUMP = "dump"
DUMP_TARGET = "/selfhost-stateful/dump"
GLOBALS = "globals.json"
CATALOGUE = "catalogue.json"
SUMS = "SHA256SUMS"


@dataclass(frozen=True)
class Catalogue:
    """What a dump holds: for every database its directory, and its rows in the dump's own snapshot."""

    server_version_num: int
    directories: Mapping[str, str]
    counts: Counts
    globals: Globals
    client_version_num: int = 0
    """Of the program that dumped, 0 for the server's own: a dump names what differs from the defaults of its major."""
    replaced: Mapping[str, list[str]] = field(default_factory=dict)
    """By database, the tables that somebody replaced while it was dumped (:func:`counts.replaced`)."""

    @property
    def defaults_of(self) -> int:
        """Return the version whose defaults the dump takes for granted."""
        return self.client_version_num or self.server_version_num


def read_catalogue(dump: str) -> Catalogue:
    """Read what a dump says of itself; raises :class:`StatefulError`."""
    raw, frames = _read(os.path.join(dump, CATALOGUE)), _read(os.path.join(dump, GLOBALS))
    try:
        return Catalogue(
            server_version_num=raw["server_version_num"],
            directories=raw["directories"],
            counts=from_dict(raw["counts"]),
            globals=cluster_globals.from_dict(frames),
            client_version_num=raw.get("client_version_num", 0),
            replaced=raw.get("replaced", {}),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StatefulError(f"The catalogue in {dump} cannot be understood: {error!r}.") from error


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            content: dict[str, Any] = json.load(file)
            return content
    except (OSError, ValueError) as error:
        raise StatefulError(f"The catalogue {path} of the backup cannot be read: {error}.") from error


def check_sums(place: str) -> str:
    """Read every file of a dump against its checksum, and return the checksum of them all.

    Raises :class:`StatefulError` naming what is damaged, missing, or was not there when the dump was sealed.
    """
    dump, sums = os.path.join(place, DUMP), os.path.join(place, SUMS)
    try:
        with open(sums, "rb") as file:
            raw = file.read()
    except OSError as error:
        raise StatefulError(f"{sums} cannot be read: {error.strerror}.") from error
    lines = (line.partition("  ") for line in os.fsdecode(raw).split("\n") if line)
    wanted = {name: digest for digest, _blanks, name in lines}
    found = {os.path.relpath(path, dump): path for path in files_below(dump)}
    wrong = [f"{name} is missing" for name in sorted(wanted.keys() - found.keys())]
    wrong += [f"{name} does not belong to it" for name in sorted(found.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & found.keys()):
        if sha256_of(found[name]) != wanted[name]:
            wrong.append(f"{name} is not as it was written")
    if wrong:
        raise StatefulError(f"The dump in {dump} is damaged: {'; '.join(wrong[:20])}.")
    return hashlib.sha256(raw).hexdigest()


def files_below(directory: str) -> list[str]:
    return [os.path.join(parent, name) for parent, _directories, names in os.walk(directory) for name in names]


def sha256_of(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
