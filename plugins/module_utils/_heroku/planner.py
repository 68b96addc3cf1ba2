# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a closed app has to remember, what a change of plan needs, and what stands in the way. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.model import (
    AHEAD,
    PENDING,
    Database,
    Formation,
    Process,
    formation_as_dict,
    is_essential,
    plain_plan,
    running,
    size_of_plan,
    told,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import SWITCH, Goal, Plan, Step

MODULE = "heroku_app_formation"
CLOSE, EMPTY = "heroku_maintenance_on", "heroku_scale_to_zero"
CLOSED, EMPTIED = "maintenance mode on", "scale to zero"
NEAR_DAYS = 7.0


def project_of(app: str) -> str:
    """Return the name that operations on an app exclude each other by."""
    return f"heroku-{app}"


@dataclass(frozen=True)
class Former:
    """What an app was before it was closed."""

    formation: Formation
    maintenance: bool

    def as_dict(self) -> dict[str, Any]:
        return {"formation": formation_as_dict(self.formation), "maintenance": self.maintenance}


def remembered(noted: Former | None, begun: Collection[str], now: Former) -> Former:
    """Return what is to be remembered of an app that is looked at ``now``, with an earlier note at hand.

    Where the earlier run had ``begun`` to scale to zero, a type without dynos is one that it stopped; one
    with dynos was scaled by somebody since, whose word is newer.
    """
    if noted is None:
        return now
    formation = dict(now.formation)
    if EMPTIED in begun:
        formation.update(
            {
                name: each
                for name, each in running(noted.formation).items()
                if name in formation and formation[name].quantity == 0
            }
        )
    return Former(formation, noted.maintenance if CLOSED in begun else now.maintenance)


def scaled_since(app: str, noted: Formation, former: Formation) -> list[str]:
    """Say where what is to be remembered of a stopped app is not what it ran when it was stopped."""

    def quantity(formation: Formation, name: str) -> int:
        return formation[name].quantity if name in formation else 0

    return [
        f"{name} of {app} was {f'scaled to {quantity(former, name)} by somebody' if name in former else 'taken away'}"
        f" since it was stopped, which is what is remembered now; it ran {quantity(noted, name)} dynos before."
        for name in sorted({*noted, *former})
        if quantity(noted, name) != quantity(former, name)
    ]


def is_open_again(former: Former, begun: Collection[str], now: Former) -> bool:
    """Tell whether an app that was stopped is seen open: what was noted of it is of the past then.

    Where maintenance mode was switched on with it, it is open once that is off and anything runs; else once every type
    runs that ran before, because one alone may have been scaled up for a look.
    """
    if EMPTIED not in begun:
        return False
    up = running(now.formation)
    if CLOSED in begun and not former.maintenance:
        return not now.maintenance and bool(up)
    stopped = [name for name in running(former.formation) if name in now.formation]
    return bool(stopped) and all(name in up for name in stopped)


def is_shut(now: Former) -> bool:
    """Tell whether nobody is let in, or nothing is there to answer."""
    return now.maintenance or not running(now.formation)


def named_in(note: Mapping[str, Any]) -> dict[str, str]:
    """Return the ``database`` and the ``plan`` that a note names; empty where it is about no change of a plan."""
    database = note.get("database")
    named = {"database": database.get("name") if isinstance(database, Mapping) else "", "plan": note.get("plan")}
    return {key: str(value) for key, value in named.items() if value}


def is_of_another(noted: Mapping[str, Any], note: Mapping[str, Any]) -> bool:
    """Tell whether an app was stopped for something else than the change that ``note`` names; if it names one."""
    theirs = named_in(noted)
    return any(theirs.get(key) != value for key, value in named_in(note).items())


