# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The time of day as journals write it, and waiting with a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone

POLL = 0.2
"""Seconds between two looks."""


def moment() -> str:
    """Return now, in UTC and to the second, as ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def until(predicate: Callable[[], bool], limit: float) -> bool:
    """Wait until ``predicate`` holds, at most ``limit`` seconds; return whether it does."""
    ends = time.monotonic() + limit
    while not predicate():
        if time.monotonic() >= ends:
            return False
        time.sleep(POLL)
    return True
