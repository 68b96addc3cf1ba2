# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Walk a tree that may be alive: entries vanish, appear and change type under our feet."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import shell
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.beneath import (
    GONE,
    join,
    open_directory,
    open_root,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.durable import PathLike
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.errors import NestedMount
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.mounts import (
    mount_id,
    mount_points_below,
    read_mounts,
)

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


class Entry(NamedTuple):
    """One name in a tree. Paths are relative to the root, undecodable bytes as surrogates.

    A tuple, because there is one for every file: it is made several times faster than a dataclass.
    """

    path: str
    kind: str
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    uid: int
    gid: int
    inode: int
    device: int
    nlink: int
    blocks: int
    rdev: int = 0
    is_mount: bool = False

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Size:
    """What a tree holds; bytes of regular files, hard links counted once."""

    bytes_apparent: int
    bytes_allocated: int
    files: int
    entries: int
    special: tuple[str, ...]
    mounts: tuple[str, ...]


@dataclass(frozen=True)
class Listing:
    """One directory, open: its names, sorted by their bytes, and once only, in this order, its entries.

    Entries are made as they are asked for: a directory may hold hundreds of thousands. They
    lack what vanished since the names were read.
    """

    path: str
    descriptor: int
    names: tuple[str, ...]
    entries: Iterator[Entry]


def entry_of(path: str, status: os.stat_result, *, is_mount: bool = False) -> Entry:
    return Entry(
        path=path,
        kind=_KINDS.get(stat.S_IFMT(status.st_mode), "unknown"),
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        inode=status.st_ino,
        device=status.st_dev,
        nlink=status.st_nlink,
        blocks=status.st_blocks,
        rdev=status.st_rdev,
        is_mount=is_mount,
    )


def walk(root: PathLike, *, live: bool, exclude: Collection[str] = ()) -> Iterator[Listing]:
    """Yield every directory of a tree, parents first, without crossing mount points.

    With ``live`` a directory that vanishes is passed over; else that is an error, for nothing may
    vanish from a source that was stopped. Memory holds the names in one directory and those
    of directories still to visit.
    """
    excluded = frozenset(exclude)
    with open_root(root) as top:
        mounts = _Mounts.of(top)
        pending = [""]
        while pending:
            path = pending.pop()
            with contextlib.ExitStack() as stack:
                try:
                    descriptor = stack.enter_context(open_directory(top, path))
                    found = os.listdir(descriptor)
                except OSError as error:
                    if not (live and path and error.errno in GONE):
                        raise
                    continue
                if path and mount_id(descriptor) != mounts.own:
                    raise NestedMount(f"{os.path.join(os.fspath(root), path)} became a mount point meanwhile.")
                names = tuple(sorted((n for n in found if join(path, n) not in excluded), key=os.fsencode))
                deeper: list[str] = []
                entries = _entries(path, descriptor, names, mounts, deeper)
                yield Listing(path, descriptor, names, entries)
                # Whoever left the loop over the entries early still gets the whole tree.
                for _entry in entries:
                    pass
            pending.extend(reversed(deeper))


@dataclass(frozen=True)
class _Mounts:
    """What tells a mount point: other devices, other mounts, and what mountinfo names."""

    device: int
    own: int
    known: frozenset[str]

    @classmethod
    def of(cls, descriptor: int) -> _Mounts:
        own, table, known = mount_id(descriptor), read_mounts(), frozenset[str]()
        if any(mount.mount_id == own for mount in table):
            # Only for a tree in our own namespace: the path of one below /proc/<pid>/root would
            # resolve to an unrelated path of the host.
            real = os.readlink(f"/proc/self/fd/{descriptor}").rstrip("/")
            known = frozenset(point[len(real) + 1 :] for point in mount_points_below(real, table))
        return cls(os.fstat(descriptor).st_dev, own, known)


def _entries(
    directory: str, descriptor: int, names: Collection[str], mounts: _Mounts, deeper: list[str]
) -> Iterator[Entry]:
    """Yield the entries; directories to descend into are added to ``deeper``."""
    for name in names:
        path = join(directory, name)
        try:
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            is_directory = stat.S_ISDIR(status.st_mode)
            is_mount = status.st_dev != mounts.device or path in mounts.known
            if is_directory and not is_mount:
                # A bind mount of the same file system shows neither in st_dev nor, below
                # /proc/<pid>/root, in our own mountinfo.
                with open_directory(descriptor, name) as child:
                    is_mount = mount_id(child) != mounts.own
        except OSError as error:
            if error.errno not in GONE:
                raise
            continue
        if is_directory and not is_mount:
            deeper.append(path)
        yield entry_of(path, status, is_mount=is_mount)


def scan(root: PathLike, *, exclude: Collection[str] = ()) -> Iterator[Entry]:
    """Yield all entries below ``root`` (not ``root`` itself), parents before what they hold."""
    for listing in walk(root, live=True, exclude=exclude):
        yield from listing.entries


def tree_size(root: PathLike, *, exclude: Collection[str] = ()) -> Size:
    """Add up what a tree holds; what lies behind a mount point is named, not counted."""
    apparent = allocated = files = entries = 0
    special: list[str] = []
    mounts: list[str] = []
    linked: set[int] = set()
    for entry in scan(root, exclude=exclude):
        entries += 1
        if entry.is_mount:
            mounts.append(entry.path)
            continue
        if entry.kind not in ("file", "directory", "symlink"):
            special.append(entry.path)
        if entry.nlink > 1 and entry.kind == "file":
            if entry.inode in linked:
                continue
            linked.add(entry.inode)
        allocated += entry.blocks * 512
        if entry.kind == "file":
            files += 1
            apparent += entry.size
    return Size(apparent, allocated, files, entries, tuple(special), tuple(mounts))


def carried(root: PathLike, listing: Listing) -> Iterator[Entry]:
    """Yield the entries of a directory that is to be carried along whole.

    Raises ``NestedMount`` at a mount point: what is mounted there would silently stay behind.
    """
    for entry in listing.entries:
        if entry.is_mount:
            raise NestedMount(
                f"{os.path.join(os.fspath(root), entry.path)} is a mount point inside the data; "
                "what is mounted there would not be carried along. Unmount it first.",
                next_command=shell("findmnt", os.path.join(os.fspath(root), entry.path)),
            )
        yield entry


def in_chunks(entries: Iterable[Entry], count: int = 512) -> Iterator[list[Entry]]:
    rest = iter(entries)
    while chunk := list(islice(rest, count)):
        yield chunk
