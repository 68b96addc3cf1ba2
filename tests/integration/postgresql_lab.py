# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real Postgres servers for the tests of ``_postgresql``, and everything that has to be removed after them."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import (
    Connection,
    DockerEngine,
    connect,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import OPERATION_LABEL, Container
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import readiness, session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import observe_cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import SqlError
from tests.sandbox import engine as sandbox
from tests.sandbox import images

USUAL = "17"
# The other majors take the same ways; they run where the full product does.
MAJORS = [pytest.param(USUAL), *(pytest.param(major, marks=pytest.mark.faults) for major in ("13", "15", "18"))]
SECONDS = 120.0


@dataclass
class Lab:
    """An engine, and what a test made on it; all of it is removed at the end."""

    engine: DockerEngine
    host: sandbox.Engine
    directory: Path
    operation: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:12]}")
    undo: ExitStack = field(default_factory=ExitStack)

    @property
    def deadline(self) -> float:
        return time.monotonic() + SECONDS

    def start(self, major: str, *arguments: str, options: tuple[str, ...] = (), trust: bool = True) -> Container:
        """Start a server of the sandbox's image and wait for its final start."""
        name = f"sfs-pg-{uuid.uuid4().hex[:12]}"
        trusting = ("-e", "POSTGRES_HOST_AUTH_METHOD=trust") if trust else ()
        env = ("-e", "POSTGRES_INITDB_ARGS=--no-sync", *trusting)
        self.undo.callback(self.host.docker, "rm", "-fv", name, check=False)
        self.host.docker("run", "-d", "--name", name, *env, *options, images.ref(f"postgres:{major}"), *arguments)
        return self.ready(name)

    def ready(self, name: str) -> Container:
        ends = self.deadline
        while True:
            container = self.engine.container(name)
            assert container is not None
            assert container.status == "running", self.engine.logs(name)
            if not readiness.obstacle(container, tcp=True):
                try:
                    self.session(container).close()
                    return container
                except SqlError:
                    pass
            assert time.monotonic() < ends, self.engine.logs(name)
            time.sleep(0.05)

    def session(self, container: Container, transport: str = "psycopg") -> Session:
        return session.connect(self.engine, container, transport=transport)

    def observe(self, container: Container) -> Cluster:
        with self.session(container) as connection:
            return observe_cluster(connection)

    def data_of(self, container: Container, cluster: Cluster) -> str:
        """Return the data directory as a path of this host, also when the container has stopped."""
        mount = container.mount_at(cluster.data_directory)
        assert mount is not None
        return mount.source + cluster.data_directory[len(mount.destination) :]

    def helpers(self) -> list[Container]:
        return self.engine.containers(labels={OPERATION_LABEL: self.operation})

    def fill(self, container: Container, rows: int = 1000) -> None:
        with self.session(container) as connection:
            connection.run("CREATE TABLE public.t (id bigint PRIMARY KEY, x text)")
            connection.run("INSERT INTO public.t SELECT g, md5(g::text) FROM generate_series(1, %s) g", (rows,))

    @contextmanager
    def small_file_system(self, megabytes: int) -> Iterator[Path]:
        """Mount a file system that is soon full."""
        place = self.directory / "small"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", place], check=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", place], check=True)


class Writer:
    """Inserts one row after the other and remembers which were acknowledged."""

    def __init__(self, lab: Lab, container: Container) -> None:
        self.acknowledged: list[int] = []
        self.error: Exception | None = None
        self._session = lab.session(container)
        self._session.run("CREATE TABLE IF NOT EXISTS public.written (id bigint PRIMARY KEY)")
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        number = 0
        try:
            while True:
                number += 1
                self._session.run("INSERT INTO public.written VALUES (%s)", (number,))
                self.acknowledged.append(number)
        except SqlError as error:  # the server was stopped
            self.error = error

    def wait_for(self, rows: int) -> None:
        until(lambda: len(self.acknowledged) >= rows or self.error is not None)

    def join(self) -> set[int]:
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        self._session.close()
        return set(self.acknowledged)


def until(predicate: Callable[[], bool]) -> None:
    ends = time.monotonic() + SECONDS
    while not predicate():
        assert time.monotonic() < ends
        time.sleep(0.01)


@contextmanager
def lab(directory: Path) -> Iterator[Lab]:
    """Use the sandbox's engine, and leave nothing behind on it."""
    host = sandbox.up()
    made = Lab(connect(Connection(docker_host=host.host)), host, directory)
    try:
        with made.undo:
            yield made
        assert made.helpers() == [], "a helper was left behind"
    finally:
        for container in made.helpers():
            made.engine.remove_container(container.id, force=True)
        shutil.rmtree(directory, ignore_errors=True)
