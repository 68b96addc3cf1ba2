# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The only thing that deletes an original: what it takes away, and all that it leaves alone."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import EngineMount
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    COMMITTED,
    DONE,
    ROLLED_BACK,
    Copy,
    Goal,
    Plan,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.commit import (
    Removal,
    carry_out_commit,
    plan_commit,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.copies import WHERE_OPTIONS_POINT
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import transfers_of_plan
from tests.support import fake_store
from tests.support.dying import KINDS
from tests.support.storage_lab import Lab

pytestmark = pytest.mark.usefixtures("swift")


@pytest.fixture
def moved(tmp_path: Path) -> tuple[Lab, Operation]:
    """Return a project that was moved by a copy, so that its original is retained."""
    lab = KINDS[2].lab(tmp_path)
    operation = lab.begin()
    assert lab.run(operation) == DONE
    lab.write()
    return lab, operation


def planned(operation: Operation, *, with_backups: bool = False) -> Removal:
    return plan_commit(operation, None, min_age_days=0, with_backups=with_backups)


def original(operation: Operation) -> Path:
    (kept,) = [copy for copy in operation.history().copies() if copy.role == "original"]
    return Path(kept.path)


def test_it_removes_the_original_and_nothing_else(moved: tuple[Lab, Operation]) -> None:
    lab, operation = moved
    kept = original(operation)
    assert fake_store.ident_of(str(kept)) == lab.idents["db"]
    removal = planned(operation)
    assert [copy.path for copy in removal.copies] == [str(kept)]
    carry_out_commit(lab.world, operation, removal)
    assert not kept.exists()
    assert operation.history().state == COMMITTED
    assert [copy.role for copy in operation.history().copies()] == ["backup"]
    lab.check_moved_but_for(COMMITTED, operation)
    assert planned(operation).copies == ()


def test_backups_go_only_when_that_is_asked_for(moved: tuple[Lab, Operation]) -> None:
    lab, operation = moved
    carry_out_commit(lab.world, operation, planned(operation, with_backups=True))
    assert operation.history().copies() == []
    lab.check_moved_but_for(COMMITTED, operation)


def test_another_directory_under_its_name_is_left_alone(moved: tuple[Lab, Operation]) -> None:
    lab, operation = moved
    kept, removal = original(operation), planned(operation)
    shutil.move(str(kept), f"{kept}-by-the-admin")
    kept.mkdir()
    (kept / "precious").write_text("x")
    with pytest.raises(StatefulError, match="another directory"):
        carry_out_commit(lab.world, operation, removal)
    assert (kept / "precious").exists()
    assert operation.history().state == DONE


def test_a_link_in_its_place_is_not_followed(moved: tuple[Lab, Operation], tmp_path: Path) -> None:
    lab, operation = moved
    kept, removal = original(operation), planned(operation)
    shutil.move(str(kept), str(tmp_path / "elsewhere"))
    kept.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StatefulError, match="not the plain directory"):
        carry_out_commit(lab.world, operation, removal)
    assert fake_store.ident_of(str(tmp_path / "elsewhere")) == lab.idents["db"]


@pytest.mark.parametrize("below", ["", "rows"])
def test_what_a_container_mounts_is_not_removed(moved: tuple[Lab, Operation], below: str) -> None:
    lab, operation = moved
    source = str(original(operation) / below) if below else str(original(operation))
    web = lab.container("web")
    lab.engine.held[web.id] = replace(web, mounts=(EngineMount("bind", source, "/old", rw=False),))
    with pytest.raises(StatefulError, match=web.name):
        carry_out_commit(lab.world, operation, planned(operation))
    assert original(operation).exists()


def test_a_service_that_is_not_on_the_new_place_keeps_its_original(moved: tuple[Lab, Operation]) -> None:
    lab, operation = moved
    lab.file.write_bytes(lab.text)
    lab.engine.remove_container(lab.container("db").id, force=True)
    with pytest.raises(StatefulError, match="the original is not removed"):
        carry_out_commit(lab.world, operation, planned(operation))
    assert original(operation).exists()


