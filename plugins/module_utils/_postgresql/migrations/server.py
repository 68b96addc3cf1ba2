# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a migration is run against, and its guards asked there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.secrets import mask
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations import ledger
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.model import (
    Marker,
    Migration,
    Query,
    Range,
    Row,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import SqlError

OUTPUT = 1 << 14
"""Bytes that are kept of what a script says, its end."""
NOT_RUN = (126, 127)
"""Exit codes of a shell and of the engine where the command is not there, or may not be executed."""


@dataclass(frozen=True)
class Server:
    """A server and its container. ``connect`` opens a session of ours; ``name`` is what an admin calls it.

    ``user`` and ``environment`` are those of scripts; empty, the container's own user. ``public``: further variables,
    which are no secrets. ``limit``: seconds that a script gets, 0 for no limit.
    """

    engine: Engine
    container: Container
    name: str
    connect: Callable[[], Session] = field(repr=False)
    user: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    public: Mapping[str, str] = field(default_factory=dict)
    limit: float = 0.0

    @property
    def variables(self) -> dict[str, str]:
        """Return all that scripts and commands have in their environment beside the container's own."""
        return {**self.public, **self.environment}

    @contextmanager
    def at_work(self, series: str) -> Iterator[Session]:
        """Open a session as an application has it, which holds the lock of the series; raises where another does."""
        with self.connect() as ours, ours.as_application() as session:
            if not session.holds_transactions:
                session.script("")  # says what is missing
            # A script may take longer than a server lets a session idle that only holds a lock.
            session.without_timeouts()
            if not ledger.lock(session, series):
                raise StatefulError(
                    f"Another runner works on the migrations of {self.name}, series {series}:"
                    f" {ledger.holder(ours, series)}.",
                    next_command="wait until it has ended, then run the same task again",
                )
            ledger.make(session)
            yield session

    def command(self, argv: tuple[str, ...]) -> tuple[int, str]:
        """Run a command in the container; return its exit code and what it printed, without the last line break."""
        answer = self.engine.execute(self.container.id, argv, environment=self.variables, user=self.user)
        said = answer.stdout.decode("utf-8", "replace") if answer.rc == 0 else answer.error_text()
        return answer.rc, said.strip()

    def masked(self, text: str, *more: str) -> str:
        """Return what a program said without the values that it was given, as they may be secrets."""
        return mask(text, filter(None, (*self.environment.values(), *more)))


def is_marked(server: Server, marker: Marker) -> bool:
    """Ask the command that keeps the mark. One that fails has no mark; one that cannot be run at all has no answer."""
    rc, said = server.command(marker.read)
    if rc in NOT_RUN:
        raise StatefulError(
            f"The mark cannot be read: {marker.read[0]} ended with {rc}: {server.masked(said)[-500:]}",
            next_command="put the command right that is read of marker, then run the same task again",
        )
    return rc == 0 and (said == marker.expected if marker.expected else bool(said))


def must_run(server: Server, what: str, argv: tuple[str, ...]) -> None:
    rc, said = server.command(argv)
    if rc != 0:
        raise StatefulError(f"{what}: {argv[0]} ended with {rc}: {server.masked(said)[-500:]}")


def is_done_already(server: Server, session: Session, migration: Migration, row: Row | None) -> bool:
    """Tell by marker and ``done_when`` whether it was done by other means; False where neither is given.

    Of one that ``row`` says was broken off, neither is believed: what they see may be no more than its first half.
    """
    guards = migration.guards
    if row is not None and not row.complete:
        return False
    if guards.marker is not None and is_marked(server, guards.marker):
        return True
    return bool(guards.done_when) and answer_of_done_when(session, migration)


def answer_of_done_when(session: Session, migration: Migration) -> bool:
    found = _ask(session, migration, "done_when", migration.guards.done_when)
    if not isinstance(found, bool):
        raise StatefulError(f"{migration.name}: done_when has to answer true or false, not {found!r}.")
    return found


def still_to_do(session: Session, migration: Migration) -> int | None:
    """Return what the query of ``expect_rows`` says; None where there is none."""
    expected = migration.guards.expect_rows
    if not isinstance(expected, Query):
        return None
    found = _ask(session, migration, "expect_rows", expected.text)
    if not isinstance(found, int) or isinstance(found, bool):
        raise StatefulError(f"{migration.name}: the query of expect_rows has to answer a number, not {found!r}.")
    return found


def _ask(session: Session, migration: Migration, option: str, query: str) -> object:
    try:
        return session.scalar(query)
    except SqlError as error:
        raise StatefulError(f"{migration.name}: the query of {option} failed. {error.msg}") from error


def unmet(session: Session, migration: Migration, before: int | None, rows: int | None) -> str:
    """Return in words which guard does not hold after it ran, empty where all do. ``before`` was still to do."""
    expected = migration.guards.expect_rows
    if isinstance(expected, Range) and rows is not None and not expected.holds(rows):
        return f"it changed {rows} rows, and {expected} are expected"
    if isinstance(expected, Query):
        left = still_to_do(session, migration)
        if left:
            return f"the query of expect_rows says that {left} rows are still to do, of {before} before"
        if rows is not None and rows != before:
            return f"it changed {rows} rows, and the query of expect_rows said {before}"
    if migration.guards.done_when and not answer_of_done_when(session, migration):
        return "the query of done_when still answers false"
    return ""
