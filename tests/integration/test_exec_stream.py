# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs in a real container, between files of the host: whole, in little memory, and told when they fail."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import Connection, connect
from tests.sandbox.engine import Engine
from tests.sandbox.projects import Project, simple_project
from tests.support.module_run import start

MUCH = 150 << 20
LITTLE_MB = 100


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, shared_engine: Engine) -> Iterator[Project]:
    """Yield a project with one service that has a shell."""
    made = simple_project(tmp_path_factory.mktemp("stream") / "project", postgres=None, engine=shared_engine)
    try:
        yield made.up()
    finally:
        made.down()


def started(project: Project, *script: str, **options: Any) -> subprocess.Popen[bytes]:
    asked = {
        "project_src": str(project.directory), "service": "redis", "docker_host": project.engine.host,
        "argv": ["sh", "-c", *script], **options,
    }  # fmt: skip
    return start("compose_exec_stream", asked)


def ended(process: subprocess.Popen[bytes]) -> tuple[dict[str, Any], float]:
    """Return what a run answers, and the megabytes that it took at most."""
    assert process.stdout is not None
    assert process.stderr is not None
    said, beside = process.stdout.read(), process.stderr.read()
    _pid, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert said, beside.decode()
    return json.loads(said), used.ru_maxrss / 1024


def test_much_goes_out_and_in_again_in_little_memory(project: Project, tmp_path: Path) -> None:
    place = tmp_path / "much"
    out, taken = ended(started(project, f"head -c {MUCH} /dev/zero; echo beside >&2", stdout_path=str(place)))
    assert (out.get("msg"), out["changed"], out["stderr"]) == (None, True, "beside\n")
    assert taken < LITTLE_MB
    digest = hashlib.sha256()
    with place.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    assert (place.stat().st_size, out["sha256"]) == (MUCH, digest.hexdigest())
    back, taken = ended(started(project, "wc -c", stdin_path=str(place)))
    assert back["stdout"].strip() == str(MUCH) == str(back["bytes_read"])
    assert taken < LITTLE_MB


def test_a_program_that_reads_no_more_is_no_failure_of_ours(project: Project, tmp_path: Path) -> None:
    place = tmp_path / "much"
    with place.open("wb") as file:
        file.truncate(MUCH)
    answer, _taken = ended(started(project, "head -c 3 >/dev/null; echo enough", stdin_path=str(place)))
    assert answer["stdout"] == "enough\n"


def test_a_container_that_ends_in_the_middle_leaves_no_file(project: Project, tmp_path: Path) -> None:
    place = tmp_path / "half"
    process = started(project, "echo begun; sleep 60; echo done", stdout_path=str(place))
    partial, ends = tmp_path / ".half.partial", time.monotonic() + 30
    while not (partial.exists() and partial.stat().st_size):
        assert time.monotonic() < ends, "it has not begun"
        time.sleep(0.05)
    project.engine.docker("restart", "-t", "0", project.container("redis") or "")
    answer, _taken = ended(process)
    assert answer["failed"]
    assert f"{place} is as it was before" in answer["state"]
    assert answer["safe_to_rerun"] is True
    assert list(tmp_path.iterdir()) == []
    project.wait_ready()


def runs(project: Project, word: str) -> bool:
    """Tell whether a program with that argument runs in the container."""
    return word in project.engine.docker("top", project.container("redis") or "", "-eo", "pid,args")


def test_a_program_that_hangs_is_ended_when_its_time_is_up(project: Project, tmp_path: Path) -> None:
    place = tmp_path / "half"
    process = started(project, "echo begun; exec sleep 86399", stdout_path=str(place), run_timeout=5)
    answer, _taken = ended(process)
    assert "had not ended after 5 s" in answer["msg"]
    assert f"{place} is as it was before; sh in " in answer["state"]
    assert " was ended; " in answer["state"]
    assert not runs(project, "86399")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("much", [False, True])
def test_a_program_is_ended_whose_output_nobody_can_write(project: Project, much: bool) -> None:
    engine = connect(Connection(docker_host=project.engine.host))

    def take(_piece: bytes) -> None:
        assert runs(project, "86398")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"):
        engine.stream(
            project.container("redis") or "", ("sh", "-c", "echo begun; exec sleep 86398"), stdout=take, much=much
        )
    assert not runs(project, "86398")


