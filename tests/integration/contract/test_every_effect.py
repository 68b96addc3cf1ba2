# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Die before every effect of every way, and with everything that may happen before the next run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import clone, libc
from tests.support import dying
from tests.support.dying import EVENTS, KINDS, Event, Kind, Scenario

pytestmark = pytest.mark.faults
SCENARIOS = (dying.moving, dying.undoing, dying.giving_up, dying.rolling_back)


@pytest.fixture(autouse=True)
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sync nothing, because no power fails here, and clone by copying."""

    def cloned(source: Any, staging: Any, **more: Any) -> clone.Cloned:
        shutil.rmtree(staging, ignore_errors=True)
        shutil.copytree(source, staging, symlinks=True)
        return clone.Cloned(0, 0)

    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(libc, "syncfs", lambda descriptor: None)
    monkeypatch.setattr(clone, "clone_tree", cloned)


def product() -> Iterator[Any]:
    for kind in KINDS:
        for scenario in SCENARIOS:
            for event in dying.events_for(kind, scenario):
                yield pytest.param(scenario, kind, event, id=f"{scenario.__name__}-{kind}-{event.__name__}")


@pytest.mark.parametrize("scenario, kind, event", product())
def test_dying_before_every_effect(scenario: Scenario, kind: Kind, event: Event, tmp_path: Path) -> None:
    assert len(list(dying.every_effect(scenario, kind, tmp_path, event))) > 50


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_failing_before_every_effect(kind: Kind, tmp_path: Path) -> None:
    assert len(list(dying.every_effect(dying.failing, kind, tmp_path, EVENTS[0]))) > 50
