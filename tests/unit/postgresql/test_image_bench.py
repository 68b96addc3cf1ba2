# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether what a cluster preloads may bring workers into a copy that is served to nobody."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import bench
from tests.unit.postgresql.subjects import CLUSTER


@pytest.mark.parametrize(
    ("preloaded", "none"),
    [
        ("", True),
        ("pg_stat_statements", True),
        ('"pg_stat_statements", auto_explain', True),
        ("pg_cron", False),
        ("pg_stat_statements,pg_cron", False),
        ("something_of_ones_own", False),
    ],
)
def test_only_what_is_known_to_bring_none_is_trusted(preloaded: str, none: bool) -> None:
    assert bench._without_workers(replace(CLUSTER, shared_preload_libraries=preloaded)) is none
