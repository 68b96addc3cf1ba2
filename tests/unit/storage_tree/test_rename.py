# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Renaming a whole directory, directly and through a private bind mount."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import errors, libc, mounts, rename
from tests.unit.storage_tree.trees import bind_mount, isolated, mount_image, mount_tmpfs, needs_root


def volume(root: Path) -> Path:
    (root / "volume" / "base").mkdir(parents=True)
    (root / "volume" / "base" / "1").write_text("data")
    return root / "volume"


def test_direct(tmp_path: Path) -> None:
    source, target = volume(tmp_path), tmp_path / "täget dir" / "data"
    target.parent.mkdir()
    before = source.stat()
    assert rename.can_rename(source, target.parent).how == "direct"
    done = rename.rename_directory(source, target)
    assert (done.device, done.inode, done.how) == (before.st_dev, before.st_ino, "direct")
    assert target.stat().st_ino == before.st_ino
    assert not source.exists()
    assert (target / "base" / "1").read_text() == "data"


def test_an_empty_target_makes_way(tmp_path: Path) -> None:
    source, target = volume(tmp_path), tmp_path / "target"
    target.mkdir()
    rename.rename_directory(source, target)
    assert (target / "base" / "1").exists()


@pytest.mark.parametrize("kind", ["full", "file", "link"])
def test_a_target_that_holds_something_stays(tmp_path: Path, kind: str) -> None:
    source, target = volume(tmp_path), tmp_path / "target"
    if kind == "full":
        target.mkdir()
        (target / "precious").write_text("x")
    elif kind == "file":
        target.write_text("precious")
    else:
        target.symlink_to(tmp_path)
    with pytest.raises(errors.NotOurs, match="not an empty directory") as raised:
        rename.rename_directory(source, target)
    assert str(source) in raised.value.state
    assert (source / "base" / "1").exists()
    assert target.is_symlink() or target.is_file() or (target / "precious").exists()


def test_a_target_that_appears_at_the_last_moment_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = volume(tmp_path), tmp_path / "target"
    monkeypatch.setattr(rename, "_clear_target", lambda final, stays: target.mkdir())
    with pytest.raises(errors.CannotRename, match="File exists"):
        rename.rename_directory(source, target)
    assert (source / "base" / "1").exists()


def test_a_file_system_without_the_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(source: str, target: str) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(libc, "rename_no_replace", unknown)
    rename.rename_directory(volume(tmp_path), tmp_path / "target")
    assert (tmp_path / "target" / "base" / "1").exists()


def test_no_such_source(tmp_path: Path) -> None:
    with pytest.raises(errors.CannotRename, match="does not exist"):
        rename.rename_directory(tmp_path / "gone", tmp_path / "target")


def test_a_link_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(volume(tmp_path))
    assert not rename.can_rename(tmp_path / "link", tmp_path).yes
    with pytest.raises(errors.CannotRename, match="not a directory"):
        rename.rename_directory(tmp_path / "link", tmp_path / "target")


def test_into_itself(tmp_path: Path) -> None:
    source = volume(tmp_path)
    answer = rename.can_rename(source, source / "base" / "deeper")
    assert (answer.yes, "lies inside" in answer.reason) == (False, True)


