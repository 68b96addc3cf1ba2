# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which files some process may write to through a shared mapping."""

from __future__ import annotations

import os


def writably_mapped_inodes() -> frozenset[int]:
    """Return the inodes of all files that are mapped shared and writable right now, on the whole host.

    A store through such a mapping changes a file's times only when it makes a clean page
    dirty: further stores to the same page go unseen until it was written back. So times alone do not
    tell whether such a file changed. Inodes without their device, because mountinfo and stat
    disagree on it on btrfs and overlayfs: a false hit costs one comparison.
    """
    processes = (process for process in os.listdir("/proc") if process.isdigit())
    return frozenset(inode for process in processes for inode in mapped_by(process))


def mapped_by(process: str) -> frozenset[int]:
    """Return those of one process, by its number; none once it has ended or where it is none of ours to look at."""
    inodes: set[int] = set()
    try:
        with open(f"/proc/{process}/maps", "rb") as stream:
            for line in stream:
                fields = line.split(None, 5)
                if fields[1][1:2] == b"w" and fields[1][3:4] == b"s" and fields[4] != b"0":
                    inodes.add(int(fields[4]))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        pass
    return frozenset(inodes)
