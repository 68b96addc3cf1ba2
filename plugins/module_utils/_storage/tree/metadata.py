# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Owners, modes, times and extended attributes (POSIX ACLs and capabilities are such, too)."""

from __future__ import annotations

import errno
import os
import stat
from typing import Union

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.errors import UnsupportedMetadata

# Labels are the business of the host's policy, and overlayfs keeps its own books.
_NOT_CARRIED = ("security.selinux", "security.ima", "security.evm", "trusted.overlay.", "user.overlay.")

# A descriptor, or the path of an entry itself (symbolic links cannot be opened).
Handle = Union[int, str]


def read_xattrs(handle: Handle) -> dict[str, bytes]:
    """Return the extended attributes that belong to the data."""
    follow = isinstance(handle, int)
    try:
        names = os.listxattr(handle, follow_symlinks=follow)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EPERM):
            return {}
        raise
    found = {}
    for name in names:
        if name.startswith(_NOT_CARRIED):
            continue
        try:
            found[name] = os.getxattr(handle, name, follow_symlinks=follow)
        except OSError as error:
            # Removed since it was listed, or listed by a file system that has no way to read it.
            if error.errno not in (errno.ENODATA, errno.ENOTSUP):
                raise
    return found


def _copy_xattrs(source: Handle, target: Handle) -> bool:
    wanted, present = read_xattrs(source), read_xattrs(target)
    if wanted == present:
        return False
    follow = isinstance(target, int)
    # Also what the target inherited from a default ACL of its parent has to go.
    for name in present.keys() - wanted.keys():
        os.removexattr(target, name, follow_symlinks=follow)
    for name, value in wanted.items():
        if present.get(name) == value:
            continue
        try:
            os.setxattr(target, name, value, follow_symlinks=follow)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.EINVAL):
                raise
            where = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else target
            raise UnsupportedMetadata(
                f"{where} cannot hold the attribute {name} of its original: {error.strerror}.",
                state="the original is unchanged; the copy is partial and ours",
                next_command="choose a file system that keeps this attribute, and run the same task again",
            ) from error
    return True


def copy_metadata(source: int, target: int, status: os.stat_result) -> bool:
    """Give an open file or directory what ``status`` and the source's attributes say; tell whether it changed.

    The order matters: chown clears set-uid bits and capabilities, an ACL sets mode bits, and
    everything else would spoil the times.
    """
    present = os.fstat(target)
    changed = False
    if (present.st_uid, present.st_gid) != (status.st_uid, status.st_gid):
        os.fchown(target, status.st_uid, status.st_gid)
        changed = True
    changed |= _copy_xattrs(source, target)
    if changed or stat.S_IMODE(present.st_mode) != stat.S_IMODE(status.st_mode):
        os.fchmod(target, stat.S_IMODE(status.st_mode))
        changed = True
    # fchmod can rewrite the ACL's mask entry only to what the source's mode already is.
    if changed or present.st_mtime_ns != status.st_mtime_ns:
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
        changed = True
    return changed


def copy_entry_metadata(source: int, target: int, name: str, status: os.stat_result) -> None:
    """The same for an entry that cannot be opened: a symbolic link, a socket, a FIFO, a device."""
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    _copy_xattrs(f"/proc/self/fd/{source}/{name}", f"/proc/self/fd/{target}/{name}")
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)
