# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""File systems in a file: another device, one with reflinks, one that is soon full."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from . import apt
from ._base import STATE_DIR, SandboxError, run

FsType = Literal["ext4", "xfs", "btrfs"]
PACKAGES = {"ext4": "e2fsprogs", "xfs": "xfsprogs", "btrfs": "btrfs-progs"}
# Smaller ones are refused by the programs that make them.
SMALLEST_MB = {"ext4": 8, "xfs": 300, "btrfs": 114}
# Reserved blocks would let root write on when the file system is full for everybody else.
MAKE = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-m", "0"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
}


@contextlib.contextmanager
def loopfs(fstype: FsType, size_mb: int, *, options: str = "") -> Iterator[Path]:
    """Mount a new file system of ``size_mb`` MiB and yield its mount point; unmount and detach whatever happens."""
    if os.geteuid() != 0:
        raise SandboxError("mounting a file system needs root")
    if size_mb < SMALLEST_MB[fstype]:
        raise SandboxError(f"{fstype} needs at least {SMALLEST_MB[fstype]} MiB, not {size_mb}")
    make, *flags = MAKE[fstype]
    program = apt.ensure_program(make, PACKAGES[fstype])
    parent = STATE_DIR / "loop"
    parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{fstype}-", dir=parent)))
        backing, point = folder / "image", folder / "mnt"
        point.mkdir()
        with backing.open("wb") as handle:
            handle.truncate(size_mb * 1024 * 1024)
        run([program, *flags, str(backing)])
        device = run(["losetup", "--find", "--show", str(backing)]).stdout.strip()
        stack.callback(run, ["losetup", "--detach", device], check=False)
        run(["mount", "-t", fstype, *(["-o", options] if options else []), device, str(point)])
        stack.callback(_unmount, point)
        yield point


def _unmount(point: Path) -> None:
    """Unmount what is there, nested mounts included; a file still open must not keep the mount in the tree."""
    if run(["umount", "--recursive", str(point)], check=False).returncode != 0:
        run(["umount", "--recursive", "--lazy", str(point)])
