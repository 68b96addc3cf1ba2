# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How SQL travels to a container's server: by the driver on its Unix socket, or by psql inside it."""

from __future__ import annotations

import functools
import math
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import paths

if TYPE_CHECKING:
    import psycopg

APPLICATION_NAME = "selfhost.stateful"
FIRST_WITH_DRIVER = 100000
"""The oldest server that psycopg 3 connects to, as server_version_num."""
REMARKS = 200
"""Of what a server remarks during a script, so many are kept, the last ones."""
CHANGING = re.compile(r"(?:INSERT \d+|UPDATE|DELETE|MERGE|COPY) (\d+)")
"""The command tags that say how many rows were changed."""
# libpq warns about a password file that is not a plain file, and is silent about one that is not there.
NO_PASSFILE = "/nonexistent/pgpass"


class SqlError(StatefulError):
    """The server refused a statement; ``sqlstate`` is its five-character code."""

    def __init__(self, msg: str, *, sqlstate: str = "", **facts: Any) -> None:
        super().__init__(msg, **facts)
        self.sqlstate = sqlstate


@dataclass(frozen=True)
class Login:
    """Who connects where. ``socket_directory`` is a path of the container, empty for psql's own default.

    ``extra`` are further settings of the session; no value may hold a blank.
    """

    user: str
    password: str = field(repr=False)
    database: str
    socket_directory: str
    port: int
    os_user: str
    statement_timeout: float = 0.0
    extra: Mapping[str, str] = field(default_factory=dict)
    as_their_own: bool = False
    """Whether the session has the settings of role and database, as an application's has, in place of ours."""

    def settings(self) -> dict[str, str]:
        """Session settings: no name of ours may resolve to an object that a user planted in a search path."""
        if self.as_their_own:
            return dict(self.extra)
        return {
            "search_path": "pg_catalog",
            "statement_timeout": str(milliseconds(self.statement_timeout)),
            "client_min_messages": "warning",
            **self.extra,
        }


def milliseconds(seconds: float) -> int:
    """Return a time limit as the server takes it; only 0 means none, so a moment is rounded up."""
    return math.ceil(seconds * 1000)


@dataclass(frozen=True)
class Ran:
    """What became of a script: the rows that its statements changed, and what the server remarked."""

    rows: int
    remarks: tuple[str, ...] = ()


class Transport(Protocol):
    """How statements travel. ``holds_transactions`` is false where each one runs on its own."""

    name: str
    holds_transactions: bool

    def send(self, statement: str) -> str:
        """Run one statement and return the first value of its answer as text, empty if there is none."""

    def script(self, text: str) -> Ran:
        """Run statements of somebody else's in one go; what they answer is dropped."""

    def limit(self, statement_timeout: float) -> None:
        """Cancel each later statement after so many seconds."""

    def close(self) -> None: ...


@functools.cache
def driver_missing() -> str:
    """Return why psycopg cannot be imported on this host; empty where it can.

    The driver is imported by whoever needs it first: a run that asks no server is spared a fifth of its time.
    """
    try:
        import psycopg  # noqa: F401
    except ImportError as missing:
        return str(missing)
    return ""


class DriverTransport:
    """psycopg on the container's socket."""

    name = "psycopg"
    holds_transactions = True

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def send(self, statement: str) -> str:
        import psycopg

        try:
            cursor = self._connection.execute(statement.encode())
            if cursor.description is None:
                return ""
            found = cursor.fetchone()
        except psycopg.Error as error:
            raise SqlError(f"PostgreSQL refused: {_plain(error)}", sqlstate=error.sqlstate or "") from error
        return "" if found is None or found[0] is None else str(found[0])

    def script(self, text: str) -> Ran:
        remarks: deque[str] = deque(maxlen=REMARKS)

        def note(diagnostic: psycopg.errors.Diagnostic) -> None:
            remarks.append(f"{diagnostic.severity}: {diagnostic.message_primary}")

        self._connection.add_notice_handler(note)
        try:
            rows = _changed_rows(self._connection, text)
        finally:
            self._connection.remove_notice_handler(note)
        return Ran(rows, tuple(remarks))

    def limit(self, statement_timeout: float) -> None:
        self.send(f"SET statement_timeout = {milliseconds(statement_timeout)}")

    def close(self) -> None:
        self._connection.close()


def _changed_rows(connection: psycopg.Connection[tuple[Any, ...]], text: str) -> int:
    """Run all statements of ``text`` as one message, in constant memory whatever they answer."""
    from psycopg import pq

    line = connection.pgconn
    line.send_query(text.encode())
    line.set_single_row_mode()
    rows, refused = 0, None
    while True:
        result = line.get_result()
        if result is None:
            break
        if result.status == pq.ExecStatus.COPY_IN:
            line.put_copy_end(b"there is no input")
        elif result.status == pq.ExecStatus.COPY_OUT:
            while line.get_copy_data(0)[0] > 0:
                pass
        elif result.status == pq.ExecStatus.FATAL_ERROR:
            refused = refused or result
        else:
            tag = CHANGING.fullmatch((result.command_status or b"").decode())
            rows += int(tag[1]) if tag else 0
    if refused is not None:
        place = refused.error_field(pq.DiagnosticField.STATEMENT_POSITION)
        # Positions count characters, from 1.
        where = f" (line {text.count(chr(10), 0, int(place) - 1) + 1})" if place else ""
        said = " ".join(pq.error_message(refused, "utf-8").split())
        code = refused.error_field(pq.DiagnosticField.SQLSTATE) or b""
        raise SqlError(f"PostgreSQL refused{where}: {said}", sqlstate=code.decode())
    return rows


def session_options(settings: Mapping[str, str]) -> str:
    """Return how libpq is told that a session has ``settings`` from its start; no value may hold a blank."""
    return " ".join(f"-c {name}={value}" for name, value in settings.items())


def open_driver(container: Container, login: Login) -> DriverTransport:
    """Connect with psycopg; raises :class:`SqlError` where this way is closed."""
    lacking = driver_missing()
    if lacking:
        raise SqlError(f"psycopg 3 is not installed on this host ({lacking})")
    import psycopg

    if not login.socket_directory:
        raise SqlError(f"no socket for port {login.port} was found in the container")
    options = session_options(login.settings())
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
    if connection.info.server_version < FIRST_WITH_DRIVER:
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
            "PGOPTIONS": session_options(login.settings()),
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

    def script(self, text: str) -> Ran:
        raise SqlError(
            "This needs psycopg, which is not installed on this host or cannot log in through the container's socket.",
            next_command="run the role selfhost.stateful.host_requirements on this host, then the same task again",
        )

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
