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
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.window import Window

FELL_BACK = 60.0
"""Seconds for which a maintenance may look as if it did not run any more, before that is believed."""


@dataclass(frozen=True)
class Stand:
    """How a maintenance stands, and what the database runs on."""

    maintenance: Maintenance
    service: Service

    @property
    def serves(self) -> bool:
        return self.service.available and self.maintenance.status != RUNNING

    def is_after(self, before: Stand) -> bool:
        """Tell whether a maintenance that was ahead or ran ``before`` is over.

        Its moment of completion says so, and where Heroku shows the next one already, the plan.
        """
        plans = self.service.plan, before.service.plan
        other_plan = all(plans) and plans[0] != plans[1]
        return self.maintenance.status != RUNNING and (_completed(self.maintenance, before.maintenance) or other_plan)


def _completed(seen: Maintenance, before: Maintenance) -> bool:
    return bool(seen.completed_at) and seen.completed_at != before.completed_at


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
    stood = Stand(before, heroku.service(addon))
    if before.status == READY:
        _run(heroku, addon, stood, patience)
    ended = _watch(heroku, addon, stood, patience)
    result = _result(addon, ended, changed=True)
    if ended.status != COMPLETED:
        result["warnings"].append(f"{addon.name} was changed over, and its next maintenance is {ended.status} already.")
    return result


def _stand(heroku: Heroku, addon: Addon) -> Stand:
    return Stand(look.maintenance_of(heroku, addon), heroku.service(addon))


def _run(heroku: Heroku, addon: Addon, before: Stand, patience: Patience) -> None:
    """Ask for it to be run, once, and wait until it is seen to have begun."""
    unanswered: StatefulError | None = None
    refused: Refused | None = None
    try:
        heroku.run_maintenance(addon)
    except BrokenOff as error:
        unanswered = error
    except Refused as error:
        # Another may have begun it in this very moment.
        refused = error
    # What was taken down, or may have been, can begin at any time, and the app has to be closed then.
    waiting = patience.short(SETTLES) if refused else patience
    seen, begun = waiting.until(
        heroku,
        lambda: _stand(heroku, addon),
        # One that began and fell back between two looks is as little ready any more as one that runs.
        lambda seen: seen.maintenance.status != READY or seen.is_after(before),
    )
    if begun:
        return
    status = seen.maintenance.status
    if refused:
        raise StatefulError(
            f"{refused.msg} The maintenance of {addon.name} did not begin.",
            state=f"{addon.name} is as it was; its maintenance is {status}",
            next_command=AGAIN,
            may_begin=False,
        ) from refused
    said = unanswered.msg if unanswered else "Heroku took the request."
    raise StatefulError(
        f"{said} The maintenance of {addon.name} has not begun after {waiting.limit:.0f} s: it is {status}.",
        state=f"{addon.name} is as it was so far, and its maintenance MAY STILL BEGIN: it takes the database"
        " away for about a minute then, also from an app that is open",
        next_command="run the same task again: it looks first, runs what is still ready, and waits for what runs",
        maintenance=seen.maintenance.as_dict(),
        may_begin=True,
    ) from unanswered


def _watch(heroku: Heroku, addon: Addon, before: Stand, patience: Patience) -> Maintenance:
    fell_at: list[float] = []

    def good(seen: Stand) -> bool:
        if seen.maintenance.status == RUNNING or seen.is_after(before):
            fell_at.clear()
        elif not fell_at:
            fell_at.append(patience.clock())
        back = bool(fell_at) and patience.clock() - fell_at[0] >= FELL_BACK
        return back or (seen.is_after(before) and seen.service.available)

    seen, _ended = patience.until(heroku, lambda: _stand(heroku, addon), good)
    if seen.is_after(before) and seen.service.available:
        return seen.maintenance
    what, known = _told(seen, before, f"{patience.limit:.0f} s")
    raise StatefulError(
        f"The maintenance of {addon.name} {what}; the database is {seen.service.status}.",
        state=f"{addon.name} runs on {seen.service.plan}, {known}",
        next_command=shell("heroku", "data:maintenances:info", addon.name),
        maintenance=seen.maintenance.as_dict(),
        available=seen.serves,
    )


def _told(seen: Stand, before: Stand, limit: str) -> tuple[str, str]:
    """Return what became of a maintenance that did not end well, and what is known of the database."""
    if seen.is_after(before):
        return f"is over, and the database has not come back after {limit}", "and is not available"
    if seen.maintenance.status == RUNNING:
        return f"is running after {limit}", "and may not be available"
    serves = "is" if seen.serves else "may not be"
    known = f"as before, and {serves} available; nothing shows that the maintenance was carried out"
    return f"began, and is {seen.maintenance.status} now", known


def schedule(
    heroku: Heroku, app: str, name: str, patience: Patience, *, window: Window | None, week: str, check: bool
) -> dict[str, Any]:
    """Put the maintenance into a window and a week; what is so already is left alone."""
    if window is None and not week:
        raise InvalidInput("Nothing is said of when: set day_of_week and time_of_day, or week, or all three.")
    addon = heroku.find(app, name)
    if is_essential(addon.plan):
        raise InvalidInput(f"{addon.name} is on a plan of the Essential tier, which has no maintenances to schedule.")
    before = look.maintenance_of(heroku, addon)
    moves = window is not None and not window.is_said(before.window)
    weeks = _weeks(before, week, addon) if week else 0
    changed = moves or weeks != 0
    if check or not changed:
        return _result(addon, before, changed=changed)
    lost: BrokenOff | None = None
    try:
        if moves and window is not None:
            heroku.set_window(addon, window.day_of_week, window.time_of_day)
        if weeks:
            heroku.delay_maintenance(addon, weeks)
    except BrokenOff as error:
        lost = error
    seen, good = patience.short(SETTLES).until(
        heroku,
        lambda: look.maintenance_of(heroku, addon),
        lambda seen: (window is None or window.is_said(seen.window)) and not (week and _weeks(seen, week, addon)),
    )
    if not good:
        raise StatefulError(
            f"{lost.msg if lost else ''} The maintenance of {addon.name} is scheduled for"
            f" {seen.scheduled_for or 'no moment'} in the window {seen.window or 'of none'}.".strip(),
            state=f"{addon.name} is as it was",
            next_command=AGAIN,
        ) from lost
    return _result(addon, seen, changed=True)


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
