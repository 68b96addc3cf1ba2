# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a path of a container lies on this host.

Two views exist. ``/proc/<pid>/root`` is what the running process sees, sockets and
tmpfs included, but the kernel refuses to bind-mount out of it into another container.
A mount's source (or the merged directory of the container's layers) can be mounted.
"""

from __future__ import annotations

import errno
import os

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError

LINKS_AT_MOST = 40


def resolve_inside(root: str, path: str) -> str:
    """Follow ``path`` as a process rooted at ``root`` would, and return it as seen from out here.

    The kernel resolves an absolute link below /proc/<pid>/root against *our* root:
    ``/var/run -> /run`` would end in the host's own /run.
    """
    pending = _parts(path)
    inside: list[str] = []
    links = 0
    while pending:
        part = pending.pop(0)
        if part == "..":
            del inside[-1:]
            continue
        here = os.path.join(root, *inside, part)
        try:
            target = os.readlink(here)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise
            inside.append(part)
            continue
        links += 1
        if links > LINKS_AT_MOST:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if target.startswith("/"):
            inside = []
        pending = _parts(target) + pending
    return os.path.join(root, *inside)


def named_inside(root: str, path: str) -> str:
    """Return ``path`` without links, as a process rooted at ``root`` names it."""
    return resolve_inside(root, path)[len(root) :] or "/"


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def root_of(container: Container) -> str:
    """Return the directory on this host that the running container sees as ``/``."""
    if not container.pid:
        raise StatefulError(
            f"The container {container.name} is not running ({container.status}).",
            next_command=f"docker start {container.name}",
        )
    return f"/proc/{container.pid}/root"


def seen_path(container: Container, path: str) -> str:
    """Return ``path`` of the running container as a path that this process can open."""
    return resolve_inside(root_of(container), path)


def mountable_path(container: Container, path: str) -> str:
    """Return ``path`` of the container as a path that another container can mount, or an empty string.

    Empty where there is no such path: on a tmpfs, or in a layer that the engine does not show.
    """
    if container.pid:
        path = named_inside(root_of(container), path)
    if any(_below(path, tmpfs) is not None for tmpfs in container.tmpfs):
        return ""
    mount = container.mount_at(path)
    if mount is not None:
        if not mount.source or mount.type == "tmpfs":
            return ""
        inner = _below(path, mount.destination)
        return os.path.join(mount.source, inner) if inner else mount.source
    merged = container.layers.get("MergedDir", "")
    return merged + path if merged and os.path.isdir(merged) else ""


def _below(path: str, parent: str) -> str | None:
    parent = parent.rstrip("/")
    return path[len(parent) :].lstrip("/") if (path + "/").startswith(parent + "/") else None


def owner_of(path: str) -> tuple[int, int]:
    """Return the numeric owner and group of a directory of a cluster."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise StatefulError(f"{path} cannot be looked at: {error.strerror}.") from error
    return found.st_uid, found.st_gid
