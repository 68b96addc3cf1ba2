# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests that cannot be carried out: each is refused in a sentence, and nothing was changed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.loopfs import loopfs
from tests.sandbox.projects import simple_project

from .lab import Answer, Lab, bare_python, laid_out, mounts_of, snapshot

# One project for all of them, made once.
pytestmark = pytest.mark.xdist_group("bad input")

DB = {"service": "db", "source": "./postgres"}
REDIS = {"service": "redis", "source": "./redis"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Return one running project for all refusals, which leave it as it is."""
    with laid_out(tmp_path_factory.mktemp("bad"), dependent=True) as running:
        yield running


def paste(answer: Answer) -> None:
    """Do what an admin at night does with the next command."""
    environment = {name: value for name, value in os.environ.items() if name != "DOCKER_HOST"}
    subprocess.run(["sh", "-c", answer.data["next_command"]], check=True, cwd="/", env=environment)


def refusal(lab: Lab, **settings: Any) -> Answer:
    """Run with bad input, and assert that nothing whatever was changed by it."""
    before, containers, operations = snapshot(lab.project.directory), _containers(lab), lab.states()
    answer = lab.run(**settings)
    answer.refusal()
    assert answer.data["state"] == "nothing was changed"
    assert snapshot(lab.project.directory) == before
    assert _containers(lab) == containers
    assert lab.states() == operations
    return answer


def _containers(lab: Lab) -> dict[str, Any]:
    return {
        name: (c["Id"], c["State"]["StartedAt"], c["HostConfig"]["RestartPolicy"], mounts_of(c))
        for name, c in lab.inspected().items()
    }


def volume_path(lab: Lab, service: str = "db") -> Path:
    return Path(next(mount["Source"] for mount in lab.inspected()[service]["Mounts"]))


@pytest.mark.parametrize(
    "options, words",
    [
        pytest.param({"mounts": [{"service": "nope", "source": "./x"}]}, ["nope", "db", "redis"], id="service"),
        pytest.param({"mounts": [{**DB, "target": "/nope"}]}, ["/nope", "/var/lib/postgresql/data"], id="path"),
        pytest.param({"mounts": [DB, {**DB, "source": "./other"}]}, ["Two mounts", "db"], id="target-twice"),
        pytest.param(
            {"mounts": [{**DB, "target": "/var/lib/postgresql/data"}, {**DB, "source": "./other"}]},
            ["Two mounts", "db"],
            id="target-twice-once-found",
        ),
        pytest.param({"mounts": [DB, {**REDIS, "source": "./postgres"}]}, ["overlap"], id="source-twice"),
        pytest.param({"mounts": [DB, {**REDIS, "source": "./postgres/in"}]}, ["overlap"], id="source-inside"),
        pytest.param({"mounts": [{**DB, "source": "/dev/shm/sfs-test"}]}, ["does not survive"], id="volatile"),
        pytest.param({"mounts": [{"service": "web", "target": "/data", "source": "./web"}]}, ["tmpfs"], id="tmpfs"),
        pytest.param({"mounts": [REDIS], "strategy": "replica"}, ["replica", "Postgres only"], id="replica-of-redis"),
        pytest.param({"strategy": "clone"}, ["clone was asked for"], id="clone-on-ext4"),
        pytest.param({"strategy": "copy", "backup": "none"}, ["backup: none", "rename only"], id="no-backup"),
        pytest.param({"max_downtime": 0.1}, ["max_downtime", "0.1"], id="max-downtime"),
        pytest.param({"docker_host": "unix:///nowhere/docker.sock"}, ["/nowhere/docker.sock"], id="engine"),
        pytest.param({"project_src": "/nowhere/at/all"}, ["/nowhere/at/all"], id="project"),
        pytest.param({"files": ["other.yml"]}, ["other.yml"], id="file"),
        pytest.param({"compose_program": ["/nowhere/docker-compose"]}, ["/nowhere/docker-compose"], id="compose"),
    ],
)
def test_request_that_does_not_fit(lab: Lab, options: Mapping[str, Any], words: list[str]) -> None:
    message = refusal(lab, **options).data["msg"]
    assert all(word in message for word in words), message


@pytest.mark.parametrize("where", ["equal", "inside", "above"])
def test_source_where_the_data_is(lab: Lab, where: str) -> None:
    data = volume_path(lab)
    source = {"equal": data, "inside": data / "inside", "above": data.parent}[where]
    message = refusal(lab, mounts=[{"service": "db", "source": str(source)}]).data["msg"]
    assert str(source) in message
    assert "overlap" in message


def test_source_is_a_link_to_nowhere(lab: Lab) -> None:
    link = lab.project.directory / "dangling"
    link.symlink_to("nowhere-at-all")
    try:
        message = refusal(lab, mounts=[{"service": "db", "source": "./dangling"}]).data["msg"]
        assert str(link) in message
        through = refusal(lab, mounts=[{"service": "db", "source": "./dangling/below"}]).data["msg"]
        assert str(link) in through
    finally:
        link.unlink()


def test_source_is_resolved(lab: Lab, tmp_path: Path) -> None:
    """Relative paths, ``..`` and links are one directory in the plan, and the plan names it."""
    real = tmp_path / "real"
    real.mkdir()
    (lab.project.directory / "link").symlink_to(real)
    try:
        for written, wanted in {
            "./postgres": lab.project.directory / "postgres",
            "postgres/": lab.project.directory / "postgres",
            "../beside": lab.project.directory.parent / "beside",
            "./link": real,
            "./link/below": real / "below",
        }.items():
            plan = lab.run(check=True, mounts=[{"service": "db", "source": written}]).ok()["plan"]
            assert [move["to"] for move in plan["moves"]] == [str(wanted)]
    finally:
        (lab.project.directory / "link").unlink()


def test_target_is_not_empty(lab: Lab) -> None:
    place = lab.project.directory / "postgres"
    place.mkdir()
    (place / "precious").write_text("x")
    try:
        message = refusal(lab).data["msg"]
        assert f"{place} is not empty" in message
        assert "precious" in message or "1 entr" in message
    finally:
        (place / "precious").unlink()
        place.rmdir()


def test_target_holds_another_cluster(lab: Lab, tmp_path: Path) -> None:
    place = tmp_path / "cluster"
    subprocess.run(["cp", "-a", str(volume_path(lab)), str(place)], check=True)
    message = refusal(lab, mounts=[{"service": "db", "source": str(place)}]).data["msg"]
    assert "postgresql data" in message
    assert lab.project.sql("SELECT system_identifier FROM pg_control_system()") in message


def test_target_is_a_file(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    message = refusal(lab, mounts=[{"service": "db", "source": str(tmp_path / "file")}]).data["msg"]
    assert "a file" in message
    below = refusal(lab, mounts=[{"service": "db", "source": str(tmp_path / "file" / "below")}]).data["msg"]
    assert str(tmp_path / "file") in below


@pytest.mark.parametrize(
    "text, words",
    [
        ("services:\n  db: [unclosed\n", ["docker-compose.yml"]),
        ("services:\n\tdb:\n", ["docker-compose.yml"]),
        ("services: {}\n", ["db"]),
    ],
    ids=["unclosed", "tab", "without-services"],
)
def test_compose_file_does_not_parse(lab: Lab, text: str, words: list[str]) -> None:
    file = lab.project.directory / "docker-compose.yml"
    original = file.read_text()
    file.write_text(text)
    try:
        message = refusal(lab).data["msg"]
        assert all(word in message for word in words), message
    finally:
        file.write_text(original)


def test_compose_file_is_read_only(lab: Lab, tmp_path: Path) -> None:
    """Found before anything stops, not when it is to be written."""
    file = lab.project.directory / "docker-compose.yml"
    subprocess.run(["mount", "--bind", str(file), str(file)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(file)], check=True)
        message = refusal(lab).data["msg"]
        assert str(file) in message
    finally:
        subprocess.run(["umount", str(file)], check=True)


def test_directory_of_the_compose_file_is_read_only(lab: Lab, tmp_path: Path) -> None:
    place = lab.project.directory
    subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
        message = refusal(lab, mounts=[{"service": "db", "source": str(tmp_path / "postgres")}]).data["msg"]
        assert str(place) in message
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_project_of_another_checkout(lab: Lab, tmp_path: Path) -> None:
    other = simple_project(tmp_path / "other", name=lab.project.name, engine=lab.engine)
    message = refusal(lab, project_src=str(other.directory)).data["msg"]
    assert str(lab.project.directory) in message


def test_directory_without_a_compose_file(lab: Lab, tmp_path: Path) -> None:
    message = refusal(lab, project_src=str(tmp_path)).data["msg"]
    assert str(tmp_path) in message


def test_sdk_is_missing(lab: Lab, tmp_path: Path) -> None:
    answer = lab.run(python=bare_python(tmp_path))
    message = answer.refusal()
    assert "docker" in message
    assert "host_requirements" in answer.data["next_command"]


def test_sdk_is_missing_in_check_mode(lab: Lab, tmp_path: Path) -> None:
    """Check mode says what would be installed, plans what the files tell, and that the plan is not complete."""
    mounts = [{"service": "db", "source": "./postgres", "target": "/var/lib/postgresql/data"}]
    before, containers = snapshot(lab.project.directory), _containers(lab)
    data = lab.run(check=True, mounts=mounts, python=bare_python(tmp_path, "yaml")).ok()
    assert (snapshot(lab.project.directory), _containers(lab), lab.states()) == (before, containers, [])
    assert (data["changed"], data["plan_complete"]) == (True, False)
    assert "docker" in data["missing"]
    assert "host_requirements installs" in data["plan_text"]
    compose_file = str(lab.project.directory / "docker-compose.yml")
    assert data["plan"] == {"moves": [], "files": [compose_file]}
    (shown,) = data["diff"]
    assert "./postgres:/var/lib/postgresql/data" in shown["prepared"]


def test_no_library_at_all_in_check_mode(lab: Lab, tmp_path: Path) -> None:
    data = lab.run(check=True, python=bare_python(tmp_path)).ok()
    assert data["plan_complete"] is False
    assert set(data["missing"]) >= {"docker", "yaml"}
    assert data["plan"] == {"moves": [], "files": []}


def test_without_the_right_to_the_engine(lab: Lab, tmp_path: Path) -> None:
    # It may read whatever it likes, as far as this machine's interpreter lies out of its sight.
    keep = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *keep]
    answer = lab.run(wrapper=user)
    message = answer.refusal()
    assert "docker.sock" in message
    assert "become" in answer.data["next_command"] + message


def test_right_to_the_engine_without_root(lab: Lab) -> None:
    """As a member of the group docker: the engine answers, and the data is out of reach."""
    socket = Path(lab.engine.host.removeprefix("unix://"))
    group = str(socket.stat().st_gid)
    mode = socket.stat().st_mode
    keep = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    socket.chmod(mode | 0o060)
    try:
        user = ["setpriv", "--reuid=65534", f"--regid={group}", "--clear-groups", *keep]
        answer = lab.run(wrapper=user)
    finally:
        socket.chmod(mode)
    assert "not root" in answer.refusal()
    assert "become" in answer.data["next_command"]


def test_space_is_missing_at_the_target(lab: Lab) -> None:
    with loopfs("ext4", 24) as place:
        message = refusal(lab, mounts=[{"service": "db", "source": str(place / "postgres")}]).data["msg"]
        assert str(place) in message
        assert "bytes are missing" in message


def test_space_is_missing_for_the_backup(lab: Lab) -> None:
    with loopfs("ext4", 24) as place:
        message = refusal(lab, backup_dir=str(place / "backups")).data["msg"]
        assert str(place) in message
        assert "bytes are missing" in message
        assert "backup_dir" in message


def test_volume_is_used_by_another_container(lab: Lab) -> None:
    volume = next(mount["Name"] for mount in lab.inspected()["db"]["Mounts"])
    name = f"{lab.project.name}-other"
    lab.engine.docker(
        "run", "-d", "--name", name, "--entrypoint", "sleep", "-v", f"{volume}:/there",
        "selfhost-sandbox/redis:8", "infinity",
    )  # fmt: skip
    try:
        assert name in refusal(lab).data["msg"]
    finally:
        lab.engine.docker("rm", "-fv", name)


def test_inside_a_build_context(tmp_path: Path) -> None:
    """The line to add is named, and with it the plan is fine."""

    def built(text: str) -> str:
        return text + "  app:\n    build: .\n    image: sfs-never-built\n"

    with laid_out(tmp_path, services=["redis"], edit=built, up=False) as lab:
        lab.project.up("redis")
        (lab.project.directory / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
        ignored = lab.project.directory / ".dockerignore"
        ignored.write_text("public")  # without a line break at its end
        answer = refusal(lab)
        assert str(ignored) in answer.data["msg"]
        assert answer.data["next_command"] in answer.data["plan_text"]
        paste(answer)
        assert ignored.read_text().split() == ["public", "redis"]
        assert lab.run(check=True).ok()["changed"] is True


def test_replicas(tmp_path: Path) -> None:
    with laid_out(tmp_path, services=["redis"], replicas=2, up=False) as lab:
        lab.project.up()
        before = snapshot(lab.project.directory)
        answer = lab.run()
        assert "2 replicas" in answer.refusal()
        assert "--scale redis=1" in answer.data["next_command"]
        assert snapshot(lab.project.directory) == before


def test_project_that_is_down(tmp_path: Path) -> None:
    """Its data waits in a named volume: the file is not edited beside that, and the way out leads to a move."""
    with laid_out(tmp_path, services=["redis"], named_volumes=True) as lab:
        lab.project.compose("down")
        tree = snapshot(lab.project.directory)
        answer = lab.run(mounts=[{**REDIS, "target": "/data"}])
        assert f"{lab.project.name}_redis-data" in answer.refusal()
        assert snapshot(lab.project.directory) == tree
        assert lab.states() == []
        paste(answer)
        assert lab.run().ok()["changed"] is True
        lab.project.compose("up", "-d")
        lab.project.wait_ready()
        lab.assert_seed()


def test_file_of_somebody_else_lacks_the_mount(lab: Lab) -> None:
    message = refusal(lab, rewrite="none").data["msg"]
    assert "./postgres" in message or str(lab.sources["db"]) in message
    assert "rewrite: none" in message


def test_another_operation_is_open(tmp_path: Path) -> None:
    """It names both; the one that is open still gets through."""
    with laid_out(tmp_path, services=["redis"]) as lab, lab.prober() as probe:
        first = lab.run(stop_before="switch").ok()
        assert first["operation_state"] == "running"
        answer = lab.run(mounts=[{"service": "redis", "source": "./elsewhere"}])
        message = answer.refusal()
        assert first["operation"] in message
        assert str(lab.sources["redis"]) in message
        assert str(lab.project.directory / "elsewhere") in message
        assert lab.run().ok()["operation"] == first["operation"]
        lab.assert_moved(probe)
