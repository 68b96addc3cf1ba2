# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""pg_upgrade between any two images: what is run for it, each in a helper of its own."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.last_words import last_words
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Bind, Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import AGAIN, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import helpers, paths
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import quick_pg_ctl
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import waiting as waiting_container
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.bench import (
    HOURS,
    MINUTES,
    WORK,
    Bench,
    Errand,
    locks_for,
    served,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import BY_DUMP, CandidateImage
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.programs import TARGET, Programs
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.waiting import Waiting
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import Login

# What every session says where the order of text changes, which is seen to afterwards.
NOISE = ("WARNING:  database", "HINT:  Rebuild all objects")
_NAMED_FILE = re.compile(re.escape(WORK) + r"[^\s\"']+\.(?:txt|log)")
# A standby that was stopped is no primary that was shut down, and pg_upgrade wants one. A single user's server
# recovers, finds no command to carry out, and ends with a shutdown checkpoint.
RECOVERY = "{recovery} </dev/null >recovery.txt 2>&1 || {{ cat recovery.txt; exit 1; }}"
# In the helper's own file system: that of the data may let nobody run anything.
NEW_PROGRAMS = "/tmp/programs"
UPGRADED = "upgraded"
"""A file in the work directory: pg_upgrade has ended well."""
# A database or a role may be somebody else by default, who may not read the roles. pg_upgrade adds to these settings.
AS_OURSELVES = "export PGOPTIONS='-c role=none'"
FIRST_WITHOUT_SYNC = 160000
POLL, LOOK_EVERY = 0.01, 0.25


def check(
    bench: Bench,
    container: Container,
    cluster: Cluster,
    programs: Programs,
    new: CandidateImage,
    *,
    login: Login,
    source: str,
) -> None:
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
    script = _call(bench, cluster, programs, new, cluster.data_directory, "--check")
    helper = bench.helper(bench.image_id, "sh", "-ec", script, binds=binds, **secrets)
    finished = helpers.run(bench.engine, helper, timeout=10 * MINUTES)
    if finished.rc != 0:
        raise StatefulError(
            f"pg_upgrade --check finds an obstacle:\n{_said(bench, finished.output)}",
            next_command=f"remove the cause that pg_upgrade names and {AGAIN}, or {BY_DUMP}",
        )


def upgrade(
    bench: Bench,
    cluster: Cluster,
    programs: Programs,
    new: CandidateImage,
    *,
    recover: bool,
    waiting: Waiting | None = None,
) -> None:
    """Run pg_upgrade from ``old``, which cannot be started afterwards, to ``new``.

    ``recover``: whether ``old`` is a standby that was stopped; ``waiting``: the container of :func:`wait_for_it`.
    Nothing is on the disk for certain before the caller has written it down.
    """
    script, binds = _script(bench, cluster, programs, new, recover=recover), _binds(programs)
    with waiting_container.begun(bench, waiting, script, binds) as container_id:
        helper = waiting_container.helper_for(bench, script, binds)
        finished = helpers.to_its_end(bench.engine, container_id, helper, timeout=12 * HOURS)
    if finished.rc != 0:
        raise _failed(bench, finished.output)


def upgraded(
    bench: Bench,
    cluster: Cluster,
    programs: Programs,
    new: CandidateImage,
    *,
    recover: bool,
    settings: Mapping[str, str],
    waiting: Waiting | None = None,
) -> AbstractContextManager[Session]:
    """As :func:`upgrade`, and serve ``new`` with ``settings`` to nobody but ourselves.

    Both in one container: each that is started and taken away costs a fifth of a second, in the downtime.
    """
    script = _script(bench, cluster, programs, new, recover=recover)

    def begin(whole: str) -> AbstractContextManager[str]:
        return waiting_container.begun(bench, waiting, whole, _binds(programs))

    def wait(container_id: str) -> None:
        ends, look = time.monotonic() + 12 * HOURS, 0.0
        while not os.path.exists(os.path.join(bench.work, UPGRADED)):
            now = time.monotonic()
            if now >= look:
                # Seldom: each look is work for the engine.
                container, look = bench.engine.container(container_id), now + LOOK_EVERY
                if container is None or not container.running:
                    words = last_words(bench.engine, container, tail=helpers.LOG_LINES) if container else ""
                    raise _failed(bench, words)
            if now >= ends:
                raise StatefulError("pg_upgrade has not ended within 12 hours; it was stopped.")
            time.sleep(POLL)

    return served(
        bench, cluster, bench.image_id, bench.new, settings, first=Errand(f"{script}\n: >{UPGRADED}", begin, wait)
    )


def wait_for_it(bench: Bench, programs: Programs) -> Waiting:
    """Start the container that is to run pg_upgrade, before the downtime."""
    return waiting_container.start(bench, _binds(programs))


def _binds(programs: Programs) -> tuple[Bind, ...]:
    return (Bind(programs.root, TARGET),)


def _script(bench: Bench, cluster: Cluster, programs: Programs, new: CandidateImage, *, recover: bool) -> str:
    old = bench.seen(bench.old)
    server = (f"{programs.bin_directory}/postgres", "--single", "-D", old, "template1")
    unsynced = ("--no-sync",) if new.server_version_num >= FIRST_WITHOUT_SYNC else ()
    return "\n".join(
        (
            *((RECOVERY.format(recovery=shlex.join(server)),) if recover else ()),
            _call(bench, cluster, programs, new, old, "--link", *unsynced),
        )
    )


def _failed(bench: Bench, output: str) -> StatefulError:
    return StatefulError(
        f"pg_upgrade failed:\n{_said(bench, output)}",
        next_command=f"remove the cause that pg_upgrade names and {AGAIN}, or {BY_DUMP}",
    )


def _call(bench: Bench, cluster: Cluster, programs: Programs, new: CandidateImage, old: str, *switches: str) -> str:
    """Return the lines of a shell script that run pg_upgrade.

    It is the child of a shell, which becomes no program's place as long as something follows it: as the first process
    of its container, it would be handed the orphans of the servers that it starts, and takes the end of one for that of
    a job of its own: it goes on while a database is still being restored.
    """
    options = {"max_locks_per_transaction": str(locks_for(cluster)), "jit": "off"}
    if cluster.shared_preload_libraries:
        options["shared_preload_libraries"] = f"'{cluster.shared_preload_libraries}'"
    argv = (
        "pg_upgrade",
        *("-b", programs.bin_directory, "-B", NEW_PROGRAMS),
        *("-d", old, "-D", bench.seen(bench.new), "-U", cluster.superuser),
        *("-j", str(min(4, os.cpu_count() or 1))),
        *("-O", " ".join(f"-c {name}={value}" for name, value in options.items())),
        *switches,
    )
    pg_ctl = f"{programs.bin_directory}/{quick_pg_ctl.NAME}"
    return "\n".join(
        (
            AS_OURSELVES,
            quick_pg_ctl.beside(new.bin_directory, NEW_PROGRAMS, pg_ctl),
            f"{shlex.join(argv)} || exit",
        )
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