def test_much_does_not_pass_through_the_engine_and_leaves_nothing_in_the_container(project: Project) -> None:
    engine, container = connect(Connection(docker_host=project.engine.host)), project.container("redis") or ""
    # What its output is, and under whom it runs: neither is the engine's pipe, nor any of root's alone.
    asked = ("sh", "-c", "readlink /proc/self/fd/1; id -u; echo beside >&2; exit 3")
    for user in ("", "redis"):
        said = bytearray()
        answer = engine.stream(container, asked, stdout=said.extend, user=user, much=True)
        where, uid = said.decode().splitlines()
        assert (answer.rc, answer.stderr) == (3, b"beside\n")
        assert where.startswith("/dev/shm/.selfhost-stateful-")
        assert (uid == "0") is (user == "")
        assert engine.execute(container, ("ls", "-A", "/dev/shm")).stdout == b""


# A program that is silent when it ends, or is killed, and has left its output to others.
@pytest.mark.parametrize(
    ("script", "rc", "output"),
    [
        ("echo ran >>/log; (sleep 1; echo late) & exit 0", 0, b"late\n"),
        ("echo ran >>/log; (sleep 3; echo dump) & kill -9 $$", 137, b"dump\n"),
    ],
)
def test_a_program_that_was_silent_runs_once(project: Project, script: str, rc: int, output: bytes) -> None:
    engine, container = connect(Connection(docker_host=project.engine.host)), project.container("redis") or ""
    said = bytearray()
    engine.execute(container, ("rm", "-f", "/log"))
    answer = engine.stream(container, ("sh", "-c", script), stdout=said.extend, much=True)
    assert (answer.rc, bytes(said)) == (rc, output)
    assert engine.execute(container, ("cat", "/log")).stdout == b"ran\n"


def test_names_that_no_shell_knows_reach_the_program(project: Project) -> None:
    engine, container = connect(Connection(docker_host=project.engine.host)), project.container("redis") or ""
    said = bytearray()
    given = {"spring.datasource.url": "there", "PLAIN": "two words"}
    assert engine.stream(container, ("env",), stdout=said.extend, environment=given, much=True).rc == 0
    assert {f"{name}={value}".encode() for name, value in given.items()} <= set(bytes(said).splitlines())


def test_without_a_shell_the_engine_is_asked_to_run_it(project: Project) -> None:
    engine, container = connect(Connection(docker_host=project.engine.host)), project.container("redis") or ""
    said = bytearray()
    answer = engine.stream(container, ("echo", "said"), stdout=said.extend, environment={"PATH": "/nowhere"}, much=True)
    assert answer.rc != 0  # it is no program of that path either, and nothing is taken for its output
    shell = engine.execute(container, ("readlink", "-f", "/bin/sh")).stdout.decode().strip()
    project.engine.docker("exec", container, "mv", shell, f"{shell}.away")
    try:
        said.clear()
        assert engine.stream(container, ("echo", "said"), stdout=said.extend, much=True).rc == 0
        assert said == b"said\n"
    finally:
        project.engine.docker("exec", container, "mv", f"{shell}.away", shell)


def test_a_program_is_ended_before_it_takes_half_an_input_for_all(project: Project) -> None:
    engine = connect(Connection(docker_host=project.engine.host))
    container = project.container("redis") or ""

    def given() -> Iterator[bytes]:
        yield b"half of it\n"
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        engine.stream(container, ("sh", "-c", "cat >/half; touch /all"), stdout=bytes, stdin=given())
    assert engine.execute(container, ("ls", "/all")).rc != 0


def test_what_is_asked_for_wrongly_runs_nothing(project: Project, tmp_path: Path) -> None:
    for options in ({"stdin_path": "/no/such/file"}, {"stdout_path": "/no/such/place/file"}, {"service": "nobody"}):
        answer, _taken = ended(started(project, "touch /ran", **options))
        assert answer["failed"], options
        assert answer["next_command"], options
    kept, _taken = ended(started(project, "touch /ran", creates=str(tmp_path)))
    assert kept["changed"] is False
    assert "no such file" in project.engine.docker(
        "exec", project.container("redis") or "", "sh", "-c", "ls /ran 2>&1 || true"
    ).lower()  # fmt: skip
