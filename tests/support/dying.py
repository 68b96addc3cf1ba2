# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Scenarios that die at a given effect, and what has to be true afterwards.

Each takes a directory of its own, the effect (its number, or its name) and what happens
to the host before the next run. It returns False where there is no such effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import EngineRefused
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import DONE, ROLLED_BACK
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation
from tests.support.storage_lab import Lab


@dataclass(frozen=True)
class Kind:
    """What is moved, and how."""

    origin: str
    strategy: str
    theirs: bool = False
    services: tuple[str, ...] = ("db",)

    def __str__(self) -> str:
        extra = "-theirs" if self.theirs else ""
        return f"{self.origin}-{self.strategy}{extra}{'-two' if len(self.services) > 1 else ''}"

    def lab(self, root: Path) -> Lab:
        return Lab(root, self.origin, self.strategy, self.theirs, self.services).up()


KINDS = (
    Kind("anonymous", "rename"),
    Kind("anonymous", "clone"),
    Kind("anonymous", "copy"),
    Kind("named", "rename"),
    Kind("named", "copy"),
    Kind("layer", "copy"),
    Kind("anonymous", "rename", theirs=True),
    Kind("anonymous", "copy", theirs=True),
    Kind("anonymous", "rename", services=("db", "cache")),
    Kind("anonymous", "copy", services=("db", "cache")),
)


def quiet(lab: Lab) -> None:
    """Nothing happens before the next run."""


def engine_restart(lab: Lab) -> None:
    lab.engine.restart()


def admins_up(lab: Lab) -> None:
    """The admin sees that the service is down and types what they always type."""
    try:
        lab.compose.up()
    except EngineRefused:
        lab.check()


def prune(lab: Lab) -> None:
    """A cron job frees space: stopped containers, then every volume that none refers to any more."""
    lab.engine.prune(keeping=("web",))


def stores_crash(lab: Lab) -> None:
    """Every store that runs is killed, and the policy may bring it back."""
    for name in lab.services:
        for container in lab.world.containers_of(name):
            if container.running:
                lab.engine.crash(container.id)


Event = Callable[[Lab], None]
EVENTS: tuple[Event, ...] = (quiet, engine_restart, stores_crash, prune, admins_up)


Scenario = Callable[[Kind, Path, "int | str", Event], bool]


def events_for(kind: Kind, scenario: Scenario) -> tuple[Event, ...]:
    """Return what may happen, without that against which nothing can be done.

    Where the file names an empty directory already, the admin starts it without us. A layer can be filled only once
    compose has made its container, under the policy of the file, and goes with that when it is pruned.
    """
    if kind.origin == "layer":
        return tuple(event for event in EVENTS if event is not prune) if scenario is moving else (quiet,)
    return EVENTS[:-1] if kind.theirs else EVENTS


def moving(kind: Kind, root: Path, at: int | str, event: Event) -> bool:
    """Die in a move; the next runs finish it."""
    lab = kind.lab(root)
    operation = lab.begin()
    if not lab.burning(at, lambda: lab.run(operation)):
        lab.check_moved(operation)
        return False
    _meanwhile(lab, event)
    lab.check_moved(lab.finish(lab.begin, operation))
    return True


def failing(kind: Kind, root: Path, at: int | str, event: Event) -> bool:
    """Fail in a move: it is undone at once, or, after the proof, finished by the next run."""
    lab = kind.lab(root)
    operation = lab.begin()
    if not lab.burning(at, lambda: lab.run(operation), raises=lambda: StatefulError("A fault was injected.")):
        return False
    lab.check()
    lab.write()
    if operation.history().state == ROLLED_BACK:
        assert isinstance(lab.failure, execute.UndoneFailure)
        lab.check_undone()
        return True
    if not operation.history().proved:
        assert not operation.history().intents, "a step had begun, and nothing was undone"
    elif operation.history().state != DONE:
        assert isinstance(lab.failure, execute.ProvedFailure)
    lab.check_moved(lab.finish(lab.begin, operation))
    return True


