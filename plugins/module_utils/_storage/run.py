# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Carry a request out: find what is open, plan, run in a session of its own, and report.

What is asked for (that data moves, that another image serves it) is a
:class:`Journey`; how one is begun, resumed and waited for is :mod:`_operation.drive`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Services
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.drive import Drive, Planned, to_its_end
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Handlers
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import report
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import remove_leftover_helpers
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World


class Observed(Protocol):
    """What a journey looked at. ``unfinished`` is the open operation that has its very goal, or empty."""

    @property
    def project(self) -> Services: ...

    @property
    def unfinished(self) -> str: ...


Seen = TypeVar("Seen", bound=Observed)


class Journey(Protocol[Seen]):
    """One kind of request. Questions change nothing; a plan's ``facts`` hold ``compose`` and ``diff``."""

    def observe(self, world: World, operations: OperationStore) -> Seen:
        """Look at the project; raises :class:`InvalidInput` for a request that does not fit it."""

    def plan(self, world: World, observed: Seen, operations: OperationStore) -> Planned:
        """Plan what is left to do."""

    def unchanged(self, observed: Seen) -> dict[str, Any]:
        """Return what a result says where nothing is to be done: ``plan``, ``plan_text``, ``mounts``."""

    def outcome(self, operation: Operation, steps: Mapping[str, float]) -> dict[str, Any]:
        """Return what a result says of an operation that ran, beside what is said of each."""


@dataclass(frozen=True)
class Task(Generic[Seen]):
    """One call of the module. ``connect`` opens fresh connections, because sockets do not survive a fork."""

    connect: Callable[[], World]
    operations: OperationStore
    handlers: Handlers[World]
    journey: Journey[Seen]
    check_mode: bool = False
    stop_before: str = ""


def carry_out(task: Task[Seen]) -> dict[str, Any]:
    """Return the module's result; raises StatefulError."""

    def look() -> tuple[str, _Look[Seen]]:
        world = task.connect()
        observed = task.journey.observe(world, task.operations)
        return observed.project.name, _Look(world.of(observed.project), observed)

    def run(operation: Operation) -> execute.Outcome:
        world = of_operation(task.connect(), operation)
        remove_leftover_helpers(world.engine, operation.id)
        return execute.run(operation, task.handlers, world, stop_before=task.stop_before)

    return to_its_end(
        Drive(
            operations=task.operations,
            look=look,
            plan=lambda looked: task.journey.plan(looked.world, looked.observed, task.operations),
            run=run,
            unchanged=lambda looked: task.journey.unchanged(looked.observed),
            result=task.journey.outcome,
            warnings=report.fewer_warnings,
            check_mode=task.check_mode,
        )
    )


@dataclass(frozen=True)
class _Look(Generic[Seen]):
    world: World
    observed: Seen

    @property
    def unfinished(self) -> str:
        return self.observed.unfinished


def of_operation(world: World, operation: Operation) -> World:
    """Return ``world`` for the operation's project, as that was reached when it began."""
    maker = world.maker.resumed(operation.plan.facts["compose"])
    return replace(world, project=operation.plan.goal.project, maker=maker)
