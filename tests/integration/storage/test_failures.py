# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What fails around a move: engines, connections, disks, and services that do not do as they are told."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sandbox.engine import OPERATION_LABEL
from tests.sandbox.isolated import IsolatedEngine
from tests.sandbox.loopfs import loopfs

from .lab import DEPENDENT, Lab, children, fill, laid_out, wait_until

DB = "db:/var/lib/postgresql/data"


def wrapped(script: str) -> tuple[str, ...]:
    """Return the lines of a ``db`` whose first process is a shell with ``script``."""
    return ("  POSTGRES_INITDB_ARGS: --no-sync", f'entrypoint: ["bash", "-c", "{script}"]')


def test_killed_while_a_helper_runs(tmp_path: Path) -> None:
    """The helper outlives its worker; the next run stops it before anything else."""
    with laid_out(tmp_path, services=["db"]) as lab, lab.prober() as probe:
        answer = lab.run(faults={"faults": [{"step": f"back up {DB}", "moment": "helper"}]})
        assert answer.refusal()
        assert answer.data["safe_to_rerun"] is True
        (operation,) = labels(lab)
        lab.run().ok()
        assert [label for label in labels(lab) if label == operation] == []
        lab.assert_moved(probe)


@pytest.mark.faults
def test_killed_while_compose_works(tmp_path: Path) -> None:
    """Compose outlives the worker too, and goes on making containers while the next run begins."""
    with laid_out(tmp_path, dependent=True) as lab, lab.prober() as probe:
        process = lab.start()

        def creating() -> bool:
            assert process.poll() is None, lab.finish(process)
            below = [grandchild for worker in children(process.pid) for grandchild in children(worker)]
            return any(b"--no-start" in command_line(pid) for pid in below)

        wait_until(creating, "compose makes the containers", every=0.002)
        (worker,) = children(process.pid)
        os.kill(worker, signal.SIGKILL)
        assert lab.finish(process).data["safe_to_rerun"] is True
        lab.run().ok()
        lab.assert_moved(probe)


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def labels(lab: Lab) -> Iterator[str]:
    """Yield the operations that have a helper running."""
    for container in lab.engine.api("/containers/json"):
        operation = container["Labels"].get(OPERATION_LABEL, "")
        if operation.startswith(lab.project.name):
            yield operation


@pytest.mark.faults
@pytest.mark.parametrize(
    "step, service, way",
    [
        ("move redis:/data", "redis", IsolatedEngine.stop),
        # The engine that starts again ends what the killed one left running: Postgres has to recover.
        ("stop the stores", "db", IsolatedEngine.kill),
        ("create the containers", "db", IsolatedEngine.kill),
    ],
)
def test_engine_restarts_in_the_downtime(
    tmp_path: Path, step: str, service: str, way: Callable[[IsolatedEngine], None]
) -> None:
    """Nothing comes back by itself, ``restart: always`` or not, and the move is finished."""
    with IsolatedEngine() as isolated:
        isolated.load_image({"redis": "selfhost-sandbox/redis:8", "db": "selfhost-sandbox/postgres:17"}[service])
        with laid_out(tmp_path, services=[service], engine=isolated.engine) as lab, lab.prober() as probe:
            pause = lab.paused(step, "before")
            way(isolated)
            isolated.start()
            assert not lab.inspected()[service]["State"]["Running"]
            answer = pause.end()
            if answer.failed:
                answer.refusal()
                lab.run().ok()
            lab.assert_moved(probe)


@pytest.mark.parametrize("sig", [pytest.param(signal.SIGHUP, marks=pytest.mark.faults), signal.SIGKILL])
def test_connection_is_cut_in_the_downtime(tmp_path: Path, sig: signal.Signals) -> None:
    """The worker goes on without its parent; the next run waits for it and finds all done."""
    with laid_out(tmp_path, services=["redis"]) as lab, lab.prober() as probe:
        pause = lab.paused("rewrite the compose file", "before")
        pause.kill(parent=True, sig=sig)
        pause.process.wait()
        os.kill(pause.worker, signal.SIGHUP)
        waiting = tmp_path / "waiting"
        second = lab.start(faults={"waiting": str(waiting)})
        wait_until(waiting.exists, "the second run waits")
        pause.go()
        answer = lab.finish(second).ok()
        assert answer["mounts"]["redis:/data"]["Source"] == str(lab.sources["redis"])
        lab.assert_moved(probe)
        assert lab.states() == ["done"]
        assert pause.process.stdout is not None
        pause.process.stdout.close()


