# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start a second server from the service's own image, arguments and surroundings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Bind, Container
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import paths, postmaster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster

SOCKET_DIRECTORY = "/tmp"

# A helper server must reach nobody and touch nothing but its own directory: it serves
# no network, archives nothing, runs no command that the service's configuration names
# (an archive_cleanup_command would delete the service's own archive), and is durable
# even where the service is not.
ISOLATED = {
    "listen_addresses": "",
    "unix_socket_directories": SOCKET_DIRECTORY,
    "archive_mode": "off",
    "ssl": "off",
    "logging_collector": "off",
    "log_destination": "stderr",
    "huge_pages": "off",
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_standby_names": "",
}


def server_argv(container: Container, cluster: Cluster, overrides: dict[str, str]) -> tuple[str, ...]:
    """Return the arguments of the running server, followed by ours: the last one given counts.

    They are read from the process, not from the container's command, so that an
    entrypoint or a wrapper that adds to them is met, too.
    """
    running = postmaster.find_postmaster(container, cluster.data_directory)
    return (*running.argv, *switches(overrides))


def switches(settings: Mapping[str, str]) -> tuple[str, ...]:
    """Return the arguments by which a server takes ``settings``."""
    return tuple(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))


def environment_of(container: Container) -> dict[str, str]:
    """Return the container's environment without what only its entrypoint reads, secrets among it."""
    return {name: value for name, value in container.env.items() if not name.startswith("POSTGRES_")}


def surroundings(container: Container, cluster: Cluster) -> tuple[Bind, ...]:
    """Return everything beside the data that the service has mounted, read-only.

    Configuration, certificates and libraries may come from there. What holds the data
    directory, or lies in it, stays out: the helper brings a directory of its own.
    """
    data = cluster.data_directory
    binds = {}
    for mount in container.mounts:
        if mount.type in ("bind", "volume") and mount.source and not _overlap(mount.destination, data):
            binds[mount.destination] = Bind(mount.source, mount.destination, read_only=True)
    for path in cluster.files_outside():
        if container.mount_at(path) is None:  # in the container's own layer, or in its image
            source = paths.mountable_path(container, path)
            if source and os.path.isfile(source):
                binds[path] = Bind(source, path, read_only=True)
    return tuple(binds.values())


def beside(own: Iterable[Bind], container: Container, cluster: Cluster) -> tuple[Bind, ...]:
    """Return the surroundings but for what is mounted over by the helper's ``own`` directories, as a tablespace is."""
    taken = {bind.target.rstrip("/") for bind in own}
    return tuple(bind for bind in surroundings(container, cluster) if bind.target.rstrip("/") not in taken)


def _overlap(one: str, other: str) -> bool:
    one, other = one.rstrip("/") + "/", other.rstrip("/") + "/"
    return one.startswith(other) or other.startswith(one)
