# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests on a real engine share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sandbox import engine
from tests.sandbox.isolated import IsolatedEngine
from tests.sandbox.loopfs import loopfs


@pytest.fixture(scope="session")
def shared_engine() -> engine.Engine:
    """Return the engine that all tests share, started where none answers."""
    return engine.up()


@pytest.fixture(scope="session")
def reflinks() -> Iterator[IsolatedEngine]:
    """Return an engine whose volumes lie on XFS, beside room for the projects."""
    with loopfs("xfs", 2048) as place, IsolatedEngine(place / "engine") as isolated:
        for image in ("postgres:17", "redis:8"):
            isolated.load_image(f"selfhost-sandbox/{image}")
        yield isolated
