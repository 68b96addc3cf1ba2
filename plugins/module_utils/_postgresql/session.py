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

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Protocol

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import paths, postmaster, sql

try:
    import psycopg

    PSYCOPG_IMPORT_ERROR: ImportError | None = None
except ImportError as missing:  # pragma: no cover - the host may lack it
    PSYCOPG_IMPORT_ERROR = missing

SOCKET_DIRECTORIES = ("/var/run/postgresql", "/tmp")
DEFAULT_PORT = 5432
APPLICATION_NAME = "selfhost.stateful"
# libpq warns about a password file that is not a plain file, and is silent about one that is not there.
NO_PASSFILE = "/nonexistent/pgpass"


class SqlError(StatefulError):
    """The server refused a statement; ``sqlstate`` is its five-character code."""

    def __init__(self, msg: str, *, sqlstate: str = "", **facts: Any) -> None:
        super().__init__(msg, **facts)
        self.sqlstate = sqlstate


@dataclass(frozen=True)
class Login:
    """Who connects where. ``socket_directory`` is a path of the container, empty for psql's own default."""

    user: str
    password: str = field(repr=False)
    database: str
    socket_directory: str
    port: int
    os_user: str
    statement_timeout: float = 0.0

    def settings(self) -> dict[str, str]:
        """Session settings: no name of ours may resolve to an object that a user planted in a search path."""
        return {
            "search_path": "pg_catalog",
            "statement_timeout": str(milliseconds(self.statement_timeout)),
            "client_min_messages": "warning",
        }


def milliseconds(seconds: float) -> int:
    """Return a time limit as the server takes it; only 0 means none, so a moment is rounded up."""
    return math.ceil(seconds * 1000)


class Transport(Protocol):
    """How statements travel. ``holds_transactions`` is false where each one runs on its own."""

    name: str
    holds_transactions: bool

    def send(self, statement: str) -> str:
        """Run one statement and return the first value of its answer as text, empty if there is none."""

    def limit(self, statement_timeout: float) -> None:
        """Cancel each later statement after so many seconds."""

    def close(self) -> None: ...


class Session:
    """A connection in autocommit mode, to be used as a context manager."""

    def __init__(self, engine: Engine, container: Container, login: Login, transport: Transport) -> None:
        self._engine = engine
        self._container = container
        self._login = login
        self._transport = transport

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

    def limited(self, seconds: float) -> Session:
        """Give each later statement at most ``seconds``; the server cancels it with 57014. Returns itself."""
        self._transport.limit(seconds)
        return self

    def without_timeouts(self) -> Session:
        """Lift what the server's configuration would end an idle or a long session for. Returns itself."""
        self.rows(
            "SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout',"
            " 'idle_session_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')"
        )
        return self

    def sibling(self, database: str = "") -> Session:
        """Open another session with the same login, to ``database`` where one is named."""
        login = replace(self._login, database=database or self._login.database)
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


def data_directory_of(container: Container) -> str:
    """Return where the image keeps its cluster, as the container names it; only the server knows for sure."""
    return container.env.get("PGDATA", "") or "/var/lib/postgresql/data"


def _login(container: Container, user: str, password: str, database: str, statement_timeout: float) -> Login:
    env = container.env
    user = user or env.get("POSTGRES_USER", "") or "postgres"
    root = paths.root_of(container)
    password = password or env.get("POSTGRES_PASSWORD", "") or _secret(root, env.get("POSTGRES_PASSWORD_FILE", ""))
    directory = paths.resolve_inside(root, data_directory_of(container))
    lock = postmaster.read_pid_file(directory)
    port = lock.port if lock else int(env.get("PGPORT", "") or DEFAULT_PORT)
    socket_directory = _socket_directory(root, port, (lock.socket_directory,) if lock else ())
    return Login(
        user=user,
        password=password,
        database=database or env.get("POSTGRES_DB", "") or "postgres",
        socket_directory=socket_directory,
        port=port,
        os_user=":".join(map(str, paths.owner_of(directory))) if lock else "",
        statement_timeout=statement_timeout,
    )


def _secret(root: str, path: str) -> str:
    if not path:
        return ""
    try:
        with open(paths.resolve_inside(root, path), encoding="utf-8") as file:
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
    raise SqlError(
        f"No session with the server in {container.name} as {login.user}: {' / '.join(tried)}",
        next_command="set login_user, login_password and login_db, then run the same task again",
    )


