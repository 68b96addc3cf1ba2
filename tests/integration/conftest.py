# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests on a real engine share."""

from __future__ import annotations

import pytest

from tests.sandbox import engine


@pytest.fixture(scope="session")
def shared_engine() -> engine.Engine:
    """Return the engine that all tests share, started where none answers."""
    return engine.up()
