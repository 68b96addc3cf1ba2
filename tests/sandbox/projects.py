# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compose projects to move the data of: Mastodon as its eras laid it out, and a plain pair of stores."""

from __future__ import annotations

import os
import re
import secrets
import socket
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ._base import IMAGE_PREFIX, PROJECT_PREFIX, SandboxError, run, wait_for
from .engine import Engine, up

Era = Literal["v1.4", "v2.6", "v4.3"]
TEMPLATES = Path(__file__).parent / "templates"
# Where each era's file keeps the stores, once it does.
STORES = {"v1.4": "postgres", "v2.6": "postgres", "v4.3": "postgres14"}
MASTODON_UID = 991
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
        if "postgres" in self.services and (not services or self.services["postgres"] in services):
            probe = ("pg_isready", "-q", "-h", "127.0.0.1")
            wait_for(lambda: self._succeeds("postgres", *probe), f"{self.name}: Postgres is ready", timeout=timeout)
        if "redis" in self.services and (not services or self.services["redis"] in services):
            wait_for(
                lambda: self._succeeds("redis", "redis-cli", "ping"), f"{self.name}: Redis is ready", timeout=timeout
            )

    def container(self, kind: str, *, any_state: bool = False) -> str | None:
        """Return the id of the newest container of ``postgres``, ``redis`` or a service's own name, found by label."""
        service = self.services.get(kind, kind)
        listed = self.engine.docker(
            "ps", "-q", "--no-trunc", *(["-a"] if any_state else []),
            "--filter", f"label=com.docker.compose.project={self.name}",
            "--filter", f"label=com.docker.compose.service={service}",
            "--filter", "label=com.docker.compose.oneoff=False",
        )  # fmt: skip
        return next(iter(listed.split()), None)

    def exec(self, kind: str, *argv: str, input: str | None = None, check: bool = True) -> str:
        """Run a command in the container of ``kind`` and return what it printed."""
        container = self.container(kind)
        if container is None:
            raise SandboxError(f"{self.name}: no container of {kind} runs")
        flags = ["-i"] if input is not None else []
        return self.engine.docker("exec", *flags, container, *argv, input=input, check=check)

    def sql(self, statements: str) -> str:
        """Run SQL as the superuser; the rows come back as psql prints them unaligned."""
        argv = ("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", self.database)
        return self.exec("postgres", *argv, input=statements)

    def fill_postgres(self, rows: int, *, payload: int = 64, table: str = SEED_TABLE) -> None:
        """Add ``rows`` rows, each with ``payload`` bytes that do not compress."""
        chunks = -(-payload // 32)
        text = f"(SELECT left(string_agg(md5((g * 1000 + c)::text), ''), {payload}) FROM generate_series(1, {chunks}) c)"
        self.sql(
            f"CREATE TABLE IF NOT EXISTS {table} (id bigserial PRIMARY KEY, note text);"
            f"ALTER TABLE {table} ALTER note SET STORAGE EXTERNAL;"
            f"INSERT INTO {table} (note) SELECT {text} FROM generate_series(1, {rows}) g;"
        )

    def fill_redis(self, keys: int, *, prefix: str = "sandbox:seed") -> None:
        """Set ``keys`` keys."""
        script = f"for i = 1, {keys} do redis.call('SET', '{prefix}:' .. i, i) end return {keys}"
        self.exec("redis", "redis-cli", "eval", script, "0")

    def count_rows(self, table: str = SEED_TABLE) -> int:
        """Count the rows of one table."""
        return int(self.sql(f"SELECT count(*) FROM {table}"))

    def count_all_rows(self) -> dict[str, int]:
        """Count the rows of every table of the users'."""
        tables = self.sql("SELECT relid::regclass FROM pg_stat_user_tables ORDER BY 1").split()
        return {table: self.count_rows(table) for table in tables}

    def count_keys(self) -> int:
        """Count the keys of Redis' first database."""
        return int(self.exec("redis", "redis-cli", "dbsize").split()[-1])

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
        listed = self.engine.docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={self.name}")
        for container in listed.split():
            self.engine.docker("rm", "-fv", container, check=False)
        label = f"label=com.docker.compose.project={self.name}"
        for network in self.engine.docker("network", "ls", "-q", "--filter", label).split():
            self.engine.docker("network", "rm", network, check=False)
        named = self.engine.docker("volume", "ls", "-q", "--filter", label).split()
        for volume in {*named, *self._volumes}:
            self.engine.docker("volume", "rm", volume, check=False)
        if self.image is not None and self.image.startswith(f"{IMAGE_PREFIX}/mastodon-{PROJECT_PREFIX}"):
            self.engine.docker("rmi", self.image, check=False)

    def __enter__(self) -> Project:
        return self.up()

    def __exit__(self, *_exc: object) -> None:
        self.down()

    def _succeeds(self, kind: str, *argv: str) -> bool:
        container = self.container(kind)
        if container is None:
            return False
        return run([self.engine.client, "exec", container, *argv], check=False, env=self.engine.env).returncode == 0

    def _remember_volumes(self) -> None:
        """Note the volumes in use: a container that is recreated leaves its anonymous ones behind, unnamed."""
        listed = self.engine.docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={self.name}").split()
        if not listed:
            return
        form = '{{range .Mounts}}{{if eq .Type "volume"}}{{.Name}}{{"\\n"}}{{end}}{{end}}'
        self._volumes.update(self.engine.docker("inspect", "-f", form, *listed, check=False).split())


def mastodon_project(
    directory: Path,
    *,
    era: Era = "v1.4",
    persisted: bool = False,
    postgres: str = "17",
    redis: str = "8",
    git: bool = False,
    name: str | None = None,
    engine: Engine | None = None,
    compose: Sequence[str] | None = None,
) -> Project:
    """Lay out a Mastodon checkout as of ``era``; its data is ephemeral unless ``persisted``."""
    engine = engine or up()
    name = _name_project(directory, name)
    image = f"{IMAGE_PREFIX}/mastodon-{name}"
    web_port, streaming_port = _free_ports(2)
    text = (TEMPLATES / f"mastodon-{era}.yml").read_text()
    for word, value in {
        "POSTGRES": f"{IMAGE_PREFIX}/postgres:{postgres}",
        "REDIS": f"{IMAGE_PREFIX}/redis:{redis}",
        "MASTODON": image,
        "WEB_PORT": str(web_port),
        "STREAMING_PORT": str(streaming_port),
    }.items():
        text = text.replace(f"@{word}@", value)
    text = _persist(text) if persisted else _unpersist(text)
    (directory / "docker-compose.yml").write_text(text)
    (directory / ".env.production").write_text(
        "# Service dependencies\nREDIS_HOST=redis\nREDIS_PORT=6379\n"
        "DB_HOST=db\nDB_USER=postgres\nDB_NAME=postgres\nDB_PASS=\nDB_PORT=5432\n\n"
        "# Federation\nLOCAL_DOMAIN=example.com\nLOCAL_HTTPS=true\n\n"
        "# Application secrets\nSECRET_KEY_BASE=only-for-the-sandbox\nOTP_SECRET=only-for-the-sandbox\n"
    )
    (directory / "Dockerfile").write_text(
        f"FROM {IMAGE_PREFIX}/mastodon-base\n\nCOPY --chown=mastodon:mastodon . /mastodon\n"
    )
    (directory / ".dockerignore").write_text(
        ".bundle\n.env\n.env.*\n.git\npublic/system\npublic/assets\npublic/packs\nnode_modules\ntmp\npostgres\nredis\n"
    )
    (directory / "Gemfile").write_text("# A checkout has many files; one stands for them here.\n")
    for folder in ("assets", "packs", "system"):
        path = directory / "public" / folder
        path.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(path, MASTODON_UID, MASTODON_UID)
    if git:
        _initialise_git(directory)
    return Project(
        directory, name, engine, _compose(engine, compose), {"postgres": "db", "redis": "redis"}, web_port, image
    )


def simple_project(
    directory: Path,
    *,
    postgres: str | None = "17",
    redis: str | None = "8",
    named_volumes: bool = False,
    bind_mounts: bool = False,
    replicas: int = 1,
    restart: str = "always",
    db_lines: Sequence[str] = (),
    redis_lines: Sequence[str] = (),
    name: str | None = None,
    engine: Engine | None = None,
    compose: Sequence[str] | None = None,
) -> Project:
    """Lay out ``db`` and ``redis`` alone; ``replicas`` of redis; extra lines go into a service as they are."""
    engine = engine or up()
    name = _name_project(directory, name)
    lines, services, top = ["services:"], {}, []
    data = "/var/lib/postgresql" if postgres is not None and int(postgres) >= 18 else "/var/lib/postgresql/data"
    stores = (
        ("db", "postgres", postgres, data, ["environment:", "  POSTGRES_HOST_AUTH_METHOD: trust", *db_lines]),
        ("redis", "redis", redis, "/data", [*([f"scale: {replicas}"] if replicas > 1 else []), *redis_lines]),
    )
    for service, kind, tag, target, more in stores:
        if tag is None:
            continue
        services[kind] = service
        body = [f"image: {IMAGE_PREFIX}/{kind}:{tag}", f"restart: {restart}", *more]
        if named_volumes or bind_mounts:
            source = f"{service}-data" if named_volumes else f"./{kind}"
            body += ["volumes:", f"  - {source}:{target}"]
            top += [f"  {source}:"] if named_volumes else []
        lines += [f"  {service}:", *(f"    {line}" for line in body)]
    if top:
        lines += ["volumes:", *top]
    (directory / "docker-compose.yml").write_text("\n".join(lines) + "\n")
    return Project(directory, name, engine, _compose(engine, compose), services)


def _compose(engine: Engine, compose: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(compose) if compose is not None else (engine.client, "compose")


def _name_project(directory: Path, name: str | None) -> str:
    """Settle the project's name: given, the folder's where that is ours already, else a new one put into ``.env``."""
    directory.mkdir(parents=True, exist_ok=True)
    settings = directory / ".env"
    if name is None and settings.exists():
        found = re.search(r"^COMPOSE_PROJECT_NAME=(\S+)$", settings.read_text(), re.MULTILINE)
        if found:
            return found[1]
    if name is None and re.fullmatch(rf"{PROJECT_PREFIX}[a-z0-9_-]+", directory.name):
        return directory.name
    name = name or f"{PROJECT_PREFIX}{secrets.token_hex(4)}"
    if not name.startswith(PROJECT_PREFIX):
        raise SandboxError(f"the name of a sandbox project starts with {PROJECT_PREFIX}, not {name}")
    settings.write_text(f"COMPOSE_PROJECT_NAME={name}\n")
    return name


def _persist(text: str) -> str:
    return re.sub(r"^### Uncomment.*\n#(    volumes:\n)#(.*\n)", r"\1\2", text, flags=re.MULTILINE)


def _unpersist(text: str) -> str:
    """Take the stores' own mounts out of a file whose era has them, as an admin without them would run it."""
    return re.sub(r"^    volumes:\n      - \./(?:postgres\w*|redis):.*\n", "", text, flags=re.MULTILINE)


def _free_ports(count: int) -> list[int]:
    """Return ports that are free now; they are held together until all are known, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _initialise_git(directory: Path) -> None:
    (directory / ".gitignore").write_text(".env\n.env.production\npublic/assets\npublic/packs\npublic/system\n")
    git = ["git", "-c", "user.name=sandbox", "-c", "user.email=sandbox@example.com", "-C", str(directory)]
    run([*git, "init", "-q"])
    run([*git, "add", "-A"])
    run([*git, "commit", "-q", "-m", "A checkout"])
