# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove a physical backup by restoring it: a copy of it is recovered by a server of its own, and read there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Bind, Container, Helper
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import (
    basebackup,
    helpers,
    own_server,
    physical_backup,
    readiness,
    second_server,
    shutdown,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup.files import copy_files
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.routes import SOCKET_TARGET
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session, connect

ROLE = "physical-proof"
HBA_TARGET = "/selfhost-stateful/pg_hba.conf"
# Every cluster has it, and nothing but an upgrade ever drops it.
DATABASE = "template1"
# Recovery reads all WAL that was written while the backup was taken. A server that fails ends, and is not waited for.
RECOVERY_SECONDS = 86400.0
SIGNALS = ("standby.signal", "recovery.signal")

# It is thrown away, so it may be fast instead of durable. It is recovered to the end of the
# backup and no further, and whatever the service has scheduled inside its database changes nothing.
RECOVERED = {
    **second_server.ISOLATED,
    "unix_socket_directories": SOCKET_TARGET,
    "hba_file": HBA_TARGET,
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "default_transaction_read_only": "on",
    "max_logical_replication_workers": "0",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "restore_command": "",
    "archive_cleanup_command": "",
    "recovery_end_command": "",
}


@contextmanager
def restored(
    engine: Engine,
    container: Container,
    cluster: Cluster,
    *,
    place: str,
    directory: str,
    operation: str,
    labels: Mapping[str, str],
) -> Iterator[Session]:
    """Start a server on a copy of the backup in ``place``, and remove both at the end; the backup is only read.

    ``directory`` is absent and ours. The server runs the service's image with the service's
    own arguments, reaches nobody, and lets nobody in but us.
    """
    os.mkdir(directory, 0o700)
    try:
        binds = _copies(place, directory, cluster)
        owner = os.stat(os.path.join(place, physical_backup.DATA))
        postgres = Helper(
            operation=operation,
            role=ROLE,
            image_id=container.image_id,
            argv=second_server.server_argv(container, cluster, {**RECOVERED, "data_directory": cluster.data_directory}),
            user=f"{owner.st_uid}:{owner.st_gid}",
            binds=(*binds, *second_server.beside(binds, container, cluster)),
            environment={**second_server.environment_of(container), "PGDATA": cluster.data_directory},
            labels=labels,
            stop_signal=shutdown.FAST_SHUTDOWN,
        )
        login = readiness.Login(user=cluster.superuser, database=DATABASE)
        with own_server.serving(
            engine,
            helpers.running(engine, postgres),
            cluster.system_identifier,
            login,
            seconds=RECOVERY_SECONDS,
            data_directory=cluster.data_directory,
        ) as container_id:
            there = own_server.alive(engine, container_id)
            with connect(engine, there, user=cluster.superuser, database=DATABASE) as session:
                yield session
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _copies(place: str, directory: str, cluster: Cluster) -> tuple[Bind, ...]:
    origin = os.path.join(place, physical_backup.DATA)
    owner = (os.stat(origin).st_uid, os.stat(origin).st_gid)
    wanted = {cluster.data_directory: (origin, os.path.join(directory, "data"))}
    for space in cluster.tablespaces:
        copy = os.path.join(directory, f"tablespace-{space.oid}")
        wanted[space.location] = (physical_backup.place_of(place, space.name), copy)
    for source, copy in wanted.values():
        basebackup.make_owned(copy, owner)
        copy_files(source, copy, owner, leave=SIGNALS)
    socket, hba = os.path.join(directory, "socket"), os.path.join(directory, "pg_hba.conf")
    basebackup.make_owned(socket, owner)
    with open(hba, "x", encoding="ascii") as file:
        file.write("local all all trust\n")
    os.chown(hba, *owner)
    return (
        *(Bind(copy, target, read_only=False) for target, (_source, copy) in wanted.items()),
        Bind(socket, SOCKET_TARGET, read_only=False),
        Bind(hba, HBA_TARGET),
    )
