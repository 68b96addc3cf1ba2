# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A world of switches, and handlers that turn them: small enough to see through, and on disk to outlive us."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, UndoRefused
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    FINISH,
    PREPARE,
    SWITCH,
    Goal,
    Plan,
    Step,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore

GOAL = Goal("module", "project", {"all": "on"})
STEPS = (
    Step("switch", "copy", PREPARE, {"half": True}),
    Step("switch", "check", PREPARE),
    Step("switch", "stop", SWITCH),
    Step("switch", "move", SWITCH, {"half": True}),
    Step("switch", "prove", SWITCH, proves=True),
    Step("switch", "start", FINISH),
    Step("switch", "keep", FINISH),
)
NAMES = [step.name for step in STEPS]


@dataclass
class Switches:
    """One file a switch. ``calls`` says what was asked of the handlers, in order."""

    directory: Path
    calls: list[str] = field(default_factory=list)
    fails: Mapping[str, Exception] = field(default_factory=dict)
    """By ``apply move``, ``verify move``, ``undo move``: what is raised there."""
    says: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By the name of a step, what its undo says beside."""

    def is_on(self, name: str) -> bool:
        return (self.directory / name).exists()

    def on(self) -> list[str]:
        return [name for name in NAMES if self.is_on(name)]

    def call(self, what: str, name: str) -> None:
        self.calls.append(f"{what} {name}")
        error = self.fails.get(f"{what} {name}")
        if error is not None:
            raise error


class Switch:
    """Turns the switch that bears the step's name."""

    def is_done(self, step: Step, context: Context[Switches]) -> Mapping[str, Any] | None:
        context.world.calls.append(f"ask {step.name}")
        return {"found": True} if context.world.is_on(step.name) else None

    def apply(self, step: Step, context: Context[Switches]) -> Mapping[str, Any]:
        half = context.world.directory / f"{step.name}.half"
        if step.args.get("half"):
            half.touch()
        context.world.call("apply", step.name)
        context.report(1, 2)
        (context.world.directory / step.name).touch()
        half.unlink(missing_ok=True)
        copies = [{"role": "backup", "service": "db", "path": f"/b/{step.name}", "moment": "2026-01-01T00:00:00Z"}]
        return {"turned": step.name, **({"copies": copies} if step.name == "copy" else {})}

    def verify(self, step: Step, context: Context[Switches], evidence: Mapping[str, Any]) -> None:
        context.world.call("verify", step.name)
        if not context.world.is_on(step.name):
            raise StatefulError("it is off")

    def undo(self, step: Step, context: Context[Switches]) -> Mapping[str, Any]:
        context.world.call("undo", step.name)
        for name in (step.name, f"{step.name}.half"):
            (context.world.directory / name).unlink(missing_ok=True)
        return {"turned_off": step.name, **context.world.says.get(step.name, {})}

    others_bring_about = False

    def let_go(self, step: Step, context: Context[Switches]) -> None:
        context.world.call("let_go", step.name)


HANDLERS = {"switch": Switch()}


def refusal() -> UndoRefused:
    return UndoRefused("There is no way back.", state="on the new side", next_command="run it again")


def a_plan(**changes: Any) -> Plan:
    raw: dict[str, Any] = {"goal": GOAL, "steps": STEPS, "text": "all switches on", **changes}
    return Plan(**raw)


def begun(root: Path) -> tuple[Operation, Switches]:
    """Return an operation that was begun and not run, and its world."""
    (root / "switches").mkdir(exist_ok=True)
    return OperationStore(str(root / "operations")).begin(a_plan()), Switches(root / "switches")


def again(operation: Operation) -> Operation:
    """Return the operation as the next process reads it."""
    return OperationStore(os.path.dirname(operation.directory)).get(operation.id)
