# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a standby beside the service consists of: its directory, its container, and the WAL that is kept for it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Bind, Container, Helper
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import (
    basebackup,
    second_server,
    shutdown,
    staging,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.routes import Route
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import SqlError

ROLE = "standby"
COPY_ROLE = "standby-copy"
APPLICATION_NAME = "selfhost_stateful"
SIGNAL_FILE = "standby.signal"

# On top of what every second server is told. A recovery target or a command that was
# left from an earlier point-in-time recovery would end or misdirect this one.
FOLLOWING = {
    "hot_standby": "on",
    "primary_slot_name": "",
    "recovery_min_apply_delay": "0",
    "recovery_target_timeline": "latest",
    "recovery_target": "",
    "recovery_target_lsn": "",
    "recovery_target_name": "",
    "recovery_target_time": "",
    "recovery_target_xid": "",
    "restore_command": "",
    "archive_cleanup_command": "",
    "recovery_end_command": "",
    "wal_retrieve_retry_interval": "200ms",
}


def claim(directory: str, owner: tuple[int, int]) -> None:
    """Make ``directory`` an empty one of the server's user; refuses what somebody else may need."""
    if not os.path.lexists(directory):
        basebackup.make_owned(directory, owner)
        return
    if os.path.islink(directory) or not os.path.isdir(directory) or os.listdir(directory):
        raise StatefulError(f"{directory} is in the way: a standby needs an absent or an empty directory.")
    os.chown(directory, *owner)
    os.chmod(directory, 0o700)


def hold_wal(session: Session, operation: str) -> Session:
    """Keep the primary from recycling WAL that the standby needs, for as long as the returned session is open.

    A temporary slot ends with its session, also when this process is killed: one that
    lasted would fill the primary's disk. Without a free slot the copy is tried all the same.
    """
    keeper = session.sibling().without_timeouts()
    if keeper.holds_transactions:
        name = "selfhost_stateful_" + hashlib.sha256(operation.encode()).hexdigest()[:16]
        try:
            keeper.scalar("SELECT slot_name FROM pg_create_physical_replication_slot(%s, true, true)", (name,))
        except SqlError as error:
            if error.sqlstate not in ("53400", "55000", "42710"):  # none free, none configured, one left over
                keeper.close()
                raise
    return keeper


def make_signal_file(directory: str, owner: tuple[int, int]) -> None:
    """Tell the server that starts here to follow; without this file the same directory is a primary."""
    path = os.path.join(directory, SIGNAL_FILE)
    with open(path, "x", encoding="ascii"):
        basebackup.give_privately(path, owner)
    staging.sync_directory(directory)


def helper(
    container: Container,
    cluster: Cluster,
    route: Route,
    directory: str,
    owner: tuple[int, int],
    operation: str,
    labels: Mapping[str, str],
) -> Helper:
    """Return the standby's container: the service's image, arguments and mounts, with a directory of its own."""
    conninfo = f"host={route.host} port={route.port} user={_quoted(route.user)} application_name={APPLICATION_NAME}"
    overrides = {**second_server.ISOLATED, **FOLLOWING, "primary_conninfo": conninfo}
    return Helper(
        operation=operation,
        role=ROLE,
        image_id=container.image_id,
        argv=second_server.server_argv(container, cluster, overrides),
        user=f"{owner[0]}:{owner[1]}",
        binds=(
            Bind(directory, cluster.data_directory, read_only=False),
            *second_server.surroundings(container, cluster),
            *route.binds,
        ),
        # The WAL receiver takes the password from here, so it stands in no argument and no file.
        environment={**second_server.environment_of(container), **route.environment},
        network_mode=route.network_mode,
        labels=labels,
        stop_signal=shutdown.FAST_SHUTDOWN,
        tmpfs=container.tmpfs,
    )


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
