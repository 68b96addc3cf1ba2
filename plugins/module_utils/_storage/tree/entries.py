# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put the entries of a tree that are no regular files: directories, symbolic links, special files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import shell
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.beneath import (
    lstat,
    open_directory,
    remove,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.durable import PathLike, fsync_parent
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.errors import NotOurs
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.metadata import (
    copy_entry_metadata,
    copy_metadata,
    read_xattrs,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.scan import Entry

_BATCH_FILES = 64
_BATCH_BYTES = 8 << 20


@dataclass(frozen=True)
class Batch:
    """Some files of one directory: one job, so that small files do not cost a job each."""

    directory: str
    entries: tuple[Entry, ...]


def batches(directory: str, files: Iterable[Entry]) -> Iterator[Batch]:
    pending: list[Entry] = []
    total = 0
    for entry in files:
        pending.append(entry)
        total += entry.size
        if len(pending) >= _BATCH_FILES or total >= _BATCH_BYTES:
            yield Batch(directory, tuple(pending))
            pending, total = [], 0
    if pending:
        yield Batch(directory, tuple(pending))


def prepare_root(target: PathLike, *, resumable: bool) -> None:
    """Make the directory that a copy goes to, closed to all others until it is settled.

    One that holds something already is accepted only where the caller knows it as its own.
    """
    try:
        os.mkdir(target, 0o700)
        fsync_parent(target)
    except FileExistsError:
        if os.path.islink(target) or not os.path.isdir(target):
            raise NotOurs(
                f"{os.fspath(target)} exists and is not a directory.", next_command=shell("ls", "-ld", target)
            ) from None
        if not resumable and os.listdir(target):
            raise NotOurs(
                f"{os.fspath(target)} is not empty, and what it holds was not copied there by this operation: move it"
                " away if nobody needs it.",
                next_command=shell("ls", "-la", target),
            ) from None


def put_directory(target: int, name: str) -> bool:
    """Make sure that a directory bears this name; tell whether it had to be made."""
    status = lstat(target, name)
    if status is not None:
        if stat.S_ISDIR(status.st_mode):
            return False
        os.unlink(name, dir_fd=target)
    # Its own mode comes last: until then nobody else may enter a partial copy.
    os.mkdir(name, 0o700, dir_fd=target)
    return True


def put_other(source: int, target: int, entry: Entry) -> bool:
    """Make a symbolic link, socket, FIFO or device as it is at the source; tell whether anything changed.

    Raises FileNotFoundError where it vanished at the source.
    """
    name = entry.name
    status = os.stat(name, dir_fd=source, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(f"{entry.path} is another kind of entry by now")
    if _is_same(source, target, name, status):
        return False
    remove(target, name)
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    else:
        os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=target)
    copy_entry_metadata(source, target, name, status)
    return True


def _is_same(source: int, target: int, name: str, status: os.stat_result) -> bool:
    present = lstat(target, name)
    if present is None or _shape(present) != _shape(status):
        return False
    if stat.S_ISLNK(status.st_mode) and os.readlink(name, dir_fd=source) != os.readlink(name, dir_fd=target):
        return False
    return read_xattrs(f"/proc/self/fd/{source}/{name}") == read_xattrs(f"/proc/self/fd/{target}/{name}")


def _shape(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_mode, status.st_uid, status.st_gid, status.st_rdev, status.st_mtime_ns)


def finish_directory(source_root: int, target_root: int, path: str, *, durable: bool) -> bool:
    """Give a directory its metadata once nothing is made in it any more; tell whether that changed it."""
    with open_directory(source_root, path) as source, open_directory(target_root, path) as target:
        changed = copy_metadata(source, target, os.fstat(source))
        if durable or changed:
            os.fsync(target)
        return changed


def put_link(target_root: int, first: str, path: str) -> bool:
    """Make ``path`` a hard link to ``first``, both in the target; tell whether it had to be made."""
    first_directory, _slash, first_name = first.rpartition("/")
    directory, _slash, name = path.rpartition("/")
    with open_directory(target_root, first_directory) as origin, open_directory(target_root, directory) as place:
        wanted, present = os.stat(first_name, dir_fd=origin, follow_symlinks=False), lstat(place, name)
        if present is not None:
            if (present.st_dev, present.st_ino) == (wanted.st_dev, wanted.st_ino):
                return False
            remove(place, name)
        os.link(first_name, name, src_dir_fd=origin, dst_dir_fd=place, follow_symlinks=False)
        return True
