# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A maintenance is run and watched to its end, or put where it suits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import (
    AGAIN,
    Blocker,
    InvalidInput,
    StatefulError,
    refusal,
    shell,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku import look
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.api import Heroku
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.http import BrokenOff, Refused
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.model import (
    AHEAD,
    COMPLETED,
    READY,
    RUNNING,
    Addon,
    Maintenance,
    Service,
    is_essential,
    moment,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.patience import Patience
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.planner import NEAR_DAYS, weeks_until
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.steps import SETTLES

FELL_BACK = 60.0
"""Seconds for which a maintenance may look as if it did not run any more, before that is believed."""


@dataclass(frozen=True)
class Ended:
    """How a maintenance stands, and whether the database serves."""

    maintenance: Maintenance
    service: Service


def complete(heroku: Heroku, app: str, name: str, patience: Patience, *, open_app: bool, check: bool) -> dict[str, Any]:
    """Run what is ready and wait until it is completed; ``open_app``: also while the app lets people in."""
    addon = heroku.find(app, name)
    before = look.maintenance_of(heroku, addon)
    if before.at_rest:
        return _result(addon, before, changed=False)
    if before.status not in (READY, RUNNING):
        raise refusal(
            [
                Blocker(
                    f"The maintenance of {addon.name} is {before.status}, and can be run once it is ready. Wait for"
                    " that while the app is open: selfhost.stateful.heroku_postgres_plan with wait_for: ready.",
                    shell("heroku", "data:maintenances:info", addon.name),
                )
            ]
        )
    if before.status == READY and not open_app and not heroku.in_maintenance(app):
        raise InvalidInput(
            f"{app} is not in maintenance mode, and {addon.name} will be away for a minute: stop the app first"
            " (selfhost.stateful.heroku_app_formation with state: stopped and maintenance: true), or set"
            " allow_open_app: true."
        )
    if check:
        return _result(addon, before, changed=True)
    if before.status == READY:
        _run(heroku, addon, before, patience)
    return _result(addon, _watch(heroku, addon, before, patience), changed=True)


def _run(heroku: Heroku, addon: Addon, before: Maintenance, patience: Patience) -> None:
    lost: StatefulError | None = None
    try:
        heroku.run_maintenance(addon)
    except (BrokenOff, Refused) as error:
        # Refused, too: another may have begun it in this very moment.
        lost = error
    _seen, begun = patience.short(SETTLES).until(
        heroku, lambda: look.maintenance_of(heroku, addon), lambda seen: seen.status == RUNNING or _over(seen, before)
    )
    if not begun:
        raise StatefulError(
            f"{lost.msg if lost else 'Heroku took the request.'} The maintenance of {addon.name} did not begin.",
            state=f"{addon.name} is as it was, and available; its maintenance is still ready",
            next_command=AGAIN,
        ) from lost


def _over(seen: Maintenance, before: Maintenance) -> bool:
    return seen.status == COMPLETED and seen.completed_at != before.completed_at


def _watch(heroku: Heroku, addon: Addon, before: Maintenance, patience: Patience) -> Maintenance:
    fell_at: list[float] = []

    def ask() -> Ended:
        return Ended(look.maintenance_of(heroku, addon), heroku.service(addon))

    def good(seen: Ended) -> bool:
        if seen.maintenance.status == RUNNING or _over(seen.maintenance, before):
            fell_at.clear()
        elif not fell_at:
            fell_at.append(patience.clock())
        back = bool(fell_at) and patience.clock() - fell_at[0] >= FELL_BACK
        return back or (_over(seen.maintenance, before) and seen.service.available)

    seen, _ended = patience.until(heroku, ask, good)
    if _over(seen.maintenance, before) and seen.service.available:
        return seen.maintenance
    status, database = seen.maintenance.status, seen.service.status
    what = f"is {status} after {patience.limit:.0f} s" if status == RUNNING else f"began, and is {status} now"
    raise StatefulError(
        f"The maintenance of {addon.name} {what}; the database is {database}.",
        state=f"{addon.name} runs on {seen.service.plan}, "
        + ("and is available: the changeover did not take place" if _serves(seen) else "and may not be available"),
        next_command=shell("heroku", "data:maintenances:info", addon.name),
        maintenance=seen.maintenance.as_dict(),
        available=_serves(seen),
    )


def _serves(seen: Ended) -> bool:
    return seen.service.available and seen.maintenance.status != RUNNING


def schedule(
    heroku: Heroku, app: str, name: str, patience: Patience, *, window: tuple[str, str] | None, week: str, check: bool
) -> dict[str, Any]:
    """Put the maintenance into a window and a week; what is so already is left alone."""
    addon = heroku.find(app, name)
    if is_essential(addon.plan):
        raise InvalidInput(f"{addon.name} is on a plan of the Essential tier, which has no maintenances to schedule.")
    before = look.maintenance_of(heroku, addon)
    moves = _same(window, before.window) is False
    weeks = _weeks(before, week, addon) if week else 0
    changed = moves or weeks != 0
    if check or not changed:
        return _result(addon, before, changed=changed)
    lost: BrokenOff | None = None
    try:
        if moves and window is not None:
            heroku.set_window(addon, *window)
        if weeks:
            heroku.delay_maintenance(addon, weeks)
    except BrokenOff as error:
        lost = error
    seen, good = patience.short(SETTLES).until(
        heroku,
        lambda: look.maintenance_of(heroku, addon),
        lambda seen: _same(window, seen.window) is not False and not (week and _weeks(seen, week, addon)),
    )
    if not good:
        raise StatefulError(
            f"{lost.msg if lost else ''} The maintenance of {addon.name} is scheduled for"
            f" {seen.scheduled_for or 'no moment'} in the window {seen.window or 'of none'}.".strip(),
            state=f"{addon.name} is as it was",
            next_command=AGAIN,
        ) from lost
    return _result(addon, seen, changed=True)


def _same(window: tuple[str, str] | None, said: str) -> bool | None:
    """Tell whether a window is the one that Heroku says; None where none was asked for."""
    if window is None:
        return None
    day, time_of_day = window
    # In Heroku's words: "Sundays 14:30 to 18:30 UTC".
    return day.lower() in said.lower() and time_of_day.zfill(5) in said


def _weeks(maintenance: Maintenance, week: str, addon: Addon) -> int:
    day, scheduled = moment(week), moment(maintenance.scheduled_for)
    if day is None:
        raise InvalidInput(f"week is no date: {week!r}; one is written as 2026-12-06.")
    if scheduled is None or maintenance.status not in AHEAD:
        raise InvalidInput(f"{addon.name} has no maintenance that could be scheduled: it is {maintenance.status}.")
    return weeks_until(scheduled, day)


def _result(addon: Addon, maintenance: Maintenance, *, changed: bool) -> dict[str, Any]:
    near = maintenance.required_within(datetime.now(timezone.utc), NEAR_DAYS)
    return {
        "changed": changed,
        "name": addon.name,
        "maintenance": maintenance.as_dict(),
        "status": maintenance.status,
        "completed_at": maintenance.completed_at,
        "duration_seconds": maintenance.seconds(),
        "warnings": [f"{addon.name} has to be maintained by {maintenance.required_by}."] if near else [],
    }
