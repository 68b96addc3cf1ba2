# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stop a server so that its data directory is complete, and prove that it is."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import logs_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import postmaster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.control import ControlData, read_control
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session

# SIGINT asks the postmaster for a fast shutdown: sessions are ended, a checkpoint is
# written. SIGTERM, which older images get, waits until every client has gone by itself.
FAST_SHUTDOWN = "SIGINT"
PAUSE = 0.002


def checkpoint(session: Session) -> None:
    """Write what is dirty now, so that the checkpoint of the shutdown has little left to do."""
    session.run("CHECKPOINT")


def stop_fast(
    engine: Engine,
    container: Container,
    server: postmaster.Postmaster,
    *,
    timeout: float,
    clock: Callable[[], float],
    pause: Callable[[float], None],
) -> Container:
    """Ask for a fast shutdown and return when the container has ended; nothing is ever killed.

    ``server`` is found beforehand, by :func:`postmaster.find_postmaster`. Where it is not
    the container's main process it gets its signal directly: an init passes on what it
    likes, and a shell in front ignores SIGINT.
    """
    ends = clock() + timeout
    if not server.is_main:
        end_process(server.pid, name=container.name, deadline=ends, clock=clock, pause=pause)
    signal_name = FAST_SHUTDOWN if server.is_main else container.stop_signal
    return engine.stop(container.id, signal=signal_name, timeout=max(1.0, ends - clock()))


def end_process(
    pid: int, *, name: str, deadline: float, clock: Callable[[], float], pause: Callable[[float], None]
) -> None:
    """Ask the server with this pid of the host for a fast shutdown, and return when the process has ended."""
    try:
        os.kill(pid, signal.SIGINT)
    except ProcessLookupError:
        return
    began = clock()
    # A process that has ended and was not collected yet still has its directory, but no root.
    while os.path.exists(f"/proc/{pid}/root"):
        if clock() >= deadline:
            raise StatefulError(
                f"The server in {name} still runs {clock() - began:.0f} s after it was asked for a fast shutdown;"
                " it was not killed.",
                state="the server is still shutting down",
                next_command=logs_of(name),
            )
        pause(PAUSE)


def prove_shut_down(data_directory: str) -> ControlData:
    """Return the control file of a cluster that was shut down cleanly; raises :class:`StatefulError` else.

    ``data_directory`` is a path on this host. A lock file that is left tells of a server
    that still runs or was killed; it is never deleted here.
    """
    control = read_control(data_directory)
    if os.path.lexists(os.path.join(data_directory, postmaster.PID_FILE)):
        raise StatefulError(
            f"{postmaster.PID_FILE} is left in {data_directory}: its server runs or was killed ({control.state}).",
            state=f"the data is in {data_directory} and was not touched",
            next_command="start the service, wait until it answers, and run the same task again",
        )
    if not control.shut_down:
        raise StatefulError(
            f"The cluster in {data_directory} was not shut down cleanly: its state is {control.state!r}.",
            state=f"the data is in {data_directory} and was not touched",
            next_command="start the service, wait until it answers, and run the same task again",
        )
    return control
