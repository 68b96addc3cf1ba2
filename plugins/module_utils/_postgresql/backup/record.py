# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record that a finished backup carries, and by which it is known."""

from __future__ import annotations

import json
import os

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import staging
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup.model import Record
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import durable

RECORD = "backup.json"


def write(place: str, record: Record) -> None:
    """Put the record into a backup, or in the place of an earlier one."""
    text = json.dumps(record.as_dict(), indent=1, sort_keys=True) + "\n"
    durable.write_atomically(os.path.join(place, RECORD), text.encode())


def read(path: str) -> Record:
    """Return the record of the backup at ``path``; raises :class:`InvalidInput` where there is none of ours."""
    where = os.path.join(path, RECORD)
    try:
        with open(where, encoding="utf-8") as file:
            return Record.from_dict(json.load(file))
    except FileNotFoundError:
        found = ", ".join(sorted(os.listdir(path))[:5]) if os.path.isdir(path) else "no directory"
        raise InvalidInput(
            f"{path} is no finished backup of selfhost.stateful.postgresql_backup: it has no {RECORD}"
            f" ({found or 'an empty directory'}).",
            next_command=shell("ls", "-la", path),
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"{where} cannot be understood, so that nobody can tell what {path} holds: {error}.",
            next_command=shell("ls", "-la", path),
        ) from error


def measure(path: str) -> tuple[int, int]:
    """Return files and bytes of a backup without what was added to know it by."""
    files, size = staging.tree_size(path)
    for name in (RECORD, staging.MARKER):
        own = os.path.join(path, name)
        if os.path.lexists(own):
            files, size = files - 1, size - os.lstat(own).st_size
    return files, size
