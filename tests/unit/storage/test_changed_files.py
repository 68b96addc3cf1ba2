# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was prepared for one compose file is not switched to another."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import DONE, SWITCH
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.handlers import STORAGE_HANDLERS
from tests.support.dying import KINDS
from tests.support.storage_lab import Lab


def prepared(lab: Lab) -> str:
    operation = lab.begin()
    execute.run(operation, STORAGE_HANDLERS, lab.world, stop_before=SWITCH)
    return operation.id


def test_a_service_whose_file_was_changed_since_is_not_stopped(tmp_path: Path) -> None:
    lab = KINDS[2].lab(tmp_path)
    operation = lab.operations.get(prepared(lab))
    running = lab.container("db").id
    lab.file.write_text(lab.file.read_text().replace("  db:\n", "  db:\n    command: [serve, --fast]\n"))

    with pytest.raises(execute.UndoneFailure, match="say of db was changed since"):
        lab.run(operation)

    assert lab.container("db").id == running
    assert lab.container("db").running


def test_a_change_of_another_service_is_nobodys_business(tmp_path: Path) -> None:
    lab = KINDS[2].lab(tmp_path)
    operation = lab.operations.get(prepared(lab))
    lab.file.write_text(lab.file.read_text().replace("  web:\n", "  web:\n    command: [serve, --fast]\n"))
    assert lab.run(operation) == DONE
    lab.check_served()
