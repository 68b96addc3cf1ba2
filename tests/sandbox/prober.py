# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes to both stores all the time and remembers every write that was acknowledged."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ._base import SandboxError, wait_for
from .engine import Engine
from .stores import Lost, PostgresStore, RedisStore, Store, opened

RETRY_S = 0.005
ASK_AGAIN_S = 0.1


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


class Writer(threading.Thread):
    """Writes ids to one store until stopped, following its container through every recreation."""

    def __init__(
        self,
        engine: Engine,
        project: str,
        service: str,
        store: Store,
        *,
        first: int,
        interval: float,
        retry: float = RETRY_S,
    ) -> None:
        super().__init__(name=f"prober-{store.name}", daemon=True)
        self._engine, self._project, self._service, self._store = engine, project, service, store
        self._first, self._interval, self._retry = first, interval, retry
        self._stop_event, self._started_event = threading.Event(), threading.Event()
        self._acknowledged: set[int] = set()
        self._number, self._last_ack, self._gap, self._error = first, 0.0, Gap(0.0, 0.0), ""

    def run(self) -> None:
        """Write, and on any trouble find the container anew and connect again."""
        pid, asked = 0, 0.0
        connected = False
        while not self._stop_event.is_set():
            try:
                if not connected:
                    # Not at every attempt, for the engine's sake; but a pid that lives may be another's by now.
                    if time.monotonic() - asked > ASK_AGAIN_S or not Path(f"/proc/{pid}/root").exists():
                        pid = self._engine.first_process(self._project, self._service)
                        asked = time.monotonic()
                    self._store.open(pid)
                    connected = True
                number, self._number = self._number, self._number + 1
                self._store.write(number)
            except (Lost, SandboxError) as exc:
                self._error = str(exc)
                connected = False
                self._store.close()
                self._stop_event.wait(self._retry)
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
        if self.is_alive():
            self.join(30)
        if self.is_alive():
            raise SandboxError(f"{self.name} hangs: {self._error}")
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
    postgres_user: str = "postgres"
    interval: float = 0.002
    # Seconds between two attempts at a store that is down.
    retry: float = RETRY_S
    load_writers: int = 0
    _writers: list[Writer] = field(default_factory=list, repr=False)
    _load: list[Writer] = field(default_factory=list, repr=False)

    def start(self) -> Prober:
        """Start writing and return once each store has acknowledged a write."""
        # Ids are unique over all probers of a project, so that one table serves a test's several rounds.
        first = time.time_ns() // 1000
        for store, service in self._stores():
            self._writers.append(
                Writer(self.engine, self.project, service, store, first=first, interval=self.interval, retry=self.retry)
            )
        for writer in self._writers:
            writer.start()
        for writer in self._writers:
            writer.wait_started()
        if self.postgres_service is not None:
            for index in range(self.load_writers):
                store = PostgresStore(user=self.postgres_user, database=self.database, setup=False)
                begin = first + (index + 1) * 10**14
                self._load.append(
                    Writer(self.engine, self.project, self.postgres_service, store, first=begin, interval=0.0)
                )
        for writer in self._load:
            writer.start()
        return self

    @property
    def acknowledged_count(self) -> int:
        """How many writes each store has acknowledged so far, by the one that has fewest."""
        return min(writer.acknowledged_count for writer in self._writers)

    def wait_written(self, timeout: float = 60.0) -> None:
        """Wait until each store acknowledged a write that was begun after this was called."""
        # The next one that is acknowledged may have been on its way already.
        wanted = {writer: writer.acknowledged_count + 2 for writer in self._writers}
        wait_for(
            lambda: all(writer.acknowledged_count >= count for writer, count in wanted.items()),
            f"{self.project}: the stores take writes", timeout=timeout, every=0.01,
        )  # fmt: skip

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
            with opened(store, self.engine.first_process(self.project, service)):
                lost[store.name] = sorted(record.acknowledged - store.present(record.acknowledged))
        return lost

    def __enter__(self) -> Prober:
        try:
            return self.start()
        except BaseException:
            self._end()
            raise

    def __exit__(self, *_exc: object) -> None:
        self._end()

    def _end(self) -> None:
        for writer in [*self._writers, *self._load]:
            writer.finish()

    def _stores(self, *, setup: bool = True) -> Iterator[tuple[Store, str]]:
        if self.postgres_service is not None:
            yield PostgresStore(user=self.postgres_user, database=self.database, setup=setup), self.postgres_service
        if self.redis_service is not None:
            yield RedisStore(), self.redis_service
