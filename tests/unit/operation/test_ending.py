# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is kept is found where it lies now, and not said to be freed where nothing was."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._operation.ending import copies_now, plan_removal
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    COMMITTED,
    DONE,
    ROLLED_BACK,
    SWITCH,
    Copy,
    Goal,
    Plan,
    Step,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore


@pytest.fixture
def store(tmp_path: Path) -> OperationStore:
    return OperationStore(str(tmp_path / "operations"))


def ended(
    store: OperationStore, state: str, *, keeps: Path | None = None, moves: tuple[Path, Path] | None = None
) -> Operation:
    facts = {"moves": [[str(path) for path in moves]]} if moves else {}
    operation = store.begin(Plan(Goal("module", "p", {}), (Step("kind", "keep", SWITCH),), facts=facts))
    if keeps is not None:
        copy = Copy("original", "db", str(keeps), "now", inode=os.stat(keeps).st_ino)
        operation.journal.evidence("kept as it was", {"copies": [copy.as_dict()]})
    operation.journal.state(state)
    time.sleep(0.002)
    return operation


@pytest.mark.parametrize("state", [DONE, COMMITTED, ROLLED_BACK])
def test_what_a_later_operation_took_along_is_found_and_freed(
    store: OperationStore, tmp_path: Path, state: str
) -> None:
    docs, moved = tmp_path / "docs/data", tmp_path / "_docs/data"
    (docs / "db.o").mkdir(parents=True)
    kept = ended(store, DONE, keeps=docs / "db.o")
    ended(store, state, moves=(docs, moved))
    if state != ROLLED_BACK:
        moved.parent.mkdir()
        docs.rename(moved)
    where = docs if state == ROLLED_BACK else moved
    found = copies_now(kept, store.all())
    assert {path: copy.path for path, copy in found.items()} == {str(docs / "db.o"): str(where / "db.o")}
    removal = plan_removal(kept, None, min_age_days=0, with_backups=False, others=store.all())
    assert [copy.path for copy in removal.copies] == [str(where / "db.o")]


def test_what_a_change_kept_itself_is_found_once_it_was_taken_back(store: OperationStore, tmp_path: Path) -> None:
    docs, moved = tmp_path / "docs", tmp_path / "_docs"
    (moved / "db.discarded-1").mkdir(parents=True)
    operation = ended(store, ROLLED_BACK, keeps=moved / "db.discarded-1", moves=(docs, moved))
    moved.rename(docs)
    assert [copy.path for copy in copies_now(operation, store.all()).values()] == [str(docs / "db.discarded-1")]


def test_another_directory_of_that_name_is_not_taken_for_it(store: OperationStore, tmp_path: Path) -> None:
    docs, moved = tmp_path / "docs", tmp_path / "_docs"
    for path in (docs / "db.o", moved / "db.o"):
        path.mkdir(parents=True)
    kept = ended(store, DONE, keeps=docs / "db.o")
    ended(store, DONE, moves=(docs, moved))
    (docs / "db.o").rename(tmp_path / "elsewhere")
    assert copies_now(kept, store.all()) == {}
