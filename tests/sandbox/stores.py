# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the prober reaches a store in a container, and one write to it.

The stores are reached through ``/proc/<pid>``: Postgres by its socket in the container's
own files, Redis from within the container's network namespace. Neither needs a published
port, and both work however the container is attached to networks.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from ._base import SandboxError

try:
    import psycopg
except ImportError:  # the engine and the images work without it
    psycopg = None  # type: ignore[assignment]

TABLE = "sandbox_probe"
KEY = "sandbox:probe:"
CLONE_NEWNET = 0x40000000


class Lost(Exception):
    """The store did not acknowledge; whatever it was, the write does not count and is tried anew."""


class Store(Protocol):
    """One way to write one id and to read back which ids are there."""

    name: str

    def open(self, pid: int) -> None: ...
    def write(self, number: int) -> None: ...
    def present(self, numbers: Iterable[int]) -> set[int]: ...
    def close(self) -> None: ...


@contextlib.contextmanager
def opened(store: Store, pid: int) -> Iterator[Store]:
    """Connect to the store in the container whose first process is ``pid``, for as long as the block lasts."""
    store.open(pid)
    try:
        yield store
    finally:
        store.close()


class PostgresStore:
    """Rows of a table of the prober's own, one committed transaction each."""

    name = "postgres"

    def __init__(self, *, user: str = "postgres", database: str = "postgres", setup: bool = True) -> None:
        self._user, self._database, self._setup = user, database, setup
        self._connection: psycopg.Connection[Any] | None = None

    def open(self, pid: int) -> None:
        """Connect to the server in the container whose first process is ``pid``."""
        if psycopg is None:
            raise SandboxError("the prober needs psycopg 3")
        try:
            # /var/run is an absolute link, which would resolve against this machine's root.
            self._connection = psycopg.connect(
                host=f"/proc/{pid}/root/run/postgresql", user=self._user, dbname=self._database,
                autocommit=True, connect_timeout=2, application_name="sandbox-prober",
            )  # fmt: skip
            if self._setup:
                self._connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {TABLE} "
                    "(id bigint PRIMARY KEY, at timestamptz DEFAULT clock_timestamp())"
                )
                self._setup = False
        except psycopg.Error as exc:
            raise Lost(str(exc)) from exc

    def write(self, number: int) -> None:
        """Insert one row and return when the commit is acknowledged."""
        if self._connection is None:
            raise Lost("not connected")
        try:
            self._connection.execute(f"INSERT INTO {TABLE} (id) VALUES (%s)", [number])
        except psycopg.Error as exc:
            raise Lost(str(exc)) from exc

    def present(self, numbers: Iterable[int]) -> set[int]:
        """Return which of ``numbers`` are in the table, read without an index that could be wrong."""
        if self._connection is None:
            raise Lost("not connected")
        self._connection.execute("SET enable_indexscan = off; SET enable_indexonlyscan = off")
        try:
            rows = self._connection.execute(f"SELECT id FROM {TABLE}").fetchall()
        except psycopg.errors.UndefinedTable:
            return set()  # an empty cluster: everything is missing
        return {row[0] for row in rows} & set(numbers)

    def query(self, statements: str) -> str:
        """Run SQL and return all its rows as psql prints them unaligned: a row a line, columns parted by bars."""
        if self._connection is None:
            raise Lost("not connected")
        lines = []
        cursor = self._connection.execute(statements.encode())
        while True:
            result = cursor.pgresult
            assert result is not None
            for row in range(result.ntuples):
                values = (result.get_value(row, column) or b"" for column in range(result.nfields))
                lines.append(b"|".join(values).decode())
            if not cursor.nextset():
                return "\n".join(lines)

    def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
        self._connection = None


def serves_tcp(pid: int) -> bool:
    """Tell whether Postgres in the container of ``pid`` takes logins over TCP: its first start has the socket alone."""
    if psycopg is None:
        raise SandboxError("asking Postgres needs psycopg 3")
    try:
        with network_of(pid):
            return psycopg.pq.PGconn.ping(b"hostaddr=127.0.0.1 connect_timeout=2") == psycopg.pq.Ping.OK
    except OSError:
        return False


class RedisStore:
    """Keys of the prober's own, in Redis' plain protocol."""

    name = "redis"

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._reader: Any = None

    def open(self, pid: int) -> None:
        """Connect to the server on the loopback of the container whose first process is ``pid``."""
        self.close()
        try:
            with network_of(pid):
                self._socket = socket.socket()
            self._socket.settimeout(5)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.connect(("127.0.0.1", 6379))
            self._reader = self._socket.makefile("rb")
        except OSError as exc:
            self.close()
            raise Lost(str(exc)) from exc

    def write(self, number: int) -> None:
        """Set one key and return when it is acknowledged."""
        answer = self.command("SET", f"{KEY}{number}", str(number))
        if answer != b"OK":
            raise Lost(repr(answer))

    def present(self, numbers: Iterable[int]) -> set[int]:
        """Return which of ``numbers`` have their key."""
        wanted = sorted(numbers)
        found: set[int] = set()
        for start in range(0, len(wanted), 1000):
            chunk = wanted[start : start + 1000]
            values = self.command("MGET", *(f"{KEY}{number}" for number in chunk))
            found.update(number for number, value in zip(chunk, values, strict=True) if value == str(number).encode())
        return found

    def close(self) -> None:
        """Drop the connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket = self._reader = None

    def command(self, *words: str) -> Any:
        """Send one command and return its reply; strings come as bytes."""
        if self._socket is None:
            raise Lost("not connected")
        encoded = [word.encode() for word in words]
        request = b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)
        try:
            self._socket.sendall(request)
            return self._answer()
        except OSError as exc:
            raise Lost(str(exc)) from exc

    def _answer(self) -> Any:
        line = self._reader.readline()
        if not line.endswith(b"\r\n"):
            raise Lost("connection closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise Lost(rest.decode())
        if kind == b"$":
            return None if rest == b"-1" else self._reader.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self._answer() for _number in range(int(rest))]
        return rest


@contextlib.contextmanager
def network_of(pid: int) -> Iterator[None]:
    """Let this thread alone make sockets in the network namespace of ``pid``."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(descriptor: int) -> None:
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")

    home = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
    try:
        there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        try:
            enter(there)
            yield
        finally:
            os.close(there)
            enter(home)
    finally:
        os.close(home)
