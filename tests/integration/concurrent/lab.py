# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Concurrent host, the modules run against it as Ansible runs them, and what must be true of it afterwards."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.sandbox.concurrent import ConcurrentProject, concurrent_project
from tests.sandbox.concurrent_data import fill
from tests.sandbox.engine import Engine
from tests.support.module_run import answer_of, start

ROOT = Path(__file__).resolve().parents[3]
LADDER = yaml.safe_load((ROOT / "roles/concurrent_migration/vars/ladder.yml").read_text())[
    "concurrent_migration_ladder"
]
RUNGS = {rung["at"]: rung for rung in LADDER}
TABLES = ("entities", "messages", "characters", "associations", "streams")
SMALL = {"entities": 60, "streams": 4, "items": 20, "associations": 90}


@dataclass
class Lab:
    project: ConcurrentProject
    directory: Path
    options: dict[str, Any] = field(default_factory=dict)

    def start(self, module: str, *, check: bool = False, **options: Any) -> subprocess.Popen[bytes]:
        asked: dict[str, Any] = {
            "docker_host": self.project.engine.host,
            **({"operations_dir": str(self.directory / "operations")} if module != "concurrent_info" else {}),
            **({"project_src": str(self.project.checkout)} if module.startswith("concurrent") else {}),
            **({"backup": "none", "ready_timeout": 60} if module == "concurrent_version" else {}),
            **self.options,
            **options,
        }
        return start(module, asked, check=check)

    def run(self, module: str, **options: Any) -> dict[str, Any]:
        return answer_of(self.start(module, **options))

    def to(self, version: str, rung: str = "", **options: Any) -> dict[str, Any]:
        """Go to a version by a rung of the shipped ladder."""
        return self.run("concurrent_version", version=version, **({"rung": RUNGS[rung]} if rung else {}), **options)

    def operation(self, **options: Any) -> dict[str, Any]:
        return self.run("operation", **options)

    def rows(self) -> dict[str, int]:
        return {table: int(self.project.sql(f"SELECT count(*) FROM {table}")) for table in TABLES}

    def stream_items(self) -> int:
        script = (
            "local n = 0 for _, key in ipairs(redis.call('KEYS', '*')) do"
            " if redis.call('TYPE', key).ok == 'stream' then n = n + redis.call('XLEN', key) end end return n"
        )
        return int(self.project.redis("EVAL", script, "0"))

    def state(self) -> dict[str, Any]:
        """Return what has to be as it was after an undo."""
        return {
            "rows": self.rows(),
            "items": self.stream_items(),
            "head": self.project.git("rev-parse", "HEAD"),
            "changed": self.project.git("status", "--short", "--untracked-files=no"),
            "version": self.version(),
            "identity": self.project.sql("SELECT system_identifier FROM pg_control_system()"),
        }

    def version(self) -> str:
        """Return the version of the image that the api runs."""
        container = self.project.container("api")
        assert container is not None
        label = '{{index .Config.Labels "org.opencontainers.image.version"}}'
        return self.project.engine.docker("inspect", "-f", label, container)


@contextlib.contextmanager
def laid_out(
    directory: Path,
    engine: Engine,
    *,
    size: Mapping[str, int] = SMALL,
    options: Mapping[str, Any] | None = None,
    **layout: Any,
) -> Iterator[Lab]:
    """Lay a host out, fill it, and remove all of it at the end."""
    project = concurrent_project(directory, engine=engine, **layout)
    try:
        project.up()
        fill(project, **size)
        yield Lab(project, directory, dict(options or {}))
    finally:
        project.down()
        # What operations kept for a way back goes with their commit, which tests do without.
        engine.remove_kept_images(f"{project.name}-")
