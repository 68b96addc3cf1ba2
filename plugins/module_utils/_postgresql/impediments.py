# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What keeps a cluster from being backed up or followed: each asks, changes nothing, and is empty where all is well."""

from __future__ import annotations

import os

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import basebackup, paths, transport
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster


def to_physical_backup(cluster: Cluster, container: Container) -> list[str]:
    """Say why no proved physical backup can be taken; empty when it can."""
    found = []
    if cluster.server_version_num < basebackup.FIRST_WITH_MANIFEST:
        found.append(f"Postgres {cluster.major} writes no backup manifest (13 and later do)")
    if cluster.wal_level == "minimal":
        found.append("wal_level is minimal")
    if cluster.free_wal_senders < 2:
        found.append(f"{cluster.free_wal_senders} of {cluster.max_wal_senders} WAL senders are free, 2 are needed")
    inside = [space.name for space in cluster.tablespaces if _is_inside(space.location, cluster.data_directory)]
    if inside:
        found.append(f"the tablespace {inside[0]} lies inside the data directory")
    links = [link for link in basebackup.left_out(container, cluster) if _holds_data(container, cluster, link)]
    if links:
        found.append(f"pg_basebackup leaves out what symbolic links lead to: {', '.join(links[:5])}")
    return found


def to_logical_backup(cluster: Cluster) -> list[str]:
    """Say why no logical backup can be proved as it should be; empty when it can.

    Without one snapshot for dump and count only tables that stood still can be compared. That is
    all that can be had of a server that no driver knows, and no reason to do with less elsewhere.
    """
    lacking = transport.driver_missing()
    if not lacking or cluster.server_version_num < transport.FIRST_WITH_DRIVER:
        return []
    return [
        f"psycopg 3 is not on this host ({lacking}), and psql in the container cannot hold the snapshot"
        " in which the rows of the dump are counted"
    ]


def to_standby(cluster: Cluster, container: Container, *, lasting_session: bool = True) -> list[str]:
    """Return the reasons against moving this cluster by a standby; empty when it is possible. Changes nothing.

    ``lasting_session``: whether the session with it stays open between statements.
    """
    found = []
    if not lasting_session:
        found.append("only psql in the container reaches the server, which cannot hold the WAL that a standby needs")
    if cluster.server_version_num < basebackup.FIRST_WITH_MANIFEST:
        found.append(f"Postgres {cluster.major} writes no backup manifest, so the copy could not be proved in time")
    if cluster.in_recovery:
        found.append("the cluster is itself a standby")
    if cluster.wal_level == "minimal":
        found.append("wal_level is minimal")
    if cluster.free_wal_senders < 2:
        found.append(f"{cluster.free_wal_senders} of {cluster.max_wal_senders} WAL senders are free, 2 are needed")
    if cluster.unlogged_tables:
        found.append(f"{cluster.unlogged_tables} unlogged tables would arrive empty")
    if cluster.slots:
        found.append(f"replication slots are not carried: {', '.join(slot.name for slot in cluster.slots)}")
    if cluster.synchronous_standby_names:
        found.append("synchronous_standby_names is set: commits might wait for our standby")
    if cluster.tablespaces:
        found.append(f"tablespaces lie outside the data directory: {', '.join(s.name for s in cluster.tablespaces)}")
    if container.pid and os.path.islink(os.path.join(paths.seen_path(container, cluster.data_directory), "pg_wal")):
        found.append("pg_wal lies outside the data directory")
    links = basebackup.left_out(container, cluster)
    if links:
        found.append(f"symbolic links in the data directory are not carried: {', '.join(links[:5])}")
    return found


def _holds_data(container: Container, cluster: Cluster, link: str) -> bool:
    """Tell a link to data from one to a file of the configuration, which may as well lie elsewhere."""
    return "/" in link or os.path.isdir(paths.seen_path(container, os.path.join(cluster.data_directory, link)))


def _is_inside(path: str, parent: str) -> bool:
    return (path + "/").startswith(parent.rstrip("/") + "/")
