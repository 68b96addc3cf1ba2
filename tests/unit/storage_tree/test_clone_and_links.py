# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clones (on file systems made for it), hard-linked trees, and the helpers for durability."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import clone, durable, errors, libc
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.compare import compare_trees
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.links import hardlink_tree
from tests.unit.storage_tree.trees import (
    changing_calls,
    isolated,
    killed_at,
    make_tree,
    mount_image,
    mount_tmpfs,
    needs_root,
)


@isolated
@pytest.mark.parametrize("fs_type, megabytes", [("xfs", 320), ("btrfs", 200)])
def test_clone(tmp_path: Path, fs_type: str, megabytes: int) -> None:
    disk = mount_image(tmp_path, fs_type, megabytes)
    source = make_tree(disk / "source")
    staging = durable.staging_path(disk / "target", "7")
    before = source.stat()
    answer = clone.can_clone(source, disk / "not yet")
    assert (answer.yes, answer.how) == (True, "reflink")
    assert sorted(path.name for path in disk.iterdir()) == ["source"]
    os.sync()
    free = os.statvfs(disk).f_bfree
    done = clone.clone_tree(source, staging)
    assert done.files == 6
    assert compare_trees(source, staging) == []
    used = (free - os.statvfs(disk).f_bfree) * os.statvfs(disk).f_frsize
    assert used < 2 << 20, "extents are shared"
    assert source.stat().st_ctime_ns == before.st_ctime_ns


@isolated
def test_clone_killed_anywhere_is_begun_anew(tmp_path: Path) -> None:
    disk = mount_image(tmp_path, "xfs", 320)
    source = make_tree(disk / "source")
    staging = durable.staging_path(disk / "target", "7")
    total = changing_calls(lambda: clone.clone_tree(source, staging))
    for point in range(12):
        assert killed_at(1 + total * point // 12, lambda: clone.clone_tree(source, staging))
        clone.clone_tree(source, staging)
        assert compare_trees(source, staging) == []
        clone.remove_partial(staging)
    assert sorted(path.name for path in disk.iterdir()) == ["source"]


@isolated
def test_what_cannot_be_cloned_is_told_beforehand(tmp_path: Path) -> None:
    disk = mount_image(tmp_path, "ext4", 32)
    (disk / "source").mkdir()
    (disk / "source" / "file").write_text("x")
    assert "refuses to clone file" in clone.can_clone(disk / "source", disk).reason
    assert not clone.can_clone(disk / "source", mount_tmpfs(tmp_path / "memory", 1)).yes
    assert sorted(path.name for path in disk.iterdir()) == ["lost+found", "source"]
    with pytest.raises(errors.CannotClone, match="file cannot be cloned"):
        clone.clone_tree(disk / "source", disk / ".target.partial-1")


def test_only_partial_copies_are_ever_removed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious").write_text("x")
    for act in (clone.remove_partial, lambda path: clone.clone_tree(tmp_path, path)):
        with pytest.raises(errors.NotOurs):
            act(tmp_path / "data")
    assert (tmp_path / "data" / "precious").exists()
    (tmp_path / ".data.partial-1").symlink_to("data")
    assert clone.remove_partial(tmp_path / ".data.partial-1")
    assert (tmp_path / "data" / "precious").exists()
    assert not clone.remove_partial(tmp_path / ".data.partial-1")


@needs_root
def test_hard_linked_tree(tmp_path: Path) -> None:
    source, target = make_tree(tmp_path / "source"), tmp_path / "kept"
    assert hardlink_tree(source, target).files == 8
    assert compare_trees(source, target) == []
    assert os.path.samefile(source / "base" / "16384", target / "base" / "16384")
    assert hardlink_tree(source, target).files == 8
    (source / "empty").unlink()
    (source / "empty").write_text("another file by now")
    hardlink_tree(source, target)
    assert (target / "empty").read_text() == "another file by now"


@needs_root
@pytest.mark.parametrize("point", range(6))
def test_hard_links_killed_anywhere_are_completed(tmp_path: Path, point: int) -> None:
    source = make_tree(tmp_path / "source")
    total = changing_calls(lambda: hardlink_tree(source, tmp_path / "counted"))
    assert killed_at(1 + total * point // 6, lambda: hardlink_tree(source, tmp_path / "kept"))
    hardlink_tree(source, tmp_path / "kept")
    assert compare_trees(source, tmp_path / "kept") == []


@isolated
def test_hard_links_do_not_cross_file_systems(tmp_path: Path) -> None:
    source, other = make_tree(tmp_path / "source"), mount_tmpfs(tmp_path / "other", 1)
    with pytest.raises(errors.TreeError, match="cross-device"):
        hardlink_tree(source, other / "kept")


def test_atomic_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "state.json"
    durable.write_json_atomically(file, {"b": 1, "a": [2]})
    assert json.loads(file.read_text()) == {"a": [2], "b": 1}
    assert file.stat().st_mode & 0o777 == 0o600

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        durable.write_atomically(file, b"half")
    assert json.loads(file.read_text()) == {"a": [2], "b": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_what_is_written_goes_out_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "BETWEEN_WRITES", 0.001)
    synced, seen = threading.Event(), []

    def sync(descriptor: int) -> None:
        seen.append(os.fstat(descriptor).st_ino)
        synced.set()

    monkeypatch.setattr(libc, "syncfs", sync)
    with durable.written_out_meanwhile(tmp_path):
        assert synced.wait(30)
    count = len(seen)
    assert set(seen) == {tmp_path.stat().st_ino}
    time.sleep(0.02)
    assert len(seen) == count


def test_what_could_not_be_written_meanwhile_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel tells it once: who asks again is told that all is well."""
    monkeypatch.setattr(durable, "BETWEEN_WRITES", 0.001)
    failed = threading.Event()

    def sync(descriptor: int) -> None:
        failed.set()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(libc, "syncfs", sync)
    with pytest.raises(errors.TreeError, match=f"{tmp_path}.*Input/output"), durable.written_out_meanwhile(tmp_path):
        assert failed.wait(30)
    failed.clear()

    def fail() -> None:
        with durable.written_out_meanwhile(tmp_path):
            assert failed.wait(30)
            raise errors.NoSpace("within.")

    with pytest.raises(errors.NoSpace) as caught:
        fail()
    assert caught.value.msg == f"within. What lies in {tmp_path} could not be written to the disk: Input/output error."


def test_what_went_wrong_within_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="within"), durable.written_out_meanwhile(tmp_path):
        raise KeyError("within")


def test_staging_names(tmp_path: Path) -> None:
    staging = durable.staging_path(tmp_path / "my data", "op-3")
    assert staging == tmp_path / ".my data.partial-op-3"
    assert durable.is_staging_path(staging)
    assert not any(map(durable.is_staging_path, ["/x/data", "/x/.hidden", "/x/data.partial-1", "/x/.a.partial-"]))
