# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make sure that what was written survives a power cut before anybody relies on it."""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Union

from ansible_collections.selfhost.stateful.plugins.module_utils._durable import fsync_directory
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import libc
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.errors import TreeError

PathLike = Union[str, "os.PathLike[str]"]

BETWEEN_WRITES = 0.3
"""Seconds that what is dirty gathers."""
_STAGING_NAME = re.compile(r"\..+\.partial-[^/]+", re.DOTALL)


def staging_path(target: PathLike, identifier: str) -> Path:
    """Return the sibling of ``target`` in which operation ``identifier`` builds its partial copy.

    A sibling lies on the same file system, so that publishing it is one rename.
    """
    final = Path(target)
    return final.with_name(f".{final.name}.partial-{identifier}")


def is_staging_path(path: PathLike) -> bool:
    """Tell whether ``path`` bears a name that only ``staging_path`` gives."""
    return _STAGING_NAME.fullmatch(os.path.basename(os.fspath(path))) is not None


def make_private(directory: PathLike) -> None:
    """Make a directory, and what is missing above it, for root alone; makedirs gives its mode to the last one only."""
    path = os.path.abspath(directory)
    if not os.path.isdir(path):
        make_private(os.path.dirname(path))
        os.mkdir(path, 0o700)


def fsync_parent(path: PathLike) -> None:
    fsync_directory(os.path.dirname(os.path.abspath(os.fspath(path))))


def sync_file_system(path: PathLike) -> None:
    """Write out everything that is dirty on the file system of ``path``.

    For many files this is faster than fsync on each; it also waits for other programs' data,
    so it belongs into the warm phase.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc.syncfs(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def written_out_meanwhile(path: PathLike) -> Iterator[None]:
    """Have what is written on the file system of ``path`` go to the disk while more is written.

    For a long load in a downtime: left alone, the kernel begins late, and most of it is waited for at the end. Raises
    :class:`TreeError` at the end if the disk did not take all of it: whoever asks for that first is told, and
    :func:`sync_file_system` may not hear of it any more. What went wrong within is told together with that.
    """
    over, refused = threading.Event(), []
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def work() -> None:
        try:
            while not over.wait(BETWEEN_WRITES):
                libc.syncfs(descriptor)
        except OSError as error:
            refused.append(f"What lies in {os.fspath(path)} could not be written to the disk: {error.strerror}.")

    working = threading.Thread(target=work, name="write-out")
    working.start()
    try:
        try:
            yield
        finally:
            over.set()
            working.join()
    except StatefulError as error:
        error.msg = " ".join((error.msg, *refused))
        raise
    finally:
        os.close(descriptor)
    if refused:
        raise TreeError(refused[0])


def write_atomically(path: PathLike, content: bytes, *, mode: int = 0o600) -> None:
    """Replace a file in one step: readers see the old content or the new one, also after a power cut."""
    final = os.fspath(path)
    directory = os.path.dirname(os.path.abspath(final))
    descriptor, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(final)}.", dir=directory)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.replace(temporary, final)
    except BaseException:
        os.unlink(temporary)
        raise
    fsync_directory(directory)


def remove_file(path: PathLike) -> None:
    """Remove a file for good; one that is gone already is no error."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    fsync_parent(path)


def write_json_atomically(path: PathLike, value: Any, *, mode: int = 0o600) -> None:
    write_atomically(path, json.dumps(value, sort_keys=True).encode() + b"\n", mode=mode)


def read_json(path: PathLike) -> Any:
    """Return what :func:`write_json_atomically` wrote; None where there is no such file."""
    try:
        with open(path, encoding="utf-8") as handle:
            return json.load(handle)
    except FileNotFoundError:
        return None
