# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The note that a restore leaves in the data directory: which backup is, or is to be, in it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import paths
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import durable

NOTE = "selfhost-stateful-restore.json"
RESTORING = "restoring"
RESTORED = "restored"


@dataclass(frozen=True)
class Note:
    """``backup`` is the id of its record; ``roles`` and ``tablespaces`` are those that the restore makes."""

    state: str
    backup: str
    path: str
    moment: str
    roles: tuple[str, ...] = ()
    tablespaces: tuple[str, ...] = ()


def read(directory: str) -> Note | None:
    """Return the note in a data directory, a path on this host; None where there is none."""
    where = os.path.join(directory, NOTE)
    try:
        with open(where, encoding="utf-8") as file:
            raw: Mapping[str, Any] = json.load(file)
        return Note(**{**raw, "roles": tuple(raw["roles"]), "tablespaces": tuple(raw["tablespaces"])})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StatefulError(
            f"{where}, the note of an earlier restore, cannot be read: {error}.", next_command=shell("ls", "-la", where)
        ) from error


def write(directory: str, note: Note) -> None:
    """Write the note durably, as a file of the cluster's owner: a base backup reads all there is."""
    where = os.path.join(directory, NOTE)
    owner = paths.owner_of(directory)
    durable.write_json_atomically(where, asdict(note))
    os.chown(where, *owner)


def remove(directory: str) -> None:
    durable.remove_file(os.path.join(directory, NOTE))
