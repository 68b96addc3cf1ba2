# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An app is stopped and started again, killed at every request and at every record of the journal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku import stopping
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.kept import forgotten, require_kept
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.model import Process
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.journal import Journal
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.mounts import FileSystem
from tests.support.heroku_lab import APP, FORMATION, Fuse, Killed, Lab, lab_in

NOTHING = {"web": 0, "worker": 0, "cron": 0}


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> Callable[[Fuse], None]:
    """Return what puts a fuse into every record of a journal, too."""

    def put(fuse: Fuse) -> None:
        append, begin = Journal._append, OperationStore._begin

        def appended(journal: Journal, *given: Any, **more: Any) -> None:
            with fuse.effect():
                append(journal, *given, **more)

        def begun(store: OperationStore, *given: Any) -> Any:
            with fuse.effect():
                return begin(store, *given)

        monkeypatch.setattr(Journal, "_append", appended)
        monkeypatch.setattr(OperationStore, "_begin", begun)

    return put


def as_before(lab: Lab, *, maintenance: bool = False) -> None:
    assert lab.quantities() == FORMATION
    assert lab.app.maintenance is maintenance
    assert {state for _name, _kind, state in lab.world.dynos(lab.app)} == {"up"}
    assert stopping.begun_in(stopping.live_of(lab.operations, APP)) == set()


def stopped(lab: Lab) -> None:
    assert lab.quantities() == NOTHING
    assert lab.app.maintenance
    assert lab.world.dynos(lab.app) == []


def test_it_is_stopped_and_started(lab: Lab) -> None:
    result = lab.stop(note={"plan": "standard-0"})
    stopped(lab)
    assert result["changed"]
    assert result["former"]["maintenance"] is False
    assert result["former"]["formation"]["web"] == {"quantity": 2, "size": "Standard-1X"}
    again = lab.stop()
    assert (again["changed"], again["former"], again["note"]) == (False, result["former"], {"plan": "standard-0"})
    back = lab.restore()
    as_before(lab)
    assert back["changed"]
    assert back["warnings"] == []
    assert lab.restore()["changed"] is False


def test_what_is_noted_later_stands_after_the_start(lab: Lab) -> None:
    world, app = lab.steps(), APP
    assert stopping.note(world, lab.operations, app, {"hook": "done"}, check=False)["changed"] is False
    lab.stop(note={"hook": "pending"})
    lab.restore()
    asked = len(lab.stand_in.changes())
    assert stopping.note(world, lab.operations, app, {"hook": "done"}, check=True)["changed"]
    assert stopping.note(world, lab.operations, app, {"hook": "done"}, check=False)["changed"]
    assert stopping.note(world, lab.operations, app, {"hook": "done"}, check=False)["changed"] is False
    (operation,) = lab.operations.all()
    assert operation.history().evidence[stopping.NOTE] == {"hook": "done"}
    assert (operation.history().state, len(lab.stand_in.changes())) == ("rolled_back", asked)
    as_before(lab)


def test_maintenance_mode_that_was_on_before_stays_on(lab: Lab) -> None:
    lab.app.maintenance = True
    lab.stop()
    lab.restore()
    as_before(lab, maintenance=True)


def test_check_mode_changes_nothing(lab: Lab) -> None:
    assert lab.stop(check=True)["changed"]
    assert lab.stand_in.changes() == []
    assert lab.operations.all() == []
    lab.stop()
    asked = len(lab.stand_in.changes())
    assert lab.stop(check=True)["changed"] is False
    assert lab.restore(check=True)["changed"]
    assert len(lab.stand_in.changes()) == asked


def test_dynos_of_nobody_are_told(lab: Lab) -> None:
    lab.app.one_off = ["scheduler.4711", "run.12"]
    assert lab.stop()["one_off_dynos"] == ["run.12", "scheduler.4711"]


@pytest.mark.parametrize("kind", ["drop_after", "drop_before"])
@pytest.mark.parametrize("path", ["^/apps/shop$", "/formation$"])
def test_a_lost_answer_is_read_back(lab: Lab, path: str, kind: str) -> None:
    lab.stand_in.break_next(path, kind, method="PATCH")
    if kind == "drop_after":
        lab.stop()
        stopped(lab)
        return
    with pytest.raises(execute.UndoneFailure, match="was lost") as caught:
        lab.stop()
    as_before(lab)
    assert "runs what it ran before" in caught.value.state


def test_what_somebody_scaled_up_meanwhile_stays(lab: Lab) -> None:
    lab.stop()
    lab.world.scale(lab.app, [{"type": "web", "quantity": 7}])
    result = lab.restore()
    assert lab.quantities() == {**FORMATION, "web": 7}
    assert "web of shop was scaled to 7 by somebody" in " ".join(result["warnings"])


def test_stopped_again_after_somebody_scaled_up_it_remembers_both(lab: Lab) -> None:
    lab.stop()
    lab.world.scale(lab.app, [{"type": "web", "quantity": 7}])
    lab.stop()
    stopped(lab)
    lab.restore()
    assert lab.quantities() == {**FORMATION, "web": 7}
    assert not lab.app.maintenance


