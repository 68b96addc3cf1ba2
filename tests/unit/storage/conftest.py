# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures of the tests that run whole plans."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import clone, durable, libc


@pytest.fixture
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sync nothing: no power fails in these tests, and thousands of them are to be quick. Clone by copying."""

    def cloned(source: Any, staging: Any, **more: Any) -> clone.Cloned:
        assert durable.is_staging_path(staging)
        shutil.rmtree(staging, ignore_errors=True)
        shutil.copytree(source, staging, symlinks=True)
        return clone.Cloned(0, 0)

    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(libc, "syncfs", lambda descriptor: None)
    monkeypatch.setattr(clone, "clone_tree", cloned)
