# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A CES host for the tests of its modules, and everything that has to be removed after them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.sandbox.ces import Ces, ces_host
from tests.sandbox.engine import Engine
from tests.support.module_run import answer_of, start

ROWS = 500
Host = Callable[..., "Bench"]


@dataclass
class Bench:
    """A host and its admin. ``options`` go to every call of the module."""

    ces: Ces
    directory: Path
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def backups(self) -> Path:
        return self.directory / "backups"

    @property
    def operations(self) -> Path:
        return self.directory / "operations"

    def start(
        self, version: str = "", *, module: str = "cloudogu_dogu", check: bool = False, **options: Any
    ) -> subprocess.Popen[bytes]:
        asked: dict[str, Any] = {
            "docker_host": self.ces.engine.host,
            "operations_dir": str(self.operations),
        }
        if module != "operation":
            asked.update(name=self.ces.postgresql, cesapp_program=[str(self.ces.program)])
        if module == "cloudogu_dogu":
            asked.update(version=version, backup_dir=str(self.backups), ready_timeout=60, **self.options)
        return start(module, {**asked, **options}, check=check)

    def run(self, version: str = "", **options: Any) -> dict[str, Any]:
        return answer_of(self.start(version, **options))

    def info(self) -> dict[str, Any]:
        found: dict[str, Any] = self.run(module="cloudogu_dogu_info")["dogu"]
        return found

    def identity(self) -> str:
        return self.ces.sql("SELECT system_identifier FROM pg_control_system()")

    def assert_as_before(self, version: str, identity: str) -> None:
        """The old version serves the old cluster, and the CES says so too."""
        ces = self.ces
        assert (ces.version, ces.image.rpartition(":")[2]) == (version, version)
        ces.wait_ready()
        assert self.identity() == identity
        # What the registry says is what the server takes: not from within, where everybody is trusted.
        address = ces.engine.docker("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", ces.postgresql)
        login = f"PGPASSWORD=$(doguctl config -e password) exec psql -wAtqXU postgres -h {address} -c 'SELECT 1'"
        assert ces.execute(ces.postgresql, "bash", "-c", login) == "1"
        assert ces.count() == ROWS
        assert ces.running(ces.dependent)
        assert ces.engine.docker("inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", ces.dependent) == (
            "unless-stopped"
        )
        assert (ces.config("local_state"), ces.config("migration_backup_path")) == ("", "")
        assert list(ces.data.rglob("*.dump")) + list(ces.data.rglob("backup.lock")) == []

    def assert_upgraded(self, version: str) -> None:
        ces = self.ces
        assert (ces.version, ces.image.rpartition(":")[2]) == (version, version)
        assert ces.answers()
        assert ces.count() == ROWS
        assert ces.running(ces.dependent)
        assert ces.config("local_state") == ""


@contextmanager
def hosts(directory: Path, engine: Engine) -> Iterator[Host]:
    """Hand out what makes hosts, and leave nothing of them."""
    made: list[Bench] = []

    def make(version: str, *offered: str, **options: Any) -> Bench:
        place = directory / str(len(made))
        bench = Bench(ces_host(place, version=version, offered=offered, engine=engine), place, options)
        made.append(bench)
        bench.ces.wait_ready().fill(ROWS)
        return bench

    try:
        yield make
    finally:
        for bench in made:
            bench.ces.down()
            engine.remove_kept_images(bench.ces.prefix)
