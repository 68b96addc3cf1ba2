# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A copy of one path on its own: where it may go, what it leaves behind, and who is stopped for it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Helper
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.backup import carry_out, plan_backup
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import settle
from tests.support.site import Site, a_site

pytestmark = pytest.mark.usefixtures("swift")


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


@pytest.fixture(name="operations")
def operations_of_this_test(tmp_path: Path) -> OperationStore:
    return OperationStore(str(tmp_path / "operations"))


def test_a_copy_is_made_once(site: Site, operations: OperationStore, tmp_path: Path) -> None:
    dest = tmp_path / "backups" / "today"
    planned, copy = carry_out(site.world, operations, "web", "/system", str(dest), "auto")
    assert planned.needed
    assert copy is not None
    assert copy.path == str(dest)
    assert (dest / "photo").read_text() == "bytes"
    assert os.listdir(tmp_path / "backups") == ["today"]
    assert carry_out(site.world, operations, "web", "/system", str(dest), "auto")[1] is None


def test_an_attempt_that_failed_leaves_nothing_that_the_next_one_does_not_use(
    site: Site, operations: OperationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest = str(tmp_path / "backups" / "today")
    with monkeypatch.context() as patched:
        patched.setattr(settle, "settle", lambda *_args, **_more: (_ for _ in ()).throw(StatefulError("no space")))
        for _attempt in range(2):
            with pytest.raises(StatefulError, match="no space"):
                carry_out(site.world, operations, "web", "/system", dest, "auto")
    planned = plan_backup(site.world, "web", "/system", dest)
    assert sorted(os.listdir(tmp_path / "backups")) == sorted(
        [os.path.basename(planned.staging), os.path.basename(planned.staging) + ".sqlite"]
    )
    helper = site.engine.create_helper(Helper(planned.operation, "basebackup", site.container("web").image_id, ("x",)))
    carry_out(site.world, operations, "web", "/system", dest, "auto")
    assert os.listdir(tmp_path / "backups") == ["today"]
    assert site.engine.container(helper) is None


def test_a_copy_that_lost_its_record_is_made_anew(site: Site, operations: OperationStore, tmp_path: Path) -> None:
    dest = str(tmp_path / "backups" / "today")
    staging = Path(plan_backup(site.world, "web", "/system", dest).staging)
    staging.mkdir(parents=True)
    (staging / "half").write_text("torn")
    carry_out(site.world, operations, "web", "/system", dest, "auto")
    assert os.listdir(dest) == ["photo"]


def test_a_copy_waits_for_whoever_works_on_the_project(site: Site, operations: OperationStore, tmp_path: Path) -> None:
    with operations.locked(site.project.name, wait=True):
        waiting = threading.Thread(
            target=carry_out, args=(site.world, operations, "web", "/system", str(tmp_path / "today"), "auto")
        )
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        assert not (tmp_path / "today").exists()
    waiting.join()
    assert (tmp_path / "today" / "photo").exists()