def closing(app: str, former: Former, *, maintenance: bool, note: Mapping[str, Any]) -> Plan:
    """Return the plan that closes an app; its undo opens it again, as it was."""
    steps = []
    if maintenance:
        steps.append(Step(CLOSE, CLOSED, SWITCH, {"app": app, "former": former.maintenance}))
    steps.append(Step(EMPTY, EMPTIED, SWITCH, {"app": app, "former": formation_as_dict(former.formation)}))
    lines = [f"The app {app}: no dynos", f"  runs now   {told(running(former.formation))}"]
    lines.append(f"  maintenance mode is {'on already' if former.maintenance else 'off'}")
    return Plan(
        Goal(MODULE, project_of(app), {"stopped": app}),
        tuple(steps),
        summary={"app": app, "former": former.as_dict(), "note": dict(note)},
        text="\n".join(lines),
    )


def to_zero(formation: Formation) -> list[dict[str, Any]]:
    return [{"type": name, "quantity": 0} for name in sorted(running(formation))]


def to_restore(former: Formation, now: Formation) -> list[dict[str, Any]]:
    """Return the updates that bring back what ran; what runs already was scaled by somebody since, and stays."""
    return [
        {"type": name, "quantity": each.quantity, **({"size": each.size} if each.size else {})}
        for name, each in sorted(running(former).items())
        if name in now and now[name].quantity == 0
    ]


def to_exact(wanted: Formation, now: Formation) -> list[dict[str, Any]]:
    """Return the updates after which a formation is the wanted one; types that are not named run nothing."""
    updates = []
    for name in sorted({*wanted, *now}):
        goal, here = wanted.get(name, Process(0)), now.get(name, Process(0))
        size = goal.size and goal.size.lower() != here.size.lower()
        if goal.quantity != here.quantity or size:
            updates.append({"type": name, "quantity": goal.quantity, **({"size": goal.size} if size else {})})
    return updates


@dataclass(frozen=True)
class PlanChange:
    """What is to be done about a plan: ``request`` it, ``wait`` for it, or neither, because it is reached."""

    request: bool
    wait: bool
    blockers: tuple[Blocker, ...] = ()
    warnings: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Wanted:
    """The plan that a database is to be on, and what is known of plans and of its leader."""

    plan: str
    plans: Sequence[str] = field(default=())
    leader: Database | None = None
    before_leader: bool = False


def reached(database: Database, plan: str) -> bool:
    """Tell whether a database runs on a plan, and nothing is under way."""
    wanted = plain_plan(plan)
    return (
        database.service.plan == wanted and plain_plan(database.addon.plan) == wanted and database.maintenance.at_rest
    )


def required_soon(database: Database, now: datetime) -> list[str]:
    """Return the warning that Heroku will not wait much longer; empty where there is time."""
    if not database.maintenance.required_within(now, NEAR_DAYS):
        return []
    return [
        f"Heroku runs the maintenance of {database.addon.name} by {database.maintenance.required_by} at the latest,"
        " whether anybody is ready or not."
    ]


def change_of(database: Database, wanted: Wanted) -> PlanChange:
    """Decide; a change that is under way already is gone on with, and nothing is in its way any more."""
    plan = plain_plan(wanted.plan)
    here, asked, maintenance = database.service.plan, plain_plan(database.addon.plan), database.maintenance
    warnings = []
    text = f"{database.addon.name} of {database.addon.app}: {here} → {plan}"
    if here == asked == plan:
        if not maintenance.at_rest:
            # It changes no plan, and is none of ours: nobody waits for it, and no app is closed for it.
            warnings.append(
                f"{database.addon.name} has a maintenance of Heroku's own, which is {maintenance.status}: Heroku runs"
                f" it in the window of the database{f', {maintenance.window}' if maintenance.window else ''}."
            )
        return PlanChange(False, False, warnings=tuple(warnings), text=f"{database.addon.name}: on {plan} already")
    if asked == plan and not is_essential(plan) and not is_essential(here):
        doing = f"\n  asked for already; maintenance: {maintenance.status}"
        return PlanChange(False, True, warnings=tuple(warnings), text=text + doing)
    blockers = blockers_of(database, wanted)
    limit = size_of_plan(plan)
    if not limit and not blockers:
        warnings.append(f"How much data {plan} holds is not known here: compare {_gb(database.service.size_bytes)}.")
    lines = [text, f"  data       {_gb(database.service.size_bytes)} of {_gb(limit) if limit else 'an unknown limit'}"]
    lines += [f"  BLOCKER: {blocker.text}" for blocker in blockers]
    return PlanChange(True, True, tuple(blockers), tuple(warnings), "\n".join(lines))


