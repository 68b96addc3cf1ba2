# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan of an image's way back: in which order its steps are safe."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    PREPARE,
    SWITCH,
    Goal,
    Plan,
    Step,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import SWAP
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.way_back import plan_image_way_back
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import by_compose
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import ANONYMOUS, Request
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Location, Transfer
from tests.support.fake_store import TARGET
from tests.unit.storage.projects import NAME, small

TEXT = "services:\n  db:\n    image: store:2\n"


def test_the_volume_that_all_data_is_in_is_held_while_its_service_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prune takes a container that does not run, and then the volume."""
    (tmp_path / "app").mkdir()
    project = small(tmp_path / "app", TEXT, images={"store:1": (TARGET,), "store:2": (TARGET,)})
    monkeypatch.setattr(by_compose, "observe_project", lambda engine, compose, services: project.project)
    engine, former = project.engine, project.engine.image("store:1")
    assert former is not None
    served = engine.held[project.add("db", "store:2")]
    (mount,) = served.mounts
    transfer = Transfer(
        service="db", target=TARGET, origin=Location(ANONYMOUS, mount.source, mount.name, image=former.id),
        goal=Location(ANONYMOUS, mount.source, mount.name, image=served.image_id), strategy=SWAP, store="", facts={},
        staging="", retained=str(tmp_path / "retained/db"), image_id=former.id, containers=(served.id,), running=False,
    )  # fmt: skip
    step = Step("stop_stores", "stop the stores", SWITCH, {"transfers": [transfer.as_dict()]})
    operation = OperationStore(str(tmp_path / "operations")).begin(Plan(Goal("postgresql_image", NAME, {}), (step,)))

    back = plan_image_way_back(project.world, operation, Request(NAME, str(project.root), ()), "back-1")

    assert not back.blockers
    kinds = [step.kind for step in back.plan.steps]
    assert kinds.index("hold_volume") < kinds.index("stop_stores") < kinds.index("prove_goal")
    assert kinds[-1] == "release_volume"
    assert back.plan.steps[kinds.index("hold_volume")].phase == PREPARE
