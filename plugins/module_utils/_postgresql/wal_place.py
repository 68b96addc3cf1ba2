# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a cluster keeps its write-ahead log: ``initdb --waldir`` puts it behind a link out of the data directory."""

from __future__ import annotations

import os

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import paths

NAMES = ("pg_wal", "pg_xlog")
"""The second one up to 9.6."""


def link_to(container: Container, data_path: str, host_path: str) -> tuple[str, str]:
    """Return the link in the data directory and where it leads, as the container names both; empty without one.

    ``data_path`` is the data directory inside the container, ``host_path`` the same on this
    host, where it can be read of a stopped container, too.
    """
    for name in NAMES:
        try:
            target = os.readlink(os.path.join(host_path, name))
        except OSError:
            continue
        place = os.path.normpath(os.path.join(data_path, target))
        if container.pid:
            place = paths.named_inside(paths.root_of(container), place)
        return os.path.join(data_path, name), place
    return "", ""


def blockers(container: Container, data_path: str, host_path: str) -> list[Blocker]:
    """Return what forbids to recreate ``container``, because its log would not outlive that."""
    link, place = link_to(container, data_path, host_path)
    if not link or container.mount_at(place) is not None:
        return []
    return [
        Blocker(
            f"The write-ahead log of {container.name} lies at {place}, on none of its mounts, and is lost when it is"
            " recreated: the cluster would not start without it. Stop the service, put that directory in place of the"
            f" link {link}, and start it again."
        )
    ]
