# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a way to another image costs, in seconds of downtime and bytes on the disk of its target. Pure.

Rough on purpose, and on the safe side: measured on two slow cores, then rounded up.
"""

from __future__ import annotations

import math

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    DUMP,
    PG_UPGRADE,
    SWAP,
    Inventory,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster

MIB = 1 << 20
RESTART = 2.0
"""A stop and a start in another container, until the server answers."""
UPGRADE = 1.5
"""pg_upgrade by links of a cluster without anything in it; its check and initdb are over by then."""
PER_DATABASE = 0.3
PER_RELATION = 0.0027
"""10,000 tables took 27 s, whatever their size."""
OF_A_FRESH_DATABASE = 330
PROMOTE = 0.8
SETTLE = 0.5
CHANGED = 0.05
"""The part of the data that a copy finds changed since it was warm."""
READ_AND_WRITTEN = 500 * MIB
INDEXED = 20 * MIB
PER_INDEX = 0.02
DUMP_BASE = 5.0
DUMPED = 100 * MIB
"""Dumped and restored by two jobs, in bytes a second of the database's size."""
PER_RELATION_DUMPED = 0.005
UNPACKED_IMAGE = 512 * MIB
SLACK = 64 * MIB
WAL_KEPT = 1024 * MIB
"""max_wal_size, where nobody set it."""
FILE_OF_A_CLONE = 4096


def downtime(strategy: str, cluster: Cluster, inventory: Inventory, *, reindex: bool, by: str = "") -> float:
    """Return whole seconds; ``by`` is how pg_upgrade comes to a copy: ``standby``, ``clone`` or ``copy``."""
    relations = own_relations(cluster)
    databases = sum(not database.is_template for database in cluster.databases)
    if strategy == SWAP:
        seconds = RESTART
    elif strategy == PG_UPGRADE:
        seconds = RESTART + UPGRADE + databases * PER_DATABASE + relations * PER_RELATION
        if by == "standby":
            seconds += PROMOTE
        elif by == "copy":
            seconds += SETTLE + cluster.size_bytes * CHANGED / READ_AND_WRITTEN
    else:
        seconds = RESTART + DUMP_BASE + cluster.database_bytes / DUMPED + relations * PER_RELATION_DUMPED
    if reindex and strategy != DUMP:
        seconds += inventory.text_indexes * PER_INDEX + inventory.text_index_bytes / INDEXED
    return float(math.ceil(seconds))


def space(strategy: str, cluster: Cluster, inventory: Inventory, *, reindex: bool, by: str = "") -> int:
    """Return the bytes that a way needs beside the original, without a backup."""
    rebuilt = inventory.text_index_bytes if reindex else 0
    if strategy == SWAP:
        return rebuilt
    copied = cluster.relations * FILE_OF_A_CLONE if by == "clone" else math.ceil(cluster.size_bytes * 1.05)
    if strategy == DUMP:
        return copied + 2 * cluster.database_bytes + SLACK
    return copied + rebuilt + UNPACKED_IMAGE + SLACK


def rebuilt_space(strategy: str, inventory: Inventory) -> int:
    """Return the bytes that indexes which are built anew take at most, with the WAL of that.

    Each has its old file beside it until it is whole; of pg_upgrade the copy holds the old ones until all is proved.
    """
    built = inventory.text_index_bytes
    kept = next((s.value for s in inventory.settings if s.name == "max_wal_size" and s.value.isdigit()), "")
    wal = min(built, int(kept) * MIB if kept else WAL_KEPT)
    return (inventory.largest_text_index if strategy == SWAP else built) + wal


def own_relations(cluster: Cluster) -> int:
    """Return how many relations there are beside those that every database is made with."""
    connectable = sum(database.allows_connections for database in cluster.databases)
    return max(0, cluster.relations - OF_A_FRESH_DATABASE * connectable)
