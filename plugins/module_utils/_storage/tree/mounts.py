# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which file system lies under a path, how full it is, and what is mounted where."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.durable import PathLike

VOLATILE_TYPES = frozenset({"tmpfs", "ramfs", "overlay", "aufs", "devtmpfs"})

_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One line of ``/proc/<pid>/mountinfo``; see proc_pid_mountinfo(5)."""

    mount_id: int
    parent_id: int
    device: str
    root: str
    point: str
    options: tuple[str, ...]
    fs_type: str
    source: str
    super_options: tuple[str, ...]

    @property
    def read_only(self) -> bool:
        return "ro" in self.options or "ro" in self.super_options


@dataclass(frozen=True)
class FileSystem:
    """The file system under a path; sizes in bytes, as a process without privileges may use them."""

    path: str
    device: int
    mount_point: str
    fs_type: str
    read_only: bool
    volatile: bool
    bytes_total: int
    bytes_free: int
    inodes_total: int
    inodes_free: int
    options: tuple[str, ...] = ()


def read_mounts(path: PathLike = "/proc/self/mountinfo") -> tuple[Mount, ...]:
    with open(path, encoding="utf-8", errors="surrogateescape") as stream:
        return tuple(parse_mount(line) for line in stream if line.strip())


def parse_mount(line: str) -> Mount:
    """Parse one line; the number of optional fields before the lone dash varies."""
    left, right = line.rstrip("\n").split(" - ", 1)
    fields = left.split(" ")
    fs_type, source, super_options = (right.split(" ") + [""])[:3]
    return Mount(
        mount_id=int(fields[0]),
        parent_id=int(fields[1]),
        device=fields[2],
        root=_unescape(fields[3]),
        point=_unescape(fields[4]),
        options=tuple(fields[5].split(",")),
        fs_type=fs_type,
        source=_unescape(source),
        super_options=tuple(super_options.split(",")),
    )


def _unescape(text: str) -> str:
    # The kernel escapes single bytes (blank, tab, newline, backslash), all of them ASCII.
    return _ESCAPE.sub(lambda match: chr(int(match.group(1), 8)), text)


def mount_id(descriptor: int) -> int:
    """Return the id of the mount through which a descriptor was opened.

    Unlike ``st_dev`` it tells two mounts of one file system apart, and unlike a comparison
    of paths it is right when mounts cover each other.
    """
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as stream:
        for line in stream:
            if line.startswith("mnt_id:"):
                return int(line.split()[1])
    raise OSError(f"/proc/self/fdinfo/{descriptor} names no mount")


def mount_id_of(path: PathLike) -> int:
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return mount_id(descriptor)
    finally:
        os.close(descriptor)


def mount_of(path: PathLike, mounts: Iterable[Mount] | None = None) -> Mount | None:
    """Return the mount that ``path`` (which must exist) is reached through.

    None where it is not in our own mount namespace, as below ``/proc/<pid>/root``.
    """
    wanted = mount_id_of(path)
    return next((mount for mount in (read_mounts() if mounts is None else mounts) if mount.mount_id == wanted), None)


def is_mount_point(path: PathLike) -> bool:
    """Tell whether something is mounted at ``path`` itself, also a bind mount or a single file."""
    resolved = os.path.realpath(path)
    if resolved == "/":
        return True
    return mount_id_of(resolved) != mount_id_of(os.path.dirname(resolved))


def bytes_free(paths: Iterable[PathLike]) -> int:
    """Return what is free under all of the paths; what shares a file system is counted once."""
    return sum({found.device: found.bytes_free for found in map(filesystem_of, paths)}.values())


def mount_points_below(path: PathLike, mounts: Iterable[Mount] | None = None) -> tuple[str, ...]:
    """Return the mount points strictly inside ``path``, in our own mount namespace."""
    prefix = os.path.realpath(path).rstrip("/") + "/"
    return tuple(
        mount.point for mount in (read_mounts() if mounts is None else mounts) if mount.point.startswith(prefix)
    )


def nearest_existing(path: PathLike) -> str:
    """Return the deepest existing directory on the way to ``path``."""
    current = os.path.abspath(os.fspath(path))
    while not os.path.isdir(current):
        current = os.path.dirname(current)
    return current


def filesystem_of(path: PathLike) -> FileSystem:
    """Describe the file system that holds ``path``, or will hold it once it is made."""
    existing = os.path.realpath(nearest_existing(path))
    mount = mount_of(existing)
    numbers = os.statvfs(existing)
    return FileSystem(
        path=existing,
        device=os.stat(existing).st_dev,
        mount_point=mount.point if mount else existing,
        fs_type=mount.fs_type if mount else "",
        read_only=bool(numbers.f_flag & os.ST_RDONLY),
        volatile=mount is not None and mount.fs_type in VOLATILE_TYPES,
        bytes_total=numbers.f_blocks * numbers.f_frsize,
        bytes_free=numbers.f_bavail * numbers.f_frsize,
        inodes_total=numbers.f_files,
        inodes_free=numbers.f_favail,
        options=(*mount.options, *mount.super_options) if mount else (),
    )
