# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A dokku for a test: made in a directory, with services and apps, and removed without a trace."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import images
from .._base import PROJECT_PREFIX, SandboxError, wait_for
from ..engine import Engine, up
from . import deploy, layout, maintenance
from .front import Front, fetch
from .ground import FAULTS, Host, Settings
from .service import Service

WORKER_TABLE = "CREATE TABLE worker_rows (id bigint PRIMARY KEY, at timestamptz DEFAULT clock_timestamp())"
SEED_TABLE = "sandbox_rows"


@dataclass(frozen=True)
class Done:
    """What a call of ``dokku`` came to."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        """Its stdout as text."""
        return self.raw.decode(errors="replace")


@dataclass(frozen=True)
class Written:
    """A row that a worker was told is there, and the host name of the database that said so."""

    id: int
    host: str


@dataclass
class Installation:
    """One dokku; ``down`` removes its containers, networks and files, also those that its client made."""

    directory: Path
    engine: Engine
    host: Host
    _fronts: list[Front] = field(default_factory=list, repr=False)

    @property
    def program(self) -> Path:
        """The executable."""
        return self.directory / "bin/dokku"

    @property
    def env(self) -> dict[str, str]:
        """Variables that put ``dokku`` and the engine's client on a caller's PATH."""
        path = os.pathsep.join([str(self.program.parent), str(Path(self.engine.client).parent), os.environ["PATH"]])
        return {"PATH": path, **self.engine.env}

    def dokku(
        self,
        *args: str,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float = 300,
    ) -> Done:
        """Call ``dokku`` as an admin would; unless ``check`` is off, an exit code but 0 raises with its words."""
        done = subprocess.run(
            [str(self.program), *args],
            check=False,
            capture_output=True,
            input=input,
            stdin=None if input is not None else subprocess.DEVNULL,
            env={**os.environ, **self.env, **(env or {})},
            timeout=timeout,
        )
        result = Done(done.returncode, done.stdout, done.stderr.decode(errors="replace"))
        if check and result.code != 0:
            raise SandboxError(f"dokku {' '.join(args)} failed with {result.code}: {result.err.strip()}\n{result.out}")
        return result

    def name(self, word: str = "db", *, separator: str = "-") -> str:
        """Return a name for a service or an app that no other test has; services may want ``_`` instead of ``-``."""
        return f"{PROJECT_PREFIX}{self.host.settings.token}-{word}".replace("-", separator)

    def service(self, name: str) -> Service:
        """Return a service's files and addresses, whether it is there or not."""
        return Service(self.host, name)

    def create_service(self, word: str = "db", *flags: str) -> Service:
        """Make a service, by ``dokku postgres:create`` with these flags."""
        name = self.name(word)
        self.dokku("postgres:create", name, *flags)
        return self.service(name)

    def create_app(
        self,
        word: str = "app",
        *,
        web: int = 1,
        worker: int = 1,
        options: Sequence[str] = (),
        link: Service | None = None,
    ) -> str:
        """Make an app, linked to a service or not, and start it.

        Without a service its web answers 500 and its worker retries. ``options`` are the engine's, one to a string.
        """
        name = self.name(word)
        images.ensure(["dokku-app:latest"], self.engine)
        self.dokku("apps:create", name)
        notes = self.acknowledged_directory(name)
        notes.mkdir(parents=True)
        notes.chmod(0o777)
        for option in (f"-v {notes}:/acknowledged", *options):
            self.dokku("docker-options:add", name, "deploy", option)
        self.dokku("ps:scale", name, f"web={web}", f"worker={worker}")
        if link is not None:
            self.dokku("postgres:link", link.name, name, "-n")
        self.dokku("git:from-image", name, self.host.settings.app_image)
        return name

    def create_linked(self, word: str = "app", *flags: str, rows: int = 100, worker: int = 1) -> tuple[str, Service]:
        """Make an app with a service that has rows and is its ``DATABASE_URL``; its worker writes already."""
        service = self.create_service(f"{word}-db", *flags)
        self.seed(service, rows)
        app = self.create_app(word, worker=worker, link=service)
        self.wait_writing(app)
        return app, service

    def seed(self, service: Service, rows: int = 100, *, payload: int = 64) -> None:
        """Make the worker's table, and another with so many rows of so many bytes that do not compress."""
        words = f"SELECT string_agg(md5((g * 1000 + c)::text), '') FROM generate_series(1, {-(-payload // 32)}) c"
        self.sql(
            service,
            f"{WORKER_TABLE}; CREATE TABLE {SEED_TABLE} (id bigserial PRIMARY KEY, note text);"
            f"ALTER TABLE {SEED_TABLE} ALTER note SET STORAGE EXTERNAL;"
            f"INSERT INTO {SEED_TABLE} (note) SELECT left(({words}), {payload}) FROM generate_series(1, {rows}) g;",
        )

    def sql(self, service: Service, statements: str, *, database: str = "") -> str:
        """Run SQL as the superuser in a service's container; the rows come back as psql prints them unaligned."""
        return self.engine.docker(
            "exec", "-i", service.container, "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-U", "postgres",
            "-d", database or service.database, input=statements,
        )  # fmt: skip

    def count(self, service: Service, table: str = SEED_TABLE) -> int:
        """Count the rows of one table."""
        return int(self.sql(service, f"SELECT count(*) FROM {table}"))

    def acknowledged_directory(self, app: str) -> Path:
        """Where an app's workers note what was acknowledged."""
        return self.host.root / "var/lib/dokku/data/storage" / app

    def acknowledged(self, app: str) -> list[Written]:
        """Return what was acknowledged to an app's workers so far, in the order of the ids."""
        lines = [
            line.split()
            for path in self.acknowledged_directory(app).iterdir()
            # The last line may be half written.
            for line in path.read_text().splitlines(keepends=True)
            if line.endswith("\n")
        ]
        return sorted((Written(int(number), host) for number, host in lines), key=lambda written: written.id)

    def missing(self, app: str, service: Service) -> set[int]:
        """Return the rows that were acknowledged to an app's workers and are not in a service."""
        acknowledged = {written.id for written in self.acknowledged(app)}
        # Without an index that could be wrong.
        query = "SET enable_indexscan = off; SET enable_indexonlyscan = off; SELECT id FROM worker_rows"
        return acknowledged - {int(line) for line in self.sql(service, query).split()}

    def wait_writing(self, app: str, *, timeout: float = 30) -> None:
        """Wait until a worker of the app has more acknowledged than now."""
        before = len(self.acknowledged(app))
        wait_for(lambda: len(self.acknowledged(app)) > before, f"a worker of {app} writes", timeout=timeout)

    def config(self, app: str) -> dict[str, str]:
        """Return an app's variables, as ``dokku config:export`` tells them."""
        return dict(json.loads(self.dokku("config:export", app, "--format", "json").out))

    def containers(self, app: str) -> dict[str, str]:
        """Return the ids of an app's containers by process, such as ``web.1``."""
        return deploy.containers(self.host, app)

    def web_address(self, app: str) -> str:
        """Return ``address:port`` of an app's web process, empty where none runs."""
        address = self.host.docker.address(self.containers(app).get("web.1", ""))
        return f"{address}:{deploy.PORT}" if address else ""

    def web_status(self, app: str, path: str = "/") -> int:
        """Return the status that an app's web process itself answers with, 502 where none does."""
        address = self.web_address(app)
        return fetch(f"http://{address}{path}")[0] if address else 502

    def front(self, app: str) -> str:
        """Return an address at which visitors reach the app through every restart, and the page in maintenance."""
        front = Front(lambda: self.web_address(app), lambda: maintenance.enabled(self.host, app)).start()
        self._fronts.append(front)
        return front.url

    @contextlib.contextmanager
    def fault(self, name: str, *subjects: str) -> Iterator[None]:
        """Let something go wrong for as long as the block lasts: for these services or apps, or for all."""
        self.break_(name, *subjects)
        try:
            yield
        finally:
            self.mend(name)

    def break_(self, name: str, *subjects: str) -> None:
        """Switch a fault on."""
        if name not in FAULTS:
            raise SandboxError(f"no such fault: {name}; there are {', '.join(FAULTS)}")
        (self.host.root / "faults" / name).write_text("\n".join(subjects))

    def mend(self, name: str) -> None:
        """Switch a fault off."""
        (self.host.root / "faults" / name).unlink(missing_ok=True)

    def export_program(self, directory: Path, *, python: str = "/usr/bin/python3", docker: str = "docker") -> None:
        """Write ``bin/dokku`` and what it needs below ``directory``, to be copied to the same place on another host."""
        settings = {**asdict(self.host.settings), "docker": docker, "docker_host": "unix:///var/run/docker.sock"}
        layout.export(directory, settings, python)

    def down(self) -> None:
        """Remove every container, network and file of this dokku."""
        for front in self._fronts:
            front.stop()
        self._fronts.clear()
        # A swap that did not come to its end in a test has left them.
        self.engine.remove_helpers(self.name(""))
        label = f"label={self.host.label}"
        found = self.engine.docker("ps", "-aq", "--filter", label).split()
        if found:
            self.engine.docker("rm", "-fv", *found, check=False)
        networks = self.engine.docker("network", "ls", "-q", "--filter", label).split()
        if networks:
            self.engine.docker("network", "rm", *networks, check=False)
        shutil.rmtree(self.host.root, ignore_errors=True)

    def __enter__(self) -> Installation:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.down()


