# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""pg_upgrade between any two images: what is run for it, each in a helper of its own."""

from __future__ import annotations

import os
import re

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Bind, Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import AGAIN, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import helpers, paths
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.bench import (
    HOURS,
    MINUTES,
    WORK,
    Bench,
    locks_for,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import BY_DUMP
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.programs import TARGET, Programs
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import Login

# What every session says where the order of text changes, which is seen to afterwards.
NOISE = ("WARNING:  database", "HINT:  Rebuild all objects")
_NAMED_FILE = re.compile(re.escape(WORK) + r"[^\s\"']+\.(?:txt|log)")
# As the first process of its container, pg_upgrade would be handed the orphans of the servers that it starts, and takes
# the end of one for that of a job of its own: it goes on while a database is still being restored.
CHILD_OF_A_SHELL = ("sh", "-c", '"$@"; exit $?', "sh")
# A standby that was stopped is no primary that was shut down, and pg_upgrade wants one. A single user's server
# recovers, finds no command to carry out, and ends with a shutdown checkpoint. In the same container, because each
# one that is started takes a third of a second.
CHILD_THAT_FOLLOWS_A_RECOVERY = (
    "sh",
    "-c",
    '"$0" --single -D "$1" template1 </dev/null >recovery.txt 2>&1 || { cat recovery.txt; exit 1; };'
    ' shift; "$@"; exit $?',
)
FIRST_WITHOUT_SYNC = 160000


def check(bench: Bench, container: Container, cluster: Cluster, programs: Programs, login: Login, source: str) -> None:
    """Have pg_upgrade compare the running cluster with the new one; nothing of the running one can be written.

    Its data is mounted read-only, at the path that it knows itself by, and its socket directory at the path that its
    lock file names: pg_upgrade then takes it for what it is, a live server, instead of starting another on its data.
    """
    sockets = [path for path in cluster.unix_socket_directories if not path.startswith("@")]
    mountable = paths.mountable_path(container, sockets[0]) if sockets else ""
    if not mountable:
        raise StatefulError(
            f"The socket directory of {container.name} cannot be mounted into another container, so pg_upgrade cannot"
            " look at the running server.",
            next_command=BY_DUMP,
        )
    # A bind into a new container has to go where the links lead (/var/run to /run).
    seen = paths.named_inside(paths.root_of(container), sockets[0])
    binds = (
        Bind(source, cluster.data_directory),
        Bind(mountable, seen),
        Bind(programs.root, TARGET),
    )
    secrets = {"PGPASSWORD": login.password} if login.password else {}
    argv = (*CHILD_OF_A_SHELL, *_pg_upgrade(bench, cluster, programs, cluster.data_directory), "--check")
    helper = bench.helper(bench.image_id, *argv, binds=binds, **secrets)
    finished = helpers.run(bench.engine, helper, timeout=10 * MINUTES)
    if finished.rc != 0:
        raise StatefulError(
            f"pg_upgrade --check finds an obstacle:\n{_said(bench, finished.output)}",
            next_command=f"remove the cause that pg_upgrade names and {AGAIN}, or {BY_DUMP}",
        )


def upgrade(bench: Bench, cluster: Cluster, programs: Programs, *, version: int, recover: bool) -> None:
    """Run pg_upgrade from ``old``, which cannot be started afterwards, to ``new``, of ``version`` (server_version_num).

    ``recover``: whether ``old`` is a standby that was stopped. Nothing is on the disk for certain before the caller
    has written it down.
    """
    old = bench.seen(bench.old)
    shell = (*CHILD_THAT_FOLLOWS_A_RECOVERY, f"{programs.bin_directory}/postgres", old) if recover else CHILD_OF_A_SHELL
    unsynced = ("--no-sync",) if version >= FIRST_WITHOUT_SYNC else ()
    argv = (*shell, *_pg_upgrade(bench, cluster, programs, old), "--link", *unsynced)
    helper = bench.helper(bench.image_id, *argv, binds=(Bind(programs.root, TARGET),))
    finished = helpers.run(bench.engine, helper, timeout=12 * HOURS)
    if finished.rc != 0:
        raise StatefulError(
            f"pg_upgrade failed:\n{_said(bench, finished.output)}",
            next_command=f"remove the cause that pg_upgrade names and {AGAIN}, or {BY_DUMP}",
        )


def _pg_upgrade(bench: Bench, cluster: Cluster, programs: Programs, old: str) -> tuple[str, ...]:
    options = {"max_locks_per_transaction": str(locks_for(cluster)), "jit": "off"}
    if cluster.shared_preload_libraries:
        options["shared_preload_libraries"] = f"'{cluster.shared_preload_libraries}'"
    return (
        "pg_upgrade",
        *("-b", programs.bin_directory, "-d", old, "-D", bench.seen(bench.new), "-U", cluster.superuser),
        *("-j", str(min(4, os.cpu_count() or 1))),
        *("-O", " ".join(f"-c {name}={value}" for name, value in options.items())),
    )


def _said(bench: Bench, output: str) -> str:
    """Return what pg_upgrade said last, with the end of the file that it refers to: that goes with the undo."""
    lines = [line for line in output.strip().splitlines() if line and not line.startswith(NOISE)][-12:]
    for named in _NAMED_FILE.findall(output):
        path = bench.work + named[len(WORK) :]
        if os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                lines += [f"{os.path.basename(path)}:", *file.read().strip().splitlines()[-12:]]
    return "\n".join(lines)
