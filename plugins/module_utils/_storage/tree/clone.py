# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clone a stopped tree by sharing its extents (reflink): XFS, btrfs. Milliseconds at any size."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.beneath import (
    open_directory,
    open_file,
    open_root,
    remove,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.durable import (
    PathLike,
    fsync_parent,
    is_staging_path,
    sync_file_system,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.entries import (
    Batch,
    batches,
    finish_directory,
    prepare_root,
    put_directory,
    put_link,
    put_other,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.errors import CannotClone, NotOurs
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.metadata import copy_metadata
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.mounts import nearest_existing
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.parallel import in_parallel
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.record import Record, scratch_record
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.rename import Possible
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.scan import (
    Entry,
    Listing,
    carried,
    walk,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.space import watched

# linux/fs.h: _IOW(0x94, 9, int)
FICLONE = 0x40049409


@dataclass(frozen=True)
class Cloned:
    files: int
    bytes: int


def can_clone(source: PathLike, target_parent: PathLike) -> Possible:
    """Tell whether files of ``source`` can be cloned into ``target_parent``, by cloning one.

    The clone is an unnamed temporary file, so nothing is left behind even by SIGKILL. Device
    numbers and file-system types do not tell: XFS can be made without reflinks, btrfs clones
    between subvolumes but not between files with and without checksums, old kernels refuse
    between two mounts.
    """
    parent = nearest_existing(target_parent)
    try:
        descriptor = os.open(parent, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    except OSError as error:
        return Possible(False, "", f"no temporary file can be made in {parent}: {error.strerror}")
    try:
        reason = _try_clone(source, descriptor)
    finally:
        os.close(descriptor)
    return Possible(not reason, "" if reason else "reflink", reason or "a file was cloned there as a trial")


def _try_clone(source: PathLike, trial: int) -> str:
    """Clone the smallest file found among the first hundred; return why that failed, or nothing."""
    files: list[Entry] = []
    for listing in walk(source, live=True):
        sized = (entry for entry in listing.entries if entry.kind == "file" and entry.size and not entry.is_mount)
        files += islice(sized, 100 - len(files))
        if len(files) >= 100:
            break
    if not files:
        return f"{os.fspath(source)} holds no file to try it with"
    path = min(files, key=lambda entry: entry.size).path
    directory, _slash, name = path.rpartition("/")
    try:
        with open_root(source) as root, open_directory(root, directory) as where, open_file(where, name) as origin:
            fcntl.ioctl(trial, FICLONE, origin)
    except OSError as error:
        return f"the file system refuses to clone {path}: {error.strerror}"
    return ""


def clone_tree(source: PathLike, staging: PathLike, *, workers: int = 2, exclude: Collection[str] = ()) -> Cloned:
    """Clone the stopped tree ``source`` to ``staging``, with all metadata, durable when it returns.

    ``staging`` must bear a name from ``durable.staging_path``: what an earlier, killed run left
    there is removed, and the clone is begun anew. Publish it with ``rename_directory``.
    """
    state = f"the original in {os.fspath(source)} is complete and untouched; {os.fspath(staging)} is partial and ours"
    if not is_staging_path(staging):
        raise NotOurs(f"{os.fspath(staging)} does not bear the name of a partial copy.")
    with watched(staging, what=f"Cloning {os.fspath(source)}", state=state, needed=lambda: 0):
        remove_partial(staging)
        prepare_root(staging, resumable=False)
        with scratch_record() as book, open_root(source) as source_root, open_root(staging) as target_root:
            run = _Cloning(book, source, source_root, target_root, exclude)
            files = total = 0
            for count, size in in_parallel(run.batch, run.jobs(), workers=workers):
                files, total = files + count, total + size
            for path, first in book.links():
                put_link(target_root, first, path)
            for path, _entry in book.directories_deepest_first():
                finish_directory(source_root, target_root, path, durable=False)
        # Clones are metadata alone: one log flush for all beats an fsync for each.
        sync_file_system(staging)
        fsync_parent(staging)
        return Cloned(files, total)


def remove_partial(staging: PathLike) -> bool:
    """Remove a partial copy of ours, told by its name; tell whether there was one."""
    if not is_staging_path(staging):
        raise NotOurs(f"{os.fspath(staging)} does not bear the name of a partial copy and is not removed.")
    parent, name = os.path.split(os.path.abspath(staging))
    with open_root(os.path.realpath(parent)) as directory:
        removed = remove(directory, name)
        os.fsync(directory)
    return bool(removed)


class _Cloning:
    """One run of ``clone_tree``; lives as long as the descriptors of both roots."""

    def __init__(
        self, book: Record, source: PathLike, source_root: int, target_root: int, exclude: Collection[str]
    ) -> None:
        self._book = book
        self._source = source
        self._source_root = source_root
        self._target_root = target_root
        self._exclude = exclude

    def jobs(self) -> Iterator[Batch]:
        for listing in walk(self._source, live=False, exclude=self._exclude):
            self._book.add_directory(listing.path)
            with open_directory(self._target_root, listing.path) as target:
                yield from batches(listing.path, self._files(listing, target))

    def _files(self, listing: Listing, target: int) -> Iterator[Entry]:
        for entry in carried(self._source, listing):
            if entry.kind == "directory":
                put_directory(target, entry.name)
            elif entry.kind != "file":
                put_other(listing.descriptor, target, entry)
            elif entry.nlink > 1 and (first := self._book.first_of_link(entry.inode, entry.path)) is not None:
                self._book.add_link(entry.path, first)
            else:
                yield entry

    def batch(self, batch: Batch) -> tuple[int, int]:
        with (
            open_directory(self._source_root, batch.directory) as source,
            open_directory(self._target_root, batch.directory) as target,
        ):
            return len(batch.entries), sum(self._clone(source, target, entry) for entry in batch.entries)

    def _clone(self, source: int, target: int, entry: Entry) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        with open_file(source, entry.name) as origin, open_file(target, entry.name, flags) as copy:
            status = os.fstat(origin)
            try:
                fcntl.ioctl(copy, FICLONE, origin)
            except OSError as error:
                raise CannotClone(
                    f"{os.path.join(os.fspath(self._source), entry.path)} cannot be cloned: {error.strerror}.",
                    state="the original is complete and untouched; the partial clone is ours",
                    next_command="choose another strategy (copy), and run the same task again",
                ) from error
            copy_metadata(origin, copy, status)
            return status.st_size
