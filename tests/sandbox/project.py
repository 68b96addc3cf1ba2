# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A compose project of the sandbox: up, seeded, counted, down."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ._base import SandboxError, run, wait_for
from .engine import Engine, NotRunning
from .stores import Lost, PostgresStore, RedisStore, opened, serves_tcp

SEED_TABLE = "sandbox_rows"


@dataclass
class Project:
    """A compose project in ``directory``; nothing runs until ``up`` is called."""

    directory: Path
    name: str
    engine: Engine
    compose_argv: tuple[str, ...]
    services: dict[str, str]
    web_port: int | None = None
    image: str | None = None
    database: str = "postgres"
    postgres_user: str = "postgres"
    _volumes: set[str] = field(default_factory=set, repr=False)

    def compose(self, *args: str, check: bool = True) -> str:
        """Run compose in the project's directory, as its admin would, and return what it printed."""
        done = run([*self.compose_argv, *args], check=check, cwd=self.directory, env=self.engine.env)
        self._remember_volumes()
        return done.stdout.strip()

    def up(self, *services: str, build: bool = True) -> Project:
        """Build where the file builds, start, and wait until the stores (and web, once migrated) answer."""
        if build and self.image is not None and not services:
            self.compose("build")
        self.compose("up", "-d", *services)
        self.wait_ready(*services)
        if self.image is not None and not services:
            self.compose("run", "--rm", "web", "rails", "db:migrate")
            self.compose("run", "--rm", "web", "rails", "assets:precompile")
            wait_for(lambda: self.web_status("/") == 200, f"{self.name}: web answers")
        return self

    def wait_ready(self, *services: str, timeout: float = 90.0) -> None:
        """Wait until Postgres answers over TCP (its first start listens on the socket only) and Redis pings."""
        for kind, answers in (("postgres", self._postgres_answers), ("redis", self._redis_answers)):
            if kind in self.services and (not services or self.services[kind] in services):
                wait_for(answers, f"{self.name}: {self.services[kind]} is ready", timeout=timeout)

    def container(self, kind: str, *, any_state: bool = False) -> str | None:
        """Return the id of the newest container of ``postgres``, ``redis`` or a service's own name, found by label."""
        return self.engine.newest_container(self.name, self.services.get(kind, kind), every=any_state)

    def containers(self, *, any_state: bool = False) -> list[dict[str, Any]]:
        """Return the containers of the project's services, in the words of the engine's list."""
        return self.engine.containers(every=any_state, project=self.name, oneoff="False")

    def exec(self, kind: str, *argv: str, input: str | None = None, check: bool = True) -> str:
        """Run a command in the container of ``kind`` and return what it printed."""
        container = self.container(kind)
        if container is None:
            raise SandboxError(f"{self.name}: no container of {kind} runs")
        flags = ["-i"] if input is not None else []
        return self.engine.docker("exec", *flags, container, *argv, input=input, check=check)

    def sql(self, statements: str, *, database: str = "") -> str:
        """Run SQL as the superuser; the rows come back as psql prints them unaligned."""
        store = PostgresStore(user=self.postgres_user, database=database or self.database, setup=False)
        with opened(store, self._pid("postgres")):
            return store.query(statements)

    def redis(self, *words: str) -> Any:
        """Run one command of Redis and return its reply; strings come as bytes."""
        store = RedisStore()
        with opened(store, self._pid("redis")):
            return store.command(*words)

    def fill_postgres(self, rows: int, *, payload: int = 64, table: str = SEED_TABLE) -> None:
        """Add ``rows`` rows, each with ``payload`` bytes that do not compress."""
        chunks = -(-payload // 32)
        words = f"SELECT string_agg(md5((g * 1000 + c)::text), '') FROM generate_series(1, {chunks}) c"
        self.sql(
            f"CREATE TABLE IF NOT EXISTS {table} (id bigserial PRIMARY KEY, note text);"
            f"ALTER TABLE {table} ALTER note SET STORAGE EXTERNAL;"
            f"INSERT INTO {table} (note) SELECT left(({words}), {payload}) FROM generate_series(1, {rows}) g;"
        )

    def fill_redis(self, keys: int, *, prefix: str = "sandbox:seed") -> None:
        """Set ``keys`` keys."""
        script = f"for i = 1, {keys} do redis.call('SET', '{prefix}:' .. i, i) end return {keys}"
        self.redis("EVAL", script, "0")

    def count_rows(self, table: str = SEED_TABLE) -> int:
        """Count the rows of one table."""
        return int(self.sql(f"SELECT count(*) FROM {table}"))

    def count_all_rows(self) -> dict[str, int]:
        """Count the rows of every table of the users'."""
        tables = self.sql("SELECT relid::regclass FROM pg_stat_user_tables ORDER BY 1").split()
        return {table: self.count_rows(table) for table in tables}

    def count_keys(self) -> int:
        """Count the keys of Redis' first database."""
        return int(self.redis("DBSIZE"))

    def mounts(self, kind: str) -> list[dict[str, object]]:
        """Return the mounts of the running container of ``kind`` in the engine's own keys."""
        container = self.container(kind)
        if container is None:
            raise SandboxError(f"{self.name}: no container of {kind} runs")
        return list(self.engine.api(f"/containers/{container}/json")["Mounts"])

    def web_status(self, path: str = "/health", *, data: bytes | None = None) -> int:
        """Return the status that web answers with, 0 where it does not."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.web_port}{path}", data=data, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as exc:
            return exc.code
        except OSError:
            return 0

    def down(self) -> None:
        """Remove the project's containers, networks and volumes, those that it had earlier included, and its image."""
        self._remember_volumes()
        label = f"label=com.docker.compose.project={self.name}"
        containers = [container["Id"] for container in self.engine.containers(every=True, project=self.name)]
        if containers:
            self.engine.docker("rm", "-fv", *containers, check=False)
        networks = self.engine.docker("network", "ls", "-q", "--filter", label).split()
        if networks:
            self.engine.docker("network", "rm", *networks, check=False)
        volumes = {*self.engine.docker("volume", "ls", "-q", "--filter", label).split(), *self._volumes}
        if volumes:
            self.engine.docker("volume", "rm", *volumes, check=False)
        # Services that share a tag are built one after the other, and all but the last lose it.
        built = {*self.engine.docker("images", "-q", "--filter", label).split()}
        if built:
            self.engine.docker("rmi", "-f", *built, check=False)

    def __enter__(self) -> Project:
        try:
            return self.up()
        except BaseException:
            self.down()
            raise

    def __exit__(self, *_exc: object) -> None:
        self.down()

    def _pid(self, kind: str) -> int:
        return self.engine.first_process(self.name, self.services[kind])

    def _postgres_answers(self) -> bool:
        try:
            return serves_tcp(self._pid("postgres"))
        except NotRunning:
            return False

    def _redis_answers(self) -> bool:
        try:
            return bool(self.redis("PING") == b"PONG")
        except (Lost, NotRunning):
            return False

    def _remember_volumes(self) -> None:
        """Note the volumes in use: a container that is recreated leaves its anonymous ones behind, unnamed."""
        for container in self.engine.containers(every=True, project=self.name):
            self._volumes.update(mount["Name"] for mount in container["Mounts"] if mount["Type"] == "volume")