def make(
    directory: Path,
    *,
    engine: Engine | None = None,
    postgres: str = "17",
    nginx: str = "broken",
    wait_seconds: float = 60.0,
    versions: Mapping[str, str] | None = None,
    **settings: Any,
) -> Installation:
    """Make a dokku in ``directory``, whose plugin makes services of the sandbox's ``postgres`` unless told otherwise.

    ``versions`` replaces the versions of ``dokku`` and its plugins ``postgres`` and ``maintenance``: a maintenance
    below 0.5 has the old subcommands. ``nginx="works"`` lets ``maintenance:enable`` answer 0.
    """
    engine = engine or up()
    if os.geteuid() != 0:
        raise SandboxError("the sandbox's dokku reads the data directories of its services, which needs root")
    images.ensure([f"postgres:{postgres}"], engine)
    directory = directory.resolve()
    made = Settings(
        token=secrets.token_hex(3), docker=engine.client, docker_host=engine.host, nginx=nginx,
        postgres_image_version=postgres, program=str(directory / "bin/dokku"), wait_seconds=wait_seconds, **settings,
    )  # fmt: skip
    made = Settings(**{**asdict(made), "versions": {**made.versions, **(versions or {})}})
    layout.lay_out(directory, asdict(made))
    layout.write_program(directory)
    return Installation(directory, engine, Host(directory, made))
