# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A place with room and extended attributes for the trees of these tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Places:
    source: Path
    target: Path
    record: Path


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
