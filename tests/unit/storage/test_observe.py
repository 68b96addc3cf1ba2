# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.observe import measured
from tests.unit.storage.findings import DATA


@pytest.mark.parametrize(
    "subpath, beside",
    [("18/docker", ("backup", "server.crt", "18/notes")), ("18", ("backup", "server.crt")), ("", ())],
)
def test_what_lies_beside_the_data_is_seen(tmp_path: Path, subpath: str, beside: tuple[str, ...]) -> None:
    for name in ("18/docker/base", "18/notes", "backup", "lost+found"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "server.crt").touch()
    assert measured(replace(DATA, host_path=str(tmp_path), subpath=subpath)).beside == beside
