# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A volume that nobody refers to is a prune's: the one that a service leaves is held from before that."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    FINISH,
    PREPARE,
    Goal,
    Plan,
    Step,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import ANONYMOUS, BIND
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.copies import KeepVolume, Retain
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Location, Transfer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World
from tests.support.fake_store import TARGET
from tests.unit.storage.projects import NAME, small

TEXT = "services:\n  db:\n    image: store:1\n"


def test_it_is_held_once_and_let_go_where_all_is_undone(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    project = small(tmp_path / "app", TEXT)
    engine, served = project.engine, project.add("db")
    (mount,) = engine.held[served].mounts
    transfer = Transfer(
        service="db", target=TARGET, origin=Location(ANONYMOUS, mount.source, mount.name),
        goal=Location(BIND, str(tmp_path / "app/new")), strategy="pg_upgrade", store="", facts={}, staging="",
        retained=str(tmp_path / "retained/db"), image_id=engine.held[served].image_id, containers=(served,),
        running=False,
    )  # fmt: skip
    operation = OperationStore(str(tmp_path / "operations")).begin(Plan(Goal("postgresql_image", NAME, {}), ()))
    context: Context[World] = Context(project.world, operation)
    step = Step("keep_volume", "keep", PREPARE, {"transfer": transfer.as_dict()})
    keeping = KeepVolume()
    assert keeping.is_done(step, context) is None
    keeping.apply(step, context)
    assert keeping.is_done(step, context) == {}
    engine.remove_container(served)
    assert mount.name in engine.volumes_in_use()

    retaining = Step("retain", "retain", FINISH, {"transfer": transfer.as_dict(), "in_place": True})
    found = Retain().is_done(retaining, context)
    assert found is not None
    assert [copy["path"] for copy in found["copies"]] == [mount.source]

    keeping.undo(step, context)
    keeping.undo(step, context)
    assert mount.name not in engine.volumes_in_use()
