# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A place with room and extended attributes for the trees of these tests, and no other process at work on them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import copy as tree_copy
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import mapped


@dataclass(frozen=True)
class Places:
    source: Path
    target: Path
    record: Path


@pytest.fixture(autouse=True)
def no_other_process_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at this process's own mappings alone.

    In memory, files have small inode numbers, and so have the shared mappings of a database that happens to run
    on this machine: a file with the number of one is compared once more, as it should be, and these tests count.
    """
    monkeypatch.setattr(tree_copy, "writably_mapped_inodes", lambda: mapped.mapped_by("self"))


@pytest.fixture
def places() -> Iterator[Places]:
    """Where the tests' trees lie; none of them exists yet. In memory, for most of these tests sync all the time."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="storage-tree-", dir=memory) as name:
        yield _places(Path(name))


@pytest.fixture
def disk_places(tmp_path: Path) -> Places:
    """The same on a disk, where dropping the cache and extended attributes mean something."""
    return _places(tmp_path)


def _places(base: Path) -> Places:
    return Places(base / "source", base / ".target.partial-1", base / "record")
