# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The few system calls that the standard library of Python 3.9 lacks."""

from __future__ import annotations

import ctypes
import errno
import os
import platform

CLONE_NEWNS = 0x00020000
MS_RDONLY = 1
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
RENAME_NOREPLACE = 1
AT_FDCWD = -100
FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2

_RENAMEAT2 = {"x86_64": 316, "aarch64": 276, "riscv64": 276, "armv7l": 382, "i686": 353, "ppc64le": 357, "s390x": 347}

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, *paths: bytes) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), *[os.fsdecode(path) for path in paths[:1]])


def unshare(flags: int) -> None:
    _check(_libc.unshare(ctypes.c_int(flags)))


def mount(source: str, target: str, fs_type: str | None, flags: int, data: str | None = None) -> None:
    encoded = os.fsencode(target)
    _check(
        _libc.mount(
            ctypes.c_char_p(os.fsencode(source)),
            ctypes.c_char_p(encoded),
            ctypes.c_char_p(os.fsencode(fs_type) if fs_type is not None else None),
            ctypes.c_ulong(flags),
            ctypes.c_char_p(os.fsencode(data) if data is not None else None),
        ),
        encoded,
    )


def umount(target: str, flags: int = 0) -> None:
    encoded = os.fsencode(target)
    _check(_libc.umount2(ctypes.c_char_p(encoded), ctypes.c_int(flags)), encoded)


def rename_no_replace(source: str, target: str) -> None:
    """``renameat2(2)`` with RENAME_NOREPLACE; raises OSError, ENOSYS where the call is unknown."""
    old, new = os.fsencode(source), os.fsencode(target)
    arguments = (
        ctypes.c_int(AT_FDCWD),
        ctypes.c_char_p(old),
        ctypes.c_int(AT_FDCWD),
        ctypes.c_char_p(new),
        ctypes.c_uint(RENAME_NOREPLACE),
    )
    if hasattr(_libc, "renameat2"):
        _check(_libc.renameat2(*arguments), old)
        return
    # musl got the wrapper late; the kernel has had the call since 3.15.
    number = _RENAMEAT2.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), source)
    _check(_libc.syscall(ctypes.c_long(number), *arguments), old)


def rename_to_new(source: str, target: str) -> None:
    """Rename a directory; what stands at ``target`` is not replaced, unless it is an empty directory."""
    try:
        rename_no_replace(source, target)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL):
            raise
        # A file system without the flag: rename(2) of a directory replaces nothing but an
        # empty directory anyway.
        os.rename(source, target)


def syncfs(descriptor: int) -> None:
    _check(_libc.syncfs(ctypes.c_int(descriptor)))


def punch_hole(descriptor: int, offset: int, length: int) -> None:
    """Deallocate a range; it reads as zeros afterwards and the size stays."""
    _check(
        _libc.fallocate(
            ctypes.c_int(descriptor),
            ctypes.c_int(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE),
            ctypes.c_longlong(offset),
            ctypes.c_longlong(length),
        )
    )
