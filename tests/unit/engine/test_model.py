# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is read out of the engine's words."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import seconds_of


@pytest.fixture(params=["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Live in a zone for the length of a test."""
    with monkeypatch.context() as living:
        living.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


@pytest.mark.parametrize(
    "stamp, seconds",
    [
        ("2026-01-15T12:00:00Z", 1768478400.0),
        ("2026-07-15T12:00:00Z", 1784116800.0),
        ("2026-07-15T12:00:00.250000000Z", 1784116800.25),
        ("0001-01-01T00:00:00Z", 0.0),
        ("", 0.0),
    ],
)
def test_a_start_is_the_same_moment_in_every_zone(zone: str, stamp: str, seconds: float) -> None:
    assert seconds_of(stamp) == seconds
