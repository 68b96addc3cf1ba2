# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the steps of a swap work with: the seams, and an app's processes and sessions."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from ansible_collections.selfhost.stateful.plugins.module_utils._clock import until
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import survey
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.arguments import Reached
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.cli import Dokku
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import (
    PRIMARY,
    Service,
    container_of,
    host_of,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container, RestartPolicy
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Undecided
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import session as sessions
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import sql
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.shutdown import FAST_SHUTDOWN

MAINTENANCE_DATABASE = "postgres"
"""Where statements about a service's own database are made: there, a session of ours counts for nobody's."""
RAN = "whether the app ran"
"""What the journal has of it from before the app was stopped."""
RAN_SINCE = "whether the app ran when it was to go back"
"""The same from before a way back stopped it: one that was stopped at the swap may have been started since."""
CALLS = "calls.lock"
LEFTOVER_LIMIT = 600.0
"""Seconds that calls get which a killed run has left behind."""
ALWAYS, NEVER = RestartPolicy("always"), RestartPolicy("no")

CLIENTS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
    " AND backend_type = 'client backend'"
)
IS_READ_ONLY = """
SELECT 1 FROM pg_db_role_setting AS s JOIN pg_database AS d ON d.oid = s.setdatabase, unnest(s.setconfig) AS c
WHERE d.datname = %s AND s.setrole = 0 AND c = 'default_transaction_read_only=on'
"""
END = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
    " AND backend_type = 'client backend'"
)


@dataclass(frozen=True)
class World:
    """The seams to a host, and the time limits in seconds of this run."""

    reached: Reached
    stop_timeout: float = 120.0
    ready_timeout: float = 120.0
    discard_writes: bool = False
    """Whether an undo may lose what was written to the new service; it is exported first all the same."""
    answer_path: str | None = None
    """The path that this run is told to ask the app at; None where it is told none."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables of the new service that were given; they may be secrets, and are in no plan."""

    @property
    def dokku(self) -> Dokku:
        return self.reached.dokku

    @property
    def engine(self) -> Engine:
        return self.reached.engine

    def service(self, name: str) -> Service:
        return survey.required(self.dokku, self.engine, name)

    def container(self, name: str) -> Container:
        """Return the running container of a service."""
        found = self.engine.container(container_of(name))
        if found is None or not found.pid:
            raise StatefulError(
                f"The service {name} does not run.", next_command=self.dokku.typed("postgres:start", name)
            )
        return found

    def session(self, name: str, database: str = "") -> Session:
        """Ask the server of a service; without a ``database`` beside its own."""
        return sessions.connect(self.engine, self.container(name), database=database or MAINTENANCE_DATABASE)


@contextmanager
def calls_of(operation: Operation, world: World) -> Iterator[World]:
    """Yield the world for one run of an operation, once all calls have ended that a run before has left behind.

    A run that is killed leaves the call that it waited for, and dokku goes on with it. Each call inherits the lock,
    which ends with the last process that has it.
    """
    path = os.path.join(operation.directory, CALLS)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not until(lambda: _locked(descriptor), LEFTOVER_LIMIT):
            raise StatefulError(
                f"A call of dokku's that a run of {operation.id} began has not ended after {LEFTOVER_LIMIT:.0f} s.",
                state=f"the operation stands at the step '{operation.history().current_step}'",
                next_command=shell("fuser", "-v", path),
            )
        yield replace(world, reached=replace(world.reached, dokku=world.dokku.holding(descriptor)))
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_primary(world: World, app: str, service: str) -> bool:
    """Tell whether an app has its data in a service, by its DATABASE_URL."""
    there = survey.app(world.dokku, app).addresses.get(PRIMARY)
    return there is not None and there.host == host_of(service)


def has_gone_over(world: World, app: str, old: str, new: str) -> bool:
    """Tell whether an app has its data in the new of two services; raises where it has it in neither of them."""
    if is_primary(world, app, new):
        return True
    if is_primary(world, app, old):
        return False
    raise Undecided(
        f"DATABASE_URL of {app} points neither at {old} nor at {new}: it was moved on since, and to go back to {old}"
        " would lose what was written elsewhere.",
        state=f"the app {app} has its data where its DATABASE_URL points, and nothing was touched",
        safe_to_rerun=False,
        next_command=world.dokku.typed("postgres:app-links", app),
    )


def stop_server(world: World, container: Container) -> None:
    """Stop the server of a service, which does not come back by itself any more."""
    world.engine.set_restart_policy(container.id, NEVER)
    if container.running:
        world.engine.stop(container.id, signal=FAST_SHUTDOWN, timeout=world.stop_timeout)


def set_read_only(world: World, service: str, database: str, *, wanted: bool) -> None:
    """Let new sessions of a database begin read-only, or not any more; roles of apps are superusers, and obey that."""
    change = "SET default_transaction_read_only = on" if wanted else "RESET default_transaction_read_only"
    # The database that we log in to may be one of those.
    with world.session(service) as one, one.sibling(settings={"default_transaction_read_only": "off"}) as there:
        there.run(f"ALTER DATABASE {sql.identifier(database)} {change}")


def is_read_only(world: World, service: str, database: str) -> bool:
    """Tell whether new sessions of a database begin read-only, by what the database says itself."""
    with world.session(service) as there:
        return bool(there.rows(IS_READ_ONLY, (database,)))


def sessions_with(world: World, service: str, database: str) -> int:
    """Return how many sessions clients have with a database."""
    with world.session(service) as there:
        return int(there.scalar(CLIENTS, (database,)))


def end_sessions(world: World, service: str, database: str) -> int:
    """End all sessions of a database, and prove that there is none; return how many there were."""
    ended = 0
    with world.session(service) as there:

        def none_left() -> bool:
            nonlocal ended
            ended += int(there.scalar(END, (database,)))
            return int(there.scalar(CLIENTS, (database,))) == 0

        if not until(none_left, world.stop_timeout):
            raise StatefulError(
                f"Sessions with {database} of {service} come back as often as they are ended: somebody beside the app"
                " uses it.",
                next_command=shell("docker", "exec", container_of(service), "psql", "-U", "postgres", "-c",
                                   "SELECT * FROM pg_stat_activity"),
            )  # fmt: skip
    return ended


def end_sessions_once(world: World, service: str, database: str) -> None:
    """End the sessions that a database has now; they may come back."""
    with world.session(service) as there:
        there.scalar(END, (database,))


def now() -> float:
    return time.time()


def intended(context: Context[World], name: str) -> bool:
    """Tell whether a step of the plan has ever begun."""
    return name in context.operation.history().intents


def ran(context: Context[World]) -> bool:
    """Tell whether the app ran before it was stopped; where it was not stopped, there is nothing to start."""
    return bool(context.evidence.get(RAN, {}).get("running", False))


def has_to_run(context: Context[World]) -> bool:
    """Tell whether the app is to be started where a way back ends: it ran at the swap, or when it was to go back."""
    return ran(context) or bool(context.evidence.get(RAN_SINCE, {}).get("running", False))
