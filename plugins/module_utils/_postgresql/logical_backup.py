# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A logical backup of a running cluster: every database and the globals, as the image's own clients dump them.

::

    <destination>/                  0700
        SHA256SUMS                  of all that lies in dump/
        dump/globals.sql            roles, memberships, tablespaces (with password hashes), for psql
        dump/globals.json           the same as data, and the databases without their content
        dump/database-<name>/       pg_dump's directory format, the name percent-encoded
        dump/catalogue.json         what is in here, with each table's rows in the dump's own snapshot
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from ansible_collections.selfhost.stateful.plugins.module_utils._clock import moment
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Bind, Helper
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import AGAIN, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import (
    basebackup,
    helpers,
    logical_proof,
    paths,
    routes,
    staging,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.basebackup import Progress
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.counts import (
    Count,
    Counts,
    as_dict,
    count_database,
    files,
    relations,
    replaced,
    unless_replaced,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.globals import (
    Globals,
    read_globals,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.globals import (
    as_dict as globals_as_dict,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.globals_joined import joined
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.logical_catalogue import (
    CATALOGUE,
    DUMP,
    DUMP_TARGET,
    GLOBALS,
    SUMS,
    files_below,
    sha256_of,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import session_options

ROLE = "logical-backup"
JOBS = 2
DAYS = 86400.0
LOCK_WAIT_MS = 300_000
COUNT_SECONDS = 300.0
QUEUED = "could not obtain lock on relation"
EVERY_TABLE = 1 << 62


@dataclass(frozen=True)
class Clients:
    """The programs that dump: of which image, by which way to the server, and how small (pg_dump's ``-Z``).

    ``run`` runs them. ``version_num`` is theirs, 0 where they are the server's own.
    """

    image_id: str
    route: routes.Route
    run: helpers.Run
    compression: str = ""
    version_num: int = 0


@dataclass(frozen=True)
class Dumped:
    """One database's dump: when its snapshot was taken, and what that snapshot holds.

    ``globals`` are those of the cluster at that moment: what is in the dump belongs to these roles. ``replaced`` are
    the tables of which only a restore tells whether their rows are in the dump (:func:`counts.replaced`).
    """

    name: str
    moment: datetime
    counts: Mapping[str, Count]
    globals: Globals
    replaced: tuple[str, ...] = ()


def take_proved(
    engine: Engine,
    session: Session,
    cluster: Cluster,
    *,
    destination: str,
    operation: str,
    labels: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Dump the running cluster, restore the dump into a scratch server, compare; only then give it its name.

    ``session`` is a superuser's. Returns the evidence; on any failure nothing is left at
    ``destination``.
    """
    began = clock()
    owner = paths.owner_of(paths.seen_path(session.container, cluster.data_directory))
    with staging.staged(destination) as place:
        dumped = take(
            engine,
            session,
            cluster,
            place=place,
            owner=owner,
            operation=operation,
            labels=labels or {},
            progress=progress,
            clock=clock,
        )
        proof = logical_proof.prove(
            engine,
            session.container,
            cluster,
            place=place,
            scratch_directory=os.path.join(place, "scratch"),
            owner=owner,
            operation=operation,
            labels=labels or {},
        )
        evidence = evidence_of(place, destination, cluster, dumped)
    return {**evidence, **proof, "verified_at": moment(), "seconds": round(clock() - began, 3)}


def evidence_of(place: str, destination: str, cluster: Cluster, dumped: list[Dumped]) -> dict[str, Any]:
    """Return what is known of a dump in ``place`` that is to be called ``destination``."""
    files, size = staging.tree_size(place)
    with open(os.path.join(place, SUMS), "rb") as sums:
        checksum = hashlib.sha256(sums.read()).hexdigest()
    moments = {one.name: one.moment.isoformat(timespec="milliseconds") for one in dumped}
    return {
        "kind": "logical",
        "path": destination,
        "bytes": size,
        "files": files,
        "database_bytes": cluster.database_bytes,
        "system_identifier": str(cluster.system_identifier),
        "sums_sha256": checksum,
        "moment": min(moments.values()),
        "moments": moments,
        "not_dumped": [database.name for database in cluster.databases if not database.allows_connections],
    }


def take(
    engine: Engine,
    session: Session,
    cluster: Cluster,
    *,
    place: str,
    owner: tuple[int, int],
    operation: str,
    labels: Mapping[str, str],
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
    jobs: int = JOBS,
    clients: Clients | None = None,
    count_seconds: float = COUNT_SECONDS,
    without_rows: Mapping[str, Sequence[str]] | None = None,
    for_psql: bool = True,
) -> list[Dumped]:
    """Dump globals and databases into ``place``, a directory of ours, below ``DUMP``; proves nothing yet.

    ``clients`` are the container's own, by the way that its server lets them in, where they are not given. Each
    database is counted for ``count_seconds``; what is left then is an estimate. ``without_rows`` are, by database, the
    tables whose rows somebody else sees to, as patterns of pg_dump: they are counted all the same. ``for_psql``: with
    the globals as a script, too, for whoever restores by hand.
    """
    if clients is None:
        route = routes.find_route(engine, session.container, cluster, session.login, replication=False)
        clients = Clients(session.container.image_id, route, helpers.alone(engine))
    route = clients.route
    image_id, compression = clients.image_id, clients.compression
    dump = os.path.join(place, DUMP)
    if not os.path.isdir(dump):
        basebackup.make_owned(dump, owner)

    # A role or a database may be somebody else by default, and a dump is a superuser's.
    environment = {"PGOPTIONS": session_options(session.for_programs())}

    def run(argv: tuple[str, ...], what: str) -> None:
        helper = Helper(
            operation=operation,
            role=ROLE,
            image_id=image_id,
            argv=argv,
            user=f"{owner[0]}:{owner[1]}",
            binds=(Bind(dump, DUMP_TARGET, read_only=False), *route.binds),
            environment={**helpers.ENGLISH, **route.environment, **environment},
            network_mode=route.network_mode,
            labels=labels,
        )
        tick = (lambda: progress(staging.tree_size(dump)[1], cluster.database_bytes)) if progress else None
        finished = clients.run(helper, timeout=DAYS, tick=tick)
        refuse_queue(finished, what)
        helpers.must_be_silent(helpers.must_succeed(finished, what).output, what)

    frames = read_globals(session, cluster.server_version_num)
    argv = ("pg_dumpall", *route.switches(), "--globals-only", "-f", f"{DUMP_TARGET}/globals.sql")
    if for_psql:
        # First, so that a login that will not do is told at once.
        run(argv, "The dump of the roles")
    switches = (*route.switches(), *((f"--compress={compression}",) if compression else ()))
    dumped = []
    for name in (database.name for database in cluster.databases if database.allows_connections):
        left_out = tuple(f"--exclude-table-data={pattern}" for pattern in (without_rows or {}).get(name, ()))
        one = (*switches, *left_out)
        dumped.append(_dump_database(session, name, cluster.server_version_num, one, run, clock, jobs, count_seconds))
    # The dumps take hours, and a role that was made meanwhile may own what is in the later ones.
    found = functools.reduce(joined, (one.globals for one in dumped), frames)
    if for_psql and found != frames:
        run(argv, "The dump of the roles")
    _write_json(os.path.join(dump, GLOBALS), globals_as_dict(found))
    _write_catalogue(dump, cluster, dumped, clients.version_num)
    _seal(dump)
    return dumped


def refuse_queue(finished: helpers.Finished, what: str) -> None:
    """Raise where a job of pg_dump stood behind somebody who waits for a table that pg_dump itself holds."""
    if finished.rc != 0 and QUEUED in finished.output:
        raise StatefulError(
            f"{what} failed: somebody waited for an exclusive lock on a table (a TRUNCATE, a DROP, an ALTER), and two"
            f" jobs of pg_dump cannot share it then. A dump with one job (jobs: 1) cannot fail so."
            f"\n{finished.last_words()}",
            next_command=AGAIN,
        )


def directory_of(database: str) -> str:
    """Return the directory name of a database's dump."""
    return "database-" + quote(database, safe="")


def _dump_database(
    session: Session,
    name: str,
    version: int,
    switches: tuple[str, ...],
    run: Callable[[tuple[str, ...], str], None],
    clock: Callable[[], float],
    jobs: int,
    count_seconds: float,
) -> Dumped:
    argv = ("pg_dump", *switches, "-d", name, "-F", "d", "-j", str(jobs), f"--lock-wait-timeout={LOCK_WAIT_MS}")
    argv += ("-f", f"{DUMP_TARGET}/{directory_of(name)}")
    what = f"The dump of the database {name}"

    def count(there: Session, *, in_transaction: bool = False) -> dict[str, Count]:
        ends = clock() + count_seconds
        return count_database(there, ends=ends, exact_up_to=EVERY_TABLE, clock=clock, in_transaction=in_transaction)

    with session.sibling(name).without_timeouts() as there:
        if there.holds_transactions:
            # Before the snapshot: what is replaced in between is not to be taken for what the snapshot shows.
            lay_in = files(there)
            there.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            snapshot = there.scalar("SELECT pg_export_snapshot()")
            moment = datetime.now(timezone.utc)
            found = read_globals(there, version)
            run((*argv, f"--snapshot={snapshot}"), what)
            # After the dump, so that no question waits for it.
            tables = relations(there)
            counted = count(there, in_transaction=True)
            there.run("ROLLBACK")
            # What waited for the dump to let go of its tables was done before they were counted.
            lie_in = files(there)
            others = replaced(tables, lay_in, lie_in)
            return Dumped(name, moment, unless_replaced(counted, lay_in, lie_in), found, others)
        before = count(there)
        moment = datetime.now(timezone.utc)
        run(argv, what)
        after = count(there)
    # Without a common snapshot only what stood still can be compared.
    still = {table: rows for table, rows in before.items() if after.get(table) == rows}
    return Dumped(name, moment, still, read_globals(session, version))


def _write_catalogue(dump: str, cluster: Cluster, dumped: list[Dumped], client_version_num: int) -> None:
    content = {
        "schema_version": 1,
        "system_identifier": str(cluster.system_identifier),
        "server_version_num": cluster.server_version_num,
        "client_version_num": client_version_num,
        "superuser": cluster.superuser,
        "directories": {one.name: directory_of(one.name) for one in dumped},
        "moments": {one.name: one.moment.isoformat(timespec="milliseconds") for one in dumped},
        "counts": as_dict(Counts({one.name: one.counts for one in dumped}, {})),
        "replaced": {one.name: list(one.replaced) for one in dumped if one.replaced},
    }
    _write_json(os.path.join(dump, CATALOGUE), content)


def _write_json(path: str, content: dict[str, Any]) -> None:
    with open(path, "x", encoding="utf-8") as file:
        os.chmod(file.fileno(), 0o600)
        json.dump(content, file, indent=1, sort_keys=True)


def _seal(dump: str) -> None:
    sums = []
    for path in files_below(dump):
        os.chmod(path, 0o600)
        sums.append(f"{sha256_of(path)}  {os.path.relpath(path, dump)}\n")
    with open(os.path.join(os.path.dirname(dump), SUMS), "x", encoding="utf-8", errors="surrogateescape") as file:
        os.chmod(file.fileno(), 0o600)
        file.writelines(sorted(sums))
