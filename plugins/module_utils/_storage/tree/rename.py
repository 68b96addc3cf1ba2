# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Move a whole directory by one rename(2), through a private bind mount where two mounts are in the way.

rename(2) answers EXDEV between two mounts even of one file system. Nothing here ever copies.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import shell
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import libc
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.durable import PathLike, fsync_parent
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.errors import CannotRename, NotOurs
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.mounts import (
    Mount,
    is_mount_point,
    mount_id_of,
    mount_of,
    mount_points_below,
    nearest_existing,
    read_mounts,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.private_mount import rename_through

# linux/fs.h: struct fsxattr and its flags; the same call on ext4, XFS, f2fs and btrfs.
_FS_IOC_FSGETXATTR = 0x801C581F
_FSXATTR = struct.Struct("=IIIII8x")
_FLAG_IMMUTABLE = 0x8
_FLAG_APPEND = 0x10
_FLAG_PROJECT_INHERIT = 0x200

# rename between layers is emulated or refused by these, whatever the device numbers say.
_REFUSED_TYPES = frozenset({"overlay", "aufs"})


@dataclass(frozen=True)
class Possible:
    """Whether a directory can be renamed; ``how`` is ``direct``, ``bind`` or, if it cannot, empty."""

    yes: bool
    how: str
    reason: str


@dataclass(frozen=True)
class Renamed:
    """Evidence of a rename: device and inode are those that the source had before."""

    source: str
    target: str
    device: int
    inode: int
    how: str


@dataclass(frozen=True)
class Passage:
    """One mount that reaches both ends: bind it, then rename between two paths below it."""

    mount_point: str
    source: str
    target: str


def can_rename(source: PathLike, target_parent: PathLike) -> Possible:
    """Tell whether ``source`` can be renamed into ``target_parent`` (or its nearest existing ancestor).

    Reads only. ``source`` must be a real directory, no mount point, with none inside.
    """
    origin, parent = os.path.abspath(source), nearest_existing(target_parent)
    reason = _obstacle(origin, parent)
    if reason:
        return Possible(False, "", reason)
    source_parent = os.path.realpath(os.path.dirname(origin))
    if mount_id_of(source_parent) == mount_id_of(os.path.realpath(parent)):
        return Possible(True, "direct", "both places lie on the same mount")
    if os.geteuid() != 0:
        return Possible(False, "", "the two places are different mounts of one file system, which needs root")
    passage = find_passage(origin, os.path.join(os.path.realpath(parent), "x"))
    if isinstance(passage, str):
        return Possible(False, "", passage)
    return Possible(True, "bind", f"both places are reached through the mount {passage.mount_point}")


def _obstacle(origin: str, parent: str) -> str:
    """Return why a rename cannot work, or an empty string."""
    if os.path.islink(origin) or not os.path.isdir(origin):
        return f"{origin} is not a directory"
    if is_mount_point(origin):
        return f"{origin} is a mount point"
    inside = mount_points_below(origin)
    if inside:
        return f"{inside[0]} is mounted inside {origin}"
    real_origin, real_parent = os.path.realpath(origin), os.path.realpath(parent)
    if real_parent == real_origin or real_parent.startswith(real_origin + "/"):
        return f"{parent} lies inside {origin}"
    if os.stat(origin).st_dev != os.stat(parent).st_dev:
        return f"{origin} and {parent} lie on different file systems"
    for path in (os.path.dirname(origin), parent):
        mount = mount_of(os.path.realpath(path))
        if mount is not None and mount.fs_type in _REFUSED_TYPES:
            return f"{path} lies on {mount.fs_type}, which does not rename directories between its layers"
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            return f"{path} lies on a read-only mount"
    return _attribute_obstacle(origin, parent)


def _attribute_obstacle(origin: str, parent: str) -> str:
    for path in (origin, os.path.dirname(origin), parent):
        if _flags_and_project(path)[0] & (_FLAG_IMMUTABLE | _FLAG_APPEND):
            return f"{path} is marked immutable or append-only (lsattr)"
    flags, project = _flags_and_project(parent)
    if flags & _FLAG_PROJECT_INHERIT and project != _flags_and_project(origin)[1]:
        # The kernel answers EXDEV here, on one and the same mount.
        return f"{parent} hands on project quota {project}, and {origin} has another"
    return ""


def _flags_and_project(path: str) -> tuple[int, int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        answer = fcntl.ioctl(descriptor, _FS_IOC_FSGETXATTR, bytes(_FSXATTR.size))
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM):
            return 0, 0
        raise
    finally:
        os.close(descriptor)
    flags, _extent_size, _extents, project, _cow_extent_size = _FSXATTR.unpack(answer)
    return flags, project


def find_passage(source: str, target: str, mounts: Sequence[Mount] | None = None) -> Passage | str:
    """Return a mount through which both paths' parents are reached, or why there is none."""
    table = read_mounts() if mounts is None else mounts
    ends = []
    for path in (source, target):
        parent, name = os.path.split(path)
        parent = os.path.realpath(parent)
        mount = mount_of(parent, table)
        if mount is None:
            return f"the mount of {parent} is not visible here"
        ends.append(
            (mount.device, os.path.normpath(f"{mount.root.rstrip('/')}/{os.path.relpath(parent, mount.point)}/{name}"))
        )
    (device, inner_source), (other_device, inner_target) = ends
    if device != other_device:
        return f"{source} and {target} lie on different file systems"
    # The widest view first; btrfs subvolumes are paths inside the one file system, too.
    for mount in sorted(table, key=lambda item: len(item.root)):
        root = mount.root.rstrip("/") + "/"
        if mount.device != device or mount.read_only:
            continue
        if not (inner_source.startswith(root) and inner_target.startswith(root)):
            continue
        # Another mount may lie on top of this mount point, out of the reach of any path.
        if os.path.isdir(mount.point) and mount_id_of(mount.point) == mount.mount_id:
            return Passage(mount.point, inner_source[len(root) :], inner_target[len(root) :])
    return f"no writable mount shows both {source} and {target}"


def rename_directory(source: PathLike, target: PathLike) -> Renamed:
    """Rename the directory ``source`` to ``target``, which must not exist or be an empty directory.

    Both parents are synced before it returns. Where rename(2) says EXDEV and both lie on one file
    system, the same rename is made through a private bind mount. Raises ``NotOurs`` where the
    target holds something, ``CannotRename`` otherwise; both leave the source where it is.
    """
    origin, final = os.path.abspath(source), os.path.abspath(target)
    stays = f"the data is still in {origin}"
    try:
        status = os.lstat(origin)
    except FileNotFoundError as error:
        raise CannotRename(
            f"{origin} does not exist.",
            state="unknown: look for the data first",
            next_command=shell("ls", "-la", os.path.dirname(origin), os.path.dirname(final)),
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise CannotRename(f"{origin} is not a directory.", state=stays, next_command=shell("ls", "-lad", origin))
    _clear_target(final, stays)
    how = "direct"
    try:
        libc.rename_to_new(origin, final)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise _refused(origin, final, error, stays) from error
        how = "bind"
        _rename_by_bind(origin, final, stays)
    moved = os.lstat(final)
    if (moved.st_dev, moved.st_ino) != (status.st_dev, status.st_ino):
        raise CannotRename(
            f"{final} is not the directory that was {origin}: something else took its place.",
            state=f"unknown: look for inode {status.st_ino}",
            safe_to_rerun=False,
            next_command=shell("find", os.path.dirname(final), "-xdev", "-inum", str(status.st_ino)),
        )
    fsync_parent(final)
    fsync_parent(origin)
    return Renamed(origin, final, status.st_dev, status.st_ino, how)


def _clear_target(final: str, stays: str) -> None:
    try:
        os.rmdir(final)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EBUSY):
            raise NotOurs(
                f"{final} exists and is not an empty directory ({error.strerror}): move it away if nobody needs it.",
                state=stays,
                next_command=shell("ls", "-la", final),
            ) from error
        raise _refused("the empty directory", final, error, stays) from error


def _rename_by_bind(origin: str, final: str, stays: str) -> None:
    passage = find_passage(origin, final)
    if isinstance(passage, str):
        raise CannotRename(f"{origin} cannot be renamed to {final}: {passage}.", state=stays)
    try:
        rename_through(passage.mount_point, passage.source, passage.target)
    except OSError as error:
        raise _refused(origin, final, error, stays) from error


def _refused(origin: str, final: str, error: OSError, stays: str) -> CannotRename:
    return CannotRename(
        f"{origin} cannot be renamed to {final}: {error.strerror or error}.",
        state=stays,
        next_command=shell("ls", "-lad", origin, os.path.dirname(final)),
    )
