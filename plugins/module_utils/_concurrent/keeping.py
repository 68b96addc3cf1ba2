# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Directories of the stores are kept: put out of the way, copied, noted. Nothing is removed that others wrote to."""

from __future__ import annotations

import os
import shutil
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._clock import moment
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.checkout import run
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Copy
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import compare, durable, scan
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.rename import rename_directory
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World

COPY_LIMIT = 24 * 3600.0


def out_of_the_way(path: str, service: str, context: Context[World], *, same_as: str = "") -> None:
    """Make room for what comes to ``path``: what is there is kept beside it, and stands in the journal.

    Whoever typed ``up`` and ``down`` since has left no trace by which what they wrote could be told from what we did:
    only an empty directory is removed, and one of which ``same_as`` holds all.
    """
    if not os.path.isdir(path):
        return
    if not os.listdir(path):
        os.rmdir(path)
        durable.fsync_parent(path)
        return
    if same_as and same(same_as, path):
        shutil.rmtree(path)
        durable.fsync_parent(path)
        return
    number = 1
    while os.path.lexists(kept := f"{path}.{context.operation.id}.discarded-{number}"):
        number += 1
    # Noted first: a kill in between must not leave a directory that nobody knows of.
    copy = retained(service, path, at=kept)
    context.operation.journal.evidence(f"kept as {kept}", {"copies": [copy]}, durable=True)
    rename_directory(path, kept)


def same(one: str, other: str) -> bool:
    """Tell whether two directories are there and hold the same, to the byte."""
    return os.path.isdir(one) and os.path.isdir(other) and not compare.compare_trees(one, other, limit=1)


def copy_tree(source: str, target: str) -> None:
    """Copy a directory at rest with owners, modes and links; it has its name once it is whole and on disk."""
    part = f"{target}.part"
    if os.path.isdir(part):
        shutil.rmtree(part)
    argv = ("cp", "-a", "--reflink=auto", "--", source, part)
    rc, _out, err = run(argv, COPY_LIMIT)
    if rc != 0:
        raise StatefulError(
            f"{source} could not be copied to {part}: {err.strip()[-300:]}",
            next_command=shell("df", "-h", os.path.dirname(target)),
        )
    # A copy that takes the original's place one day is not believed by an exit code.
    compare.refuse_differences(source, part)
    durable.sync_file_system(part)
    rename_directory(part, target)


def empty_like(path: str, model: str) -> None:
    """Make an empty directory with the owner and the mode of another; what lies in one that is there stays."""
    status = os.stat(model)
    os.makedirs(path, exist_ok=True)
    os.chown(path, status.st_uid, status.st_gid)
    os.chmod(path, status.st_mode & 0o7777)
    durable.fsync_parent(path)


def retained(service: str, path: str, at: str = "", role: str = "original") -> dict[str, Any]:
    """Say of a directory that it is kept; ``at`` is where it is about to go."""
    status = os.stat(path)
    return Copy(
        role=role,
        service=service,
        path=at or path,
        moment=moment(),
        size_bytes=scan.tree_size(path).bytes_allocated,
        protected="a directory of its own",
        device=status.st_dev,
        inode=status.st_ino,
    ).as_dict()
