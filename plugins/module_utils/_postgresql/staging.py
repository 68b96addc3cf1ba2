# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A directory for a copy that appears under its name only when the copy is proved.

Everything is written to ``<destination>.partial`` first. A run that was killed leaves
that one behind; the next run knows it by its marker and starts it anew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError, shell

SUFFIX = ".partial"
MARKER = ".selfhost-stateful-partial"


@contextmanager
def staged(destination: str) -> Iterator[str]:
    """Hand out the staging directory (0700, ours); publish it at the end, remove it on failure."""
    if os.path.lexists(destination):
        raise InvalidInput(
            f"{destination} exists already; a backup never overwrites anything.",
            next_command=shell("ls", "-la", destination),
        )
    parent = os.path.dirname(os.path.abspath(destination))
    if not os.path.isdir(parent):
        raise InvalidInput(
            f"The directory {parent}, which is to hold the backup, does not exist.",
            next_command=shell("mkdir", "-p", "-m", "700", parent),
        )
    staging = destination + SUFFIX
    discard(staging)
    os.mkdir(staging, 0o700)
    try:
        with open(os.path.join(staging, MARKER), "x", encoding="ascii"):
            pass
        yield staging
        sync_tree(staging)
        os.rename(staging, destination)
        # Last: without it a directory that a run was killed over would be taken for somebody else's.
        os.unlink(os.path.join(destination, MARKER))
        sync_directory(destination)
        sync_directory(parent)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


@contextmanager
def working(directory: str) -> Iterator[str]:
    """Hand out a directory (0700, ours) to work in, and remove it at the end; one that was left is begun anew."""
    discard(directory)
    os.mkdir(directory, 0o700)
    try:
        with open(os.path.join(directory, MARKER), "x", encoding="ascii"):
            pass
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def discard(staging: str) -> None:
    """Remove what an interrupted run left; refuses a directory that is not ours."""
    if not os.path.lexists(staging):
        return
    ours = os.path.isdir(staging) and not os.path.islink(staging)
    if not ours or (os.listdir(staging) and not os.path.exists(os.path.join(staging, MARKER))):
        raise StatefulError(
            f"{staging} is in the way and was not made by an interrupted backup.",
            next_command=f"look at {staging}, move it away, and run the same task again",
        )
    shutil.rmtree(staging)


def sync_tree(top: str) -> None:
    """Put every file and directory below ``top`` on disk; links are part of their directory."""
    for parent, _directories, files in os.walk(top):
        for name in files:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                sync_directory(path)
        sync_directory(parent)


def sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tree_size(top: str) -> tuple[int, int]:
    """Return how many files lie below ``top`` and how many bytes they hold."""
    files = size = 0
    for parent, _directories, names in os.walk(top):
        for name in names:
            files += 1
            size += os.lstat(os.path.join(parent, name)).st_size
    return files, size
