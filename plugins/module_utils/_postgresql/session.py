# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The seam to SQL: one session, through the container's own socket or through its psql.

The driver on the container's Unix socket comes first: no published port, no network
and, with the images' default ``local … trust``, no password is needed. Where that is
out of reach (no driver, a server before 10, ``peer`` authentication), ``psql`` inside
the container says the same things more slowly, one statement at a time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import shell
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import paths, postmaster, sql
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import (
    DriverTransport,
    Login,
    PsqlTransport,
    Ran,
    SqlError,
    Transport,
    open_driver,
)

SOCKET_DIRECTORIES = ("/var/run/postgresql", "/tmp")
DEFAULT_PORT = 5432

# Which of them there are depends on the server's major.
TIMEOUTS = (
    "FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout', 'idle_session_timeout',"
    " 'idle_in_transaction_session_timeout', 'transaction_timeout')"
)


class Session:
    """A connection in autocommit mode, to be used as a context manager."""

    def __init__(self, engine: Engine, container: Container, login: Login, transport: Transport) -> None:
        self._engine = engine
        self._container = container
        self._login = login
        self._transport = transport
        self._own_role: dict[str, str] | None = None

    @property
    def user(self) -> str:
        return self._login.user

    @property
    def container(self) -> Container:
        return self._container

    @property
    def login(self) -> Login:
        return self._login

    @property
    def database(self) -> str:
        return self._login.database

    @property
    def transport(self) -> str:
        return self._transport.name

    @property
    def holds_transactions(self) -> bool:
        return self._transport.holds_transactions

    def rows(self, query: str, params: Sequence[sql.Value] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query (SELECT, VALUES, WITH); types as in :func:`sql.from_json`."""
        return sql.from_json(self._transport.send(sql.as_json(sql.bind(query, params))))

    def scalar(self, query: str, params: Sequence[sql.Value] = ()) -> Any:
        """Return the one value that a query answers; raises where it is not one row of one column."""
        found = self.rows(query, params)
        if len(found) != 1 or len(found[0]) != 1:
            raise SqlError(f"One value was expected, {len(found)} rows came: {query}")
        return found[0][0]

    def run(self, statement: str, params: Sequence[sql.Value] = ()) -> None:
        """Run a statement that answers nothing: CHECKPOINT, SET, DDL."""
        self._transport.send(sql.bind(statement, params))

    def script(self, text: str) -> Ran:
        """Run somebody else's statements in one go; raises :class:`SqlError` with the line, and under psql always."""
        return self._transport.script(text)

    def limited(self, seconds: float) -> Session:
        """Give each later statement at most ``seconds``; the server cancels it with 57014. Returns itself."""
        self._transport.limit(seconds)
        return self

    def without_timeouts(self, *, keeping: str = "") -> Session:
        """Lift what the server's configuration would end an idle or a long session for. Returns itself.

        ``keeping`` names the one that the session was opened with and that stays.
        """
        self.rows(f"SELECT set_config(name, '0', false) {TIMEOUTS} AND name <> %s", (keeping,))
        return self

    def for_programs(self) -> dict[str, str]:
        """Return the settings with which a program opens sessions beside this one.

        Each stays who this one is, and has all the time that it needs: a program lifts such limits late, or never.
        """
        timeouts = self.rows(f"SELECT name {TIMEOUTS} ORDER BY name")
        return {**self.own_role(), **{str(name): "0" for (name,) in timeouts}}

    def own_role(self) -> dict[str, str]:
        """Return the settings by which a further session stays who this one is, whatever role is another's default.

        A database, or a role that was restored, may have one (``ALTER DATABASE ... SET role``), which is no superuser.
        """
        if self._own_role is None:
            self._own_role = {"role": "none"} if self.scalar("SELECT current_user = session_user") else {}
        return dict(self._own_role)

    def sibling(self, database: str = "", settings: Mapping[str, str] | None = None) -> Session:
        """Open another session with the same login and role, to ``database`` where one is named.

        ``settings`` are further ones, which hold from the start and under both transports. No value may hold a blank.
        """
        extra = {**self._login.extra, **self.own_role(), **(settings or {})}
        login = replace(self._login, database=database or self._login.database, extra=extra)
        return _open(self._engine, self._container, login, only=self._transport.name)

    def as_application(self) -> Session:
        """Open another session with the same login and with none of our settings but those of role and database."""
        login = replace(self._login, extra={}, as_their_own=True)
        return _open(self._engine, self._container, login, only=self._transport.name)

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def connect(
    engine: Engine,
    container: Container,
    *,
    user: str = "",
    password: str = "",
    database: str = "",
    statement_timeout: float = 0.0,
    transport: str = "",
) -> Session:
    """Connect to the server in a running container; raises :class:`SqlError` saying what was tried.

    What is left empty comes from the environment that the image was given. Times are
    in seconds, 0 for no limit. ``transport``: ``psycopg``, ``psql``, or empty for the
    first that works.
    """
    login = _login(container, user, password, database, statement_timeout)
    return _open(engine, container, login, only=transport)


INTERRUPTED = "cannot connect to invalid database"
"""What a server that speaks English says of a database whose connection limit is -2."""


@dataclass(frozen=True)
class Credentials:
    """What the environment of a container, also of a stopped one, says about its login."""

    user: str
    password: str = field(repr=False)
    database: str


def credentials_of(container: Container) -> Credentials:
    """Return the login that the image made from the container's environment."""
    env = container.env
    return Credentials(
        user=env.get("POSTGRES_USER", "") or "postgres",
        password=env.get("POSTGRES_PASSWORD", "") or _secret(container, env.get("POSTGRES_PASSWORD_FILE", "")),
        database=env.get("POSTGRES_DB", "") or "postgres",
    )


def is_postgresql(image_ref: str, env: Mapping[str, str]) -> bool:
    """Tell by its name and its environment whether an image is one of Postgres; its server was not asked."""
    return "PGDATA" in env or "PG_MAJOR" in env or "postgres" in image_ref


def data_directory_of(container: Container) -> str:
    """Return where the image keeps its cluster, as the container names it; only the server knows for sure."""
    return container.env.get("PGDATA", "") or "/var/lib/postgresql/data"


def _login(container: Container, user: str, password: str, database: str, statement_timeout: float) -> Login:
    root = paths.root_of(container)
    told = credentials_of(container)
    directory = paths.resolve_inside(root, data_directory_of(container))
    lock = postmaster.read_pid_file(directory)
    port = lock.port if lock else int(container.env.get("PGPORT", "") or DEFAULT_PORT)
    socket_directory = _socket_directory(root, port, (lock.socket_directory,) if lock else ())
    return Login(
        user=user or told.user,
        password=password or told.password,
        database=database or told.database,
        socket_directory=socket_directory,
        port=port,
        os_user=":".join(map(str, paths.owner_of(directory))) if lock else "",
        statement_timeout=statement_timeout,
    )


def _secret(container: Container, path: str) -> str:
    if not path:
        return ""
    try:
        place = paths.seen_path(container, path) if container.pid else paths.mountable_path(container, path)
        with open(place, encoding="utf-8") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""  # trust may do without; where it does not, the refusal says that no password was given


def _socket_directory(root: str, port: int, first: tuple[str, ...]) -> str:
    for directory in (*first, *SOCKET_DIRECTORIES):
        if directory and os.path.exists(os.path.join(paths.resolve_inside(root, directory), f".s.PGSQL.{port}")):
            return directory
    return ""


def _open(engine: Engine, container: Container, login: Login, *, only: str) -> Session:
    tried: list[str] = []
    if only in ("", DriverTransport.name):
        try:
            return Session(engine, container, login, open_driver(container, login))
        except SqlError as error:
            tried.append(error.msg)
    if only in ("", PsqlTransport.name):
        psql = PsqlTransport(engine, container.id, login)
        try:
            psql.send("SELECT 1")
            return Session(engine, container, login, psql)
        except SqlError as error:
            tried.append(error.msg)
    if any(INTERRUPTED in said for said in tried):
        raise SqlError(
            f"The database {login.database} in {container.name} is what a DROP DATABASE left that was interrupted:"
            " nobody can connect to it, and nothing of it is to be had any more.",
            next_command=shell(
                *("docker", "exec", container.name, "psql", "-U", login.user, "-d", "template1"),
                *("-c", f"DROP DATABASE {sql.identifier(login.database)}"),
            ),
        )
    raise SqlError(
        f"No session with the server in {container.name} as {login.user}: {' / '.join(tried)}",
        next_command="set login_user, login_password and login_db, then run the same task again",
    )