@pytest.mark.parametrize(
    "step, services",
    [
        (f"prepare {DB}", ["db"]),
        pytest.param("prepare redis:/data", ["db", "redis"], marks=pytest.mark.faults),
        pytest.param("move redis:/data", ["db", "redis"], marks=pytest.mark.faults),
        # Not with Redis: it would take writes in memory that it can save nowhere.
        pytest.param("start the stores", ["db"], marks=pytest.mark.faults),
    ],
)
def test_target_file_system_is_full(tmp_path: Path, step: str, services: list[str]) -> None:
    """The services are back on the old storage, and the message says what is full; one rerun stands for all."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(loopfs("ext4", 320))
        sources = {service: place / service for service in services}
        lab = stack.enter_context(laid_out(tmp_path, services=services, sources=sources))
        probe = stack.enter_context(lab.prober())
        pause = lab.paused(step, "before")
        filler = fill(place)
        answer = pause.end()
        assert str(place) in answer.refusal()
        lab.assert_not_moved(probe)
        if step == "move redis:/data":
            filler.unlink()
            with lab.prober() as again:
                lab.run().ok()
                lab.assert_moved(again)


def test_container_that_does_not_stop_in_time(tmp_path: Path) -> None:
    """Nobody is killed: it is undone, and the service runs."""
    script = "docker-entrypoint.sh postgres & wait; wait; until [ -e /tmp/may-end ]; do sleep 0.1; done"
    with (
        laid_out(tmp_path, services=["db"], db_lines=wrapped(f"trap : INT TERM; {script}")) as lab,
        lab.prober() as probe,
    ):
        process = lab.start(stop_timeout=3)
        wait_until(lambda: '"failure"' in lab.story() or process.poll() is not None, "the stop has failed")
        lab.project.exec("db", "touch", "/tmp/may-end")
        assert "still runs" in lab.finish(process).refusal()
        lab.assert_not_moved(probe)
        assert lab.states() == ["rolled_back"]


def test_service_that_does_not_get_ready_on_the_new_mount(tmp_path: Path) -> None:
    """It is undone, and the service runs on the old storage; then the cause is removed."""
    refuse = "grep -q '/project/postgres /var/lib/postgresql/data' /proc/self/mountinfo && [ -e /why/cause ] && exit 1"
    lines = (*wrapped(f"{refuse}; exec docker-entrypoint.sh postgres"), "volumes:", f"  - {tmp_path}:/why:ro")
    (tmp_path / "cause").touch()
    with laid_out(tmp_path, services=["db"], dependent=True, db_lines=lines) as lab, lab.prober() as probe:
        answer = lab.run(ready_timeout=20)
        assert "undone" in answer.data["state"], answer.data
        assert answer.data["failed_step"] == "prove"
        lab.assert_not_moved(probe)
        assert lab.states() == ["rolled_back"]
        for arguments in (("up", "-d"), ("up", "-d", "--force-recreate")):
            lab.project.compose(*arguments)
            lab.project.wait_ready()
            lab.assert_seed()
        lab.remember()
        (tmp_path / "cause").unlink()
        with lab.prober() as again:
            lab.run().ok()
            lab.assert_moved(again)


def test_byte_that_flips_before_the_proof(tmp_path: Path) -> None:
    """What the disk did not keep is found while the service runs, and copied anew by the next run."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(loopfs("ext4", 640))
        sources, options = {"db": place / "postgres"}, {"strategy": "copy"}
        lab = stack.enter_context(laid_out(tmp_path, services=["db"], sources=sources, options=options))
        probe = stack.enter_context(lab.prober())
        lab.project.sql("CHECKPOINT")
        pause = lab.paused(f"prepare {DB}", "prove")
        copies = [path for path in place.rglob("*/base/1/*") if path.stat().st_size > 100_000]
        victim = max(copies, key=lambda path: path.stat().st_size)
        flip(victim, 8192)
        answer = pause.end()
        assert victim.name in answer.refusal()
        lab.assert_not_moved(probe)
        with lab.prober() as again:
            lab.run().ok()
            lab.assert_moved(again)


def flip(path: Path, offset: int) -> None:
    """Change one bit of a file, and leave its times as they were."""
    status = path.stat()
    with path.open("r+b") as handle:
        handle.seek(offset)
        (byte,) = handle.read(1)
        handle.seek(offset)
        handle.write(bytes([byte ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_files_that_vanish_in_the_warm_pass(tmp_path: Path) -> None:
    """Plain files that come, change and go between the copy and its proof, and those that stay."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(loopfs("ext4", 256))
        extra = DEPENDENT.format(stores="redis").replace("    tmpfs: [/data]\n", "    volumes:\n      - files:/data\n")
        wanted = [{"service": "web", "target": "/data", "source": str(place / "files")}]
        lab = stack.enter_context(
            laid_out(
                tmp_path, services=["redis"], edit=lambda text: f"{text}{extra}volumes:\n  files:\n",
                sources={"web": place / "files"}, options={"mounts": wanted},
            )
        )  # fmt: skip
        volume = Path(lab.inspected()["web"]["Mounts"][0]["Source"])
        for number in range(300):
            (volume / f"stays-{number}").write_text(str(number))
            (volume / f"goes-{number}").write_text(str(number))
        pause = lab.paused("prepare web:/data", "prove")
        assert len(list(place.rglob("goes-*"))) == 300
        for number in range(300):
            (volume / f"goes-{number}").unlink()
        (volume / "comes").write_text("late")
        (volume / "stays-0").write_text("changed")
        result = pause.end().ok()
        assert result["plan"]["moves"][0]["strategy"] == "copy"
        copied = {path.name: path.read_text() for path in (place / "files").iterdir() if path.is_file()}
        stays = {f"stays-{number}": str(number) for number in range(1, 300)}
        assert copied == {**stays, "stays-0": "changed", "comes": "late"}
        lab.assert_mounts()
        lab.assert_as_before()
        lab.assert_tidy()
