# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waits for what Heroku does in its own time: a question, a predicate, a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.api import Heroku

T = TypeVar("T")
SLOWER = 6.0
"""How much less often is asked where the rate limit is near."""


@dataclass(frozen=True)
class Patience:
    """How long is waited and how often is asked, in seconds."""

    limit: float
    interval: float = 5.0
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep

    def until(self, heroku: Heroku, look: Callable[[], T], good: Callable[[T], bool]) -> tuple[T, bool]:
        """Ask until it is ``good``; return the last answer, and whether it was. Asks once at least."""
        end = self.clock() + self.limit
        while True:
            seen = look()
            if good(seen):
                return seen, True
            left = end - self.clock()
            if left <= 0:
                return seen, False
            self.pause(min(self.interval * (SLOWER if heroku.http.is_scarce else 1.0), left))

    def short(self, seconds: float) -> Patience:
        """Return the same with another limit."""
        return Patience(min(self.limit, seconds), self.interval, self.clock, self.pause)
