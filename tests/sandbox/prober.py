# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes to both stores all the time and remembers every write that was acknowledged.

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
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ._base import SandboxError
from .engine import Engine

try:
    import psycopg
except ImportError:  # the engine and the images work without it
    psycopg = None  # type: ignore[assignment]

TABLE = "sandbox_probe"
KEY = "sandbox:probe:"
RETRY_S = 0.005
CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Gap:
    """The time between two acknowledged writes, in seconds since the epoch."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long nothing was acknowledged."""
        return self.end - self.start


@dataclass(frozen=True)
class Record:
    """What one store acknowledged."""

    store: str
    acknowledged: frozenset[int]
    longest_gap: Gap
    attempts: int
    last_error: str


@dataclass(frozen=True)
class Report:
    """What both stores acknowledged."""

    postgres: Record | None
    redis: Record | None


class Lost(Exception):
    """The store did not acknowledge; whatever it was, the write does not count and is tried anew."""


class Store(Protocol):
    """One way to write one id and to read back which ids are there."""

    name: str

    def open(self, pid: int) -> None: ...
    def write(self, number: int) -> None: ...
    def present(self, numbers: Iterable[int]) -> set[int]: ...
    def close(self) -> None: ...


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
                    f"CREATE TABLE IF NOT EXISTS {TABLE} (id bigint PRIMARY KEY, at timestamptz DEFAULT clock_timestamp())"
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

    def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
        self._connection = None


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
        answer = self._command("SET", f"{KEY}{number}", str(number))
        if answer != b"OK":
            raise Lost(repr(answer))

    def present(self, numbers: Iterable[int]) -> set[int]:
        """Return which of ``numbers`` have their key."""
        wanted = sorted(numbers)
        found: set[int] = set()
        for start in range(0, len(wanted), 1000):
            chunk = wanted[start : start + 1000]
            values = self._command("MGET", *(f"{KEY}{number}" for number in chunk))
            found.update(number for number, value in zip(chunk, values, strict=True) if value == str(number).encode())
        return found

    def close(self) -> None:
        """Drop the connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket = self._reader = None

    def _command(self, *words: str) -> Any:
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
            return [self._answer() for _ in range(int(rest))]
        return rest


class Writer(threading.Thread):
    """Writes ids to one store until stopped, following its container through every recreation."""

    def __init__(self, engine: Engine, project: str, service: str, store: Store, *, first: int, interval: float) -> None:
        super().__init__(name=f"prober-{store.name}", daemon=True)
        self._engine, self._project, self._service, self._store = engine, project, service, store
        self._first, self._interval = first, interval
        self._stop_event, self._started_event = threading.Event(), threading.Event()
        self._acknowledged: set[int] = set()
        self._number, self._last_ack, self._gap, self._error = first, 0.0, Gap(0.0, 0.0), ""

    def run(self) -> None:
        """Write, and on any trouble find the container anew and connect again."""
        pid: int | None = None
        connected = False
        while not self._stop_event.is_set():
            try:
                if not connected:
                    if pid is None or not Path(f"/proc/{pid}/root").exists():
                        pid = container_pid(self._engine, self._project, self._service)
                    self._store.open(pid)
                    connected = True
                number, self._number = self._number, self._number + 1
                self._store.write(number)
            except (Lost, SandboxError) as exc:
                self._error = str(exc)
                connected = False
                self._store.close()
                self._stop_event.wait(RETRY_S)
                continue
            self._note(number)
            self._stop_event.wait(self._interval)
        self._store.close()

    def wait_started(self, timeout: float = 30.0) -> None:
        """Wait for the first acknowledged write."""
        if not self._started_event.wait(timeout):
            raise SandboxError(f"{self.name}: nothing acknowledged within {timeout:.0f} s: {self._error}")

    @property
    def acknowledged_count(self) -> int:
        """How many writes were acknowledged so far."""
        return len(self._acknowledged)

    def finish(self) -> Record:
        """Stop writing and return what was acknowledged; an outage that lasts until now counts as a gap."""
        self._stop_event.set()
        self.join(30)
        self._note_gap(time.time())
        return Record(
            self._store.name, frozenset(self._acknowledged), self._gap, self._number - self._first, self._error
        )

    def _note(self, number: int) -> None:
        now = time.time()
        self._note_gap(now)
        self._last_ack = now
        self._acknowledged.add(number)
        self._started_event.set()

    def _note_gap(self, now: float) -> None:
        if self._last_ack and now - self._last_ack > self._gap.seconds:
            self._gap = Gap(self._last_ack, now)


@dataclass
class Prober:
    """Rows into Postgres and keys into Redis, from ``start`` to ``stop``."""

    engine: Engine
    project: str
    postgres_service: str | None = "db"
    redis_service: str | None = "redis"
    database: str = "postgres"
    interval: float = 0.002
    load_writers: int = 0
    _writers: list[Writer] = field(default_factory=list, repr=False)
    _load: list[Writer] = field(default_factory=list, repr=False)

    def start(self) -> Prober:
        """Start writing and return once each store has acknowledged a write."""
        # Ids are unique over all probers of a project, so that one table serves a test's several rounds.
        first = time.time_ns() // 1000
        for store, service in self._stores():
            self._writers.append(
                Writer(self.engine, self.project, service, store, first=first, interval=self.interval)
            )
        for writer in self._writers:
            writer.start()
        for writer in self._writers:
            writer.wait_started()
        if self.postgres_service is not None:
            for index in range(self.load_writers):
                store = PostgresStore(database=self.database, setup=False)
                begin = first + (index + 1) * 10**14
                self._load.append(
                    Writer(self.engine, self.project, self.postgres_service, store, first=begin, interval=0.0)
                )
        for writer in self._load:
            writer.start()
        return self

    def stop(self) -> Report:
        """Stop and return what was acknowledged; writes of the load count as acknowledged too."""
        records = [writer.finish() for writer in self._writers]
        load = [writer.finish() for writer in self._load]
        self._writers, self._load = [], []
        by_store = {record.store: record for record in records}
        postgres = by_store.get("postgres")
        if postgres is not None and load:
            everything = frozenset().union(postgres.acknowledged, *(record.acknowledged for record in load))
            postgres = Record(
                "postgres", everything, postgres.longest_gap, postgres.attempts + sum(r.attempts for r in load),
                postgres.last_error,
            )  # fmt: skip
        return Report(postgres, by_store.get("redis"))

    def missing(self, report: Report) -> dict[str, list[int]]:
        """Return per store the ids that were acknowledged and are not there now; empty lists are what you want."""
        records = {"postgres": report.postgres, "redis": report.redis}
        lost: dict[str, list[int]] = {}
        for store, service in self._stores(setup=False):
            record = records[store.name]
            if record is None:
                continue
            store.open(container_pid(self.engine, self.project, service))
            try:
                lost[store.name] = sorted(record.acknowledged - store.present(record.acknowledged))
            finally:
                store.close()
        return lost

    def __enter__(self) -> Prober:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        for writer in [*self._writers, *self._load]:
            writer.finish()

    def _stores(self, *, setup: bool = True) -> Iterator[tuple[Store, str]]:
        if self.postgres_service is not None:
            yield PostgresStore(database=self.database, setup=setup), self.postgres_service
        if self.redis_service is not None:
            yield RedisStore(), self.redis_service


def container_pid(engine: Engine, project: str, service: str) -> int:
    """Return the first process of the service's newest running container, found by compose's labels."""
    found = [
        container
        for container in engine.containers(project=project, service=service)
        if container["Labels"].get("com.docker.compose.oneoff") != "True"
    ]
    if not found:
        raise SandboxError(f"no container of {service} runs")
    newest = max(found, key=lambda container: container["Created"])
    pid = int(engine.api(f"/containers/{newest['Id']}/json")["State"]["Pid"])
    if pid == 0:
        raise SandboxError(f"the container of {service} does not run")
    return pid


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
