# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An admin for each test, whose files must not tell a secret, whatever the test was about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .admin import Admin, admin_in


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[Admin]:
    """Yield an admin of an app with one database on standard-0."""
    with admin_in(tmp_path) as made:
        yield made
        made.check_secrets()
