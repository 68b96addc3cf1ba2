# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An app is stopped and started again, and what it ran is remembered for as long as that is true."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku import planner, stopping
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.kept import forgotten, require_kept
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.model import Process, formation_of
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.planner import CLOSED, Former
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.mounts import FileSystem
from tests.support.heroku_lab import APP, FORMATION, NOTHING, Lab


def test_it_is_stopped_and_started(lab: Lab) -> None:
    result = lab.stop(note={"plan": "standard-0"})
    lab.check_stopped()
    assert result["changed"]
    assert result["former"]["maintenance"] is False
    assert result["former"]["formation"]["web"] == {"quantity": 2, "size": "Standard-1X"}
    again = lab.stop()
    assert (again["changed"], again["former"], again["note"]) == (False, result["former"], {"plan": "standard-0"})
    back = lab.restore()
    lab.check_as_before()
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
    lab.check_as_before()


def test_maintenance_mode_that_was_on_before_stays_on(lab: Lab) -> None:
    lab.app.maintenance = True
    lab.stop()
    assert lab.restore(check=True)["warnings"] == []
    back = lab.restore()
    lab.check_as_before(maintenance=True)
    assert back["maintenance"] is True
    (warning,) = back["warnings"]
    assert "is not open: maintenance mode is on" in warning
    assert "heroku maintenance:off --app shop" in warning


def test_an_app_that_ran_nothing_runs_nothing_again_and_that_is_told(lab: Lab) -> None:
    lab.world.scale(lab.app, [{"type": kind, "quantity": 0} for kind in FORMATION])
    lab.stop()
    back = lab.restore()
    assert (lab.quantities(), lab.app.maintenance, back["maintenance"]) == (NOTHING, False, False)
    (warning,) = back["warnings"]
    assert "is not open: no process type runs dynos" in warning


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
        lab.check_stopped()
        return
    with pytest.raises(execute.UndoneFailure, match="was lost") as caught:
        lab.stop()
    lab.check_as_before()
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
    (warning,) = lab.stop()["warnings"]
    assert "web of shop was scaled to 7 by somebody since it was stopped" in warning
    assert "it ran 2 dynos before" in warning
    assert lab.stop()["warnings"] == []
    lab.check_stopped()
    lab.restore()
    assert lab.quantities() == {**FORMATION, "web": 7}
    assert not lab.app.maintenance


def opened_by_hand(lab: Lab, **quantities: int) -> None:
    """Open the app as somebody would who does not know of the journal."""
    lab.app.maintenance = False
    lab.world.scale(lab.app, [{"type": kind, "quantity": n} for kind, n in quantities.items()])
    lab.world.advance(21 * 86400)


def states(lab: Lab) -> list[str]:
    return [each.history().state for each in lab.operations.all()]


@pytest.mark.parametrize("maintenance", [True, False])
def test_what_was_noted_before_somebody_opened_the_app_by_hand_is_of_the_past(lab: Lab, maintenance: bool) -> None:
    first = lab.stop(maintenance=maintenance)
    opened_by_hand(lab, web=1, worker=4, cron=2)
    lab.world.scale(lab.app, [{"type": "worker", "quantity": 0 if maintenance else 5}])
    checked = lab.stop(maintenance=maintenance, check=True)
    assert (checked["changed"], states(lab)) == (True, ["done"])
    second = lab.stop(maintenance=maintenance)
    assert any(first["operation"] in line and "web=2 worker=1" in line for line in second["warnings"])
    assert checked["warnings"] == second["warnings"]
    assert states(lab) == ["committed", "done"]
    lab.restore()
    assert lab.quantities() == {"web": 1, "worker": 0 if maintenance else 5, "cron": 2}
    assert not lab.app.maintenance


@pytest.mark.parametrize("broken_off", [False, True])
def test_the_journal_of_an_app_that_is_open_by_now_is_ended_without_another_stop(lab: Lab, broken_off: bool) -> None:
    first = lab.stop()
    if broken_off:
        lab.operations.all()[0].journal.undoing("killed before it was noted that this was over")
    noted = stopping.note(lab.steps(), lab.operations, APP, {}, check=False)
    assert (noted["changed"], noted["warnings"], states(lab)) == (False, [], ["done"])
    opened_by_hand(lab, web=1)
    asked = len(lab.stand_in.changes())
    for check in (True, False):
        noted = stopping.note(lab.steps(), lab.operations, APP, {}, check=check)
        (warning,) = noted["warnings"]
        assert noted["changed"]
        assert first["operation"] in warning
        assert "web=2 worker=1" in warning
        assert (states(lab) == ["done"]) is check
    assert len(lab.stand_in.changes()) == asked
    # Closed on purpose since: nothing of this is ours.
    lab.app.maintenance = True
    assert lab.restore()["changed"] is False
    assert lab.app.maintenance
    assert lab.quantities() == {**NOTHING, "web": 1}


