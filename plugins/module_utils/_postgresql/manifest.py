# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ``pg_basebackup`` leaves beside the data: its label and its manifest."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import datetime, timezone

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError

MANIFEST = "backup_manifest"
LABEL = "backup_label"


@dataclass(frozen=True)
class Manifest:
    """The parts of a backup manifest that make evidence.

    ``written_at`` is when the server ended the backup: pg_basebackup receives the
    manifest right after that, before it waits for the disks.
    """

    sha256: str
    files: int
    bytes: int
    timeline: int
    start_lsn: str
    end_lsn: str
    written_at: datetime


def read_manifest(data_directory: str) -> Manifest:
    """Read the manifest of a backup of 13 or later; raises :class:`StatefulError`."""
    path = os.path.join(data_directory, MANIFEST)
    try:
        with open(path, "rb") as file:
            raw = file.read()
            written = os.fstat(file.fileno()).st_mtime
        content = json.loads(raw)
        ranges = content["WAL-Ranges"]
        return Manifest(
            sha256=hashlib.sha256(raw).hexdigest(),
            files=len(content["Files"]),
            bytes=sum(entry["Size"] for entry in content["Files"]),
            timeline=ranges[-1]["Timeline"],
            start_lsn=ranges[0]["Start-LSN"],
            end_lsn=ranges[-1]["End-LSN"],
            written_at=datetime.fromtimestamp(written, timezone.utc),
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise StatefulError(f"The manifest {path} cannot be read: {error}.") from error
