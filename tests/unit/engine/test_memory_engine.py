# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine in memory keeps the contract, and the traps that the contract cannot spring on a shared engine."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import (
    Container,
    EngineMount,
    ExecResult,
    Image,
    RestartPolicy,
)
from tests.support import engine_contract
from tests.support.memory_engine import MemoryEngine, Program


def on_this_host(
    container: Container, argv: Sequence[str], environment: Mapping[str, str], user: str, stdin: bytes | None
) -> ExecResult:
    """Answer a command by running it here, as the container's would."""
    done = subprocess.run(
        list(argv),
        env={"PATH": "/usr/bin:/bin", **environment},
        input=stdin or b"",
        capture_output=True,
        check=False,
        user=int(user) if user else None,
    )
    return ExecResult(tuple(argv), done.returncode, done.stdout, done.stderr)


class TestMemoryEngine(engine_contract.EngineContract):
    @pytest.fixture
    def engine(self, tmp_path: Path) -> MemoryEngine:
        return MemoryEngine(
            tmp_path / "engine",
            programs={
                engine_contract.STUBBORN: Program(ends_on={}),
                engine_contract.POLITE: Program(ends_on={"SIGTERM": 3}, says="ready\n"),
                engine_contract.ENDS: Program(ends_with=7),
            },
            command=on_this_host,
        )

    @pytest.fixture
    def image_id(self, engine: MemoryEngine) -> str:
        return engine.add_image("test:1").id


@pytest.fixture
def engine(tmp_path: Path) -> MemoryEngine:
    return MemoryEngine(tmp_path / "engine")


@pytest.fixture
def image(engine: MemoryEngine) -> Image:
    return engine.add_image("store:1", volumes=("/var/lib/store",))


@pytest.mark.parametrize(
    "policy, back_after_a_stop, back_while_running",
    [("no", False, False), ("always", True, True), ("unless-stopped", False, True), ("on-failure", False, True)],
)
def test_what_an_engine_restart_brings_back(
    engine: MemoryEngine, image: Image, policy: str, back_after_a_stop: bool, back_while_running: bool
) -> None:
    stopped = engine.create_container("stopped", image, restart=RestartPolicy(policy))
    running = engine.create_container("running", image, restart=RestartPolicy(policy))
    for container in (stopped, running):
        engine.start(container)
    engine.stop(stopped, signal="SIGTERM", timeout=1)
    assert not engine.held[stopped].running
    engine.restart()
    assert (engine.held[stopped].running, engine.held[running].running) == (back_after_a_stop, back_while_running)


def test_a_container_that_was_never_started_comes_up_with_the_engine_under_always(
    engine: MemoryEngine, image: Image
) -> None:
    created = engine.create_container("created", image, restart=RestartPolicy("always"))
    engine.restart()
    assert engine.held[created].running


def test_a_signal_that_is_not_the_stop_signal_is_no_stop(engine: MemoryEngine, image: Image) -> None:
    container = engine.create_container("store", image, restart=RestartPolicy("always"))
    engine.start(container)
    with pytest.raises(engine_contract.EngineRefused, match="came back"):
        engine.stop(container, signal="SIGINT", timeout=1)
    assert engine.held[container].running


def test_a_declared_path_that_nothing_covers_becomes_an_anonymous_volume(engine: MemoryEngine, image: Image) -> None:
    mount = engine.held[engine.create_container("store", image)].mount_at("/var/lib/store/data")
    assert mount is not None
    assert mount.type == "volume"
    assert engine.known[mount.name].anonymous
    covered = engine.create_container("other", image, mounts=[engine.volume_mount("named", "/var/lib/store")])
    assert [m.name for m in engine.held[covered].mounts] == ["named"]


def test_a_start_makes_the_source_of_a_bind_mount_and_it_is_empty(
    engine: MemoryEngine, image: Image, tmp_path: Path
) -> None:
    mount = EngineMount("bind", str(tmp_path / "made"), "/var/lib/store", True)
    container = engine.create_container("store", image, mounts=[mount])
    assert not (tmp_path / "made").exists()
    engine.start(container)
    assert list((tmp_path / "made").iterdir()) == []
