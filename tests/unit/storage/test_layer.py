# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._storage import layer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import durable


@pytest.mark.parametrize(
    "devices, place",
    [
        ({"layer": 1, "beside": 1, "engine": 1}, "beside/retained"),
        ({"layer": 1, "beside": 2, "engine": 1}, "engine/selfhost-stateful/retained"),
        ({"layer": 1, "beside": 2, "engine": 3}, ""),
    ],
)
def test_a_layer_is_kept_where_hard_links_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: Mapping[str, int], place: str
) -> None:
    for name in devices:
        (tmp_path / name).mkdir()
    fake = SimpleNamespace(
        path=os.path, stat=lambda path: SimpleNamespace(st_dev=devices[os.path.relpath(path, tmp_path)])
    )
    monkeypatch.setattr(layer, "os", fake)
    found = layer.place_to_keep(
        str(tmp_path / "layer"), str(tmp_path / "beside" / "retained"), str(tmp_path / "engine")
    )
    assert found == (str(tmp_path / place) if place else "")


def test_directories_of_ours_are_private(tmp_path: Path) -> None:
    durable.make_private(tmp_path / "selfhost-stateful" / "retained" / "op")
    durable.make_private(tmp_path / "selfhost-stateful" / "retained")
    made = [tmp_path / "selfhost-stateful", *(tmp_path / "selfhost-stateful").rglob("*")]
    assert [path.stat().st_mode & 0o777 for path in made] == [0o700] * 3
