# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A request is driven to its end: what an earlier run left is resumed, or undone and begun anew, and told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.drive import (
    Drive,
    Planned,
    _Undone,
    to_its_end,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import DONE, ROLLED_BACK
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from tests.unit.operation.fakes import GOAL, HANDLERS, NAMES, Switches, a_plan

CHANGED = "It is not as it was when this was planned."


@dataclass(frozen=True)
class Looked:
    unfinished: str


def drive(root: Path, switches: Switches, *, stop_before: str = "") -> dict[str, Any]:
    store = OperationStore(str(root / "operations"))

    def look() -> tuple[str, Looked]:
        running = store.open_for(GOAL.project)
        return GOAL.project, Looked(running.id if running else "")

    def plan(_looked: Looked) -> Planned:
        return Planned(None if switches.on() == NAMES else a_plan(), warnings=("it is late",))

    def run(operation: Operation) -> execute.Outcome:
        return execute.run(operation, HANDLERS, switches, stop_before=stop_before)

    return to_its_end(Drive(store, look, plan, run, unchanged=lambda _looked: {}, result=lambda _operation, _steps: {}))


@pytest.fixture
def switches(tmp_path: Path) -> Switches:
    (tmp_path / "switches").mkdir()
    return Switches(tmp_path / "switches")


def test_what_was_prepared_is_gone_on_with(tmp_path: Path, switches: Switches) -> None:
    prepared = drive(tmp_path, switches, stop_before="switch")
    assert (prepared["stopped_before"], switches.on()) == ("switch", ["copy", "check"])
    ended = drive(tmp_path, switches)
    assert (ended["operation"], ended["operation_state"]) == (prepared["operation"], DONE)
    assert ended["warnings"] == []
    again = drive(tmp_path, switches)
    assert (again["changed"], again["operation"]) == (False, prepared["operation"])


def test_what_could_not_be_gone_on_with_is_undone_and_begun_anew_and_told(tmp_path: Path, switches: Switches) -> None:
    prepared = drive(tmp_path, switches, stop_before="switch")
    once = tmp_path / "once"

    class Once(dict[str, Exception]):
        """Fails at the first attempt, in whichever process that is."""

        def get(self, what: str, default: Any = None) -> Any:
            if what != "apply stop" or once.exists():
                return default
            once.touch()
            return StatefulError(CHANGED)

    switches.fails = Once()
    ended = drive(tmp_path, switches)
    assert ended["operation_state"] == DONE
    assert ended["operation"] != prepared["operation"]
    assert switches.on() == NAMES
    told, *others = ended["warnings"]
    assert prepared["operation"] in told
    assert CHANGED.rstrip(".") in told
    assert others == ["it is late"]
    store = OperationStore(str(tmp_path / "operations"))
    assert store.get(prepared["operation"]).history().state == ROLLED_BACK


def test_what_fails_in_the_run_that_began_it_is_a_failure(tmp_path: Path, switches: Switches) -> None:
    switches.fails = {"apply stop": StatefulError(CHANGED)}
    with pytest.raises(StatefulError, match="not as it was"):
        drive(tmp_path, switches)
    assert switches.on() == []


def test_what_was_undone_says_what_it_keeps(tmp_path: Path) -> None:
    operation = OperationStore(str(tmp_path / "operations")).begin(a_plan())
    (tmp_path / "discarded").mkdir()
    copies = [{"role": "original", "service": "db", "path": str(tmp_path / name), "moment": "now"} for name in NAMES]
    operation.journal.evidence("kept", {"copies": [*copies, {**copies[0], "path": str(tmp_path / "discarded")}]})
    operation.journal.state(ROLLED_BACK)
    assert _Undone(operation).sentence().endswith(f"It keeps {tmp_path}/discarded.")
