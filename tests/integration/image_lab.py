# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A compose project whose Postgres gets another image, filled with all that a swap may lose.

What is there is asked for by SQL over the container's own socket, without the product's code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.integration.image_parts import PARTS, TABLESPACE
from tests.integration.storage.lab import remove
from tests.sandbox import images, projects
from tests.sandbox.engine import Engine, up
from tests.sandbox.prober import Prober
from tests.sandbox.stores import Lost, PostgresStore, opened

SERVICE = "db"
# Where an admin keeps what is not the image's: a file that postgresql.conf includes.
INCLUDED = "lab.conf"
Answers = dict[str, tuple[str, ...]]


@dataclass
class ImageLab:
    """A project with ``db`` alone, and the answers that it has to give after the swap as before."""

    project: projects.Project
    known: Answers = field(default_factory=dict)

    @property
    def data(self) -> Path:
        """The bind mount's directory, as far as the service keeps the one that it began with."""
        return self.project.directory / "postgres"

    @property
    def tablespace(self) -> Path:
        """The directory that is mounted for the tablespace."""
        return self.project.directory / "tablespace"

    def available(self) -> list[str]:
        """Return the parts that the running image has all extensions for."""
        have = set(self.query("postgres", "SELECT name FROM pg_available_extensions").split())
        return [name for name, part in PARTS.items() if have.issuperset(part.needs)]

    def fill(self, *names: str) -> ImageLab:
        """Make the parts of these names, or all that the image can hold, and note what they answer."""
        for name in names or self.available():
            part = PARTS[name]
            if name == "settings":
                self._include_settings()
            if name == "tablespace":
                self.project.exec("postgres", "chown", "postgres", TABLESPACE)
            for statement in part.make:
                self.query(part.database, statement)
            self.known[name] = ()
        return self.remember()

    def remember(self) -> ImageLab:
        """Note anew what the parts answer."""
        for name in self.known:
            part = PARTS[name]
            self.known[name] = tuple(self.query(part.database, question) for question in part.ask)
        return self

    def missing(self) -> dict[str, str]:
        """Return what the parts that do not answer as before answered and answer; empty is what you want."""
        lost = {}
        for name, before in self.known.items():
            part = PARTS[name]
            now = tuple(self._answer(part.database, question) for question in part.ask)
            if now != before:
                lost[name] = "\n".join(
                    f"{question}\n  was: {was}\n  is:  {found}"
                    for question, was, found in zip(part.ask, before, now, strict=True)
                    if was != found
                )
        return lost

    def prober(self) -> Prober:
        """Return a writer beside it."""
        return Prober(
            self.project.engine, self.project.name, postgres_service=SERVICE, redis_service=None,
            postgres_user=self.project.postgres_user, interval=0.02,
        )  # fmt: skip

    def _answer(self, database: str, question: str) -> str:
        """Return the rows, or the error: a table or a database that is gone is an answer, too."""
        try:
            return self.query(database, question)
        except (psycopg.Error, Lost) as exc:
            return f"{type(exc).__name__}: {exc}".strip()

    def query(self, database: str, statement: str) -> str:
        """Run SQL as the bootstrap role and return the rows as psql prints them unaligned."""
        store = PostgresStore(user=self.project.postgres_user, database=database, setup=False)
        with opened(store, self.project.engine.first_process(self.project.name, SERVICE)):
            return store.query(statement)

    def _include_settings(self) -> None:
        directory = self.query("postgres", "SHOW data_directory")
        self.project.exec(
            "postgres", "sh", "-c",
            f"cd {directory} && echo \"include = '{INCLUDED}'\" >> postgresql.conf"
            f" && echo 'work_mem = 5MB' > {INCLUDED} && chown postgres {INCLUDED}",
        )  # fmt: skip


@contextlib.contextmanager
def image_lab(
    directory: Path,
    tag: str,
    *,
    user: str = "postgres",
    initdb: str = "",
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] = ("-c", "max_connections=77"),
    lines: Sequence[str] = (),
    engine: Engine | None = None,
) -> Iterator[ImageLab]:
    """Run a project whose ``db`` is ``postgres:<tag>`` on a bind mount; all of it is removed at the end.

    ``user`` is the role that ``initdb`` gets with its arguments; ``lines`` go into the service as they are.
    """
    engine = engine or up()
    images.ensure([f"postgres:{tag}"], engine)
    variables = {"POSTGRES_INITDB_ARGS": f"--no-sync {initdb}".strip(), **(environment or {})}
    project = projects.simple_project(
        directory, postgres=tag, redis=None, postgres_user=user, bind_mounts=True, engine=engine,
        db_lines=[
            *(f"  {name}: '{value}'" for name, value in variables.items()),
            *([f"command: {list(command)}"] if command else []), *lines,
        ],
        db_volumes=[f"./tablespace:{TABLESPACE}"],
    )  # fmt: skip
    try:
        yield ImageLab(project.up())
    finally:
        remove(project)
