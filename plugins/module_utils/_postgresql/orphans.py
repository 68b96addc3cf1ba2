# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find a cluster that lies in a directory of this host and that no server may own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timezone

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.control import major_of, read_control

# data/ below a mount that is one level off, 18/docker/ in the layout of 18.
LEVELS = 2
ENTRIES_AT_MOST = 200
DIRECTORIES_AT_MOST = 400
"""On each level: a cluster lies beside few others, and a volume of somebody's files may have any number."""


@dataclass(frozen=True)
class FoundCluster:
    """A cluster on disk; ``last_write`` is the age of its control file, written at every checkpoint."""

    path: str
    major: str
    system_identifier: int
    state: str
    last_write: datetime


def find_clusters(directory: str) -> list[FoundCluster]:
    """Return the clusters in ``directory`` and up to two levels below it. Follows no links, changes nothing."""
    found: list[FoundCluster] = []
    level = [directory]
    for _depth in range(LEVELS + 1):
        below: list[str] = []
        for path in level:
            cluster = cluster_at(path)
            if cluster is not None:
                found.append(cluster)
            else:
                below.extend(_directories(path))
        level = below[:DIRECTORIES_AT_MOST]
    return found


def cluster_at(directory: str) -> FoundCluster | None:
    """Return the cluster whose data directory this is, None if it is none; damage is none, too."""
    control_file = os.path.join(directory, "global", "pg_control")
    try:
        written = os.lstat(control_file).st_mtime
        control = read_control(directory)
        major = major_of(directory)
    except (OSError, StatefulError):
        return None
    return FoundCluster(
        path=directory,
        major=major,
        system_identifier=control.system_identifier,
        state=control.state,
        last_write=datetime.fromtimestamp(written, timezone.utc),
    )


def _directories(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            names = sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:  # gone, or not ours to read: nothing that could be named
        return []
    return names[:ENTRIES_AT_MOST]
