# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything out of one server and into another: dumped and loaded by parallel jobs, compared before anybody uses it.

Neither server is reached by anybody else, so that what is dumped is all that there is. The new one is
tuned for the loading, which may begin anew at any time, and is durable at the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Bind
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import globals as cluster_globals
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import (
    helpers,
    logical_backup,
    logical_catalogue,
    logical_proof,
    logical_restore,
    routes,
    scratch,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.basebackup import make_owned
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.compare import (
    coverage,
    refuse_losses,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.model import Fingerprint
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.take import ESTIMATED, take
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.bench import (
    UNTIL_WRITTEN_DOWN,
    WORK,
    Bench,
    locks_for,
    served,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import CandidateImage, Sides
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.logical_restore import Brought
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session

SOCKET = "socket"
JOBS_AT_MOST = 4
FIRST_WITH_LZ4 = 160000
QUICK_GZIP, LZ4 = "1", "lz4"
LOADING = {**scratch.FAST, **UNTIL_WRITTEN_DOWN}


@dataclass(frozen=True)
class Reloaded:
    """What was brought over: ``left_out`` is what the new major does not know, of roles and databases."""

    left_out: tuple[str, ...]
    tables: int
    rows: int
    contents: int


def compression_of(clients: CandidateImage) -> str:
    """Return how a dump is compressed that is read right away: client programs may be built without LZ4."""
    return LZ4 if clients.lz4 and clients.server_version_num >= FIRST_WITH_LZ4 else QUICK_GZIP


def reload(
    bench: Bench,
    cluster: Cluster,
    sides: Sides,
    *,
    prepare: Callable[[Session], None],
    content: bool,
    progress: Callable[[int, int], None],
) -> Reloaded:
    """Take everything from ``old`` to ``new``; raises :class:`StatefulError` unless all of it is there.

    ``prepare`` is done to the copy first. With ``content`` every row is compared by a digest, else its table by the
    number of its rows.
    """
    make_owned(os.path.join(bench.work, SOCKET), bench.owner)
    dump = os.path.join(bench.work, logical_catalogue.DUMP)
    jobs = min(JOBS_AT_MOST, os.cpu_count() or 1)
    clients = sides.newer
    compression = compression_of(clients)
    route = routes.Route(
        f"{WORK}/{SOCKET}",
        cluster.port,
        cluster.superuser,
        "none",
        (Bind(bench.work, WORK, read_only=False),),
        helpers.ENGLISH,
    )
    ours = {
        "unix_socket_directories": route.host,
        "port": str(cluster.port),
        "max_locks_per_transaction": str(locks_for(cluster)),
    }
    with served(bench, cluster, sides.old.id, bench.old, ours) as session:
        prepare(session)
        before = take(session, rows=ESTIMATED, content=content, jobs=jobs)
        logical_backup.take(
            bench.engine,
            session,
            cluster,
            place=bench.work,
            owner=bench.owner,
            operation=bench.operation,
            labels={},
            progress=progress,
            jobs=jobs,
            count_seconds=logical_restore.DAYS,
            clients=logical_backup.Clients(clients.id, route, compression, clients.server_version_num),
        )
    catalogue = logical_catalogue.read_catalogue(dump)
    with served(bench, cluster, sides.new.id, bench.new, {**LOADING, **ours}) as session:
        target = logical_restore.Target(
            session, sides.new.server_version_num, route, clients.id, logical_restore.unknown_settings(session)
        )
        brought = logical_restore.bring(
            bench.engine, target, dump, catalogue, jobs=jobs, operation=bench.operation, labels={}
        )
        logical_restore.publish(session, catalogue)
        if logical_restore.TEMPLATE in catalogue.directories:
            logical_restore.fill_template(bench.engine, target, dump, catalogue, operation=bench.operation, labels={})
        logical_restore.drop_leftovers(session, is_empty=lambda name: True)
        for statement in cluster_globals.superuser_statements(catalogue.globals):
            session.run(statement)
        after = take(session, rows=ESTIMATED, content=content, jobs=jobs)
    wanted = _as_it_can_be(before, brought, sides.new.server_version_num)
    refuse_losses(wanted, after, "The new cluster lacks what the old one has")
    compared = logical_proof.compared(catalogue.counts, brought.counts)
    return Reloaded(
        left_out=(
            *brought.left_out,
            *(f"membership of {told}" for told in brought.memberships_left_out),
            *(f"privileges on {name}" for name in brought.parameters_left_out),
        ),
        tables=compared["tables_compared"],
        rows=compared["rows_compared"],
        contents=coverage(before, after).contents,
    )


def _as_it_can_be(before: Fingerprint, brought: Brought, version: int) -> Fingerprint:
    """Return a fingerprint without what a server of ``version`` cannot have, and was given in another form or not."""
    kept = replace(
        before,
        settings={
            name: word for name, word in before.settings.items() if name.partition(" of ")[0] not in brought.left_out
        },
        memberships={
            name: word for name, word in before.memberships.items() if name not in brought.memberships_left_out
        },
    )
    if version < cluster_globals.WITH_PARAMETER_GRANTS:
        kept = replace(kept, grants={one: who for one, who in kept.grants.items() if not one.startswith("parameter ")})
    if version >= logical_restore.DATABASE_OWNER:
        return kept
    databases = {
        name: replace(
            database,
            grants={
                one: {whose: may for whose, may in grants.items() if whose != "owner pg_database_owner"}
                for one, grants in database.grants.items()
            },
        )
        for name, database in kept.databases.items()
    }
    return replace(kept, databases=databases)
