# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Refuses a journal that would be gone with the container it is written in, before anything depends on it."""

from __future__ import annotations

import os

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.mounts import (
    FileSystem,
    filesystem_of,
    read_mounts,
)

MARKERS = ("/.dockerenv", "/run/.containerenv")


def require_kept(directory: str) -> None:
    """Raise where a journal in ``directory`` would not outlive the container, or the machine's next start."""
    reason = forgotten(filesystem_of(directory), in_container=_in_container(), root_of_root=_root_of_root())
    if reason:
        raise InvalidInput(
            f"The operations directory {directory} {reason}. A run that is killed after the dynos were scaled to zero"
            " would leave nothing that knows how many ran. Mount a volume there (for ansible-navigator and"
            " ansible-runner: --container-volume-mounts; for AWX: a persistent volume in the pod specification or the"
            " isolated paths), or set operations_dir to a directory that is mounted."
        )


def forgotten(under: FileSystem, *, in_container: bool, root_of_root: str) -> str:
    """Return why a directory on this file system is lost with the container or the next start; empty if it is kept."""
    if under.fs_type == "overlay" or under.fs_type == "aufs" or "overlayfs" in under.fs_type:
        return "is in a container's own layer and no mount"
    if under.volatile:
        return f"is on {under.fs_type}, which is empty after the next start"
    if in_container and under.mount_point == "/" and root_of_root != "/":
        # A storage driver without overlay: the root is a directory of the host's file system.
        return "is in a container's own layer and no mount"
    return ""


def _in_container() -> bool:
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) or any(os.path.exists(each) for each in MARKERS)


def _root_of_root() -> str:
    return next((mount.root for mount in reversed(read_mounts()) if mount.point == "/"), "/")
