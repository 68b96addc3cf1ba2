# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs in one container that stays: what they may do there, how they end, and that nothing of it is left."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import EngineRefused
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.exchange import ERRORS_KEPT
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import (
    OPERATION_LABEL,
    Bind,
    ExecResult,
    Helper,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import helpers, toolbox
from tests.support.memory_engine import MemoryEngine


@pytest.fixture
def engine(tmp_path: Path) -> MemoryEngine:
    engine = MemoryEngine(tmp_path)
    engine.add_image("postgres:17")
    return engine


def frame(engine: MemoryEngine) -> Helper:
    (image,) = engine.images.values()
    for name in ("work", "read"):
        (engine.root / name).mkdir()
    binds = (Bind(str(engine.root / "work"), "/work", read_only=False), Bind(str(engine.root / "read"), "/read"))
    return Helper("upgrade-1", "image-change", image.id, (), "999:999", binds, {"HOME": "/work"})


def saying(engine: MemoryEngine, rc: int, stdout: bytes = b"", stderr: bytes = b"") -> list[tuple[object, ...]]:
    asked: list[tuple[object, ...]] = []

    def command(container: object, argv: tuple[str, ...], *how: object) -> ExecResult:
        asked.append((argv, *how))
        return ExecResult(argv, rc, stdout, stderr)

    engine.command = command
    return asked


def test_programs_run_in_one_container_which_is_gone_after_them(engine: MemoryEngine) -> None:
    asked = saying(engine, 3, b"one\n", b"pg_dump: error: two\n")
    made = frame(engine)
    with toolbox.opened(engine, made) as run:
        for program in ("pg_dump", "pg_restore"):
            ended = run(replace(made, argv=(program, "-d", "forum"), environment={"LC_ALL": "C"}), timeout=60)
            assert ended == helpers.Finished("image-change", (program, "-d", "forum"), 3, "one\npg_dump: error: two")
        (container,) = engine.held.values()
        assert (container.running, container.user, container.env) == (True, "999:999", {"HOME": "/work"})
    assert [argv for argv, *_how in asked] == [("pg_dump", "-d", "forum"), ("pg_restore", "-d", "forum")]
    assert asked[0][1:] == ({"LC_ALL": "C"}, "999:999", None)
    assert not engine.held


def test_what_clients_sent_and_secrets_are_kept_out_of_what_it_said(engine: MemoryEngine) -> None:
    saying(engine, 1, stderr=b"ERROR:  no such role\nSTATEMENT:  ALTER ROLE a PASSWORD 'x'\nused hunter2hunter2\n")
    made = frame(engine)
    with toolbox.opened(engine, made) as run:
        ended = run(replace(made, argv=("psql",), environment={"PGPASSWORD": "hunter2hunter2"}), timeout=60)
    assert "ERROR:  no such role" in ended.output
    assert "ALTER ROLE" not in ended.output
    assert "hunter2" not in ended.output


@pytest.mark.parametrize(
    ("said", "cut"),
    [
        (b"line\n" * (helpers.LOG_LINES - 1), False),
        (b"line\n" * helpers.LOG_LINES, True),
        # The engine keeps the end of it: what was said before is unknown, however few lines there are.
        (b"x" * ERRORS_KEPT, True),
    ],
)
def test_it_is_told_whether_all_that_a_program_said_is_known(said: bytes, cut: bool, engine: MemoryEngine) -> None:
    saying(engine, 1, stderr=said)
    made = frame(engine)
    with toolbox.opened(engine, made) as run:
        assert run(replace(made, argv=("pg_restore",)), timeout=60).cut is cut


@pytest.mark.parametrize(
    "other",
    [
        {"binds": (Bind("/srv/other", "/work"),)},
        {"writes": "read"},
        {"image_id": "sha256:another"},
        {"network_mode": "container:1"},
        {"volumes": ("kept",)},
    ],
)
def test_what_would_find_something_else_there_is_refused(other: dict[str, object], engine: MemoryEngine) -> None:
    asked = saying(engine, 0)
    made = frame(engine)
    if "writes" in other:
        other = {"binds": (Bind(str(engine.root / "read"), "/read", read_only=False),)}
    with toolbox.opened(engine, made) as run, pytest.raises(ValueError, match="pg_dump"):
        run(replace(made, argv=("pg_dump",), **other), timeout=60)  # type: ignore[arg-type]
    assert not asked


def test_what_only_reads_may_run_where_it_could_write(engine: MemoryEngine) -> None:
    saying(engine, 0)
    made = frame(engine)
    with toolbox.opened(engine, made) as run:
        reading = (Bind(str(engine.root / "work"), "/work"),)
        assert run(replace(made, argv=("pg_restore",), binds=reading), timeout=60).rc == 0


def until_removed(engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let a program run until its container is removed, as an engine does."""
    removed = threading.Event()
    monkeypatch.setattr(helpers, "TICK_EVERY", 0.01)

    def command(container: object, argv: tuple[str, ...], *how: object) -> ExecResult:
        removed.wait(30)
        return ExecResult(argv, 137, b"", b"")

    def before(verb: str) -> None:
        if verb == "remove_container":
            removed.set()

    engine.command, engine.before = command, before
    return removed


def test_a_program_that_takes_too_long_is_ended_with_its_container(
    engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = until_removed(engine, monkeypatch)
    made = frame(engine)
    with toolbox.opened(engine, made) as run, pytest.raises(StatefulError, match="pg_dump has not ended within 0 s"):
        run(replace(made, argv=("pg_dump",)), timeout=0)
    assert removed.is_set()
    assert not engine.held


def test_what_fails_beside_a_program_ends_it(engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal that tells how far it is may find no room."""
    removed = until_removed(engine, monkeypatch)
    made = frame(engine)

    def tick() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"), toolbox.opened(engine, made) as run:
        run(replace(made, argv=("pg_dump",)), timeout=60, tick=tick)
    assert removed.is_set()
    assert not engine.held


def test_an_engine_that_does_not_answer_keeps_nobody(engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cause is told, and not that the container could not be removed; the next run does that, by its label."""
    monkeypatch.setattr(helpers, "TICK_EVERY", 0.01)
    over = threading.Event()

    def command(container: object, argv: tuple[str, ...], *how: object) -> ExecResult:
        over.wait(60)
        return ExecResult(argv, 0, b"", b"")

    def before(verb: str) -> None:
        if verb == "remove_container":
            raise EngineRefused("The engine does not answer.")

    engine.command, engine.before = command, before
    made = frame(engine)
    with pytest.raises(StatefulError, match="pg_dump has not ended"), toolbox.opened(engine, made) as run:
        run(replace(made, argv=("pg_dump",)), timeout=0)
    assert not over.is_set()
    (left,) = engine.held.values()
    assert left.labels[OPERATION_LABEL] == "upgrade-1"
    over.set()


def test_a_container_that_has_gone_without_a_word_is_told(
    engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TICK_EVERY", "LOOK_EVERY", "GRACE"):
        monkeypatch.setattr(helpers if name == "TICK_EVERY" else toolbox, name, 0.01)
    over = threading.Event()

    def command(container: object, argv: tuple[str, ...], *how: object) -> ExecResult:
        engine.held.clear()
        over.wait(60)
        return ExecResult(argv, 0, b"", b"")

    engine.command = command
    made = frame(engine)
    with pytest.raises(StatefulError, match="container of pg_dump has ended"), toolbox.opened(engine, made) as run:
        run(replace(made, argv=("pg_dump",)), timeout=60)
    over.set()


def test_a_program_that_the_engine_lost_is_an_error_and_no_end(engine: MemoryEngine) -> None:
    made = frame(engine)

    def command(*_asked: object) -> ExecResult:
        raise TimeoutError("the engine does not answer")

    engine.command = command
    with pytest.raises(TimeoutError, match="does not answer"), toolbox.opened(engine, made) as run:
        run(replace(made, argv=("pg_dump",)), timeout=60)
    assert not engine.held


def test_ticks_come_while_it_runs(engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helpers, "TICK_EVERY", 0.01)
    ticked = threading.Event()

    def command(container: object, argv: tuple[str, ...], *how: object) -> ExecResult:
        return ExecResult(argv, 0 if ticked.wait(30) else 1, b"", b"")

    engine.command = command
    made = frame(engine)
    tick: Callable[[], None] = ticked.set
    with toolbox.opened(engine, made) as run:
        assert run(replace(made, argv=("pg_dump",)), timeout=60, tick=tick).rc == 0
