# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An empty server of the running image, to restore into and to throw away."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Bind, Container, Helper
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import (
    basebackup,
    helpers,
    own_server,
    readiness,
    second_server,
    shutdown,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.control import read_control
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster, Database
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.routes import SOCKET_TARGET, Route
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session, connect

ROLE = "scratch"
DATA_TARGET = "/selfhost-stateful/scratch"
START_SECONDS = 60.0
USUAL_SEGMENT = 16

# What is loaded is in the dump, too, so that a server may be fast instead of durable.
UNSYNCED = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}
FAST = {
    **UNSYNCED,
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
}
THROWN_AWAY = {**second_server.ISOLATED, "unix_socket_directories": SOCKET_TARGET, **FAST}


@dataclass(frozen=True)
class Scratch:
    """A running scratch server; ``route`` is for helpers, :func:`open_session` for ourselves."""

    container_id: str
    route: Route
    image_id: str
    owner: tuple[int, int]


@contextmanager
def server(
    engine: Engine,
    container: Container,
    cluster: Cluster,
    *,
    directory: str,
    owner: tuple[int, int],
    operation: str,
    labels: Mapping[str, str],
) -> Iterator[Scratch]:
    """Initialise and start a server like that of ``container`` in ``directory``; remove both at the end.

    ``directory`` is absent and ours. The server has no network; it takes encoding, locale,
    bootstrap superuser and preloaded libraries from ``cluster``.
    """
    os.mkdir(directory, 0o700)
    try:
        binds = _directories(directory, cluster, owner)
        user = f"{owner[0]}:{owner[1]}"
        environment = {**second_server.environment_of(container), "PGDATA": DATA_TARGET}
        initdb = Helper(operation, ROLE, container.image_id, initdb_argv(cluster), user, binds, environment)
        helpers.must_succeed(helpers.run(engine, initdb, timeout=START_SECONDS * 5), "Making a scratch cluster")
        settings = {**THROWN_AWAY, "shared_preload_libraries": cluster.shared_preload_libraries}
        postgres = Helper(
            operation=operation,
            role=ROLE,
            image_id=container.image_id,
            argv=("postgres", "-p", str(cluster.port), *second_server.switches(settings)),
            user=user,
            binds=(*binds, *second_server.beside(binds, container, cluster)),
            environment=environment,
            labels=labels,
            stop_signal=shutdown.FAST_SHUTDOWN,
        )
        login = readiness.Login(user=cluster.superuser, database="postgres")
        identifier = read_control(os.path.join(directory, "data")).system_identifier
        with own_server.serving(
            engine, helpers.running(engine, postgres), identifier, login, seconds=START_SECONDS
        ) as container_id:
            route = Route(SOCKET_TARGET, cluster.port, cluster.superuser, "none", binds)
            yield Scratch(container_id, route, container.image_id, owner)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def open_session(engine: Engine, scratch: Scratch, database: str = "postgres") -> Session:
    """Connect to a scratch server as its bootstrap superuser."""
    return connect(engine, own_server.alive(engine, scratch.container_id), user=scratch.route.user, database=database)


def _directories(directory: str, cluster: Cluster, owner: tuple[int, int]) -> tuple[Bind, ...]:
    wanted = {DATA_TARGET: "data", SOCKET_TARGET: "socket"}
    # The dump of the globals creates the tablespaces anew, each at its own location.
    wanted.update({space.location: f"tablespace-{space.oid}" for space in cluster.tablespaces})
    for name in wanted.values():
        basebackup.make_owned(os.path.join(directory, name), owner)
    return tuple(Bind(os.path.join(directory, name), target, read_only=False) for target, name in wanted.items())


def initdb_argv(cluster: Cluster, directory: str = DATA_TARGET, *, version: int = 0) -> tuple[str, ...]:
    """Return the call that makes an empty cluster of the same kind, as its template1 tells.

    ``version``: the server_version_num of the program that is called, where that is another one.
    """
    like = next((database for database in cluster.databases if database.name == "template1"), cluster.databases[0])
    checksums = ("--data-checksums",) if cluster.data_checksums else ()
    if not cluster.data_checksums and (version or cluster.server_version_num) >= 180000:
        checksums = ("--no-data-checksums",)
    segment = cluster.wal_segment_bytes >> 20
    return (
        "initdb",
        *("-D", directory, "-U", cluster.superuser, "-A", "trust", "--no-sync"),
        *("--encoding", like.encoding, "--locale", "C"),
        *("--lc-collate", like.collate, "--lc-ctype", like.ctype),
        *_provider(like),
        *((f"--wal-segsize={segment}",) if segment != USUAL_SEGMENT else ()),
        *checksums,
    )


def _provider(like: Database) -> tuple[str, ...]:
    if like.provider == "i":
        return ("--locale-provider", "icu", "--icu-locale", like.locale)
    if like.provider == "b":
        return ("--locale-provider", "builtin", "--builtin-locale", like.locale)
    return ()
