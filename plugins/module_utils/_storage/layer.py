# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading data that lives in a container's own layer.

A running container's whole view of its files is at /proc/<pid>/root. A stopped
one has none, so its layers are laid over each other once more, read-only, at a
directory of ours; the layers themselves are never written.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import LAYER
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Transfer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import libc

MS_RDONLY = 1
MNT_DETACH = 2


@contextmanager
def layer_view(engine: Engine, transfer: Transfer) -> Iterator[str]:
    """Yield a directory of the host that shows the origin, whatever kind it is of."""
    if transfer.origin.kind != LAYER:
        yield transfer.origin.path
        return
    container = engine.container(transfer.containers[0])
    if container is None:
        raise StatefulError(
            f"The container {transfer.containers[0][:12]}, whose own layer holds the data of {transfer.service},"
            " is gone.",
            state="only the copies named here hold the data",
            safe_to_rerun=False,
        )
    if container.running:
        yield inside(container, transfer.target)
        return
    with mounted_layers(container) as root:
        yield os.path.join(root, transfer.target.lstrip("/"))


def inside(container: Container, path: str) -> str:
    """Return ``path`` of a running container as root on the host reaches it."""
    return os.path.join(f"/proc/{container.pid}/root", path.lstrip("/"))


@contextmanager
def mounted_layers(container: Container) -> Iterator[str]:
    """Mount a stopped container's layers read-only at a directory of ours, and unmount them at the end."""
    upper, lower = container.layers.get("UpperDir", ""), container.layers.get("LowerDir", "")
    if not upper or not lower:
        raise StatefulError(
            f"The engine's storage driver does not say where the layers of {container.name} are.",
            next_command="docker info --format '{{.Driver}}'",
        )
    # A process of ours that was killed in here leaves a read-only mount behind,
    # which does no harm; a mount namespace of our own would hide it from threads.
    root = tempfile.mkdtemp(prefix="selfhost-stateful-layer-")
    try:
        libc.mount("overlay", root, "overlay", MS_RDONLY, f"lowerdir={upper}:{lower}")
        try:
            yield root
        finally:
            libc.umount(root, MNT_DETACH)
    finally:
        os.rmdir(root)
