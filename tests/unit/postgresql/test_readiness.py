# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import readiness
from tests.unit.postgresql.fakes import FakeClock, FakeEngine, a_container


def wait(
    engine: FakeEngine, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, answers: list[str], seconds: float = 5
) -> readiness.Ready:
    """Wait with a server that has the ``answers`` one after the other; the last one stays."""
    monkeypatch.setattr(readiness, "obstacle", lambda *_args, **_kwargs: "")
    monkeypatch.setattr(readiness, "_ask", lambda *_args: answers.pop(0) if len(answers) > 1 else answers[0])
    return readiness.wait_ready(
        engine,  # type: ignore[arg-type]
        "c0ffee",
        deadline=clock() + seconds,
        clock=clock,
        pause=clock.pause,
        expect_system_identifier=7,
    )


def test_it_polls_tightly_and_says_how_long_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    ready = wait(FakeEngine(inspections=[a_container()]), clock, monkeypatch, ["an answer", "the end of recovery", ""])
    assert ready.system_identifier == 7
    assert clock.pauses == [readiness.TIGHT_PAUSE] * 2
    assert ready.seconds == pytest.approx(2 * readiness.TIGHT_PAUSE)


def test_the_deadline_names_what_was_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    with pytest.raises(StatefulError, match=r"not ready after 5.* waiting for the end of recovery") as caught:
        wait(FakeEngine(inspections=[a_container()]), clock, monkeypatch, ["the end of recovery"])
    assert "FATAL:  something" in caught.value.msg
    assert clock.pauses[-1] == readiness.RELAXED_PAUSE


RUNNING = a_container()


@pytest.mark.parametrize(
    "later",
    [
        a_container(status="exited", pid=0, exit_code=1),
        a_container(status="restarting", pid=0, exit_code=1),
        a_container(started_at="2026-01-01T00:00:09Z"),
    ],
)
def test_an_end_or_a_restart_is_noticed_at_once(later: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    with pytest.raises(StatefulError, match="instead of becoming ready"):
        wait(FakeEngine(inspections=[RUNNING, later]), clock, monkeypatch, ["an answer"])
    assert len(clock.pauses) == 1


def test_a_container_that_disappears(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StatefulError, match="disappeared"):
        wait(FakeEngine(inspections=[None]), FakeClock(), monkeypatch, [""])
