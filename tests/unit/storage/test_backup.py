# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A copy of one path on its own: where it may go, what it leaves behind, and who is stopped for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.backup import plan_backup
from tests.support.site import Site, a_site


@pytest.fixture(name="site")
def site_with_files(tmp_path: Path) -> Site:
    site = a_site(tmp_path, "services:\n  web:\n    image: app:1\n    volumes:\n      - ./system:/system\n")
    (site.directory / "system").mkdir()
    (site.directory / "system" / "photo").write_text("bytes")
    return site.up()


@pytest.mark.parametrize("dest", ["system", "system/copies/today", "", "link/today", "system/../system/x"])
def test_a_copy_cannot_lie_in_or_above_what_it_copies(site: Site, dest: str) -> None:
    (site.directory / "link").symlink_to("system")
    with pytest.raises(InvalidInput, match="overlaps") as caught:
        plan_backup(site.world, "web", "/system", os.path.join(site.directory, dest))
    assert "dest" in caught.value.next_command
    assert os.listdir(site.directory / "system") == ["photo"]


def test_a_copy_beside_what_it_copies(site: Site) -> None:
    assert plan_backup(site.world, "web", "/system", str(site.directory / "system-copy")).needed
