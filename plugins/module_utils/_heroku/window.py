# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The maintenance window of a database, as it is asked for and as Heroku says it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput

DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_TIME_OF_DAY = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_SAID = re.compile(r"([a-z]+day)s?\D*(\d{1,2}):(\d\d)", re.IGNORECASE)


@dataclass(frozen=True)
class Window:
    """When a window begins, in UTC; it lasts four hours. ``time_of_day`` as in ``02:30``."""

    day_of_week: str
    time_of_day: str

    def is_said(self, words: str) -> bool:
        """Tell whether it is the window of these words, as in ``Sundays 22:30 to Mondays 02:30 UTC``."""
        found = _SAID.match(words.partition(" to ")[0].strip())
        if found is None:
            return False
        day, hour, minute = found.groups()
        return (day.capitalize(), f"{int(hour):02}:{minute}") == (self.day_of_week, self.time_of_day)


def window_from(day_of_week: str | None, time_of_day: str | None) -> Window | None:
    """Return the window that was asked for; None where none was. Raises InvalidInput."""
    if not day_of_week and not time_of_day:
        return None
    day, time = (day_of_week or "").strip().capitalize(), (time_of_day or "").strip()
    if day not in DAYS:
        raise InvalidInput(f"day_of_week is no day of the week: {day_of_week!r}; set one of {', '.join(DAYS).lower()}.")
    if not _TIME_OF_DAY.fullmatch(time):
        raise InvalidInput(
            f"time_of_day is no time from 00:00 to 23:59: {time_of_day!r}. Write hours and minutes of UTC with two"
            ' digits each, and in quotes, because YAML reads 14:30 as a number: time_of_day: "14:30".'
        )
    return Window(day, time)
