# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where another cluster is made from a copy of the one that serves, and what both ways to fill it need.

All of it lies in one directory, which is mounted whole: hard links do not reach from one mount to
another. In it lie ``old``, a copy of the cluster, and ``new``. Everything runs as the owner of the
data, by number, whatever the new image calls that user; the new cluster is given to the new image's
user at the end.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Bind, Helper
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import (
    helpers,
    own_server,
    readiness,
    scratch,
    second_server,
    shutdown,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.basebackup import make_owned
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.control import read_control
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import (
    configuration,
    configuration_files,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session, connect

ROLE = "image-change"
WORK = "/selfhost-stateful/work"
OLD, NEW = "old", "new"
CONFIGURATION = "configuration"
# Of the tables of a large catalog, each is locked while it is dumped and while it is restored.
LOCKS_PER_TRANSACTION = 256
RELATIONS_PER_LOCK = 100
WITHOUT_WORKERS = frozenset(("auth_delay", "auto_explain", "passwordcheck", "pg_stat_statements", "pgaudit"))
FIRST_WITH_SCRAM, FIRST_WITH_SCRAM_BY_DEFAULT = 100000, 140000
# For what is filled or rebuilt, and durable once it is written down as a whole.
UNTIL_WRITTEN_DOWN = {
    **scratch.UNSYNCED,
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "maintenance_work_mem": "256MB",
}
MINUTES = 60.0
HOURS = 3600.0


@dataclass(frozen=True)
class Bench:
    """Where and with what the other cluster of one service is made.

    ``work`` is the directory on the host, ``owner`` the numeric owner of the data, ``old_subpath`` and
    ``new_subpath`` where the data directories lie below ``old`` and ``new``.
    """

    engine: Engine
    operation: str
    image_id: str
    old_image_id: str
    owner: tuple[int, int]
    work: str
    passwd: str
    old_subpath: str = ""
    new_subpath: str = ""

    @property
    def old(self) -> str:
        """Return the copy's data directory on the host."""
        return os.path.join(self.work, OLD, self.old_subpath).rstrip("/")

    @property
    def new(self) -> str:
        """Return the new cluster's data directory on the host."""
        return os.path.join(self.work, NEW, self.new_subpath).rstrip("/")

    def seen(self, path: str) -> str:
        """Return a path below the work directory as a helper sees it."""
        return WORK + path[len(self.work) :]

    def helper(self, image_id: str, *argv: str, binds: tuple[Bind, ...] = (), **environment: str) -> Helper:
        return Helper(
            operation=self.operation,
            role=ROLE,
            image_id=image_id,
            argv=argv,
            user=f"{self.owner[0]}:{self.owner[1]}",
            binds=(Bind(self.work, WORK, read_only=False), Bind(self.passwd, "/etc/passwd"), *binds),
            environment={**helpers.ENGLISH, "HOME": WORK, **environment},
            stop_signal=shutdown.FAST_SHUTDOWN,
            working_dir=WORK,
        )


def write_passwd(path: str, owner: tuple[int, int]) -> None:
    """Write the user table of a helper: the programs ask it for the name of whoever runs them."""
    with open(path, "w", encoding="ascii") as file:
        file.write(f"root:x:0:0::/root:/bin/sh\npostgres:x:{owner[0]}:{owner[1]}::{WORK}:/bin/sh\n")
    os.chmod(path, 0o644)


def make_cluster(bench: Bench, cluster: Cluster, server_version_num: int) -> None:
    """Initialise ``new`` as the counterpart of a running cluster; ``work`` is there and has no ``new``."""
    made = bench.work
    for part in (NEW, *bench.new_subpath.split("/")) if bench.new_subpath else (NEW,):
        made = os.path.join(made, part)
        make_owned(made, bench.owner)
    argv = scratch.initdb_argv(cluster, bench.seen(bench.new), version=server_version_num)
    initdb = bench.helper(bench.image_id, *argv)
    helpers.must_succeed(helpers.run(bench.engine, initdb, timeout=5 * MINUTES), "Making the new cluster")


def carry_configuration(
    bench: Bench, cluster: Cluster, source: str, version: int, named: Mapping[str, str] | None = None
) -> list[configuration.LeftOut]:
    """Prepare the configuration of the new cluster from that in ``source``, and have the new server read it.

    ``version`` is the new server's (server_version_num), ``named``: further files that the running server reads, as it
    names them.
    """
    directory = os.path.join(bench.work, CONFIGURATION)
    if os.path.isdir(directory):
        shutil.rmtree(directory)
    make_owned(directory, bench.owner)
    names = configuration.copy_configuration(source, directory, cluster.data_directory, named)
    if configuration_files.MAIN not in names:
        return []
    give_to(directory, bench.owner)
    if cluster.password_encryption != usual_encryption(version) and version >= FIRST_WITH_SCRAM:
        configuration.keep_setting(directory, "password_encryption", cluster.password_encryption)

    def ask() -> tuple[int, str]:
        main = bench.seen(os.path.join(directory, configuration_files.MAIN))
        server = bench.helper(
            bench.image_id, "postgres", "-D", bench.seen(directory), "-c", f"config_file={main}", "-C", "server_version"
        )
        finished = helpers.run(bench.engine, server, timeout=MINUTES)
        return finished.rc, finished.output

    return configuration.leave_out_unknown(directory, ask, bench.seen(directory))


def usual_encryption(version: int) -> str:
    """Return how a server keeps passwords where nobody said how."""
    return "scram-sha-256" if version >= FIRST_WITH_SCRAM_BY_DEFAULT else "md5"


def make_bare(bench: Bench, cluster: Cluster) -> None:
    """Give ``old``, which only we start, a configuration of its own."""
    settings = {
        "shared_preload_libraries": cluster.shared_preload_libraries.replace("'", "''"),
        "max_locks_per_transaction": str(locks_for(cluster)),
        "jit": "off",
        "listen_addresses": "",
        "max_prepared_transactions": "0",
        # A copy, written down with the whole file system in the end; a crash before that begins with another.
        "fsync": "off",
        "full_page_writes": "off",
    }
    if cluster.server_version_num < 110000:
        del settings["jit"]
    configuration.write_bare(bench.old, settings)
    for name in configuration_files.FILES:
        os.chown(os.path.join(bench.old, name), *bench.owner)


@dataclass(frozen=True)
class Errand:
    """What a container does before it serves: lines of a shell script, how it is begun, and how it is awaited.

    ``begin`` gets the whole script, hands out the id of the container that runs it, and removes that. ``wait`` gets
    the id, and raises :class:`StatefulError` where the script fails.
    """

    script: str
    begin: Callable[[str], AbstractContextManager[str]]
    wait: Callable[[str], None]


@contextmanager
def served(
    bench: Bench,
    cluster: Cluster,
    image_id: str,
    directory: str,
    overrides: Mapping[str, str] | None = None,
    *,
    first: Errand | None = None,
) -> Iterator[Session]:
    """Serve ``old`` or ``new`` by its own image, to nobody but ourselves, and shut it down.

    The session that is handed out is one of ``template1``; ``overrides`` are settings, ``first`` is what the same
    container does before.
    """
    settings = {
        **second_server.ISOLATED,
        "shared_preload_libraries": cluster.shared_preload_libraries,
        **({} if _without_workers(cluster) else {"max_worker_processes": "0"}),
        **(overrides or {}),
    }
    place = bench.seen(directory)
    argv: tuple[str, ...] = ("postgres", "-D", place, *second_server.switches(settings))
    if first is not None:
        running = first.begin(f"{first.script}\nexec {shlex.join(argv)}")
    else:
        running = helpers.running(bench.engine, bench.helper(image_id, *argv, PGDATA=place))
    login = readiness.Login(user=cluster.superuser, database="template1")
    identifier = read_control(directory).system_identifier
    begun = first.wait if first else None
    with own_server.serving(bench.engine, running, identifier, login, seconds=MINUTES, begun=begun) as container_id:
        container = own_server.alive(bench.engine, container_id)
        with connect(bench.engine, container, user=cluster.superuser, database="template1") as session:
            # It may have to wait for hours between two questions.
            yield session.without_timeouts()
        bench.engine.stop(container_id, signal=shutdown.FAST_SHUTDOWN, timeout=10 * MINUTES)
    shutdown.prove_shut_down(directory)


def _without_workers(cluster: Cluster) -> bool:
    """Tell whether nothing that is preloaded brings workers: they would connect to what is to be renamed, and write.

    Without any, indexes are built by one process each.
    """
    preloaded = (part.strip().strip('"') for part in cluster.shared_preload_libraries.split(","))
    return {library for library in preloaded if library} <= WITHOUT_WORKERS


def place_configuration(bench: Bench) -> None:
    """Give the new cluster the configuration that :func:`carry_configuration` prepared."""
    configuration.place(os.path.join(bench.work, CONFIGURATION), bench.new)


def give_to(directory: str, owner: tuple[int, int]) -> None:
    """Give everything in ``directory``, itself included, to another owner."""
    for parent, names, files in os.walk(directory):
        os.chown(parent, *owner)
        for name in (*files, *(each for each in names if os.path.islink(os.path.join(parent, each)))):
            os.chown(os.path.join(parent, name), *owner, follow_symlinks=False)


def locks_for(cluster: Cluster) -> int:
    """Return how many locks a transaction gets, times the connections, so that every relation can be locked at once."""
    return max(LOCKS_PER_TRANSACTION, cluster.relations // RELATIONS_PER_LOCK)
