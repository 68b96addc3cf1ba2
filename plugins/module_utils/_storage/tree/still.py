# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a live tree stood still, so that a copy of all of it is of one moment."""

from __future__ import annotations

import os
from collections.abc import Collection

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.beneath import (
    GONE,
    open_directory,
    open_file,
    open_root,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.blocks import first_difference
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.durable import PathLike
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.scan import Entry, scan


def last_change(source: PathLike) -> tuple[int, str]:
    """Return when anything in the tree changed last (ctime, in nanoseconds), and its path; "" is the root itself."""
    newest = (os.stat(source).st_ctime_ns, "")
    for entry in scan(source):
        if entry.ctime_ns >= newest[0]:
            newest = (entry.ctime_ns, entry.path)
    return newest


def mapped_difference(source: PathLike, copy: PathLike, mapped: Collection[int]) -> str | None:
    """Return a file among the inodes ``mapped`` that differs from its copy, or None.

    Their times do not tell of every change: see writably_mapped_inodes().
    """
    with open_root(source) as source_root, open_root(copy) as copy_root:
        for entry in scan(source):
            if entry.inode in mapped and entry.kind == "file" and not _same(source_root, copy_root, entry):
                return entry.path
    return None


def _same(source_root: int, copy_root: int, entry: Entry) -> bool:
    directory = entry.path.rpartition("/")[0]
    try:
        with (
            open_directory(source_root, directory) as here,
            open_directory(copy_root, directory) as there,
            open_file(here, entry.name) as original,
            open_file(there, entry.name) as copy,
        ):
            return first_difference(original, copy, 0, entry.size) is None
    except OSError as error:
        if error.errno not in GONE:
            raise
        return False
