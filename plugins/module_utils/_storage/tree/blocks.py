# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The content of files: copy it, compare it, and write only what differs; holes stay holes."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import libc

BLOCK = 1 << 20
_CHUNK = 16 << 20
_NO_COPY_FILE_RANGE = frozenset(
    {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY, errno.EBADF}
)
# An old file system answers EINVAL for SEEK_DATA; then the whole file counts as data.
_NO_SEEK_DATA = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY})

Range = tuple[int, int]  # offset, length
_buffers = threading.local()


def _pair() -> tuple[bytearray, bytearray]:
    """Return this thread's two buffers; allocating a block for every read costs more than the read."""
    if not hasattr(_buffers, "pair"):
        _buffers.pair = (bytearray(BLOCK), bytearray(BLOCK))
    pair: tuple[bytearray, bytearray] = _buffers.pair
    return pair


def next_data(descriptor: int, offset: int) -> int | None:
    """Return where data begins at or after ``offset``; None where only a hole follows."""
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        if error.errno in _NO_SEEK_DATA:
            return offset
        raise


def _next_hole(descriptor: int, offset: int, size: int) -> int:
    try:
        return min(os.lseek(descriptor, offset, os.SEEK_HOLE), size)
    except OSError as error:
        if error.errno == errno.ENXIO or error.errno in _NO_SEEK_DATA:
            return size
        raise


def copy_data(source: int, target: int, size: int, advance: Callable[[int], None]) -> int:
    """Copy the first ``size`` bytes into an empty file; return how many bytes were written.

    ``advance`` is told of each piece. A source that shrinks meanwhile gives a shorter copy,
    which is set to ``size`` all the same: its changed status makes settling compare it.
    """
    written = position = 0
    while position < size:
        # The first seek also waits for a write that was under way when the status was taken:
        # such a write has set the times already, but not yet all of its data. ext4 and btrfs
        # take the inode's lock to seek; XFS takes it to read.
        start = next_data(source, position)
        if start is None or start >= size:
            break
        end = _next_hole(source, start, size)
        advance(start - position)
        done = _copy_range(source, target, start, end, advance)
        written += done
        position = end
        if done < end - start:
            break
    advance(size - position if position < size else 0)
    os.ftruncate(target, size)
    return written


def _copy_range(source: int, target: int, start: int, end: int, advance: Callable[[int], None]) -> int:
    position = start
    in_kernel = True
    buffer = memoryview(_pair()[0])
    while position < end:
        copied = 0
        if in_kernel:
            try:
                copied = os.copy_file_range(source, target, min(_CHUNK, end - position), position, position)
            except OSError as error:
                if error.errno not in _NO_COPY_FILE_RANGE:
                    raise
            # Some file systems answer 0 for files that have content: ask by reading.
            in_kernel = copied > 0
        if not copied:
            length = os.preadv(source, [buffer[: min(BLOCK, end - position)]], position)
            if not length:
                break
            write_all(target, buffer[:length], position)
            copied = length
        position += copied
        advance(copied)
    return position - start


def write_all(target: int, content: memoryview, offset: int) -> None:
    while content:
        written = os.pwrite(target, content, offset)
        content, offset = content[written:], offset + written


def _read_block(descriptor: int, buffer: bytearray, offset: int, length: int) -> int:
    filled = 0
    view = memoryview(buffer)
    while filled < length:
        count = os.preadv(descriptor, [view[filled:length]], offset + filled)
        if not count:
            break
        filled += count
    return filled


def _same(one: bytearray, other: bytearray, length: int) -> bool:
    if length == BLOCK:
        return one == other
    return one[:length] == other[:length]


def differing_blocks(source: int, target: int, size: int) -> Iterator[tuple[Range, memoryview]]:
    """Yield range and source content of each block that differs; both files are at least ``size`` long.

    The content is valid until the next step. Holes common to both are skipped.
    """
    mine, theirs = _pair()
    position = 0
    while position < size:
        starts = [start for start in (next_data(source, position), next_data(target, position)) if start is not None]
        if not starts or min(starts) >= size:
            return
        position = max(position, min(starts) // BLOCK * BLOCK)
        length = _read_block(source, mine, position, min(BLOCK, size - position))
        if not length:
            return
        if _read_block(target, theirs, position, length) != length or not _same(mine, theirs, length):
            yield (position, length), memoryview(mine)[:length]
        position += length


def rewrite_differences(source: int, target: int, size: int) -> list[Range]:
    """Make the target's content that of the source's first ``size`` bytes; return the ranges written."""
    present = os.fstat(target).st_size
    ranges: list[Range] = []
    if present != size:
        os.ftruncate(target, size)
    for (offset, length), content in differing_blocks(source, target, size):
        if not _is_hole(source, offset, length) or not _punch(target, offset, length):
            write_all(target, content, offset)
        if ranges and sum(ranges[-1]) == offset:
            ranges[-1] = (ranges[-1][0], ranges[-1][1] + length)
        else:
            ranges.append((offset, length))
    return ranges


def _is_hole(descriptor: int, offset: int, length: int) -> bool:
    start = next_data(descriptor, offset)
    return start is None or start >= offset + length


def _punch(target: int, offset: int, length: int) -> bool:
    try:
        libc.punch_hole(target, offset, length)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        return False
    return True


def first_difference(source: int, target: int, offset: int, length: int) -> int | None:
    """Return the offset of the first block in a range whose bytes differ; every byte is read.

    Asking for holes would trust the file system that is to be proved.
    """
    mine, theirs = _pair()
    end = offset + length
    while offset < end:
        wanted = min(BLOCK, end - offset)
        count = _read_block(source, mine, offset, wanted)
        if count != _read_block(target, theirs, offset, wanted) or not _same(mine, theirs, count):
            return offset
        if not count:
            return None
        offset += count
    return None


def forget_cached(descriptor: int, offset: int = 0, length: int = 0) -> None:
    """Drop clean pages from the cache (to the end where ``length`` is 0), so that reading asks the disk."""
    os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)
