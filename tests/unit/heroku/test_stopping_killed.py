# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An app is stopped and started again, killed at every request and at every record of the journal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._operation.journal import Journal
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from tests.support.heroku_lab import FORMATION, Fuse, Killed, Lab, lab_in


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> Callable[[Fuse], None]:
    """Return what puts a fuse into every record of a journal, too."""

    def put(fuse: Fuse) -> None:
        append, begin = Journal._append, OperationStore._begin

        def appended(journal: Journal, *given: Any, **more: Any) -> None:
            with fuse.effect():
                append(journal, *given, **more)

        def begun(store: OperationStore, *given: Any) -> Any:
            with fuse.effect():
                return begin(store, *given)

        monkeypatch.setattr(Journal, "_append", appended)
        monkeypatch.setattr(OperationStore, "_begin", begun)

    return put


def killed(lab: Lab, work: Callable[[], object], at: int) -> bool:
    """Tell whether the work was killed at its ``at``-th effect, or had fewer."""
    fuse = lab.fuse
    fuse.count, fuse.at = 0, at
    try:
        work()
    except Killed:
        return True
    finally:
        fuse.let_be()
    return False


def scaled_by_somebody(lab: Lab) -> None:
    lab.world.scale(lab.app, [{"type": "worker", "quantity": 3}])


def opened_by_somebody(lab: Lab) -> None:
    lab.app.maintenance = False
    lab.world.scale(lab.app, [{"type": "web", "quantity": 1}, {"type": "cron", "quantity": 2}])


def every_kill(tmp_path: Path, fused: Callable[[Fuse], None], work: str, then: Callable[[Lab], None]) -> int:
    """Kill ``stop`` or ``restore`` at each of its effects, and see what ``then`` sees; return how many there were."""
    fuse = Fuse()
    fused(fuse)
    for at in range(1, 200):
        with lab_in(tmp_path / str(at)) as lab:
            lab.fuse = fuse
            if work == "restore":
                lab.stop(note={"plan": "standard-0"})
            elif work == "stop again":
                lab.stop()
                scaled_by_somebody(lab)
            elif work == "stop after a start that was broken off":
                lab.stop()
                lab.operations.all()[0].journal.undoing("killed before anything was scaled")
            elif work == "stop once more":
                lab.stop()
                opened_by_somebody(lab)
            run = lab.restore if work == "restore" else lab.stop
            if not killed(lab, run, at):
                return at - 1
            then(lab)
    raise AssertionError("it has no end")


def stop_and_start(lab: Lab) -> None:
    lab.stop()
    lab.check_stopped()
    lab.restore()
    lab.check_as_before()


def start(lab: Lab) -> None:
    lab.restore()
    lab.check_as_before()


def start_both(lab: Lab) -> None:
    lab.restore()
    assert lab.quantities() == {**FORMATION, "worker": 3}
    assert not lab.app.maintenance


def stop_and_start_both(lab: Lab) -> None:
    lab.stop()
    start_both(lab)


def stop_and_start_as_opened(lab: Lab) -> None:
    lab.stop()
    lab.check_stopped()
    lab.restore()
    assert lab.quantities() == {"web": 1, "worker": 0, "cron": 2}
    assert not lab.app.maintenance


@pytest.mark.parametrize(
    "work, then, effects",
    [
        ("stop", stop_and_start, 15),
        ("stop", start, 15),
        ("restore", start, 10),
        ("restore", stop_and_start, 10),
        ("stop again", start_both, 15),
        ("stop again", stop_and_start_both, 15),
        ("stop after a start that was broken off", stop_and_start, 10),
        ("stop after a start that was broken off", start, 10),
        ("stop once more", stop_and_start_as_opened, 15),
    ],
)
def test_killed_anywhere_it_ends_right(
    tmp_path: Path,
    fused: Callable[[Fuse], None],
    work: str,
    then: Callable[[Lab], None],
    effects: int,
) -> None:
    assert every_kill(tmp_path, fused, work, then) >= effects
