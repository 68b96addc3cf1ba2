# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two ends of a stream on this host: a file that is read, and one that bears its name once it is whole."""

from __future__ import annotations

import errno
import fcntl
import gzip
import hashlib
import os
import queue
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from ansible_collections.selfhost.stateful.plugins.module_utils._durable import fsync_directory
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import AGAIN, InvalidInput, StatefulError, shell

PIECE = 1 << 18
BEHIND = 16
SYNC_EVERY = 0.5
QUICK = 1
"""As gzip counts: every further level costs more time than it saves room."""


def pieces_of(path: str, *, compressed: bool) -> Iterator[bytes]:
    """Yield the content of a file."""
    with gzip.open(path, "rb") if compressed else open(path, "rb", buffering=0) as file:
        while piece := file.read(PIECE):
            yield piece


class Destination:
    """Takes what is written (:meth:`write`); ``bytes`` and ``sha256`` are of that, before any compression.

    Whoever writes does not wait for the sum of it: that is added up beside, a few pieces behind.
    """

    def __init__(self, file: IO[bytes] | gzip.GzipFile) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._behind: queue.Queue[bytes | None] = queue.Queue(maxsize=BEHIND)
        self._adding = threading.Thread(target=self._add, daemon=True)
        self._adding.start()
        self.bytes = 0

    def write(self, piece: bytes) -> None:
        self._behind.put(piece)
        self._file.write(piece)
        self.bytes += len(piece)

    def close(self) -> None:
        """Wait for the sum; nothing may be written afterwards."""
        self._behind.put(None)
        self._adding.join()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def _add(self) -> None:
        while (piece := self._behind.get()) is not None:
            self._digest.update(piece)


@contextmanager
def _writing(file: IO[bytes] | gzip.GzipFile) -> Iterator[Destination]:
    made = Destination(file)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def _synced_beside(handle: int) -> Iterator[None]:
    """Bring to the disk what is in the file already, while more is written: at the end little is left to wait for.

    What fails here fails again in the one call that counts.
    """
    ended = threading.Event()

    def sync() -> None:
        while not ended.wait(SYNC_EVERY):
            with suppress(OSError):
                os.fdatasync(handle)

    syncing = threading.Thread(target=sync, daemon=True)
    syncing.start()
    try:
        yield
    finally:
        ended.set()
        syncing.join()


@contextmanager
def destination(path: str, *, compressed: bool) -> Iterator[Destination]:
    """Hand out where to write; ``path`` is that and durable if the block ends well, and what it was before else.

    It is the owner's alone (0600). Raises :class:`StatefulError` where another run is writing it.
    """
    directory = os.path.dirname(path)
    partial = os.path.join(directory, f".{os.path.basename(path)}.partial")
    with _opened(partial) as raw:
        try:
            with _synced_beside(raw.fileno()):
                if compressed:
                    packed = gzip.GzipFile(filename="", mode="wb", compresslevel=QUICK, fileobj=raw, mtime=0)
                    with packed, _writing(packed) as made:
                        yield made
                else:
                    with _writing(raw) as made:
                        yield made
            raw.flush()
            os.fsync(raw.fileno())
            os.replace(partial, path)
        except BaseException:
            os.unlink(partial)
            raise
    fsync_directory(directory)


@contextmanager
def _opened(partial: str) -> Iterator[IO[bytes]]:
    """Open the one partial file of a name, whatever a run that was killed left in it."""
    handle = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb", buffering=PIECE) as file:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            raise StatefulError(
                f"Another run is writing {partial}.", next_command=f"wait until it has ended and {AGAIN}"
            ) from error
        if not _still_named(handle, partial):
            raise StatefulError(f"Another run has just written {partial}.", next_command=f"wait a moment and {AGAIN}")
        os.fchmod(handle, 0o600)
        os.ftruncate(handle, 0)
        yield file


def _still_named(handle: int, partial: str) -> bool:
    """Tell whether a name still leads to the file that was opened by it: another run may have given it its own."""
    try:
        found = os.lstat(partial)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(handle))


def check_source(path: str, *, compressed: bool = False) -> None:
    """Raise :class:`InvalidInput` unless there is a file to read, and to its end where it is compressed.

    Of one that breaks off, a program would take the beginning for all.
    """
    if not os.path.isfile(path):
        look = shell("ls", "-la", os.path.dirname(path))
        raise InvalidInput(f"There is no file {path} to read from.", next_command=look)
    if compressed:
        try:
            for _piece in pieces_of(path, compressed=True):
                pass
        except (OSError, EOFError, zlib.error) as error:
            raise InvalidInput(
                f"{path} cannot be unpacked to its end: {error}.", next_command=shell("gzip", "-t", path)
            ) from error


def check_destination(path: str) -> None:
    """Raise :class:`InvalidInput` unless a file can be made there."""
    directory = os.path.dirname(path)
    if not os.path.isabs(path):
        raise InvalidInput(f"{path} is no absolute path.")
    if not os.path.isdir(directory):
        make = shell("mkdir", "-p", directory)
        raise InvalidInput(f"There is no directory {directory} to write into.", next_command=make)
    if os.path.lexists(path) and not os.path.isfile(path):
        raise InvalidInput(f"{path} is no plain file, and is not replaced.", next_command=shell("ls", "-la", path))