def mount_points() -> set[str]:
    """Return where something is mounted; an engine that works beside brings its own, and takes them away."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line.split()[4] for line in lines if "/overlay2/" not in line}


@isolated
def test_between_two_mounts_of_one_file_system(tmp_path: Path) -> None:
    source = volume(tmp_path / "engine")
    project = bind_mount(tmp_path / "engine", tmp_path / "a mount")
    (tmp_path / "project").mkdir()
    target = tmp_path / "project" / "data"
    with pytest.raises(OSError, match="cross-device"):
        os.rename(project / "volume", target)
    answer = rename.can_rename(project / "volume", target.parent)
    assert (answer.yes, answer.how) == (True, "bind")
    before, table = source.stat(), mount_points()
    done = rename.rename_directory(project / "volume", target)
    assert (done.how, done.inode, target.stat().st_ino) == ("bind", before.st_ino, before.st_ino)
    assert not source.exists()
    assert not mount_points() - table, "a mount is left behind"


@isolated
def test_between_two_mounts_of_a_file_system_without_the_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(source: str, target: str) -> None:
        raise OSError(22, "Invalid argument")

    source = volume(tmp_path / "engine")
    project = bind_mount(tmp_path / "engine", tmp_path / "mount")
    monkeypatch.setattr(libc, "rename_no_replace", unknown)
    done = rename.rename_directory(project / "volume", tmp_path / "target")
    assert done.how == "bind"
    assert (tmp_path / "target" / "base" / "1").exists()
    assert not source.exists()


@isolated
def test_the_bind_mount_reaches_below_what_covers_the_way(tmp_path: Path) -> None:
    """A file system mounted over a directory on the way hides it from paths, not from a fresh bind."""
    disk = mount_image(tmp_path, "ext4", 32)
    source = volume(disk / "docker")
    visible = bind_mount(disk / "docker", tmp_path / "docker")
    bind_mount(disk / "lost+found", disk / "docker")
    (disk / "srv").mkdir()
    assert not source.exists()
    done = rename.rename_directory(visible / "volume", disk / "srv" / "data")
    assert done.how == "bind"
    assert (disk / "srv" / "data" / "base" / "1").read_text() == "data"


@isolated
def test_no_mount_shows_both_ends(tmp_path: Path) -> None:
    disk = mount_image(tmp_path, "ext4", 32)
    source = volume(disk / "docker")
    (disk / "srv").mkdir()
    one = bind_mount(disk / "docker", tmp_path / "one")
    other = bind_mount(disk / "srv", tmp_path / "other")
    subprocess.run(["umount", str(disk)], check=True)
    answer = rename.can_rename(one / source.name, other)
    assert (answer.yes, "no writable mount shows both" in answer.reason) == (False, True)
    with pytest.raises(errors.CannotRename, match="no writable mount"):
        rename.rename_directory(one / source.name, other / "data")
    assert (one / source.name / "base" / "1").exists()
    assert list(other.iterdir()) == []


@isolated
def test_never_across_file_systems(tmp_path: Path) -> None:
    source, other = volume(tmp_path), mount_tmpfs(tmp_path / "other", 1)
    answer = rename.can_rename(source, other)
    assert (answer.yes, "different file systems" in answer.reason) == (False, True)
    with pytest.raises(errors.CannotRename, match="different file systems"):
        rename.rename_directory(source, other / "data")
    assert (source / "base" / "1").exists()
    assert list(other.iterdir()) == []


@isolated
def test_mount_points_are_not_renamed(tmp_path: Path) -> None:
    source = volume(tmp_path)
    bind_mount(tmp_path, source / "inner")
    assert "is mounted inside" in rename.can_rename(source, tmp_path).reason
    assert "is a mount point" in rename.can_rename(source / "inner", tmp_path).reason


@isolated
def test_read_only_places(tmp_path: Path) -> None:
    source = volume(tmp_path)
    place = bind_mount(tmp_path, tmp_path / "place")
    subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
    assert "read-only" in rename.can_rename(source, place).reason


@needs_root
def test_immutable_directories_are_seen_before(tmp_path: Path) -> None:
    source = volume(tmp_path)
    if subprocess.run(["chattr", "+i", str(source)], check=False, capture_output=True).returncode:
        pytest.skip("no immutable flag on this file system")
    try:
        assert "immutable" in rename.can_rename(source, tmp_path).reason
    finally:
        subprocess.run(["chattr", "-i", str(source)], check=True)
    assert rename.can_rename(source, tmp_path).yes


@isolated
def test_asking_changes_nothing(tmp_path: Path) -> None:
    source = volume(tmp_path / "engine")
    place = bind_mount(tmp_path / "engine", tmp_path / "place")
    before = (source.stat(), source.parent.stat(), mounts.read_mounts())
    rename.can_rename(place / "volume", tmp_path / "not" / "yet")
    after = (source.stat(), source.parent.stat(), mounts.read_mounts())
    assert before[2] == after[2]
    assert [item.st_ctime_ns for item in before[:2]] == [item.st_ctime_ns for item in after[:2]]
    assert not (tmp_path / "not").exists()