@pytest.mark.parametrize("begun", [(), (CLOSED,)])
def test_a_journal_by_which_nothing_was_closed_is_ended_in_silence(lab: Lab, begun: tuple[str, ...]) -> None:
    plan = planner.closing(APP, Former(formation_of({}), False), maintenance=True, note={})
    operation = lab.operations.begin(plan)
    for step in begun:
        operation.journal.intent(step)
    noted = stopping.note(lab.steps(), lab.operations, APP, {}, check=False)
    assert (noted["changed"], noted["warnings"], states(lab)) == (True, [], ["committed"])


def test_one_type_that_was_scaled_up_is_no_open_app_where_maintenance_mode_does_not_tell(lab: Lab) -> None:
    lab.app.maintenance = True
    lab.stop()
    lab.world.scale(lab.app, [{"type": "web", "quantity": 7}])
    assert not any("was opened since" in line for line in lab.stop()["warnings"])
    lab.restore()
    as_scaled = {**FORMATION, "web": 7}
    assert (lab.quantities(), lab.app.maintenance) == (as_scaled, True)


def test_a_restore_is_an_order_to_bring_everything_back(lab: Lab) -> None:
    lab.stop()
    opened_by_hand(lab, web=1)
    assert lab.restore()["changed"]
    assert lab.quantities() == {**FORMATION, "web": 1}
    assert states(lab) == ["rolled_back"]


CHANGE = {"database": {"name": "postgresql-leader-1"}, "plan": "standard-2"}
OTHERS = [
    {},
    {"ticket": 4711},
    {**CHANGE, "plan": "standard-4"},
    {**CHANGE, "database": {"name": "postgresql-reports-1"}},
]


@pytest.mark.parametrize("noted", OTHERS)
@pytest.mark.parametrize("maintenance", [True, False])
def test_what_is_stopped_for_something_else_is_left_to_it(lab: Lab, noted: dict[str, Any], maintenance: bool) -> None:
    first = lab.stop(note=noted, maintenance=maintenance)
    asked = len(lab.stand_in.changes())
    for check in (True, False):
        with pytest.raises(StatefulError, match="is closed, and not for postgresql-leader-1 to standard-2") as caught:
            lab.stop(note=CHANGE, maintenance=maintenance, check=check)
        assert caught.value.facts["holder"] == first["operation"]
        assert ("on its own, by somebody" in caught.value.msg) is ("plan" not in noted)
    assert (states(lab), len(lab.stand_in.changes())) == (["done"], asked)
    assert lab.restore()["note"] == noted
    assert lab.stop(note=CHANGE)["note"] == CHANGE


@pytest.mark.parametrize("noted", OTHERS)
def test_what_is_stopped_for_something_else_is_not_started_by_the_way(lab: Lab, noted: dict[str, Any]) -> None:
    """A run that failed may come to open the app when somebody else has closed it meanwhile."""
    first = lab.stop(note=noted)
    asked = len(lab.stand_in.changes())
    for check in (True, False):
        with pytest.raises(StatefulError, match="is closed, and not for postgresql-leader-1 to standard-2") as caught:
            lab.restore(note=CHANGE, check=check)
        assert caught.value.facts["holder"] == first["operation"]
    assert (states(lab), len(lab.stand_in.changes())) == (["done"], asked)
    # Of what is open by now nothing is started either: it is of the past.
    opened_by_hand(lab, web=1)
    seen = lab.restore(note=CHANGE)
    assert (seen["changed"], seen["maintenance"], states(lab)) == (False, False, ["committed"])
    assert any("was opened since by hand" in line for line in seen["warnings"])
    assert lab.quantities() == {**NOTHING, "web": 1}


def test_what_was_stopped_for_the_same_change_is_started_by_it(lab: Lab) -> None:
    lab.stop(note={**CHANGE, "backups": ["b001"]})
    assert lab.restore(note=CHANGE)["changed"]
    lab.check_as_before()


def test_what_is_stopped_for_the_same_change_is_gone_on_with(lab: Lab) -> None:
    lab.stop(note={**CHANGE, "backups": ["b001"]})
    for given in ({**CHANGE, "backups": []}, {"plan": "standard-2"}, {"ticket": 4711}, {}):
        again = lab.stop(note=given)
        assert (again["changed"], again["note"]["backups"]) == (False, ["b001"])


