# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wait until the service's own server answers on its data, no other and no earlier."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import logs_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.last_words import last_words
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import paths, postmaster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import system_identifier
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import connect, data_directory_of
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import (
    DriverTransport,
    SqlError,
    driver_missing,
)

# Every millisecond here is downtime, so the first seconds are polled tightly.
TIGHT_SECONDS = 3.0
TIGHT_PAUSE = 0.01
RELAXED_PAUSE = 0.1
STATEMENT_TIMEOUT = 10.0
FALLBACK_AFTER = 1.0


@dataclass(frozen=True)
class Login:
    """With whom readiness is asked; what is empty comes from the container's environment.

    ``transport`` is the one that worked before, where it is known.
    """

    user: str = ""
    password: str = field(default="", repr=False)
    database: str = ""
    transport: str = ""


@dataclass(frozen=True)
class Ready:
    """The proof: this container's server answered, on this cluster, after so many seconds."""

    container_id: str
    system_identifier: int
    seconds: float


def wait_ready(
    engine: Engine,
    container_id: str,
    *,
    deadline: float,
    clock: Callable[[], float],
    pause: Callable[[float], None],
    expect_system_identifier: int,
    tcp: bool = True,
    data_directory: str = "",
    login: Login = Login(),
) -> Ready:
    """Return when the final server answers, is writable, and is the expected cluster.

    ``deadline`` is a moment of ``clock``. ``expect_system_identifier`` is 0 for a cluster that was just made, whose
    identity nobody knows yet. ``tcp`` says whether the service listens on TCP,
    as it does unless its configuration forbids it. Raises :class:`StatefulError` at once
    when the container has ended or restarts, or when another cluster answers; at the
    deadline else. The message carries the last lines of the log.
    """
    began = clock()
    open_since = None
    started_at = ""
    waiting_for = "the container to start"
    while True:
        container = engine.container(container_id)
        if container is None:
            raise StatefulError(
                f"The container {container_id[:12]} disappeared while it was starting.", next_command="docker ps -a"
            )
        if (started_at and container.started_at != started_at) or container.status in ("exited", "dead", "restarting"):
            raise _failed(engine, container, f"ended with code {container.exit_code} instead of becoming ready")
        if container.pid:
            started_at = container.started_at
            waiting_for = obstacle(container, data_directory, tcp=tcp)
            if not waiting_for:
                open_since = clock() if open_since is None else open_since
                # psql in the container is a fallback, and one that costs more than the
                # server's whole start: only once the driver has failed for a while.
                patient = not driver_missing() and clock() - open_since < FALLBACK_AFTER
                transport = login.transport or (DriverTransport.name if patient else "")
                waiting_for = _ask(engine, container, replace(login, transport=transport), expect_system_identifier)
        if not waiting_for:
            return Ready(container_id, expect_system_identifier, clock() - began)
        now = clock()
        if now >= deadline:
            raise _failed(engine, container, f"is not ready after {now - began:.1f} s, waiting for {waiting_for}")
        pause(TIGHT_PAUSE if now - began < TIGHT_SECONDS else RELAXED_PAUSE)


def obstacle(container: Container, data_directory: str = "", *, tcp: bool) -> str:
    """Say what is still missing, from the lock file alone; empty when it is worth to connect.

    On a first start the image runs a temporary server that answers on its socket only,
    while the entrypoint waits in front of it; it must not pass for the service.
    """
    try:
        lock = postmaster.read_pid_file(paths.seen_path(container, data_directory or data_directory_of(container)))
        if lock is None:
            return "the server to start"
        if lock.status not in ("", postmaster.READY):
            return f"the server, which is {lock.status}"
        if tcp:
            return "" if lock.listen_address else "the server to listen on TCP"
        return "the temporary server to end" if _is_temporary(container, lock.data_directory) else ""
    except OSError:
        # The process went between two looks; the next inspection tells. Where /proc is
        # out of reach for us altogether, the question by SQL decides alone.
        return "" if os.path.isdir(f"/proc/{container.pid}") else "the container's process"


def _is_temporary(container: Container, data_directory: str) -> bool:
    server = postmaster.find_postmaster(container, data_directory)
    # The entrypoint appends these two to the service's own arguments for its temporary server.
    return not server.is_main and server.argv[-4:-1] == ("-c", "listen_addresses=", "-p")


def _ask(engine: Engine, container: Container, login: Login, expected: int) -> str:
    try:
        with connect(
            engine,
            container,
            user=login.user,
            password=login.password,
            database=login.database,
            statement_timeout=STATEMENT_TIMEOUT,
            transport=login.transport,
        ) as session:
            in_recovery = session.scalar("SELECT pg_is_in_recovery()")
            found = system_identifier(session)
    except SqlError as error:
        return f"an answer: {error.msg}"
    except StatefulError as error:  # it ended meanwhile: the next inspection tells
        return error.msg
    if expected and found != expected:
        raise _failed(
            engine, container, f"answers from another cluster: system identifier {found}, expected {expected}"
        )
    return "the end of recovery" if in_recovery else ""


def _failed(engine: Engine, container: Container, what: str) -> StatefulError:
    log = last_words(engine, container, tail=20)
    return StatefulError(
        f"The container {container.name} {what}. Its last words:\n{log}",
        state="the service does not run",
        next_command=logs_of(container.name),
    )
