# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A database goes to another plan: asked for once, and watched until it is so. There is no way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._clock import moment
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import AGAIN, StatefulError, refusal, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku import look
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.api import Heroku
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.http import BrokenOff
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.model import (
    COMPLETED,
    READY,
    RUNNING,
    Database,
    Maintenance,
    plain_plan,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.patience import Patience
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.planner import (
    PlanChange,
    Wanted,
    change_of,
    reached,
    required_soon,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.steps import SETTLES

REQUESTED = "requested"


@dataclass(frozen=True)
class Change:
    """What is wanted, up to where it is waited for, and how long. ``say`` tells every status as it is seen."""

    app: str
    database: str
    plan: str
    wait_for: str
    before_leader: bool
    patience: Patience
    say: Callable[[str], None] = lambda line: None
    seen: list[dict[str, Any]] = field(default_factory=list)

    def note(self, database: Database) -> None:
        status, plan = database.maintenance.status, database.service.plan
        if not self.seen or (self.seen[-1]["status"], self.seen[-1]["plan"]) != (status, plan):
            self.seen.append({"at": moment(), "status": status, "plan": plan})
            self.say(f"{database.addon.name}: maintenance {status}, plan {plan}")


def change_plan(heroku: Heroku, change: Change, *, check: bool) -> dict[str, Any]:
    """Return the module's result; raises StatefulError."""
    seen = look.databases_of(heroku, change.app, change.database)
    (before,) = seen.databases
    change.note(before)
    decided = change_of(before, _wanted(heroku, change, before))
    if decided.blockers:
        raise refusal(decided.blockers, plan_text=decided.text)
    if check or not (decided.request or decided.wait):
        return _result(change, before, decided, seen.warnings)
    old = before.maintenance if decided.request else None
    if decided.request:
        before = _request(heroku, before, change)
    if change.wait_for == REQUESTED:
        after = _recorded(heroku, change, before, old) if old is not None else before
    else:
        after = _watch(heroku, change, before, old)
    return _result(change, after, decided, seen.warnings)


def _wanted(heroku: Heroku, change: Change, database: Database) -> Wanted:
    leader = look.database_of(heroku, change.app, database.leader) if database.leader else None
    plans = heroku.plans() if plain_plan(database.addon.plan) != plain_plan(change.plan) else ()
    return Wanted(change.plan, tuple(plans), leader, change.before_leader)


def _request(heroku: Heroku, database: Database, change: Change) -> Database:
    """Ask for the plan, once, and read back that it was taken down, whatever became of the answer."""
    plan = plain_plan(change.plan)
    lost: BrokenOff | None = None
    try:
        heroku.change_plan(database.addon, plan)
    except BrokenOff as error:
        lost = error
    seen, good = change.patience.short(SETTLES).until(
        heroku, lambda: look.again(heroku, database), lambda seen: plain_plan(seen.addon.plan) == plan
    )
    if not good:
        raise StatefulError(
            f"{lost.msg if lost else ''} {database.addon.name} is still asked to be on"
            f" {plain_plan(seen.addon.plan)}.".strip(),
            state=f"{database.addon.name} runs on {seen.service.plan}; no change of its plan is known",
            next_command=AGAIN,
        ) from lost
    return seen


def is_new(maintenance: Maintenance, old: Maintenance | None) -> bool:
    """Tell whether a maintenance is another than the one that was there before it was asked for."""
    return old is None or (maintenance.completed_at, maintenance.started_at, maintenance.status) != (
        old.completed_at,
        old.started_at,
        old.status,
    )


def _recorded(heroku: Heroku, change: Change, before: Database, old: Maintenance) -> Database:
    """Wait for the maintenance of a change to be seen, so that nobody takes one of the past for it; not for long.

    The plan is the Platform API's, the maintenance the Data API's: the change is taken down, whether it shows or not.
    """
    seen, _is_new = change.patience.short(SETTLES).until(
        heroku, lambda: look.again(heroku, before), lambda seen: is_new(seen.maintenance, old)
    )
    change.note(seen)
    return seen


def _watch(heroku: Heroku, change: Change, before: Database, old: Maintenance | None) -> Database:
    def good(seen: Database) -> bool:
        change.note(seen)
        if reached(seen, change.plan) and is_new(seen.maintenance, old) and seen.serves:
            return True
        waiting = seen.maintenance.status in (READY, RUNNING) and is_new(seen.maintenance, old)
        return change.wait_for == READY and waiting

    seen, is_good = change.patience.until(heroku, lambda: look.again(heroku, before), good)
    if not is_good:
        raise StatefulError(
            f"{before.addon.name} is not {change.wait_for} after {change.patience.limit:.0f} s: its maintenance is"
            f" {seen.maintenance.status}, its plan {seen.service.plan}.",
            state=f"the change to {plain_plan(change.plan)} was taken down and goes on at Heroku;"
            f" the database is {'available' if seen.serves else f'not available ({seen.service.status})'}",
            next_command=shell("heroku", "data:maintenances:info", before.addon.name),
            progress=change.seen,
        )
    return seen


def _result(change: Change, after: Database, decided: PlanChange, warnings: Sequence[str]) -> dict[str, Any]:
    status, now = after.maintenance.status, datetime.now(timezone.utc)
    there = reached(after, change.plan) or not (decided.request or decided.wait)
    return {
        "changed": decided.request,
        "database": after.as_dict(),
        "plan": after.service.plan,
        "reached": COMPLETED if there else READY if status in (READY, RUNNING) else REQUESTED,
        "progress": change.seen,
        "plan_text": decided.text,
        "warnings": [*warnings, *decided.warnings, *required_soon(after, now)],
    }
