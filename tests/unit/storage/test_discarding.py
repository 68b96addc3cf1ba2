# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An undo past what was written on the goal: refused with the way out, and then gone, wherever it is killed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import ROLLED_BACK
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.handlers import STORAGE_HANDLERS
from tests.support import fake_store
from tests.support.dying import KINDS
from tests.support.storage_lab import Lab

pytestmark = pytest.mark.usefixtures("swift")

COPIED = KINDS[2]


def written_on_the_goal(root: Path) -> tuple[Lab, Operation]:
    """Return a lab whose move was killed before its proof, and whose goal somebody then wrote to."""
    lab = COPIED.lab(root)
    operation = lab.begin()
    assert lab.burning("journal evidence start the stores", lambda: lab.run(operation))
    lab.compose.up()
    lab.write()
    return lab, operation


def give_up(lab: Lab, operation: Operation) -> None:
    world = replace(lab.world, discard_writes=True)
    execute.undo(lab.operations.get(operation.id), STORAGE_HANDLERS, world, reason="It was rolled back on request.")


def assert_given_up(lab: Lab, operation: Operation, rows: frozenset[str]) -> None:
    """Assert that the origin serves as it was, and that the copy with all rows is named and there, once."""
    history = lab.operations.get(operation.id).history()
    assert history.state == ROLLED_BACK
    (kept,) = (copy.path for copy in history.copies() if copy.role == "original")
    assert kept.startswith(f"{lab.goal('db')}.discarded-")
    assert fake_store.rows_of(kept) == rows
    assert len(list(Path(kept).parent.glob("*.discarded-*"))) == 1
    assert not Path(lab.goal("db")).exists()
    assert lab.container("db").running
    assert fake_store.rows_of(lab.data_of("db")) < rows
    assert not lab.initialised


def test_it_is_refused_with_the_way_out_and_then_gone(tmp_path: Path) -> None:
    lab, operation = written_on_the_goal(tmp_path)
    rows = fake_store.rows_of(lab.goal("db"))
    with pytest.raises(execute.UndoRefused) as refused:
        lab.undo(operation)
    assert "operation_discard_writes=true" in refused.value.next_command
    lab.check()
    give_up(lab, operation)
    assert_given_up(lab, operation, rows)


def test_killed_anywhere_it_is_gone_on_with(tmp_path: Path) -> None:
    for number in range(1, 200, 3):
        lab, operation = written_on_the_goal(tmp_path / str(number))
        rows = fake_store.rows_of(lab.goal("db"))
        burnt = lab.burning(number, lambda: give_up(lab, operation))  # noqa: B023 - called at once
        if burnt:
            give_up(lab, operation)
        assert_given_up(lab, operation, rows)
        if not burnt:
            assert number > 10
            break