def blockers_of(database: Database, wanted: Wanted) -> list[Blocker]:
    """Return what forbids to ask for a plan."""
    plan, name, app = plain_plan(wanted.plan), database.addon.name, database.addon.app
    here, maintenance = database.service.plan or plain_plan(database.addon.plan), database.maintenance
    found = []
    if is_essential(here) or is_essential(plan):
        found.append(
            Blocker(
                f"{here} → {plan}: a plan of the Essential tier is not changed in place, because it has neither"
                " maintenances nor followers. Create a database on the new plan, put the app into maintenance mode,"
                f" scale to zero, copy ({shell('heroku', 'pg:copy', name, 'NEW_DATABASE', '--app', app)}), promote the"
                " new database.",
                shell("heroku", "addons:create", f"heroku-postgresql:{plan}", "--app", app),
            )
        )
        return found
    if wanted.plans and plan not in wanted.plans:
        found.append(Blocker(f"There is no plan {plan}; there are: {', '.join(sorted(wanted.plans))}."))
    limit = size_of_plan(plan)
    if limit and database.service.size_bytes > limit:
        found.append(
            Blocker(
                f"{plan} holds {_gb(limit)}, and {name} has {_gb(database.service.size_bytes)}: take a larger plan."
            )
        )
    if not database.serves:
        found.append(
            Blocker(f"{name} is not available now ({database.service.status}, maintenance {maintenance.status}).")
        )
    elif maintenance.status in AHEAD and (maintenance.status != PENDING or plain_plan(database.addon.plan) != here):
        # Beside one that waits already, the new one could not be told from it.
        asked = plain_plan(database.addon.plan)
        why = f"a change to {asked}" if asked != here else maintenance.reason or "a maintenance of Heroku's own"
        found.append(
            Blocker(
                f"A maintenance of {name} is {maintenance.status} ({why}): it has to be run before a change is asked"
                " for.",
                shell("heroku", "data:maintenances:info", name),
            )
        )
    elif not maintenance.is_known:
        found.append(Blocker(f"The maintenance of {name} is in a state that is not known here: {maintenance.status}."))
    if database.leader is not None and not wanted.before_leader:
        found += _behind_leader(database, wanted)
    return found


def _behind_leader(database: Database, wanted: Wanted) -> list[Blocker]:
    name, plan = database.addon.name, plain_plan(wanted.plan)
    if wanted.leader is None:
        return [
            Blocker(
                f"{name} follows a database that this app does not show, so that its plan is not known. Set"
                " before_leader: true where that is meant to be so."
            )
        ]
    leader = wanted.leader.service.plan
    if leader == plan or not _smaller(leader, plan):
        return []
    return [
        Blocker(
            f"{name} follows {wanted.leader.addon.name}, which is still on {leader}: change the leader first. Set"
            " before_leader: true where the follower is meant to go first."
        )
    ]


def _smaller(one: str, other: str) -> bool:
    sizes = size_of_plan(one), size_of_plan(other)
    return not all(sizes) or sizes[0] < sizes[1]


def weeks_until(scheduled_for: datetime, day: datetime) -> int:
    """Return by how many calendar weeks, which begin on Sunday, a maintenance is to be moved into that of ``day``."""

    def sunday(at: datetime) -> datetime:
        return datetime(at.year, at.month, at.day) - timedelta(days=(at.weekday() + 1) % 7)

    return (sunday(day) - sunday(scheduled_for)).days // 7


def _gb(size: int) -> str:
    return f"{size / (1 << 30):.2f} GB"
