# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A CES host with its PostgreSQL dogu and a dogu that depends on it, on the sandbox's engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import images
from ._base import IMAGE_PREFIX, run, wait_for
from .engine import Engine, up
from .recipe import ROOTFS
from .recipes_ces import NAME

__all__ = ["Ces", "ces_host"]

VOLUME = "/var/lib/postgresql"
DUMP = "/var/lib/postgresql/postgresqlFullBackup.dump"
DEPENDENT = (
    "[ ! -f /ces/trouble/$DOGU/start ] || . /ces/trouble/$DOGU/start; trap 'exit 0' TERM INT; sleep infinity & wait"
)


@dataclass
class Ces:
    """A host: its registry and ``cesapp`` are in ``directory``, the dogus are containers called by their names."""

    directory: Path
    engine: Engine
    prefix: str
    rows: Mapping[str, int] = field(default_factory=dict)

    @property
    def postgresql(self) -> str:
        return f"{self.prefix}-postgresql"

    @property
    def dependent(self) -> str:
        return f"{self.prefix}-scm"

    @property
    def account(self) -> str:
        """The service account of the dependent: a role, and the database that it owns."""
        return f"{self.dependent}_4f2a1c"

    @property
    def data(self) -> Path:
        return self.directory / "volumes" / "data"

    @property
    def program(self) -> Path:
        return self.directory / "ces" / "cesapp"

    @property
    def calls(self) -> list[str]:
        """Return what ``cesapp`` was asked to do, in order."""
        place = self.directory / "ces" / "calls"
        return place.read_text().splitlines() if place.exists() else []

    def cesapp(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return run([str(self.program), *argv], check=False, env=self.environment)

    @property
    def environment(self) -> dict[str, str]:
        """What a process has to have that calls ``cesapp`` on this host."""
        path = os.pathsep.join([str(Path(self.engine.client).parent), os.environ["PATH"]])
        return {**self.engine.env, "PATH": path}

    def config(self, key: str) -> str:
        """Return what the registry has for a key of the PostgreSQL dogu, as it is there; empty where it has none."""
        place = self.directory / "ces" / "config" / self.postgresql / key
        return place.read_text() if place.exists() else ""

    def set_config(self, key: str, value: str) -> None:
        place = self.directory / "ces" / "config" / self.postgresql / key
        place.write_text(value)
        place.chmod(0o666)

    @property
    def version(self) -> str:
        """Return the version that the registry has."""
        return (self.directory / "ces" / "dogu" / self.postgresql).read_text()

    @property
    def image(self) -> str:
        return self.engine.docker("inspect", "-f", "{{.Config.Image}}", self.postgresql)

    def when(self, dogu: str, word: str, script: str, *, once: bool = True) -> None:
        """Have ``script`` run where a script of the dogu, or ``cesapp`` for that name, passes the ``word``."""
        folder = self.directory / "ces" / "trouble" / dogu
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)
        place = "/ces/trouble/$DOGU" if dogu != "cesapp" else str(folder)
        (folder / word).write_text(f"rm -f {place}/{word}\n{script}\n" if once else f"{script}\n")

    def execute(self, dogu: str, *argv: str, check: bool = True) -> str:
        return self.engine.docker("exec", dogu, *argv, check=check)

    def sql(self, statement: str, database: str = "postgres") -> str:
        return self.execute(self.postgresql, "psql", "-XAtqU", "postgres", "-d", database, "-c", statement)

    def answers(self) -> bool:
        """Tell whether the server takes connections over TCP: no temporary one does."""
        return "accepting" in self.execute(self.postgresql, "pg_isready", "-h", "127.0.0.1", check=False)

    def running(self, dogu: str) -> bool:
        return self.engine.docker("inspect", "-f", "{{.State.Running}}", dogu, check=False) == "true"

    def wait_ready(self) -> Ces:
        wait_for(self.answers, f"{self.postgresql} answers", timeout=90.0)
        return self

    def fill(self, rows: int = 500) -> Ces:
        """Make the service account, and give it something to lose."""
        self.sql(f"CREATE ROLE \"{self.account}\" LOGIN PASSWORD 'secret of the account'")
        self.sql(f'CREATE DATABASE "{self.account}" OWNER "{self.account}"')
        self.sql(
            f'SET ROLE "{self.account}"; CREATE TABLE commits (id bigint PRIMARY KEY, author text);'
            f"INSERT INTO commits SELECT g, md5(g::text) FROM generate_series(1, {rows}) g",
            self.account,
        )
        return self

    def count(self) -> int:
        return int(self.sql("SELECT count(*) FROM commits", self.account))

    def down(self) -> None:
        for name in (self.postgresql, self.dependent):
            self.engine.docker("rm", "-fv", name, check=False)
        shutil.rmtree(self.directory / "volumes", ignore_errors=True)


def lay_out_ces(directory: Path, prefix: str, *, data: str = "", engine: Engine | None = None) -> Ces:
    """Lay a registry and its ``cesapp`` out, with nothing installed; ``data`` is the volume where it is to run."""
    made = Ces(directory, engine or up(), prefix)
    registry = directory / "ces"
    registry.mkdir(parents=True)
    made.data.mkdir(parents=True)
    for place in (registry, *(registry / name for name in ("config", "state", "dogu", "trouble"))):
        place.mkdir(exist_ok=True)
        place.chmod(0o777)
    image = f"{IMAGE_PREFIX}/{NAME}"
    dogus = {
        made.postgresql: {"image": image, "data": data or str(made.data)},
        made.dependent: {
            "image": image,
            "dependencies": [made.postgresql],
            "command": ["bash", "-c", DEPENDENT],
        },
    }
    (registry / "dogus.json").write_text(json.dumps(dogus))
    made.program.write_text("#!/usr/bin/env python3\n" + (ROOTFS / "cesapp.py").read_text())
    made.program.chmod(0o755)
    return made


def ces_host(directory: Path, *, version: str, offered: tuple[str, ...] = (), engine: Engine | None = None) -> Ces:
    """Install the PostgreSQL dogu at ``version``, and a dependent; ``offered`` are further versions."""
    engine = engine or up()
    images.ensure([f"{NAME}:{each}" for each in (version, *offered)], engine)
    made = lay_out_ces(directory, f"sfs-{uuid.uuid4().hex[:8]}", engine=engine)
    for name in (made.postgresql, made.dependent):
        done = made.cesapp("install", name, version)
        if done.returncode:
            made.down()
            raise AssertionError(done.stderr)
    return made
