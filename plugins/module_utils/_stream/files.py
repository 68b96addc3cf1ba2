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
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from ansible_collections.selfhost.stateful.plugins.module_utils._durable import fsync_directory
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import AGAIN, InvalidInput, StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._stream.growing import Growing

PIECE = 1 << 18
QUICK = 1
"""As gzip counts: every further level costs more time than it saves room."""
_AS_GZIP = 16
"""Added to the size of the window, it asks zlib for the header and the end of gzip's format."""


def pieces_of(path: str, *, compressed: bool) -> Iterator[bytes]:
    """Yield the content of a file."""
    with gzip.open(path, "rb") if compressed else open(path, "rb", buffering=0) as file:
        while piece := file.read(PIECE):
            yield piece


class Destination:
    """Takes what is written (:meth:`write`); ``bytes`` and ``sha256`` are of that, before any compression."""

    def __init__(self, file: Growing | _Packed) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.bytes = 0

    def write(self, piece: bytes) -> None:
        self._file.write(piece)
        self._digest.update(piece)
        self.bytes += len(piece)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


@contextmanager
def destination(path: str, *, compressed: bool) -> Iterator[Destination]:
    """Hand out where to write; ``path`` is that and durable if the block ends well, and what it was before else.

    It is the owner's alone (0600). Raises :class:`StatefulError` where another run is writing it.
    """
    directory = os.path.dirname(path)
    partial = os.path.join(directory, f".{os.path.basename(path)}.partial")
    with _opened(partial) as handle:
        try:
            raw = Growing(handle)
            if compressed:
                packed = _Packed(raw)
                yield Destination(packed)
                packed.finish()
            else:
                yield Destination(raw)
            # The one call that tells whether all of it was written: the system tells of an error once.
            os.fsync(handle)
            os.replace(partial, path)
        except BaseException:
            os.unlink(partial)
            raise
    try:
        fsync_directory(directory)
    except OSError as error:
        raise StatefulError(
            f"{path} is written, and its name cannot be brought to the disk: {error}.",
            state=f"{path} is the new file and whole; after a power cut it may be what was there before",
            next_command=shell("df", "-h", directory),
        ) from error


class _Packed:
    """Packs what is written to it, as gzip(1) does and without a name or a time: the same content, the same bytes.

    Not a ``GzipFile``: one that is left unfinished writes its end when it is collected, to a file that has been closed
    by then and whose number may be another's.
    """

    def __init__(self, raw: Growing) -> None:
        self._raw = raw
        self._compressor = zlib.compressobj(QUICK, zlib.DEFLATED, zlib.MAX_WBITS + _AS_GZIP)

    def write(self, piece: bytes) -> int:
        self._raw.write(self._compressor.compress(piece))
        return len(piece)

    def finish(self) -> None:
        self._raw.write(self._compressor.flush())


@contextmanager
def _opened(partial: str) -> Iterator[int]:
    """Open the one partial file of a name, whatever a run that was killed left in it."""
    handle = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
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
        yield handle
    finally:
        os.close(handle)


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
