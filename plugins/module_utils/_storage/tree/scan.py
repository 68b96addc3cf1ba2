# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Walk a tree that may be alive: entries vanish, appear and change type under our feet."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.beneath import (
    GONE,
    join,
    open_directory,
    open_root,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.durable import PathLike
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.errors import NestedMount
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.mounts import mount_id, mount_points_below

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


@dataclass(frozen=True)
class Entry:
    """One name in a tree. Paths are relative to the root, undecodable bytes as surrogates."""

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
    """The entries of one directory, sorted by name, with the directory open."""

    path: str
    descriptor: int
    entries: tuple[Entry, ...]


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

    With ``live`` a directory that vanishes is passed over; else that is an error, for
    nothing may vanish from a source that was stopped. Memory holds one listing and the names of
    directories still to visit.
    """
    excluded = frozenset(exclude)
    with open_root(root) as top:
        device, own_mount = os.fstat(top).st_dev, mount_id(top)
        real = os.path.realpath(root).rstrip("/")
        mounted = frozenset(point[len(real) + 1 :] for point in mount_points_below(real))
        pending = [""]
        while pending:
            path = pending.pop()
            try:
                with open_directory(top, path) as descriptor:
                    if path and mount_id(descriptor) != own_mount:
                        raise NestedMount(f"{os.path.join(os.fspath(root), path)} became a mount point meanwhile.")
                    entries = tuple(_entries(descriptor, path, excluded, device, own_mount, mounted))
                    yield Listing(path, descriptor, entries)
            except OSError as error:
                if not (live and path and error.errno in GONE):
                    raise
                continue
            pending.extend(
                entry.path for entry in reversed(entries) if entry.kind == "directory" and not entry.is_mount
            )


def _entries(
    descriptor: int,
    directory: str,
    excluded: Collection[str],
    device: int,
    own_mount: int,
    mounted: Collection[str],
) -> Iterator[Entry]:
    for name in sorted(os.listdir(descriptor), key=os.fsencode):
        path = join(directory, name)
        if path in excluded:
            continue
        try:
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            is_mount = status.st_dev != device or path in mounted
            if not is_mount and stat.S_ISDIR(status.st_mode):
                # A bind mount of the same file system shows neither in st_dev nor, below
                # /proc/<pid>/root, in our own mountinfo.
                with open_directory(descriptor, name) as child:
                    is_mount = mount_id(child) != own_mount
        except OSError as error:
            if error.errno not in GONE:
                raise
            continue
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


def refuse_nested_mounts(root: PathLike, listing: Listing) -> None:
    """Raise ``NestedMount`` where a listing holds one: its data would silently stay behind."""
    for entry in listing.entries:
        if entry.is_mount:
            raise NestedMount(
                f"{os.path.join(os.fspath(root), entry.path)} is a mount point inside the data; "
                "what is mounted there would not be carried along.",
                next_command="unmount it, or exclude that path, and run the same task again",
            )
