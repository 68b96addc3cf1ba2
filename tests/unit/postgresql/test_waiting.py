# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A container that waits is told what to do; one that does not wait any more does nothing, however late."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import EngineRefused
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import waiting
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.bench import Bench
from tests.support.memory_engine import MemoryEngine


class Shells:
    """Runs what a container is started with in a shell of this host, in the directory that it has mounted."""

    def __init__(self, place: Path) -> None:
        self.place, self.running = place, {}  # type: Path, dict[str, subprocess.Popen[bytes]]

    def started(self, container: Container) -> None:
        argv = (*container.entrypoint, *container.command)
        self.running[container.id] = subprocess.Popen(argv, cwd=self.place)

    def end(self) -> None:
        for shell in self.running.values():
            shell.kill()
            shell.wait()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    engine = MemoryEngine(tmp_path / "engine")
    image = engine.add_image("postgres:17")
    work = tmp_path / "work"
    for place in (work, tmp_path / "passwd", tmp_path / "engine"):
        place.mkdir()
    owner = (os.getuid(), os.getgid())
    return Bench(engine, "upgrade-1", image.id, image.id, owner, str(work), str(tmp_path / "passwd"))


@pytest.fixture
def shells(bench: Bench, stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> Shells:
    """Shells of a host that may be busy: they get all the time to come to their pipes."""
    monkeypatch.setattr(waiting, "LATE", 30)
    shells = Shells(Path(bench.work))
    stack.callback(shells.end)
    assert isinstance(bench.engine, MemoryEngine)
    bench.engine.started = shells.started
    return shells


@pytest.fixture
def stack() -> object:
    with ExitStack() as stack:
        yield stack


def held(bench: Bench) -> dict[str, Container]:
    assert isinstance(bench.engine, MemoryEngine)
    return bench.engine.held


def test_what_waits_does_what_it_is_told(bench: Bench, shells: Shells) -> None:
    waits = waiting.start(bench, ())
    work = Path(bench.work)
    with waiting.begun(bench, waits, "echo one >said\necho two >>said\nexit 3", ()) as begun:
        assert begun == waits.container_id
        assert shells.running[begun].wait(30) == 3
        assert (work / "said").read_text() == "one\ntwo\n"
    assert not held(bench)
    assert list(shells.running) == [waits.container_id]
    assert (work / waiting.SCRIPT).stat().st_mode & 0o777 == 0o600


def test_a_failure_of_what_it_is_told_is_its_own(bench: Bench, shells: Shells) -> None:
    waits = waiting.start(bench, ())
    with waiting.begun(bench, waits, "sh -c 'exit 4' || exit\ntouch said", ()) as begun:
        assert shells.running[begun].wait(30) == 4
    assert not (Path(bench.work) / "said").exists()


def test_without_one_that_waits_another_is_started(bench: Bench, shells: Shells) -> None:
    with waiting.begun(bench, None, "echo other >said", ()) as begun:
        assert shells.running[begun].wait(30) == 0
    assert (Path(bench.work) / "said").read_text() == "other\n"
    assert not held(bench)


@pytest.mark.parametrize("gone", ["ended", "removed", "its pipe too"])
def test_one_that_has_gone_is_replaced(
    gone: str, bench: Bench, shells: Shells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LATE", 0)
    waits = waiting.start(bench, ())
    shells.end()
    if gone != "ended":
        bench.engine.remove_container(waits.container_id, force=True)
    if gone == "its pipe too":
        (Path(bench.work) / waits.pipe).unlink()
    with waiting.begun(bench, waits, "echo other >said", ()) as begun:
        assert begun != waits.container_id
        assert shells.running[begun].wait(30) == 0
        assert list(held(bench)) == [begun]
    assert not held(bench)


def test_one_that_comes_late_is_gone_before_another_begins(bench: Bench) -> None:
    """Two that run pg_upgrade on the same files would be the end of them."""
    assert isinstance(bench.engine, MemoryEngine)
    bench.engine.started = lambda container: None
    waits = waiting.start(bench, ())
    seen: list[list[str]] = []
    bench.engine.started = lambda container: seen.append(list(held(bench)))
    with waiting.begun(bench, waits, "true", ()) as begun:
        assert seen == [[begun]]


def test_one_that_cannot_be_removed_stops_it_all(bench: Bench) -> None:
    assert isinstance(bench.engine, MemoryEngine)
    waits = waiting.start(bench, ())

    def before(verb: str) -> None:
        if verb == "remove_container":
            raise EngineRefused("The engine does not answer.")

    bench.engine.before = before
    with pytest.raises(EngineRefused), waiting.begun(bench, waits, "true", ()):
        pytest.fail("it was begun")
    assert list(held(bench)) == [waits.container_id]


def test_what_is_started_again_waits_at_a_pipe_of_its_own(bench: Bench, shells: Shells) -> None:
    """What a killed run left at the other end is not heard."""
    waiting.start(bench, ())
    waits = waiting.start(bench, ())
    with waiting.begun(bench, waits, "echo second >said", ()) as begun:
        assert shells.running[begun].wait(30) == 0
    (first, second) = shells.running.values()
    assert (first.poll(), second.poll()) == (None, 0)
