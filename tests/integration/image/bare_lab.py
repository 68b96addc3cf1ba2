# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Postgres that ``docker run`` made, with all that a container can be told, and an application beside it."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.image.lab import WORDS
from tests.integration.storage.lab import Lab
from tests.sandbox import engine, images
from tests.sandbox._base import SandboxError
from tests.sandbox.engine import OPERATION_LABEL
from tests.sandbox.prober import Prober

SECRET = "not-for-the-journal"
TOLD = (
    "--restart", "unless-stopped", "--network-alias", "database", "--shm-size", "96m",
    "--ulimit", "nofile=4096:4096", "--label", "whose=ours", "--stop-timeout", "77", "--log-opt", "max-size=3m",
    "--health-cmd", "pg_isready", "--health-interval", "1h", "--memory", "1g", "--cap-add", "SYS_NICE",
    "--add-host", "other:10.0.0.1", "-e", f"POSTGRES_PASSWORD={SECRET}", "-e", "POSTGRES_INITDB_ARGS=--no-sync",
)  # fmt: skip


class ByName(engine.Engine):
    """The engine for a prober: its service is the container of that name."""

    def first_process(self, project: str, service: str) -> int:
        try:
            pid = int(self.api(f"/containers/{service}/json")["State"]["Pid"])
        except SandboxError as gone:
            raise engine.NotRunning(f"there is no {service}") from gone
        if pid == 0:
            raise engine.NotRunning(f"{service} does not run")
        return pid


@dataclass
class Single:
    """What a lab knows as its project: one container, and no compose file."""

    engine: engine.Engine
    container: str
    directory: Path

    @property
    def name(self) -> str:
        return f"container:{self.container}"


@dataclass
class BareLab(Lab):
    """Runs the module for one container; see ``Lab``."""

    name: str = ""
    app: str = ""
    address: str = ""

    def prober(self) -> Prober:
        of_names = ByName(self.engine.host, self.engine.ours, self.engine.client)
        return Prober(of_names, self.name, postgres_service=self.name, redis_service=None, interval=0.05)

    def inspect(self, name: str = "") -> dict[str, Any]:
        found: dict[str, Any] = self.engine.api(f"/containers/{name or self.name}/json")
        return found

    def beside(self) -> list[dict[str, Any]]:
        """Return the containers whose names begin with the one's, and that are not it."""
        listed = self.engine.api("/containers/json?all=1")
        names = [name.lstrip("/") for container in listed for name in container["Names"]]
        return [self.inspect(name) for name in names if name.startswith(f"{self.name}-")]

    def sql(self, statement: str) -> str:
        return self.engine.docker("exec", self.name, "psql", "-XAtU", "postgres", "-c", statement)

    def wait_ready(self) -> None:
        self.engine.docker(
            "exec", self.name, "sh", "-c",
            "until psql -h 127.0.0.1 -XAtU postgres -c 'SELECT 1' >/dev/null 2>&1; do sleep 0.1; done",
        )  # fmt: skip

    def assert_kept(self, probe: Prober) -> None:
        """Assert that what was acknowledged is there, and what was there at the beginning."""
        self.wait_ready()
        probe.wait_written()
        report = probe.stop()
        assert not any(probe.missing(report).values())
        assert self.sql("SELECT count(*) FROM words") == "7"

    def assert_no_secret(self) -> None:
        """Assert that no file of ours has what the environment holds."""
        for path in (self.directory / "state").rglob("*"):
            if path.is_file() and "backups" not in path.parts:
                assert SECRET.encode() not in path.read_bytes(), path


@contextlib.contextmanager
def bare(
    directory: Path, tag: str, image: str, *, told: Sequence[str] = TOLD, network: str = "", **options: Any
) -> Iterator[BareLab]:
    """Run a container of ``postgres:tag`` that shall run ``image``, and remove all of it at the end."""
    host = engine.up()
    images.ensure([f"postgres:{tag}"], host)
    name = f"sfs-bare-{secrets.token_hex(3)}"
    directory.mkdir(exist_ok=True)
    lab = BareLab(
        project=Single(host, name, directory),  # type: ignore[arg-type]
        directory=directory,
        sources={},
        options={
            "project_src": None,
            "container": name,
            "image": image,
            "dependents": ["auto", f"{name}.app"],
            **options,
        },
        module="postgresql_image",
        name=name,
        app=f"{name}.app",
        # Of a network of its own, so that another test may run beside it.
        address=f"10.253.{secrets.randbelow(254)}.9",
    )
    try:
        host.docker("network", "create", "--subnet", lab.address.removesuffix("9") + "0/24", name)
        words = (
            "--network",
            name,
            "--ip",
            lab.address,
            *told,
            images.ref(f"postgres:{tag}"),
            "-c",
            "max_connections=55",
        )
        host.docker("run", "-d", "--name", name, *words)
        host.docker(
            "run", "-d", "--name", lab.app, "--network", name, "--restart", "always", "--stop-signal", "SIGKILL",
            "-e", f"DATABASE_URL=postgres://postgres:{SECRET}@{name}/postgres", "--entrypoint", "sleep",
            images.ref(f"postgres:{tag}"), "infinity",
        )  # fmt: skip
        lab.wait_ready()
        lab.sql(f"CREATE TABLE words (w text PRIMARY KEY); INSERT INTO words SELECT unnest(ARRAY[{WORDS}])")
        yield lab
    finally:
        for pause in lab.pauses:
            pause.give_up()
        _remove(host, name)


def _remove(host: engine.Engine, name: str) -> None:
    volumes = set()
    for container in host.api("/containers/json?all=1"):
        names = [each.lstrip("/") for each in container["Names"]]
        ours = container["Labels"].get(OPERATION_LABEL, "").startswith(f"container_{name}")
        if ours or any(each.startswith(name) for each in names):
            volumes |= {mount["Name"] for mount in container["Mounts"] if mount["Type"] == "volume"}
            host.docker("rm", "-fv", container["Id"], check=False)
    for volume in volumes:
        host.docker("volume", "rm", volume, check=False)
    host.docker("network", "rm", name, check=False)
    host.remove_kept_images(f"container_{name}")


def likeness(inspected: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a container and its successor have to have in common, as the engine tells it."""
    config = {
        key: value for key, value in inspected["Config"].items()
        if key not in ("Hostname", "Image", "Labels", "Volumes", "Env")
    }  # fmt: skip
    host = {key: value for key, value in inspected["HostConfig"].items() if key not in ("Binds", "Mounts")}
    env = sorted(word for word in inspected["Config"]["Env"] if re.match("POSTGRES_", word))
    networks = {
        name: [end["IPAMConfig"], sorted(a for a in end["Aliases"] or [] if not inspected["Id"].startswith(a))]
        for name, end in inspected["NetworkSettings"]["Networks"].items()
    }
    label = inspected["Config"]["Labels"]["whose"]
    mounts = sorted((m["Destination"], m["Type"], m.get("Name", ""), m["RW"]) for m in inspected["Mounts"])
    return {"config": config, "host": host, "env": env, "networks": networks, "label": label, "mounts": mounts}