def test_what_is_open_or_young_is_not_committed(moved: tuple[Lab, Operation]) -> None:
    lab, operation = moved
    with pytest.raises(InvalidInput, match="less than min_age_days"):
        plan_commit(operation, None, min_age_days=14, with_backups=False)
    other = lab.operations.begin(Plan(Goal("compose_storage", "app", {"mounts": {}}), ()))
    with pytest.raises(InvalidInput, match=f"{other.id} is open"):
        plan_commit(operation, other, min_age_days=0, with_backups=False)
    with pytest.raises(InvalidInput, match="only one that has ended"):
        plan_commit(other, other, min_age_days=0, with_backups=False)


def test_what_is_half_rolled_back_is_not_committed(moved: tuple[Lab, Operation]) -> None:
    lab, operation = moved
    operation.journal.undoing("asked for")
    open_one = lab.operations.open_for("app")
    assert open_one is not None
    with pytest.raises(InvalidInput, match=f"The roll back of {operation.id} was broken off"):
        plan_commit(operation, open_one, min_age_days=0, with_backups=False)


def test_killed_half_way_it_goes_on(moved: tuple[Lab, Operation]) -> None:
    lab, operation = moved
    kept, number = original(operation), 1

    def commit() -> None:
        carry_out_commit(lab.world, operation, planned(operation, with_backups=True))

    while lab.burning(number, commit):
        lab.check()
        number += 1
    assert 3 < number < 200
    assert not kept.exists()
    assert operation.history().state == COMMITTED
    lab.check_moved_but_for(COMMITTED, operation)


def test_what_the_options_of_a_volume_point_to_is_never_removed(tmp_path: Path) -> None:
    for name in ("share", "retained", "backup"):
        (tmp_path / name).mkdir()
    copies = (
        Copy("original", "web", str(tmp_path / "share"), "now", protected=WHERE_OPTIONS_POINT),
        Copy("original", "db", str(tmp_path / "retained"), "now", protected="out of the engine's directory"),
        Copy("backup", "db", str(tmp_path / "backup"), "now"),
    )
    history = SimpleNamespace(state=DONE, changed_at=time.time(), copies=lambda: copies)
    operation: Any = SimpleNamespace(id="op", history=lambda: history)
    removal = plan_commit(operation, None, min_age_days=0, with_backups=True)
    assert [Path(copy.path).name for copy in removal.copies] == ["retained", "backup"]


def test_what_was_the_original_is_in_use_again_after_a_roll_back(moved: tuple[Lab, Operation]) -> None:
    """An image change keeps it where it is; what it left elsewhere goes."""
    _lab, operation = moved
    (transfer,) = [one for one in transfers_of_plan(operation.plan) if one.service == "db"]
    Path(transfer.origin.path).mkdir(exist_ok=True)
    kept = original(operation)
    copies = (Copy("original", "db", transfer.origin.path, "now"), Copy("original", "db", str(kept), "now"))
    history = SimpleNamespace(state=ROLLED_BACK, changed_at=time.time(), copies=lambda: copies)
    ended: Any = SimpleNamespace(id="op", history=lambda: history, plan=operation.plan)
    assert [copy.path for copy in planned(ended).copies] == [str(kept)]


@pytest.mark.parametrize("at", ["journal intent move db:/data", ""])
def test_what_is_kept_of_a_layer_is_known_after_an_undo_or_gone(tmp_path: Path, at: str) -> None:
    """The links are second names while the container is there; once it was made anew, they are the original."""
    lab = KINDS[5].lab(tmp_path)
    lab.store.never_ready.add(lab.goal("db"))
    operation = lab.begin()
    if at:
        lab.burning(at, lambda: lab.run(operation))
        lab.undo(operation)
    else:
        with pytest.raises(execute.UndoneFailure):
            lab.run(operation)
    retained = [Path(transfer.retained) for transfer in transfers_of_plan(operation.plan)]
    named = [Path(copy.path) for copy in operation.history().copies() if copy.role == "original"]
    assert named == [path for path in retained if path.exists()]
    assert bool(named) == (not at)
    carry_out_commit(lab.world, operation, planned(operation))
    assert not any(path.exists() for path in retained)
    lab.check_undone()
