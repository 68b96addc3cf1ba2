# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A checkout for each test: a copy of one that is made once, because git takes its time."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.unit.concurrent.repositories import Repository, clone


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("model") / "concurrent"
    clone(root)
    return root


@pytest.fixture
def repository(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Return a checkout at the oldest release, on no branch; nobody's own configuration is read."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    root = tmp_path / "concurrent"
    shutil.copytree(model, root, symlinks=True)
    return Repository(root)