def test_dynos_that_do_not_come_up_are_told_and_nothing_is_held_back(lab: Lab) -> None:
    lab.stop()
    lab.app.never_up = True
    result = lab.restore()
    assert lab.quantities() == FORMATION
    assert not lab.app.maintenance
    assert "not all of it is up" in " ".join(result["warnings"])


def test_an_exact_formation_is_refused_while_another_is_remembered(lab: Lab) -> None:
    wanted = {"web": Process(1)}
    lab.stop()
    with pytest.raises(StatefulError, match="state: restored"):
        stopping.set_exact(lab.steps(), lab.operations, APP, wanted, check=False)
    lab.restore()
    assert stopping.set_exact(lab.steps(), lab.operations, APP, wanted, check=False)["changed"]
    assert lab.quantities() == {"web": 1, "worker": 0, "cron": 0}
    assert stopping.set_exact(lab.steps(), lab.operations, APP, wanted, check=False)["changed"] is False


def killed(lab: Lab, work: Callable[[], object], at: int) -> bool:
    """Tell whether the work was killed at its ``at``-th effect, or had fewer."""
    fuse = lab.fuse
    fuse.count, fuse.at = 0, at
    try:
        work()
    except Killed:
        return True
    finally:
        fuse.let_be()
    return False


def scaled_by_somebody(lab: Lab) -> None:
    lab.world.scale(lab.app, [{"type": "worker", "quantity": 3}])


def every_kill(tmp_path: Path, fused: Callable[[Fuse], None], work: str, then: Callable[[Lab], None]) -> int:
    """Kill ``stop`` or ``restore`` at each of its effects, and see what ``then`` sees; return how many there were."""
    fuse = Fuse()
    fused(fuse)
    for at in range(1, 200):
        with lab_in(tmp_path / str(at)) as lab:
            lab.fuse = fuse
            if work == "restore":
                lab.stop(note={"plan": "standard-0"})
            elif work == "stop again":
                lab.stop()
                scaled_by_somebody(lab)
            run = lab.restore if work == "restore" else lab.stop
            if not killed(lab, run, at):
                return at - 1
            then(lab)
    raise AssertionError("it has no end")


def stop_and_start(lab: Lab) -> None:
    lab.stop()
    stopped(lab)
    lab.restore()
    as_before(lab)


def start(lab: Lab) -> None:
    lab.restore()
    as_before(lab)


def start_both(lab: Lab) -> None:
    lab.restore()
    assert lab.quantities() == {**FORMATION, "worker": 3}
    assert not lab.app.maintenance


def stop_and_start_both(lab: Lab) -> None:
    lab.stop()
    start_both(lab)


@pytest.mark.parametrize(
    "work, then, effects",
    [
        ("stop", stop_and_start, 15),
        ("stop", start, 15),
        ("restore", start, 10),
        ("restore", stop_and_start, 10),
        ("stop again", start_both, 15),
        ("stop again", stop_and_start_both, 15),
    ],
)
def test_killed_anywhere_it_ends_right(
    tmp_path: Path,
    fused: Callable[[Fuse], None],
    work: str,
    then: Callable[[Lab], None],
    effects: int,
) -> None:
    assert every_kill(tmp_path, fused, work, then) >= effects


def test_where_the_journal_would_be_forgotten_nothing_is_scaled(lab: Lab) -> None:
    def keep() -> None:
        raise InvalidInput("It would be forgotten.")

    with pytest.raises(InvalidInput):
        lab.stop(keep=keep)
    assert lab.stand_in.changes() == []
    assert lab.operations.all() == []


def under(fs_type: str, point: str = "/", volatile: bool = False) -> FileSystem:
    return FileSystem("/x", 1, point, fs_type, False, volatile, 1, 1, 1, 1)


@pytest.mark.parametrize(
    "system, in_container, root, kept",
    [
        (under("overlay", volatile=True), True, "/", False),
        (under("fuse.fuse-overlayfs"), True, "/", False),
        (under("overlay", volatile=True), False, "/", False),
        (under("ext4", "/runner/operations"), True, "/", True),
        (under("tmpfs", "/runner", volatile=True), True, "/", False),
        (under("xfs"), True, "/var/lib/containers/storage/vfs/dir/1", False),
        (under("btrfs"), False, "/@", True),
        (under("ext4"), True, "/", True),
        (under("ext4"), False, "/", True),
    ],
)
def test_where_a_journal_is_kept(system: FileSystem, in_container: bool, root: str, kept: bool) -> None:
    assert (forgotten(system, in_container=in_container, root_of_root=root) == "") is kept


def test_a_directory_in_memory_is_refused_with_the_way_out() -> None:
    with pytest.raises(InvalidInput, match="Mount a volume there"):
        require_kept("/dev/shm/selfhost-stateful/operations")
