# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A way back that would leave data behind is told of before anything changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.command_line import ProjectOptions
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import Mount
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.files import project_files
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.rewrite import apply_rewrite, plan_rewrite
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    SWITCH,
    Goal,
    Plan,
    Step,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.rollback import in_use_by_the_file_alone
from tests.support.dying import KINDS

MOUNT = {"service": "redis", "target": "/data", "source": "./redis"}


PLAIN = "services:\n  redis:\n    image: redis:7\n"
MOUNTED = f"{PLAIN}    volumes:\n      - ./redis:/data\n"


def written(root: Path, text: str, how: str) -> Operation:
    """Return an operation that has written the mount into the file ``text``, as far as it was not in there."""
    (root / "compose.yaml").write_text(text, encoding="utf-8")
    (root / "redis").mkdir(exist_ok=True)
    step = Step("rewrite", "rewrite the compose file", SWITCH, {"mounts": [MOUNT], "images": {}, "rewrite": how})
    plan = Plan(Goal("compose_storage", "app", {}), (step,), facts={"project_dir": str(root)})
    operation = OperationStore(str(root / "operations")).begin(plan)
    mount = Mount(MOUNT["service"], MOUNT["target"], MOUNT["source"])
    rewrite = plan_rewrite(project_files(ProjectOptions(str(root)), {}), mounts=[mount], rewrite=how)
    apply_rewrite(rewrite)
    operation.journal.evidence(step.name, {"hunks": rewrite.hunks()})
    return operation


@pytest.mark.parametrize("how", ["in_place", "override"])
@pytest.mark.parametrize(("content", "blocked"), [((), False), (("dump.rdb",), True)])
def test_data_in_a_mount_that_was_only_written_into_the_file(
    tmp_path: Path, content: tuple[str, ...], blocked: bool, how: str
) -> None:
    operation = written(tmp_path, PLAIN, how)
    for name in content:
        (tmp_path / "redis" / name).write_text("x")

    found = in_use_by_the_file_alone(operation)

    assert bool(found) == blocked
    assert all(str(tmp_path / "redis") in blocker.command and "redis" in blocker.text for blocker in found)
    (tmp_path / "redis").rename(tmp_path / "away")
    assert not in_use_by_the_file_alone(operation)


@pytest.mark.parametrize("how", ["in_place", "override"])
def test_what_the_file_said_before_stays_in_it_and_is_not_in_the_way(tmp_path: Path, how: str) -> None:
    """All mounts that are asked for are in the plan, also those that an earlier operation has reached."""
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "dump.rdb").write_text("x")
    assert not in_use_by_the_file_alone(written(tmp_path, MOUNTED, how))


def test_what_was_moved_is_carried_back_and_not_in_the_way(tmp_path: Path) -> None:
    lab = KINDS[2].lab(tmp_path)
    operation = lab.begin()
    lab.run(operation)
    assert any(step.kind == "rewrite" and step.args["mounts"] for step in operation.plan.steps)
    assert not in_use_by_the_file_alone(operation)
