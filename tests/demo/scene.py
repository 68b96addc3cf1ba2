# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Mastodon of the demo, on the host of its engine: lay out, write, count, recreate, remove."""

from __future__ import annotations

import contextlib
import json
import shutil
from typing import Any

from tests.sandbox._base import STATE_DIR, SandboxError
from tests.sandbox.engine import Engine, up
from tests.sandbox.prober import Prober, Report
from tests.sandbox.projects import Project, mastodon_project
from tests.sandbox.stores import TABLE

NAME = "sfs-demo"
HOME = STATE_DIR / "demo"
PROJECT_DIR = HOME / "live"
OPERATIONS_DIR = HOME / "operations"
STATE_OF_ROLE = HOME / "mastodon"
VOLUMES = HOME / "volumes.json"
# What the collection puts on its helper containers; a killed demo may leave one.
OPERATION_LABEL = "selfhost.stateful.operation"
STORES = {"db": "postgres", "redis": "redis"}


class Scene:
    """Every public method is one request of the demo; what it returns goes through JSON."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._project: Project | None = None
        self._prober: Prober | None = None
        self._report: Report | None = None

    def lay_out(self, rows: int, keys: int) -> dict[str, Any]:
        """Lay out the project of an admin who never mounted anything, start it and fill both stores."""
        self.remove()
        HOME.mkdir(parents=True, mode=0o711)
        project = mastodon_project(PROJECT_DIR, era="v1.4", name=NAME, engine=self.engine)
        self._project = project
        project.up()
        project.fill_postgres(rows)
        project.fill_redis(keys)
        self._remember()
        return {
            "directory": str(project.directory), "project": project.name, "web_port": project.web_port,
            "operations_dir": str(OPERATIONS_DIR), "state_dir": str(STATE_OF_ROLE),
            "docker_host": self.engine.host,
        }  # fmt: skip

    def write(self) -> None:
        """Begin to write rows and keys; returns when each store has acknowledged one."""
        if self._prober is None:
            self._prober = Prober(self.engine, NAME).start()

    def stop_writing(self) -> dict[str, Any]:
        """Stop writing; return per store the acknowledged writes, the attempts and the longest gap between two."""
        if self._prober is None:
            return {}
        report = self._report = self._prober.stop()
        self._prober = None
        return {
            record.store: {
                "acknowledged": len(record.acknowledged),
                "attempts": record.attempts,
                "longest_gap_seconds": round(record.longest_gap.seconds, 3),
            }
            for record in (report.postgres, report.redis)
            if record is not None
        }

    def missing(self) -> int:
        """Return how many of the acknowledged writes are not there now."""
        if self._report is None:
            raise SandboxError("nothing was written yet")
        return sum(len(lost) for lost in Prober(self.engine, NAME).missing(self._report).values())

    def count(self) -> dict[str, Any]:
        """Return rows by table, and keys: all of them, and those that the prober did not write."""
        tables = self.project.count_all_rows()
        script = "local n = 0 for _, k in ipairs(redis.call('KEYS', ARGV[1])) do n = n + 1 end return n"
        probed = self.project.redis("EVAL", script, "0", "sandbox:probe:*")
        return {"tables": tables, "probe_table": TABLE, "keys": self.project.count_keys(), "probe_keys": int(probed)}

    def mounts(self) -> dict[str, Any]:
        """Return per store the one mount that holds its data, in the engine's own keys."""
        self._remember()
        wanted = {"db": "/var/lib/postgresql/data", "redis": "/data"}
        found = {}
        for service, kind in STORES.items():
            by_path = {str(mount["Destination"]): mount for mount in self.project.mounts(kind)}
            mount = by_path.get(wanted[service], {})
            found[service] = {
                key: mount[key] for key in ("Type", "Name", "Source", "Destination", "RW") if mount.get(key) is not None
            }
        return found

    def compose(self, *words: str) -> None:
        """Run one compose command as the admin would, and wait until both stores answer."""
        self.project.compose(*words)
        if words[0] == "up":
            self.project.wait_ready()
        self._remember()

    def compose_file(self) -> str:
        """Return the compose file as it is now."""
        return (PROJECT_DIR / "docker-compose.yml").read_text()

    def remove(self) -> list[str]:
        """Remove the project with all that an earlier demo left of it; return what was there."""
        containers = self._containers()
        for container in containers:
            self.engine.docker("rm", "-fv", container, check=False)
        removed = [f"{len(containers)} containers of the project {NAME}"] if containers else []
        if PROJECT_DIR.exists():
            mastodon_project(PROJECT_DIR, era="v1.4", name=NAME, engine=self.engine).down()
        for volume in self._remembered():
            if self.engine.docker("volume", "rm", volume, check=False):
                removed.append(f"volume {volume[:12]}")
        if HOME.exists():
            shutil.rmtree(HOME)
            removed.append(str(HOME))
        with contextlib.suppress(OSError):
            STATE_DIR.rmdir()
        self._project = None
        return removed

    @property
    def engine(self) -> Engine:
        """The engine that answers on this host."""
        if self._engine is None:
            self._engine = up()
        return self._engine

    @property
    def project(self) -> Project:
        """The project that was laid out."""
        if self._project is None:
            raise SandboxError("the demo's project is not laid out")
        return self._project

    def _containers(self) -> list[str]:
        """Return the containers of the project, and the helpers of its operations."""
        own = self.engine.docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={NAME}").split()
        form = f'{{{{.ID}}}} {{{{.Label "{OPERATION_LABEL}"}}}}'
        listed = self.engine.docker("ps", "-a", "--filter", f"label={OPERATION_LABEL}", "--format", form)
        pairs = (line.split() for line in listed.splitlines())
        return own + [container for container, operation in pairs if operation.startswith(f"{NAME}-")]

    def _remembered(self) -> set[str]:
        return set(json.loads(VOLUMES.read_text())) if VOLUMES.exists() else set()

    def _remember(self) -> None:
        """Note the volumes in use in a file: anonymous ones carry no name that would tell whose they were."""
        form = '{{range .Mounts}}{{if eq .Type "volume"}}{{.Name}}{{"\\n"}}{{end}}{{end}}'
        listed = self.engine.docker("inspect", "-f", form, *self._containers(), check=False).split()
        VOLUMES.write_text(json.dumps(sorted(self._remembered() | set(listed))))
