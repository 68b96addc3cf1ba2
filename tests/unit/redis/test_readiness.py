# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waiting for a server, with a clock that stands still between questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container, ExecResult
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.readiness import NotReady, wait_ready
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.session import Unauthorised
from tests.unit.redis.fakes import FakeEngine, a_container

LOADING = "(error) LOADING Redis is loading the dataset in memory"


@dataclass
class Later:
    """Changes the engine after so many pauses; each takes a second."""

    engine: FakeEngine
    changes: dict[int, dict[str, Any]]
    now: float = 0.0
    pauses: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += 1
        for name, value in self.changes.get(len(self.pauses), {}).items():
            setattr(self.engine, name, value)


def wait(engine: FakeEngine, later: Later, timeout: float = 10) -> Any:
    return wait_ready(engine, "r", timeout=timeout, clock=lambda: later.now, sleep=later.sleep)  # type: ignore[arg-type]


def test_it_waits_through_start_and_loading() -> None:
    engine = FakeEngine(current=a_container(status="created"))
    later = Later(
        engine,
        {
            1: {"current": a_container(), "unreachable": "Could not connect to Redis: Connection refused"},
            2: {"unreachable": "", "replies": {"PING": LOADING}},
            3: {"replies": {}},
        },
    )
    assert wait(engine, later).container_name == "app-redis-1"
    assert len(later.pauses) == 3


@pytest.mark.parametrize(
    "current, told",
    [
        (a_container(status="exited", exit_code=1), "ended with exit code 1"),
        (a_container(status="restarting", exit_code=139), "ends as soon as it starts"),
        (None, "is gone"),
    ],
)
def test_a_container_that_ended_is_told_at_once(current: Container, told: str) -> None:
    engine = FakeEngine(current=current)
    later = Later(engine, {})
    with pytest.raises(NotReady, match=told) as caught:
        wait(engine, later)
    assert later.pauses == []
    assert ("the last 8 lines" in caught.value.msg) == (current is not None)


def test_the_deadline_is_kept() -> None:
    engine = FakeEngine({"PING": LOADING})
    later = Later(engine, {})
    with pytest.raises(NotReady, match=r"not ready after 3 s: .*LOADING"):
        wait(engine, later, timeout=3)
    assert len(later.pauses) == 3


def test_a_wrong_password_is_no_reason_to_wait() -> None:
    engine = FakeEngine(password="hush")
    later = Later(engine, {})
    with pytest.raises(Unauthorised):
        wait(engine, later)
    assert later.pauses == []


def test_a_container_that_ends_between_two_questions() -> None:
    class Ending(FakeEngine):
        def container(self, _container_id: str) -> Container | None:
            self.asked.append("inspect")
            ended = len(self.asked) > 1
            return a_container(status="exited", exit_code=3) if ended else a_container()

    engine = Ending(password="hush")
    with pytest.raises(NotReady, match="exit code 3"):
        wait(engine, Later(engine, {}))


def test_an_engine_that_refuses_because_the_container_ended() -> None:
    class Refusing(FakeEngine):
        def execute(self, *_arguments: Any, **_options: Any) -> Any:
            self.current = a_container(status="exited", exit_code=1)
            raise StatefulError("The engine could not run redis-cli: container is not running")

    engine = Refusing()
    with pytest.raises(NotReady, match="ended with exit code 1"):
        wait(engine, Later(engine, {}))


@pytest.mark.parametrize("program", ["redis-cli", "cat"])
def test_a_program_that_the_runtime_cannot_run_is_no_last_word(program: str) -> None:
    """It is what runc says of a container whose server has just ended, while the inspection still says running."""
    failed = ExecResult(argv=(), rc=126, stdout=b"exec failed: setns process: exit status 1\r\n", stderr=b"")

    class Dying(FakeEngine):
        def execute(self, container_id: str, argv: tuple[str, ...], **options: Any) -> ExecResult:
            return failed if argv[0] == program else super().execute(container_id, argv, **options)

    running = a_container(command=("redis-server", "/etc/redis.conf"))
    with pytest.raises(NotReady, match=f"not ready after 3 s: {program} could not be run .*setns process"):
        wait(Dying(current=running), Later(Dying(), {}), timeout=3)
    engine = Dying(current=running)
    with pytest.raises(NotReady, match="ends as soon as it starts"):
        wait(engine, Later(engine, {1: {"current": a_container(status="restarting", exit_code=1)}}))


def test_an_engine_that_refuses_for_another_reason_is_heard() -> None:
    class Refusing(FakeEngine):
        def execute(self, *_arguments: Any, **_options: Any) -> Any:
            raise StatefulError("permission denied")

    engine = Refusing()
    with pytest.raises(StatefulError, match="permission denied"):
        wait(engine, Later(engine, {}))


def test_nothing_is_asked_twice_of_a_server_that_is_ready() -> None:
    engine = FakeEngine()
    asked: Sequence[str] = engine.asked
    wait(engine, Later(engine, {}))
    assert list(asked).count("INFO keyspace") == 1


def test_a_server_that_loaded_nothing_of_what_it_had_is_not_ready() -> None:
    engine = FakeEngine({"INFO keyspace": "# Keyspace\n"})
    with pytest.raises(NotReady, match="holds none of its keys"):
        wait_ready(engine, "r", timeout=10, expect_keys=True)  # type: ignore[arg-type]
    assert wait_ready(engine, "r", timeout=10).container_name == "app-redis-1"  # type: ignore[arg-type]
    full = FakeEngine({"INFO keyspace": "# Keyspace\ndb0:keys=1,expires=0,avg_ttl=0\n"})
    assert wait_ready(full, "r", timeout=10, expect_keys=True).container_name == "app-redis-1"  # type: ignore[arg-type]