class DriverTransport:
    """psycopg on the container's socket."""

    name = "psycopg"
    holds_transactions = True

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def send(self, statement: str) -> str:
        try:
            cursor = self._connection.execute(statement.encode())
            if cursor.description is None:
                return ""
            found = cursor.fetchone()
        except psycopg.Error as error:
            raise SqlError(f"PostgreSQL refused: {_plain(error)}", sqlstate=error.sqlstate or "") from error
        return "" if found is None or found[0] is None else str(found[0])

    def limit(self, statement_timeout: float) -> None:
        self.send(f"SET statement_timeout = {milliseconds(statement_timeout)}")

    def close(self) -> None:
        self._connection.close()


def open_driver(container: Container, login: Login) -> DriverTransport:
    """Connect with psycopg; raises :class:`SqlError` where this way is closed."""
    if PSYCOPG_IMPORT_ERROR is not None:
        raise SqlError(f"psycopg 3 is not installed on this host ({PSYCOPG_IMPORT_ERROR})")
    if not login.socket_directory:
        raise SqlError(f"no socket for port {login.port} in {', '.join(SOCKET_DIRECTORIES)} of the container")
    options = " ".join(f"-c {name}={value}" for name, value in login.settings().items())
    try:
        connection = psycopg.connect(
            host=paths.seen_path(container, login.socket_directory),
            port=login.port,
            user=login.user,
            # Never root's own ~/.pgpass: an answer must not depend on who runs us.
            password=login.password or None,
            passfile=NO_PASSFILE,
            dbname=login.database,
            options=options,
            client_encoding="UTF8",
            application_name=APPLICATION_NAME,
            connect_timeout=10,
            autocommit=True,
            prepare_threshold=None,
        )
    except psycopg.Error as error:
        raise SqlError(_plain(error)) from error
    if connection.info.server_version < 100000:
        connection.close()
        raise SqlError("psycopg 3 supports servers from 10 on")
    return DriverTransport(connection)


def _plain(error: Exception) -> str:
    return " ".join(str(error).split())


class PsqlTransport:
    """psql inside the container, one exec a statement; statements come by stdin, the password by environment."""

    name = "psql"
    holds_transactions = False

    def __init__(self, engine: Engine, container_id: str, login: Login) -> None:
        self._engine = engine
        self._container_id = container_id
        self._login = login

    def send(self, statement: str) -> str:
        login = self._login
        environment = {
            "PGOPTIONS": " ".join(f"-c {name}={value}" for name, value in login.settings().items()),
            "PGCLIENTENCODING": "UTF8",
            "PGAPPNAME": APPLICATION_NAME,
            "PGPASSFILE": NO_PASSFILE,
        }
        if login.password:
            environment["PGPASSWORD"] = login.password
        answer = self._engine.execute(
            self._container_id,
            psql_argv(login),
            environment=environment,
            user=login.os_user,
            stdin=statement.encode() + b"\n;\n",
        )
        if answer.rc != 0:
            message = answer.error_text()
            raise SqlError(f"psql: {' '.join(message.split())}", sqlstate=sqlstate_of(message))
        return parse_psql(answer.stdout)

    def limit(self, statement_timeout: float) -> None:
        self._login = replace(self._login, statement_timeout=statement_timeout)

    def close(self) -> None:
        """Each statement had a connection of its own."""


def psql_argv(login: Login) -> tuple[str, ...]:
    """Return the call of psql whose output :func:`parse_psql` reads."""
    where = ("-h", login.socket_directory) if login.socket_directory else ()
    switches = ("-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose")
    return ("psql", *switches, *where, "-p", str(login.port), "-U", login.user, "-d", login.database, "-f", "-")


def parse_psql(stdout: bytes) -> str:
    """Return the one value that came. It may span lines; only psql's own last line break is dropped."""
    text = stdout.decode("utf-8")
    return text[:-1] if text.endswith("\n") else text


def sqlstate_of(message: str) -> str:
    """Find the code in a message of VERBOSITY verbose: ``ERROR:  42P01: relation …``, in any language."""
    # ERROR, FATAL and PANIC have five letters, too; every code has a digit.
    found = re.search(r":\s+(?=[A-Z]*\d)([0-9A-Z]{5}):", message)
    return found.group(1) if found else ""
