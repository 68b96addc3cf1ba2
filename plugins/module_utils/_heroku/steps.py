# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps that close an app. Undone, they open it again as it was."""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.selfhost.stateful.plugins.module_utils._clock import moment
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import AGAIN, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku import planner
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.api import Heroku
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.http import BrokenOff
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.model import (
    Formation,
    formation_of,
    running,
    told,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.patience import Patience
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence, Handlers
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step

SETTLES = 30.0
"""Seconds in which what was accepted has to be seen."""


@dataclass(frozen=True)
class World:
    """What the steps work with; ``warnings`` are for the result."""

    heroku: Heroku
    patience: Patience
    warnings: list[str] = field(default_factory=list)


def set_maintenance(world: World, app: str, on: bool) -> None:
    """Put an app into maintenance mode, or take it out, and read that back."""
    lost: BrokenOff | None = None
    try:
        world.heroku.set_maintenance(app, on)
    except BrokenOff as error:
        lost = error
    _seen, good = world.patience.short(SETTLES).until(
        world.heroku, lambda: world.heroku.in_maintenance(app), lambda seen: seen is on
    )
    if not good:
        word = "on" if on else "off"
        raise StatefulError(
            f"{lost.msg if lost else ''} The maintenance mode of {app} is not {word}.".strip(),
            state=f"the maintenance mode of {app} is {'off' if on else 'on'}; setting it touches no dynos",
            next_command=AGAIN,
        ) from lost


def scale(world: World, app: str, updates: list[dict[str, object]]) -> Formation:
    """Change a formation, and return it as it is read back."""
    lost: BrokenOff | None = None
    try:
        world.heroku.scale(app, updates)
    except BrokenOff as error:
        lost = error
    wanted = {str(each["type"]): each["quantity"] for each in updates}

    def good(seen: Formation) -> bool:
        return all(name in seen and seen[name].quantity == quantity for name, quantity in wanted.items())

    seen, is_so = world.patience.short(SETTLES).until(world.heroku, lambda: world.heroku.formation(app), good)
    if not is_so:
        raise StatefulError(
            f"{lost.msg if lost else ''} The formation of {app} is not what was asked for: {told(seen)}.".strip(),
            state=f"{app} runs {told(running(seen))}",
            next_command=AGAIN,
        ) from lost
    return seen


class MaintenanceOn(SelfProving):
    """An app is in maintenance mode. args: ``app``, ``former``: whether it was so before."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return {} if context.world.heroku.in_maintenance(step.args["app"]) else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        set_maintenance(context.world, step.args["app"], True)
        return {"since": moment()}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        app = step.args["app"]
        if step.args["former"] or not context.world.heroku.in_maintenance(app):
            return {}
        set_maintenance(context.world, app, False)
        return {"ended": moment()}


class ScaleToZero(SelfProving):
    """No process type runs dynos. args: ``app``, ``former``: the formation that an undo brings back."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        app = step.args["app"]
        if running(context.world.heroku.formation(app)) or dynos_of_formation(context.world, app):
            return None
        return {"stopped_at": context.evidence.get(step.name, {}).get("stopped_at") or moment()}

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        world, app = context.world, step.args["app"]
        updates = planner.to_zero(world.heroku.formation(app))
        if updates:
            scale(world, app, updates)
        left, gone = world.patience.until(world.heroku, lambda: dynos_of_formation(world, app), lambda dynos: not dynos)
        if not gone:
            raise StatefulError(
                f"{app} is scaled to zero, and still runs {', '.join(left)} after {world.patience.limit:.0f} s.",
                state=f"{app} was scaled to zero; what it ran is journaled",
                next_command=AGAIN,
            )
        return {"stopped_at": moment()}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        world, app, former = context.world, step.args["app"], formation_of(step.args["former"])
        before = world.heroku.formation(app)
        updates = planner.to_restore(former, before)
        if updates:
            scale(world, app, updates)
        seen = world.heroku.formation(app)
        for name, each in running(former).items():
            if name not in seen:
                world.warnings.append(f"{app} has no process type {name} any more; it ran {each.quantity} dynos of it.")
            elif seen[name].quantity != each.quantity:
                world.warnings.append(
                    f"{name} of {app} was scaled to {seen[name].quantity} by somebody since, and stays so; it ran"
                    f" {each.quantity} dynos before."
                )
        up, good = world.patience.until(world.heroku, lambda: dynos_up(world, app), lambda up: _all_up(up, seen))
        if not good:
            world.warnings.append(
                f"{app} is scaled to {told(running(seen))}, and not all of it is up after"
                f" {world.patience.limit:.0f} s ({told_counts(up)}). Look at its log: heroku logs --app {app}"
            )
        return {"started_at": moment()}


HANDLERS: Handlers[World] = {planner.CLOSE: MaintenanceOn(), planner.EMPTY: ScaleToZero()}


def dynos_of_formation(world: World, app: str) -> list[str]:
    """Return the dynos that the formation runs, those included that are on their way down."""
    types = world.heroku.formation(app)
    return sorted(str(dyno["name"]) for dyno in world.heroku.dynos(app) if dyno["type"] in types)


def one_off_dynos(world: World, app: str) -> list[str]:
    """Return the dynos that no formation speaks of: consoles, jobs of Heroku Scheduler."""
    types = world.heroku.formation(app)
    return sorted(str(dyno["name"]) for dyno in world.heroku.dynos(app) if dyno["type"] not in types)


def dynos_up(world: World, app: str) -> dict[str, int]:
    up: dict[str, int] = {}
    for dyno in world.heroku.dynos(app):
        if dyno["state"] == "up":
            up[str(dyno["type"])] = up.get(str(dyno["type"]), 0) + 1
    return up


def _all_up(up: dict[str, int], formation: Formation) -> bool:
    return all(up.get(name, 0) >= each.quantity for name, each in running(formation).items())


def told_counts(counts: dict[str, int]) -> str:
    return " ".join(f"{name}={count}" for name, count in sorted(counts.items())) or "none is up"
