# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Turn errors of the operating system into sentences, a full disk above all."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import shell
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.durable import PathLike
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.errors import NoSpace, TreeError
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.mounts import filesystem_of

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def no_space(path: PathLike, *, needed: int, state: str) -> NoSpace:
    """Return the error for ``path``, whose file system still needs ``needed`` bytes."""
    file_system = filesystem_of(path)
    missing = max(needed - file_system.bytes_free, 1)
    inodes = " It has no inodes left." if file_system.inodes_total and not file_system.inodes_free else ""
    return NoSpace(
        f"The file system {file_system.mount_point} ({file_system.fs_type}) is full: {missing} bytes are missing for "
        f"{os.fspath(path)}.{inodes} Free space there; the next run goes on where this one stopped.",
        state=state,
        next_command=shell("df", "-h", file_system.mount_point),
        filesystem=file_system.mount_point,
        bytes_missing=missing,
        bytes_free=file_system.bytes_free,
    )


def require_space(path: PathLike, *, needed: int, keep_free: int = 0, state: str) -> None:
    """Raise ``NoSpace`` unless ``needed`` bytes fit and ``keep_free`` bytes stay for others."""
    if needed + keep_free > filesystem_of(path).bytes_free:
        raise no_space(path, needed=needed + keep_free, state=state)


@contextmanager
def watched(
    target: PathLike, *, what: str, state: str, needed: Callable[[], int], record: PathLike | None = None
) -> Iterator[None]:
    """Raise ``NoSpace`` or ``TreeError`` for errors of the system while ``what`` goes on.

    ``needed`` tells how many bytes are still to be written when the disk runs full.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise no_space(target, needed=needed(), state=state) from error
        raise TreeError(f"{what} failed: {error}", state=state) from error
    except sqlite3.OperationalError as error:
        if record is not None and "full" in str(error):
            raise no_space(record, needed=0, state=state) from error
        raise TreeError(f"{what} failed at its record {record}: {error}", state=state) from error
