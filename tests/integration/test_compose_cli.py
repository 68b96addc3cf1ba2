# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compose projects on the real engine, run by compose 2 and by compose 1, as we run them and as an admin does."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._compose import drift
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import (
    ComposeCli,
    ComposeFailed,
    find_compose,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.command_line import ProjectOptions
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import (
    FILES_LABEL,
    HASH_LABEL,
    PROJECT_LABEL,
    SERVICE_LABEL,
    WORKING_DIR_LABEL,
    Project,
    observe_project,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import Connection, DockerEngine, connect
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from tests.sandbox import engine as sandbox
from tests.sandbox import images
from tests.sandbox.compose_v1 import compose_v1

Service = dict[str, Any]


@dataclass
class Site:
    """A project of one generation of compose, in a directory with an awkward name; ``admin`` runs compose by hand."""

    engine: DockerEngine
    host: sandbox.Engine
    program: tuple[str, ...]
    directory: Path
    name: str
    services: dict[str, Service] = field(default_factory=dict)
    began: float = field(default_factory=time.time)

    @cached_property
    def compose(self) -> ComposeCli:
        return self.compose_in(self.directory)

    def compose_in(self, directory: Path) -> ComposeCli:
        return find_compose(ProjectOptions(str(directory)), Connection(self.host.host), program=self.program)

    def write(self, **changes: Service) -> None:
        """Change services of the file and write it."""
        self.services = {**self.services, **changes}
        text = json.dumps({"version": "3.8", "services": self.services})
        (self.directory / "docker-compose.yml").write_text(text)

    def admin(self, *arguments: str, directory: Path | None = None) -> str:
        # A shell, for it is what sets PWD to the path that was typed.
        done = subprocess.run(
            ["sh", "-c", 'cd "$0" && exec "$@"', directory or self.directory, *self.program, *arguments],
            env={**os.environ, **self.host.env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def observe(self, *services: str) -> Project:
        return observe_project(self.engine, self.compose, services)

    def only(self, service: str) -> Container:
        # Past compose: a process of v1 takes a second.
        (container,) = self.engine.containers(labels={PROJECT_LABEL: self.name, SERVICE_LABEL: service})
        return container

    def ids(self) -> dict[str, str]:
        return {c.service: c.id for c in self.engine.containers(labels={PROJECT_LABEL: self.name})}

    def volumes(self) -> set[str]:
        """Return the volumes that containers of the project ever ran on: compose forgets some where it makes anew."""
        ours = {actor["ID"] for actor in self._events("event=start", f"label={PROJECT_LABEL}={self.name}")}
        mounted = self._events("type=volume", "event=mount")
        return {actor["ID"] for actor in mounted if actor["Attributes"]["container"] in ours}

    def _events(self, *filters: str) -> list[dict[str, Any]]:
        since = ("--since", f"{self.began:.0f}", "--until", f"{time.time() + 1:.0f}")
        wanted = (word for each in filters for word in ("--filter", each))
        told = self.host.docker("events", *since, "--format", "{{json .Actor}}", *wanted)
        return [json.loads(line) for line in told.splitlines()]

    def remove(self) -> None:
        label = f"label=com.docker.compose.project={self.name}"
        volumes = self.volumes()
        for container in self.host.docker("ps", "-aq", "--filter", label).split():
            self.host.docker("rm", "-fv", container, check=False)
        for kind in ("network", "volume"):
            for found in self.host.docker(kind, "ls", "-q", "--filter", label).split():
                self.host.docker(kind, "rm", found, check=False)
        for volume in volumes:
            self.host.docker("volume", "rm", volume, check=False)


def program_of(generation: str, host: sandbox.Engine) -> tuple[str, ...]:
    return (host.client, "compose") if generation == "v2" else (str(compose_v1()),)


@pytest.fixture
def site(request: pytest.FixtureRequest, shared_engine: sandbox.Engine, tmp_path: Path) -> Iterator[Site]:
    generation: str = getattr(request, "param", "v2")
    directory = tmp_path / "Mein Próject's data"
    directory.mkdir()
    name = f"sfs-compose-{uuid.uuid4().hex[:10]}"
    (directory / ".env").write_text(f"COMPOSE_PROJECT_NAME={name}\nPASSWORD=s3cret$$x\n")
    made = Site(
        connect(Connection(shared_engine.host)), shared_engine, program_of(generation, shared_engine), directory, name
    )
    image = images.ref("redis:8", shared_engine)
    quick = {"image": image, "stop_grace_period": "1s"}
    made.write(
        db={**quick, "restart": "always", "environment": ["PASSWORD", "ODD=a$$b ${PASSWORD}"]},
        web={**quick, "depends_on": ["db"], "command": ["redis-server", "--save", ""]},
    )
    try:
        yield made
    finally:
        made.remove()


V1_IN_FULL = pytest.param("v1", marks=pytest.mark.faults)
both = pytest.mark.parametrize("site", ["v2", V1_IN_FULL], indirect=True)


@both
def test_what_we_recreate_the_admin_need_not_recreate_again(site: Site) -> None:
    site.admin("up", "-d")
    before, by_admin = site.ids(), site.only("db")
    hashes = site.compose.service_hashes()
    assert hashes["db"] == by_admin.labels[HASH_LABEL]

    site.write(db={**site.services["db"], "volumes": ["./redis:/data"]})
    site.compose.up(["db"], force_recreate=site.compose.is_v1)

    ours = site.only("db")
    mount = ours.mount_at("/data")
    assert mount is not None
    assert (mount.type, mount.source, mount.rw) == ("bind", str(site.directory / "redis"), True)
    assert ours.running
    for label in (WORKING_DIR_LABEL, FILES_LABEL):
        assert ours.labels[label] == by_admin.labels[label]
    after = site.ids()
    assert after["db"] != before["db"]
    assert after["web"] == before["web"]
    site.admin("up", "-d")
    assert site.ids() == after


@both
def test_drift_is_told_before_it_is_applied(site: Site) -> None:
    site.admin("up", "-d")
    project = site.observe()
    assert drift.find_drift(site.engine, project, ["db", "web"], site.compose.service_hashes()) == []

    site.write(
        db={
            **site.services["db"],
            "restart": "unless-stopped",
            "environment": {"ODD": "changed", "NEW": "s3cret"},
            "command": "redis-server --requirepass another-s3cret",
            "ports": ["127.0.0.1::6379"],
            "volumes": ["./redis:/data"],
            "user": "999",
        }
    )
    project, hashes = site.observe(), site.compose.service_hashes()
    found = drift.find_drift(site.engine, project, ["db", "web"], hashes, ignore_targets={"db": ["/data"]})
    assert {d.kind for d in found} == {drift.RESTART, drift.ENVIRONMENT, drift.COMMAND, drift.PORTS, drift.USER}
    assert {d.service for d in found} == {"db"}
    assert not any("s3cret" in d.text for d in found)
    assert drift.MOUNTS in {d.kind for d in drift.find_drift(site.engine, project, ["db"], hashes)}


def test_a_tag_that_moved_on_is_told(site: Site) -> None:
    tag = f"{images.ref('redis:8', site.host)}-{site.name}"
    site.host.docker("tag", images.ref("redis:7", site.host), tag)
    try:
        site.write(db={**site.services["db"], "image": tag})
        site.compose.up(["db"], no_start=True)
        site.host.docker("tag", images.ref("redis:8", site.host), tag)
        (found,) = drift.find_drift(site.engine, site.observe(), ["db"], site.compose.service_hashes())
        assert found.kind == drift.FLOATING
        assert tag in found.text
    finally:
        site.remove()
        site.host.docker("rmi", tag, check=False)


def test_the_way_back_to_an_anonymous_volume(site: Site) -> None:
    """The old file alone would carry the bind over; with a temporary file compose inherits the volume again."""
    site.compose.up(["db"])
    origin = site.only("db").mount_at("/data")
    assert origin is not None
    assert origin.type == "volume"
    plain = site.services["db"]
    site.write(db={**plain, "volumes": ["./redis:/data"]})
    site.compose.up(["db"])
    site.write(db=plain)
    site.compose.up(["db"])
    carried = site.only("db").mount_at("/data")
    assert carried is not None
    assert carried.type == "bind", "compose carries a bind over: whoever goes back has to lay a file over"

    back = site.directory / "back.json"
    old = {"type": "volume", "source": "old", "target": "/data"}
    back.write_text(
        json.dumps(
            {"services": {"db": {"volumes": [old]}}, "volumes": {"old": {"external": True, "name": origin.name}}}
        )
    )
    site.compose.up(["db"], extra_files=[str(back)], no_start=True)
    back.unlink()
    site.compose.up(["db"])
    assert site.only("db").mount_at("/data") == origin
    site.admin("up", "-d", "--force-recreate", "db")
    assert site.only("db").mount_at("/data") == origin


@pytest.mark.parametrize("site", [V1_IN_FULL], indirect=True)
def test_v1_forgets_anonymous_volumes_that_no_extra_file_names(site: Site) -> None:
    site.compose.up(["db"])
    origin = site.only("db").mount_at("/data")
    assert origin is not None
    site.compose.up(["db"], force_recreate=True)
    other = site.only("db").mount_at("/data")
    assert other is not None
    assert other.name != origin.name
    assert site.engine.volume(origin.name) is not None, "rm never deletes a volume"
    back = site.directory / "back.json"
    volumes = {"old": {"external": True, "name": origin.name}}
    services = {"db": {"volumes": ["old:/data"]}}
    back.write_text(json.dumps({"version": "3.8", "services": services, "volumes": volumes}))
    site.engine.stop(site.only("db").id, signal="SIGTERM", timeout=20)
    site.compose.up(["db"], extra_files=[str(back)], force_recreate=True, stopped=True)
    back.unlink()
    found = site.only("db").mount_at("/data")
    assert found is not None
    assert found.name == origin.name
    for name in (origin.name, other.name):
        site.remove()
        site.engine.remove_volume(name)


def test_through_a_symbolic_link_nothing_is_recreated(site: Site, tmp_path: Path) -> None:
    site.write(db={**site.services["db"], "volumes": ["./redis:/data"]})
    site.admin("up", "-d")
    before = site.ids()
    link = tmp_path / "link"
    link.symlink_to(site.directory)
    project = observe_project(site.engine, site.compose_in(link), ["db"])
    assert drift.find_drift(site.engine, project, ["db"], project.compose.service_hashes()) == []
    project.compose.up(["db"])
    assert site.ids() == before


@both
def test_replicas_one_off_runs_and_orphans(site: Site) -> None:
    site.admin("up", "-d", "--no-deps", "--scale", "web=2", "web")
    said = site.compose.run_rm("web", ["sh", "-c", 'echo "$MESSAGE"'], env={"MESSAGE": "a b ü"})
    assert said.strip() == "a b ü"
    site.host.docker(
        "create", "--label", f"com.docker.compose.project={site.name}", "--label", "com.docker.compose.oneoff=True",
        "--label", "com.docker.compose.service=web", images.ref("redis:8", site.host),
    )  # fmt: skip
    project = site.observe("web")
    assert [c.labels["com.docker.compose.container-number"] for c in project.containers["web"]] == ["1", "2"]
    assert len(project.one_off) == 1
    assert project.never_created == ("db",)
    assert set(site.compose.ps(["web"])) >= {c.id for c in project.containers["web"]}
    site.services["other"] = site.services.pop("web")
    del site.services["other"]["depends_on"]
    site.write()
    assert {c.service for c in site.observe().orphans} == {"web"}


@both
def test_build_stop_start_and_rm(site: Site) -> None:
    (site.directory / "Dockerfile").write_text(f"FROM {images.ref('redis:8', site.host)}\nENV BUILT=yes\n")
    tag = f"{site.name}-built"
    site.write(db={"image": tag, "build": ".", "stop_grace_period": "1s"})
    with pytest.raises(ComposeFailed):
        site.compose.up(["db"])
    try:
        site.compose.build(["db"])
        site.compose.up(["db"], no_start=True)
        assert site.only("db").env["BUILT"] == "yes"
        assert not site.only("db").running
        site.compose.start(["db"])
        assert site.only("db").running
        volume = site.only("db").mount_at("/data")
        assert volume is not None
        site.compose.rm(["db"], stop=True, timeout=5)
        assert site.observe("db").never_created == ("db", "web")
        assert site.engine.volume(volume.name) is not None
        site.engine.remove_volume(volume.name)
    finally:
        site.remove()
        site.host.docker("rmi", tag, check=False)


def test_an_image_that_is_not_here_is_not_pulled(site: Site) -> None:
    site.write(db={**site.services["db"], "image": "selfhost-sandbox/nowhere:1"})
    with pytest.raises(ComposeFailed, match="nowhere") as caught:
        site.compose.up(["db"])
    assert "--pull never" in caught.value.next_command
    assert site.observe("db").containers["db"] == ()


@both
def test_a_file_that_does_not_parse_changes_nothing(site: Site) -> None:
    (site.directory / "docker-compose.yml").write_text("services:\n  db: [\n")
    with pytest.raises(InvalidInput, match="Compose cannot read"):
        site.observe("db")


def test_another_checkout_of_the_same_project_is_refused(site: Site, tmp_path: Path) -> None:
    site.compose.up(["db"], no_start=True)
    other = tmp_path / "other"
    other.mkdir()
    for name in (".env", "docker-compose.yml"):
        (other / name).write_text((site.directory / name).read_text())
    with pytest.raises(InvalidInput) as caught:
        observe_project(site.engine, site.compose_in(other), ["db"])
    assert str(other) in caught.value.msg
    assert str(site.directory) in caught.value.msg


def test_a_named_service_of_a_profile(site: Site) -> None:
    site.write(tool={**site.services["web"], "profiles": ["tools"]})
    assert "tool" not in site.observe("db").config.services
    assert "tool" in site.observe("tool").config.services