def undoing(kind: Kind, root: Path, at: int | str, event: Event) -> bool:
    """The service never gets ready on the goal, and the run dies on its way there or back: it ends undone."""
    lab = kind.lab(root)
    lab.store.never_ready.add(lab.goal(lab.services[-1]))
    operation = lab.begin()
    if not lab.burning(at, lambda: _until_undone(lab, operation, 1)):
        lab.check_undone()
        return False
    lab.lenient = event is admins_up
    before = {name: len(rows) for name, rows in lab.acknowledged.items()}
    _meanwhile(lab, event)
    try:
        _until_undone(lab, operation, 3)
    except execute.UndoRefused:
        # Only because of what was written on the goal meanwhile; and then the way is forward.
        assert any(len(lab.acknowledged[name]) > count for name, count in before.items())
        lab.check()
        lab.store.never_ready.clear()
        lab.check_moved(lab.finish(lab.begin, operation))
        return True
    lab.check_undone()
    return True


def giving_up(kind: Kind, root: Path, at: int | str, event: Event) -> bool:
    """Die in a move, and have it rolled back: all is as before, or what was written meanwhile closes the way back."""
    lab = kind.lab(root)
    operation = lab.begin()
    if not lab.burning(at, lambda: lab.run(operation)):
        lab.check_moved(operation)
        return False
    lab.lenient = event is admins_up
    before = {name: len(rows) for name, rows in lab.acknowledged.items()}
    _meanwhile(lab, event)
    if operation.history().proved:
        return True  # it is finished first, and rolled back then
    try:
        lab.undo(operation)
    except execute.UndoRefused:
        assert any(len(lab.acknowledged[name]) > count for name, count in before.items())
        lab.check_served()
        lab.check_moved(lab.finish(lab.begin, operation))
        return True
    lab.check_undone()
    return True


def rolling_back(kind: Kind, root: Path, at: int | str, event: Event) -> bool:
    """Die on the way back of a move that was done a day ago."""
    lab = kind.lab(root)
    done = lab.begin()
    assert lab.run(done) == DONE
    lab.write()
    strategy = "copy" if kind.origin == "layer" else kind.strategy
    back = lab.begin_rollback(done, strategy)
    if not lab.burning(at, lambda: lab.run(back)):
        lab.check_at_origin()
        return False
    lab.lenient = event is admins_up
    _meanwhile(lab, event)
    lab.finish(lambda: lab.begin_rollback(done, strategy), back)
    lab.check_at_origin()
    return True


def journal_points(scenario: Scenario, kind: Kind, root: Path) -> list[int]:
    """Return the numbers of those effects that are lines of the journal."""
    return [number for number, what in traced(scenario, kind, root) if what.startswith("journal")]


def traced(scenario: Scenario, kind: Kind, root: Path) -> list[tuple[int, str]]:
    """Return all effects of a run to which nothing happens, numbered from 1."""
    seen: list[Lab] = []
    lab_of = kind.lab

    class Watched(Kind):
        def lab(self, root: Path) -> Lab:
            seen.append(lab_of(root))
            return seen[0]

    watched = Watched(kind.origin, kind.strategy, kind.theirs, kind.services)
    assert not scenario(watched, root, 0, quiet)
    return list(enumerate(seen[0].fuse.trace, 1))


def every_effect(scenario: Scenario, kind: Kind, root: Path, event: Event) -> Iterator[int]:
    """Run ``scenario`` with each effect in turn, and yield the number of each that was survived."""
    number = 1
    while scenario(kind, root / str(number), number, event):
        yield number
        number += 1


def _meanwhile(lab: Lab, event: Event) -> None:
    lab.check()
    lab.write()
    # Between the rename of a bind mount's directory and the bar in its place there is one instant.
    if event is not admins_up or not lab.fuse.burnt.startswith(("renamed", "open db-data", "open cache-data")):
        event(lab)
    lab.check()
    lab.write()


def _until_undone(lab: Lab, operation: Operation, runs: int) -> None:
    for _run in range(runs):
        try:
            lab.run(operation)
        except execute.UndoneFailure:
            pass
        if operation.history().state == ROLLED_BACK:
            return
    raise AssertionError(f"the operation is {operation.history().state}")
