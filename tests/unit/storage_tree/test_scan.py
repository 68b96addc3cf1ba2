# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Scanning and measuring a tree, alive or stopped."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import libc, mounts, scan
from tests.unit.storage_tree.trees import bind_mount, isolated, make_tree, mount_tmpfs


def test_every_entry_once_parents_first(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "root")
    paths = [entry.path for entry in scan.scan(root)]
    expected = sorted(os.path.relpath(path, root) for path in root.rglob("*"))
    assert sorted(paths) == expected
    assert paths.index("base") < paths.index("base/16384")
    assert os.fsencode(next(path for path in paths if path.startswith("no"))) == b"no\xfftext"


def test_size_counts_hard_links_once_and_knows_holes(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "root")
    size = scan.tree_size(root)
    assert size.bytes_apparent == 3 * (1 << 20) + 17 + 4 + 17 + (64 << 20) + 2
    assert size.bytes_allocated < 8 << 20
    assert size.special == ("fifo",)
    assert size.mounts == ()


def test_sockets_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        assert [entry.kind for entry in scan.scan(tmp_path)] == ["socket"]


def test_what_vanishes_during_the_scan_is_passed_over(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    seen = []
    for entry in scan.scan(tmp_path):
        seen.append(entry.path)
        if entry.path == "c":
            (tmp_path / "b" / "file").unlink()
            (tmp_path / "b").rmdir()
    assert seen == ["a", "b", "c", "a/file", "c/file"]


def test_a_link_is_not_followed_even_when_it_replaces_a_directory(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("private")
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    seen = []
    for entry in scan.scan(root):
        seen.append(entry.path)
        (root / "d").rmdir()
        (root / "d").symlink_to(secret)
    assert seen == ["d"]


@pytest.mark.parametrize("kind", ["missing", "file", "link"])
def test_a_root_that_is_no_directory_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(InvalidInput, match="is not a directory"):
        list(scan.scan(tmp_path / kind))


@isolated
def test_mount_points_are_reported_and_not_entered(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "other").mkdir(parents=True)
    (tmp_path / "same").mkdir()
    (tmp_path / "same" / "file").write_text("x")
    mount_tmpfs(root / "other", 1)
    (root / "other" / "hidden").write_text("x")
    bind_mount(tmp_path / "same", root / "bound")
    entries = {entry.path: entry.is_mount for entry in scan.scan(root)}
    assert entries == {"other": True, "bound": True}
    assert scan.tree_size(root).mounts == ("bound", "other")
    assert mounts.is_mount_point(root / "bound")
    assert not mounts.is_mount_point(root)
    assert sorted(mounts.mount_points_below(root)) == [str(root / "bound"), str(root / "other")]
    assert mounts.filesystem_of(root / "other" / "not" / "yet").volatile
    assert mounts.filesystem_of(root / "other").bytes_total == 1 << 20


@isolated
def test_mounts_of_another_namespace_are_seen_and_those_of_ours_are_not_mixed_in(tmp_path: Path) -> None:
    """A running container's files are read below /proc/<pid>/root."""
    root = tmp_path / "root"
    for name in ("theirs", "ours", "bound"):
        (root / name).mkdir(parents=True)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        libc.unshare(libc.CLONE_NEWNS)
        mount_tmpfs(root / "theirs", 1)
        bind_mount(root / "ours", root / "bound")
        os.write(writing, b"ready")
        signal.pause()
    try:
        assert os.read(reading, 5) == b"ready"
        mount_tmpfs(root / "ours", 1)
        there = {entry.path: entry.is_mount for entry in scan.scan(f"/proc/{child}/root{root}")}
        here = {entry.path: entry.is_mount for entry in scan.scan(root)}
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert there == {"theirs": True, "ours": False, "bound": True}
    assert here == {"theirs": False, "ours": True, "bound": False}


def test_mountinfo_lines() -> None:
    mount = mounts.parse_mount("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw\n")
    assert (mount.mount_id, mount.device, mount.root, mount.point) == (36, "98:0", "/mnt1", "/mnt 2")
    assert (mount.fs_type, mount.source, mount.read_only) == ("ext3", "/dev/root", False)
    plain = mounts.parse_mount("36 35 0:9 / /x ro - tmpfs  rw")
    assert (plain.fs_type, plain.read_only) == ("tmpfs", True)
