# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Move a cluster by a physical standby: copied and proved while the service runs, then it takes over.

The order makes it safe. The standby follows until the service is stopped. A fast
shutdown of the primary sends its last record, the shutdown checkpoint, to a standby
that is connected, and waits for it; so a standby whose own control file names the
same checkpoint holds every byte of WAL that the primary ever wrote. One that was cut
off meanwhile does not, and is refused: the primary's directory is untouched all along.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.last_words import last_words
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import (
    OPERATION_LABEL,
    ROLE_LABEL,
    Container,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import (
    basebackup,
    helpers,
    impediments,
    paths,
    shutdown,
    staging,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.control import (
    SHUT_DOWN_IN_RECOVERY,
    ControlData,
    parse_lsn,
    read_control,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.routes import Route
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session, connect
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.standby_server import (
    COPY_ROLE,
    ROLE,
    SIGNAL_FILE,
    claim,
    helper,
    hold_wal,
    make_signal_file,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import SqlError

# Written by the backup and by the first start on it; a cluster that was never copied has none.
LEFTOVERS = ("backup_label.old", "tablespace_map.old", "backup_manifest")
POLL = 0.005
STOP_SECONDS = 60.0

Clock = Callable[[], float]
Pause = Callable[[float], None]


@dataclass(frozen=True)
class Standby:
    """A standby that follows: its helper container, and its directory on this host."""

    container_id: str
    directory: str
    system_identifier: int


@dataclass(frozen=True)
class Lag:
    """How far a standby is behind: bytes of WAL not yet replayed, at one moment."""

    bytes: int
    primary_lsn: str
    replayed_lsn: str


def create(
    engine: Engine,
    container: Container,
    cluster: Cluster,
    session: Session,
    route: Route,
    *,
    directory: str,
    operation: str,
    labels: Mapping[str, str],
    deadline: float,
    clock: Clock,
    pause: Pause,
    progress: basebackup.Progress | None = None,
) -> Standby:
    """Copy the running cluster into ``directory``, prove the copy, and let a standby follow from it.

    ``directory`` lies on the target's file system; it is absent or empty, its parent is
    there. ``session`` is one with the primary, ``route`` one for replication. Returns when
    the standby streams and has replayed what the primary had written by then. On failure
    helper and directory are removed.
    """
    reasons = impediments.to_standby(cluster, container)
    if reasons:
        raise StatefulError(f"{container.name} cannot be moved by a standby: {'; '.join(reasons)}.")
    owner = paths.owner_of(paths.seen_path(container, cluster.data_directory))
    claim(directory, owner)
    try:
        with ExitStack() as stack:
            stack.callback(hold_wal(session, operation).close)
            basebackup.copy(
                engine,
                container,
                cluster,
                route,
                directory=directory,
                tablespaces={},
                operation=operation,
                role=COPY_ROLE,
                labels=labels,
                progress=progress,
            )
            basebackup.verify(
                engine,
                container.image_id,
                directory=directory,
                tablespaces={},
                system_identifier=cluster.system_identifier,
                operation=operation,
                role=COPY_ROLE,
                labels=labels,
            )
            make_signal_file(directory, owner)
            follower = helper(container, cluster, route, directory, owner, operation, labels)
            standby = Standby(helpers.start(engine, follower), directory, cluster.system_identifier)
            wait_streaming(engine, standby, session, deadline=deadline, clock=clock, pause=pause)
            return standby
    except BaseException:
        abandon(engine, operation=operation, directory=directory)
        raise


def open_session(engine: Engine, standby: Standby, like: Session) -> Session:
    """Connect to the standby as the login of ``like``, a session with its primary."""
    login = like.login
    return connect(
        engine,
        _alive(engine, standby),
        user=login.user,
        password=login.password,
        database=login.database,
        transport=like.transport,
    )


def _alive(engine: Engine, standby: Standby) -> Container:
    container = engine.container(standby.container_id)
    if container is None or not container.pid:
        words = last_words(engine, container, tail=20) if container else "its container is gone"
        raise StatefulError(
            f"The standby has ended by itself. Its last words:\n{words}",
            state="the service was not touched",
        )
    return container


def wait_streaming(
    engine: Engine,
    standby: Standby,
    session: Session,
    *,
    deadline: float,
    clock: Clock,
    pause: Pause,
) -> Lag:
    """Return when the standby has replayed all that the primary had written when this was called."""
    wanted = _primary_lsn(session)
    obstacle = "the standby to start"
    while True:
        _alive(engine, standby)
        try:
            with open_session(engine, standby, session) as there:
                while clock() < deadline:
                    streaming, replayed = _received(there)
                    if streaming and parse_lsn(replayed) >= parse_lsn(wanted):
                        now = _primary_lsn(session)
                        return Lag(max(0, parse_lsn(now) - parse_lsn(replayed)), now, replayed)
                    obstacle = f"WAL up to {wanted}, it has replayed {replayed}, streaming: {streaming}"
                    pause(POLL)
        except SqlError as error:
            obstacle = error.msg
        if clock() >= deadline:
            raise StatefulError(
                f"The standby did not catch up in time, waiting for {obstacle}. Its last words:\n"
                + last_words(engine, _alive(engine, standby), tail=20),
                state="the service was not touched",
            )
        pause(POLL)


def lag_of(engine: Engine, standby: Standby, session: Session) -> Lag | None:
    """Return how far the standby is behind its primary now; None where it does not follow. Changes nothing."""
    now = _primary_lsn(session)
    try:
        with open_session(engine, standby, session) as there:
            streaming, replayed = _received(there)
    except StatefulError:
        return None  # it has ended, or does not answer
    return Lag(max(0, parse_lsn(now) - parse_lsn(replayed)), now, replayed) if streaming else None


def _received(there: Session) -> tuple[bool, str]:
    """Return whether the standby is connected to its primary, and up to where it has replayed."""
    streaming, replayed = there.rows(
        "SELECT (SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'),"
        " coalesce(pg_last_wal_replay_lsn(), '0/0')::text"
    )[0]
    return bool(streaming), str(replayed)


def _primary_lsn(session: Session) -> str:
    return str(session.scalar("SELECT pg_current_wal_flush_lsn()::text"))


def settle(
    engine: Engine,
    standby: Standby,
    session: Session,
    *,
    deadline: float,
    clock: Clock,
    pause: Pause,
) -> Lag:
    """Checkpoint both sides while the service runs, so that neither has much to write when it stops."""
    shutdown.checkpoint(session)
    wait_streaming(engine, standby, session, deadline=deadline, clock=clock, pause=pause)
    with open_session(engine, standby, session) as there:
        shutdown.checkpoint(there)
    return wait_streaming(engine, standby, session, deadline=deadline, clock=clock, pause=pause)


def finish(
    engine: Engine,
    standby: Standby,
    there: Session,
    *,
    primary_directory: str,
    deadline: float,
    clock: Clock,
    pause: Pause,
) -> ControlData:
    """After the primary has stopped: prove that the standby holds all of it, and make it startable.

    ``there`` is a session with the standby, whose server serves on; ``primary_directory``
    is the primary's data directory on this host. Returns the standby's control file.
    Afterwards the directory starts as the same cluster on the same timeline. On failure
    nothing was taken from the primary; the caller starts it again and calls :func:`abandon`.
    """
    primary = shutdown.prove_shut_down(primary_directory)
    if primary.system_identifier != standby.system_identifier:
        raise _refused(f"the stopped cluster is {primary.system_identifier}, not {standby.system_identifier}")
    _wait_replayed(engine, standby, there, primary.checkpoint_lsn, deadline, clock, pause)
    there.close()
    # Straight to the process: what is to be proved can be read while the engine still clears its container away.
    server = _alive(engine, standby)
    shutdown.end_process(server.pid, name=server.name, deadline=clock() + STOP_SECONDS, clock=clock, pause=pause)
    control = read_control(standby.directory)
    differing = [
        f"{name} is {found}, expected {expected}"
        for name, found, expected in (
            ("the system identifier", control.system_identifier, primary.system_identifier),
            ("the state", control.state, SHUT_DOWN_IN_RECOVERY),
            ("the checkpoint", control.checkpoint_lsn, primary.checkpoint_lsn),
            ("the timeline", control.timeline, primary.timeline),
        )
        if found != expected
    ]
    if differing:
        raise _refused("; ".join(differing))
    for name in (SIGNAL_FILE, *LEFTOVERS):
        path = os.path.join(standby.directory, name)
        if os.path.lexists(path):
            os.unlink(path)
    staging.sync_directory(standby.directory)
    # Nobody may find a running container that has this directory mounted writable.
    engine.wait(standby.container_id, timeout=STOP_SECONDS)
    return control


def _wait_replayed(
    engine: Engine, standby: Standby, there: Session, checkpoint_lsn: str, deadline: float, clock: Clock, pause: Pause
) -> None:
    # The position is that behind the last record replayed, so it lies beyond the
    # start of the checkpoint record exactly when that record was replayed.
    wanted = parse_lsn(checkpoint_lsn)
    while True:
        try:
            replayed = str(there.scalar("SELECT coalesce(pg_last_wal_replay_lsn(), '0/0')::text"))
        except SqlError as error:
            _alive(engine, standby)
            raise _refused(f"it does not answer: {error.msg}") from error
        if parse_lsn(replayed) > wanted:
            return
        if clock() >= deadline:
            raise _refused(f"it has replayed {replayed} and not the shutdown checkpoint at {checkpoint_lsn}")
        pause(POLL / 5)


def _refused(reason: str) -> StatefulError:
    return StatefulError(
        f"The standby does not hold all of the stopped cluster: {reason}.",
        state="the data is complete in its old place, and the service is stopped",
        next_command="start the service on its old storage, then run the same task again",
    )


def remove_helpers(engine: Engine, *, operation: str) -> None:
    """Stop and remove the helpers of this operation that make or serve a standby. Safe at any time, more than once."""
    for role in (ROLE, COPY_ROLE):
        for container in engine.containers(labels={OPERATION_LABEL: operation, ROLE_LABEL: role}):
            engine.remove_container(container.id, force=True)


def abandon(engine: Engine, *, operation: str, directory: str) -> None:
    """Remove the helpers of this operation, and the directory unless it has been finished.

    Safe to call at any time and more than once. A directory with neither the sign of a
    standby nor that of an unfinished copy is somebody's cluster, and stays.
    """
    remove_helpers(engine, operation=operation)
    if not os.path.isdir(directory) or os.path.islink(directory):
        return
    control = os.path.join(directory, "global", "pg_control")
    complete = os.path.exists(control)
    ours = any(os.path.exists(os.path.join(directory, name)) for name in (SIGNAL_FILE, "backup_label"))
    if complete and not ours:
        raise StatefulError(f"{directory} holds a cluster that is not a standby of ours; it was not removed.")
    if complete:
        # First what makes a cluster of it: killed in what follows, the signs that it is ours may be gone.
        os.unlink(control)
    shutil.rmtree(directory)
