# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every kind of difference between two trees is seen, and named."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.compare import compare_trees
from tests.unit.storage_tree.trees import flip_byte, make_tree, needs_root


def _relink(root: Path) -> None:
    (root / "linked").unlink()
    subprocess.run(["cp", "-a", str(root / "base" / "16384"), str(root / "linked")], check=True)


def _reverse(root: Path) -> None:
    (root / "fifo").unlink()
    (root / "fifo").write_text("")


def _aim(root: Path) -> None:
    status = (root / "dangling").lstat()
    (root / "dangling").unlink()
    (root / "dangling").symlink_to("elsewhere")
    os.chown(root / "dangling", status.st_uid, status.st_gid, follow_symlinks=False)
    os.utime(root / "dangling", ns=(0, status.st_mtime_ns), follow_symlinks=False)


CHANGES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "flipped byte": (lambda root: flip_byte(root / "base" / "16384", 2_000_000), "base/16384", "content"),
    "mode": (lambda root: (root / "setuid").chmod(0o755), "setuid", "mode"),
    "owner": (lambda root: os.chown(root / "base", 1, 999), "base", "owner"),
    "time": (lambda root: os.utime(root / "empty", ns=(1, 1)), "empty", "mtime"),
    "time of the root": (lambda root: os.utime(root, ns=(1, 1)), "", "mtime"),
    "size": (lambda root: os.truncate(root / "sparse", 1 << 20), "sparse", "size"),
    "missing": (lambda root: (root / "setuid").unlink(), "setuid", "missing"),
    "surplus": (lambda root: (root / "more").write_text(""), "more", "surplus"),
    "missing directory": (lambda root: (root / "empty directory").rmdir(), "empty directory", "missing"),
    "kind": (_reverse, "fifo", "kind"),
    "link": (_aim, "dangling", "symlink"),
    "hard link": (_relink, "base/linked too", "hard links"),
    "attribute": (lambda root: os.setxattr(root / "setuid", "trusted.x", b"y"), "setuid", "attributes"),
}


@needs_root
@pytest.mark.parametrize("name", CHANGES)
def test_difference(tmp_path: Path, name: str) -> None:
    change, path, what = CHANGES[name]
    one, other = make_tree(tmp_path / "one"), tmp_path / "other"
    subprocess.run(["cp", "-a", str(one), str(other)], check=True)
    assert compare_trees(one, other) == []
    change(other)
    found = {(item.path, item.what) for item in compare_trees(one, other)}
    assert (path, what) in found
    # Names that come and go touch the times of their directory, and nothing else differs.
    assert {item for item in found if item[0] not in (path, "base/16384", "base/linked too", "linked")} <= {
        ("", "mtime")
    }


@needs_root
def test_the_number_of_differences_is_limited_and_content_can_be_left_out(tmp_path: Path) -> None:
    one, other = make_tree(tmp_path / "one"), tmp_path / "other"
    subprocess.run(["cp", "-a", str(one), str(other)], check=True)
    flip_byte(other / "base" / "16384", 5)
    assert compare_trees(one, other, content=False) == []
    for number in range(9):
        (other / f"x{number}").write_text("")
    assert len(compare_trees(one, other, limit=4)) == 4