@pytest.mark.parametrize("begun, refused", [((), False), ((CLOSED,), True)])
def test_what_only_began_to_stop_is_judged_by_what_it_did(lab: Lab, begun: tuple[str, ...], refused: bool) -> None:
    plan = planner.closing(APP, Former(formation_of({}), False), maintenance=True, note=OTHERS[2])
    operation = lab.operations.begin(plan)
    for step in begun:
        operation.journal.intent(step)
        lab.app.maintenance = True
    if refused:
        with pytest.raises(StatefulError, match="for postgresql-leader-1 to standard-4"):
            lab.stop(note=CHANGE)
        assert lab.quantities() == FORMATION
        return
    assert lab.stop(note=CHANGE)["note"] == CHANGE
    lab.check_stopped()
    assert states(lab) == ["committed", "done"]


@pytest.mark.parametrize("maintenance", [True, False])
def test_a_start_that_was_broken_off_is_not_gone_on_with_where_the_app_is_open(lab: Lab, maintenance: bool) -> None:
    first = lab.stop(maintenance=maintenance)
    (operation,) = lab.operations.all()
    operation.journal.undoing("killed before it was noted that this was over")
    opened_by_hand(lab, web=3, worker=2)
    lab.world.scale(lab.app, [{"type": "worker", "quantity": 0 if maintenance else 1}])
    asked = len(lab.stand_in.changes())
    second = lab.stop(maintenance=maintenance)
    assert any(first["operation"] in line and "broken off" in line for line in second["warnings"])
    assert states(lab) == ["rolled_back", "done"]
    scaled = [each.body["updates"] for each in lab.stand_in.changes()[asked:] if each.path.endswith("/formation")]
    assert all(update["quantity"] == 0 for updates in scaled for update in updates)
    lab.restore()
    assert lab.quantities() == {"web": 3, "worker": 0 if maintenance else 1, "cron": 0}


@pytest.mark.parametrize("scaled", [False, True])
def test_an_app_whose_start_was_broken_off_is_closed_anew_without_letting_anybody_in(lab: Lab, scaled: bool) -> None:
    first = lab.stop(note={"plan": "standard-2", "backups": ["b001"]})
    (operation,) = lab.operations.all()
    operation.journal.undoing("killed before maintenance mode was ended")
    if scaled:
        lab.world.scale(lab.app, [{"type": kind, "quantity": n} for kind, n in FORMATION.items()])
    assert lab.stop(check=True)["changed"]
    assert lab.operations.all()[0].history().undoing, "check mode ends nothing"
    asked = len(lab.stand_in.changes())
    second = lab.stop(note={"plan": "standard-2", "backups": ["b001", "b002"]})
    lab.check_stopped()
    let_in = [each.body for each in lab.stand_in.changes()[asked:] if each.body == {"maintenance": False}]
    started = [
        each
        for request in lab.stand_in.changes()[asked:]
        for each in request.body.get("updates", ())
        if each["quantity"] > 0
    ]
    assert (let_in, started) == ([], [])
    # What dynos wrote meanwhile is in no backup that was there before.
    assert second["note"]["backups"] == ["b001", "b002"]
    assert (second["former"], states(lab)) == (first["former"], ["committed", "done"])
    lab.restore()
    lab.check_as_before()


@pytest.mark.parametrize("maintenance, formation", [(True, FORMATION), (False, NOTHING), (True, NOTHING)])
def test_a_closed_app_of_which_nothing_is_noted_is_told(lab: Lab, maintenance: bool, formation: dict[str, int]) -> None:
    lab.app.maintenance = maintenance
    lab.world.scale(lab.app, [{"type": kind, "quantity": n} for kind, n in formation.items()])
    result = lab.restore()
    assert result["changed"] is False
    (warning,) = result["warnings"]
    assert lab.operations.directory in warning
    assert "another controller" in warning
    assert lab.stand_in.changes() == []


def test_an_open_app_of_which_nothing_is_noted_is_left_alone(lab: Lab) -> None:
    result = lab.restore()
    assert (result["changed"], result["warnings"], result["former"]) == (False, [], {})


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
    result = stopping.set_exact(lab.steps(), lab.operations, APP, wanted, check=False)
    assert result["changed"]
    assert result["former"]["maintenance"] is False
    assert result["former"]["formation"]["web"]["quantity"] == 2
    assert lab.quantities() == {"web": 1, "worker": 0, "cron": 0}
    assert stopping.set_exact(lab.steps(), lab.operations, APP, wanted, check=False)["changed"] is False


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
