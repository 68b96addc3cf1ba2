# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import DONE, Copy
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.commit import plan_commit
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.copies import WHERE_OPTIONS_POINT


def test_what_the_options_of_a_volume_point_to_is_never_removed(tmp_path: Path) -> None:
    for name in ("share", "retained", "backup"):
        (tmp_path / name).mkdir()
    copies = (
        Copy("original", "web", str(tmp_path / "share"), "now", protected=WHERE_OPTIONS_POINT),
        Copy("original", "db", str(tmp_path / "retained"), "now", protected="out of the engine's directory"),
        Copy("backup", "db", str(tmp_path / "backup"), "now"),
    )
    history = SimpleNamespace(state=DONE, changed_at=time.time(), copies=lambda: copies)
    operation: Any = SimpleNamespace(id="op", history=lambda: history)
    removal = plan_commit(operation, min_age_days=0, with_backups=True)
    assert [Path(copy.path).name for copy in removal.copies] == ["retained", "backup"]
