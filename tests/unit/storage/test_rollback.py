# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A way back that would leave data behind is told of before anything changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    SWITCH,
    Goal,
    Plan,
    Step,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.rollback import in_use_by_the_file_alone
from tests.support.dying import KINDS

MOUNT = {"service": "redis", "target": "/data", "source": "./redis"}
WRITTEN = {"mounts": [MOUNT], "images": {}, "rewrite": "in_place"}


@pytest.mark.parametrize(("content", "blocked"), [(None, False), ((), False), (("dump.rdb",), True)])
def test_data_in_a_mount_that_was_only_written_into_the_file(
    tmp_path: Path, content: tuple[str, ...] | None, blocked: bool
) -> None:
    if content is not None:
        (tmp_path / "redis").mkdir()
        for name in content:
            (tmp_path / "redis" / name).write_text("x")
    step = Step("rewrite", "rewrite the compose file", SWITCH, WRITTEN)
    plan = Plan(Goal("compose_storage", "app", {}), (step,), facts={"project_dir": str(tmp_path)})
    operation = OperationStore(str(tmp_path / "operations")).begin(plan)

    found = in_use_by_the_file_alone(operation)

    assert bool(found) == blocked
    assert all(str(tmp_path / "redis") in blocker.command and "redis" in blocker.text for blocker in found)


def test_what_was_moved_is_carried_back_and_not_in_the_way(tmp_path: Path) -> None:
    lab = KINDS[2].lab(tmp_path)
    operation = lab.begin()
    lab.run(operation)
    assert any(step.kind == "rewrite" and step.args["mounts"] for step in operation.plan.steps)
    assert not in_use_by_the_file_alone(operation)
    wider = [
        replace(step, args={**step.args, "mounts": [*step.args["mounts"], MOUNT]}) if step.kind == "rewrite" else step
        for step in operation.plan.steps
    ]
    (lab.project_dir / "redis").mkdir()
    (lab.project_dir / "redis" / "dump.rdb").write_text("x")
    mixed = lab.operations.begin(replace(operation.plan, steps=tuple(wider)))
    assert len(in_use_by_the_file_alone(mixed)) == 1
