# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep a directory's files alive under a second name, by hard links on the same file system."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.beneath import (
    lstat,
    open_directory,
    open_root,
    remove,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.durable import PathLike, fsync_parent
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.entries import (
    finish_directory,
    prepare_root,
    put_directory,
    put_other,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.mounts import (
    mount_id_of,
    nearest_existing,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.private_mount import act_through
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.record import scratch_record
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.rename import Passage, find_passage
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.scan import (
    Entry,
    carried,
    tree_size,
    walk,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.space import watched


@dataclass(frozen=True)
class Linked:
    files: int
    entries: int


def hardlink_tree(source: PathLike, target: PathLike, *, exclude: Collection[str] = ()) -> Linked:
    """Give every file of the stopped tree ``source`` a second name below ``target``, on the same file system.

    It holds data that is about to lose its first name, such as that in the layer of a container
    which is recreated; costs no space. The two names share one content: whoever writes to one
    writes to both, so it is no backup while the source is in use. Symbolic links and special
    files are recreated. Running it again completes it; durable when it returns. Where two mounts
    of one file system lie between them, the links are made through a private bind mount. Raises
    ``TreeError`` across file systems.
    """
    origin, final = os.path.abspath(source), os.path.abspath(target)
    state = f"the original in {origin} is complete and untouched"
    with watched(target, what=f"Linking {origin}", state=state, needed=lambda: 0):
        passage = None
        if mount_id_of(origin) != mount_id_of(nearest_existing(final)):
            passage = find_passage(origin, final)
        if isinstance(passage, Passage):
            inner, outer = passage.source, passage.target
            act_through(
                passage.mount_point,
                lambda place: _ignore(_link_tree(f"{place}/{inner}", f"{place}/{outer}", exclude)),
            )
            return _counted(target)
        return _link_tree(source, target, exclude)


def _ignore(_linked: Linked) -> None:
    """The child's count stays in the child."""


def _counted(target: PathLike) -> Linked:
    size = tree_size(target)
    return Linked(size.files, size.entries)


def _link_tree(source: PathLike, target: PathLike, exclude: Collection[str]) -> Linked:
    files = entries = 0
    prepare_root(target, resumable=True)
    with scratch_record() as book, open_root(source) as source_root, open_root(target) as target_root:
        for listing in walk(source, live=False, exclude=exclude):
            book.add_directory(listing.path)
            with open_directory(target_root, listing.path) as place:
                for entry in carried(source, listing):
                    entries += 1
                    if entry.kind == "directory":
                        put_directory(place, entry.name)
                    elif entry.kind == "file":
                        files += 1
                        _link(listing.descriptor, place, entry)
                    else:
                        put_other(listing.descriptor, place, entry)
        for path, _entry in book.directories_deepest_first():
            finish_directory(source_root, target_root, path, durable=True)
    fsync_parent(target)
    return Linked(files, entries)


def _link(source: int, target: int, entry: Entry) -> None:
    present = lstat(target, entry.name)
    if present is not None:
        if (present.st_dev, present.st_ino) == (entry.device, entry.inode):
            return
        remove(target, entry.name)
    os.link(entry.name, entry.name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
