# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write a file so that whoever reads it finds the old text or the new one, never a part."""

from __future__ import annotations

import errno
import os
import stat
import tempfile

from ansible_collections.selfhost.stateful.plugins.module_utils._durable import fsync_directory
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import AGAIN, InvalidInput, StatefulError, shell

FULL = frozenset((errno.ENOSPC, errno.EDQUOT))


def read_text(path: str) -> str:
    """Return a file's text with its line ends and byte order mark as they are.

    :raises InvalidInput: when it cannot be read, or is not UTF-8.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except OSError as error:
        raise InvalidInput(
            f"the file {path} cannot be read: {error.strerror}", next_command=shell("ls", "-la", path)
        ) from error
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InvalidInput(f"the file {path} is not UTF-8 (line {line})", next_command=shell("file", path)) from error


def write_atomically(path: str, text: str, *, expected: str | None = None, like: str | None = None) -> None:
    """Replace the content of ``path``, or make the file.

    A symbolic link stays one: the file that it names is replaced. Mode, owner,
    ACLs and SELinux context stay; a new file takes mode and owner of ``like``, or
    the owner of its directory.

    :param expected: the text that the edit was made from; refuses when the file
        has been changed meanwhile.
    :raises StatefulError: when the place cannot be written; the file is then as before.
    """
    refuse_unwritable(path)
    real = os.path.realpath(path)
    exists = os.path.lexists(real)
    if expected is not None and (read_text(real) if exists else "") != expected:
        raise StatefulError(
            f"the file {path} was changed by somebody else while the edit was prepared", next_command=AGAIN
        )
    pattern = real if exists else like
    folder, name = os.path.split(real)
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".new", dir=folder)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            _take_attributes(file.fileno(), pattern or folder, extended=exists, mode=None if pattern else 0o644)
            os.fsync(file.fileno())
        os.replace(temporary, real)
        temporary = None
        fsync_directory(folder or ".")
    except OSError as error:
        raise StatefulError(
            f"the file {path} cannot be written: {error.strerror}",
            state="the file is as it was" if temporary or not exists else "the file has its new content",
            next_command=shell(*(("df", "-h") if error.errno in FULL else ("ls", "-ld")), folder),
        ) from error
    finally:
        if temporary is not None:
            os.unlink(temporary)


def remove_file(path: str, *, expected: str) -> None:
    """Remove a file that has nothing but the text that we know of."""
    if read_text(path) != expected:
        raise StatefulError(f"the file {path} was changed by somebody else, so it is not removed")
    try:
        os.unlink(path)
        fsync_directory(os.path.dirname(os.path.abspath(path)))
    except OSError as error:
        raise StatefulError(
            f"the file {path} cannot be removed: {error.strerror}",
            state="the file is there",
            next_command=shell("ls", "-ld", os.path.dirname(os.path.abspath(path))),
        ) from error


def refuse_unwritable(path: str) -> None:
    """Refuse what ``write_atomically`` could not write, without writing anything."""
    real = os.path.realpath(path)
    if os.path.lexists(real):
        mode = os.stat(real).st_mode
        if not stat.S_ISREG(mode):
            raise InvalidInput(f"{path} is not a file", next_command=shell("ls", "-ld", path))
        # Root may write anything, and a rename asks for no permission on the file
        # itself: whoever took all write bits away still meant it.
        if not mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) or not os.access(real, os.W_OK):
            raise StatefulError(
                f"the file {path} is read-only, so somebody meant that it is not edited",
                next_command=shell("chmod", "u+w", path),
            )
    folder = os.path.dirname(real)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StatefulError(
            f"the directory {folder} cannot be written, so {path} cannot be replaced in one step",
            next_command=shell("ls", "-ld", folder),
        )


def _take_attributes(descriptor: int, pattern: str, *, extended: bool, mode: int | None) -> None:
    found = os.stat(pattern)
    own = os.fstat(descriptor)
    if (own.st_uid, own.st_gid) != (found.st_uid, found.st_gid):
        os.fchown(descriptor, found.st_uid, found.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(found.st_mode) if mode is None else mode)
    if not extended:
        return
    # After the mode: an access ACL carries the group's bits in its mask.
    own_names = _extended_attributes(descriptor)
    for name in _extended_attributes(pattern):
        value = os.getxattr(pattern, name)
        if name in OF_THE_CONTENT or (name in own_names and os.getxattr(descriptor, name) == value):
            continue
        try:
            os.setxattr(descriptor, name, value)
        except OSError as error:
            raise StatefulError(
                f"the file {pattern} cannot be replaced: its attribute {name} could not be kept ({error.strerror});"
                " edit the file by hand, or run the task as root",
                next_command=shell("getfattr", "-d", "-m", "-", pattern),
            ) from error


OF_THE_CONTENT = frozenset(("security.evm", "security.ima"))
"""Signatures of the old content, which say nothing of the new; the kernel makes them anew."""


def _extended_attributes(path: str | int) -> list[str]:
    try:
        return os.listxattr(path)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EOPNOTSUPP):
            return []
        raise
