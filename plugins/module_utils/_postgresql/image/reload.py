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
    pg_restore,
    routes,
    scratch,
    toolbox,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.basebackup import make_owned
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.compare import (
    coverage,
    refuse_losses,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.model import Fingerprint
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.take import ESTIMATED, take
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import large_tables
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.bench import (
    UNTIL_WRITTEN_DOWN,
    WORK,
    Bench,
    locks_for,
    served,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.large_tables import LargeTable
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import CandidateImage, Sides
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.logical_restore import Brought
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.together import entered_together
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import durable

OLD_SOCKET, NEW_SOCKET = "old-socket", "new-socket"
JOBS_AT_MOST = 4
FIRST_WITH_LZ4 = 160000
QUICK_GZIP, LZ4 = "1", "lz4"
LOADING = {**scratch.FAST, **UNTIL_WRITTEN_DOWN}


@dataclass(frozen=True)
class Reloaded:
    """What was brought over: ``left_out`` is what the new major does not know, of roles and databases.

    ``streamed`` is how many tables' rows went straight from one server into the other.
    """

    left_out: tuple[str, ...]
    tables: int
    rows: int
    contents: int
    streamed: int


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
    for place in (OLD_SOCKET, NEW_SOCKET):
        make_owned(os.path.join(bench.work, place), bench.owner)
    dump = os.path.join(bench.work, logical_catalogue.DUMP)
    jobs = min(JOBS_AT_MOST, os.cpu_count() or 1)
    clients = sides.newer
    compression = compression_of(clients)
    settings = {"port": str(cluster.port), "max_locks_per_transaction": str(locks_for(cluster))}
    old_route, new_route = (
        routes.Route(
            f"{WORK}/{place}",
            cluster.port,
            cluster.superuser,
            "none",
            (Bind(bench.work, WORK, read_only=False),),
            helpers.ENGLISH,
        )
        for place in (OLD_SOCKET, NEW_SOCKET)
    )
    ours = {**settings, "unix_socket_directories": old_route.host}
    loading = {**LOADING, **settings, "unix_socket_directories": new_route.host}
    # Before its container: what it has mounted is there when it starts.
    make_owned(dump, bench.owner)
    dumps = Bind(dump, logical_catalogue.DUMP_TARGET, read_only=False)
    with (
        durable.written_out_meanwhile(bench.work),
        entered_together(
            toolbox.opened(bench.engine, bench.helper(clients.id, binds=(dumps,))),
            served(bench, cluster, sides.old.id, bench.old, ours),
            served(bench, cluster, sides.new.id, bench.new, loading),
        ) as (run, source, session),
    ):
        prepare(source)
        before = take(source, rows=ESTIMATED, content=content, jobs=jobs)
        large = _large_tables(source, cluster)
        logical_backup.take(
            bench.engine,
            source,
            cluster,
            place=bench.work,
            owner=bench.owner,
            operation=bench.operation,
            labels={},
            progress=progress,
            jobs=jobs,
            count_seconds=logical_restore.DAYS,
            clients=logical_backup.Clients(clients.id, old_route, run, compression, clients.server_version_num),
            without_rows=large_tables.patterns(large),
            for_psql=False,
        )
        catalogue = logical_catalogue.read_catalogue(dump)
        target = pg_restore.Target(
            session, sides.new.server_version_num, new_route, clients.id, run, pg_restore.unknown_settings(session)
        )

        def fill(name: str, there: str) -> None:
            large_tables.pour(
                bench,
                clients.id,
                run,
                large[name],
                large_tables.End(source, old_route.host, name),
                large_tables.End(session, new_route.host, there),
                port=cluster.port,
                jobs=jobs,
                progress=progress,
            )

        brought = logical_restore.bring(
            target,
            dump,
            catalogue,
            jobs=jobs,
            operation=bench.operation,
            labels={},
            fill=logical_restore.Fill(frozenset(large), fill),
        )
        logical_restore.publish(session, catalogue)
        if logical_restore.TEMPLATE in catalogue.directories:
            logical_restore.fill_template(target, dump, catalogue, operation=bench.operation, labels={})
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
        streamed=sum(len(tables) for tables in large.values()),
    )


def _large_tables(source: Session, cluster: Cluster) -> dict[str, tuple[LargeTable, ...]]:
    """Return, of the databases that have such, the tables whose rows need no file; a template is restored in one go."""
    found: dict[str, tuple[LargeTable, ...]] = {}
    for database in cluster.databases:
        if database.allows_connections and database.name != logical_restore.TEMPLATE:
            with source.sibling(database.name) as there:
                found[database.name] = large_tables.of_database(there, cluster.server_version_num)
    return {name: tables for name, tables in found.items() if tables}


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
