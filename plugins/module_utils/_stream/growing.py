# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file that grows, and is brought to the disk while it does: at its end, little is left to wait for.

Not by syncing it now and then: the system tells of an error in writing back once for each open file, and whoever hears
of it before the end would have to keep it in mind. sync_file_range(2) only begins to write back, and asks for no such
error: the one fsync(2) at the end tells.
"""

from __future__ import annotations

import ctypes
import errno
import os

EVERY = 8 << 20
"""Bytes."""
_SYNC_FILE_RANGE_WRITE = 2
_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ESPIPE)
"""What a file system says, a kernel, or a filter of system calls, that does not do this."""

_libc = ctypes.CDLL(None, use_errno=True)


class Growing:
    """Takes what is appended to a file of its own, from its beginning; each write is a whole one, or raises."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._size = self._begun = 0

    def write(self, piece: bytes) -> int:
        left = memoryview(piece)
        while left:
            left = left[os.write(self._handle, left) :]
        self._size += len(piece)
        if self._size - self._begun >= EVERY:
            begin_write_back(self._handle, self._begun, self._size - self._begun)
            self._begun = self._size
        return len(piece)

    def flush(self) -> None:
        """Nothing is kept back."""


def begin_write_back(handle: int, offset: int, length: int) -> None:
    """Begin to bring a range to the disk, where the system can; raises OSError where it fails at once."""
    call = getattr(_libc, "sync_file_range", None)
    if call is None:
        return
    place = (ctypes.c_int64(offset), ctypes.c_int64(length))
    if call(ctypes.c_int(handle), *place, ctypes.c_uint(_SYNC_FILE_RANGE_WRITE)):
        number = ctypes.get_errno()
        if number not in _CANNOT:
            raise OSError(number, os.strerror(number))
