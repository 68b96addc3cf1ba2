# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reach entries of a tree without ever following a symbolic link in it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.durable import PathLike
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.errors import NestedMount

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a file that was swapped for a FIFO must not hold us up for ever.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

# What opening answers when an entry is gone by now, or is no longer what it was.
GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ESTALE})


@contextmanager
def open_root(path: PathLike) -> Iterator[int]:
    """Open the root of a tree, which must be a directory and no symbolic link."""
    try:
        descriptor = os.open(path, _DIRECTORY)
    except OSError as error:
        if error.errno in GONE:
            raise InvalidInput(f"{os.fspath(path)} is not a directory (a symbolic link does not count).") from error
        raise
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def open_directory(root: int, relative: str) -> Iterator[int]:
    """Open a directory of a tree, component by component ("" is the root itself)."""
    # A fresh description, not dup(2): listings must not share a position.
    descriptor = os.open(".", _DIRECTORY, dir_fd=root)
    try:
        for component in relative.split("/") if relative else ():
            deeper = os.open(component, _DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = deeper
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def open_file(directory: int, name: str, flags: int = _READ, mode: int = 0o600) -> Iterator[int]:
    """Open a file in an open directory; for reading, without touching its access time."""
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags | os.O_NOATIME, mode, dir_fd=directory)
    except PermissionError:
        # O_NOATIME is for the owner and root only.
        descriptor = os.open(name, flags, mode, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def lstat(directory: int, name: str) -> os.stat_result | None:
    """Return the entry's own status, or None where there is none."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def remove(directory: int, name: str) -> int:
    """Remove an entry with all below it, never across a mount; return how many entries went."""
    status = lstat(directory, name)
    if status is None:
        return 0
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(name, dir_fd=directory)
        return 1
    if status.st_dev != os.fstat(directory).st_dev:
        raise NestedMount(
            f"{name} is a mount point of another file system and is not removed.", next_command="findmnt --real"
        )
    removed = 1
    child = os.open(name, _DIRECTORY, dir_fd=directory)
    try:
        for inner in os.listdir(child):
            removed += remove(child, inner)
    finally:
        os.close(child)
    os.rmdir(name, dir_fd=directory)
    return removed


def join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name
