# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Die after a line of the journal, by the real plan and the real handlers, and go on.

What has to hold at every moment is in ``tests.support.storage_lab``. Every line, and every
effect between two of them, in every way, is the full product, which ``make test-faults`` runs.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import this_boot
from tests.support import dying, fake_store
from tests.support.dying import KINDS, Kind, Scenario
from tests.support.storage_lab import Lab

pytestmark = pytest.mark.usefixtures("swift")

# Each way once; the product of all is for test-faults.
FEW = (KINDS[0], KINDS[2], KINDS[5])
EVERY = 3


def survive(scenario: Scenario, kind: Kind, root: Path) -> None:
    """Die at each line in turn, and have each time another thing happen before the next run."""
    events = dying.events_for(kind, scenario)
    points = dying.journal_points(scenario, kind, root / "0")
    assert len(points) > 20
    for number in points[KINDS.index(kind) % EVERY :: EVERY]:
        event = events[number % len(events)]
        assert scenario(kind, root / str(number), number, event), number


@pytest.mark.parametrize("kind", FEW, ids=str)
def test_a_move_is_finished(kind: Kind, tmp_path: Path) -> None:
    survive(dying.moving, kind, tmp_path)


@pytest.mark.parametrize("kind", FEW, ids=str)
def test_an_undo_is_finished(kind: Kind, tmp_path: Path) -> None:
    survive(dying.undoing, kind, tmp_path)


@pytest.mark.parametrize("kind", FEW, ids=str)
def test_a_move_that_was_killed_is_rolled_back(kind: Kind, tmp_path: Path) -> None:
    survive(dying.giving_up, kind, tmp_path)


def test_what_an_admin_had_written_on_the_goal_is_never_undone_unasked(tmp_path: Path) -> None:
    """Killed before its start, started by hand, stopped by hand a day later: the day is in the copy alone."""
    for number, started in enumerate((True, False)):
        lab = KINDS[2].lab(tmp_path / str(number))
        operation = lab.begin()
        lab.fuse.reset(0)
        first = KINDS[2].lab(tmp_path / f"first-{number}")
        first.burning(0, lambda: first.run(first.begin()))  # noqa: B023 - called at once
        at = first.fuse.trace.index("journal evidence create the containers")
        assert lab.burning(at, lambda: lab.run(operation))  # noqa: B023 - called at once
        lab.compose.up()
        lab.write()
        if not started:
            for container in lab.world.containers_of("db"):
                lab.engine.stop(container.id, signal="SIGTERM", timeout=1)
        with pytest.raises(execute.UndoRefused, match="1 rows"):
            lab.undo(operation)
        lab.check()
        lab.check_moved(lab.finish(lab.begin, operation))


@pytest.mark.parametrize(
    "scenario, at, event",
    [
        pytest.param(
            dying.giving_up, "compose: remove the old container", dying.engine_restart, id="made-for-the-first-alone"
        ),
        pytest.param(dying.undoing, "os.remove ident", dying.admins_up, id="data-of-the-last-taken-away"),
    ],
)
def test_of_two_services_one_took_writes_and_the_other_is_half_way(
    scenario: Scenario, at: str, event: dying.Event, tmp_path: Path
) -> None:
    assert scenario(KINDS[9], tmp_path, at, event)


def test_where_both_places_took_writes_nothing_more_is_touched(tmp_path: Path) -> None:
    """Their containers are gone, and only the data tells that they ran."""
    named = KINDS[4]
    at = {what: number for number, what in dying.traced(dying.moving, named, tmp_path / "first")}
    lab = named.lab(tmp_path / "second")
    operation = lab.begin()
    assert lab.burning(at["journal evidence create the containers"], lambda: lab.run(operation))
    for text in (lab.file.read_bytes(), lab.text):
        lab.file.write_bytes(text)
        lab.compose.up()
        for container in lab.world.containers_of("db"):
            fake_store.write_row(lab.data_of("db"), f"row-in-{container.mounts[0].type}")
            lab.engine.remove_container(container.id, force=True)
    rows = {place: fake_store.rows_of(place) for place in (lab.goal("db"), lab.origins["db"].source)}
    lab.compose.up()
    with pytest.raises(execute.Undecided, match="both may hold writes"):
        lab.run(operation)
    assert {place: fake_store.rows_of(place) for place in rows} == rows


@pytest.mark.parametrize("kind", (KINDS[0],), ids=str)
def test_a_roll_back_is_finished(kind: Kind, tmp_path: Path) -> None:
    survive(dying.rolling_back, kind, tmp_path)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_each_way_there_and_back(kind: Kind, tmp_path: Path) -> None:
    assert not dying.moving(kind, tmp_path / "there", 0, dying.quiet)
    assert not dying.undoing(kind, tmp_path / "undone", 0, dying.quiet)
    assert not dying.rolling_back(kind, tmp_path / "back", 0, dying.quiet)


@pytest.mark.parametrize("kind", FEW, ids=str)
def test_a_failure_at_a_line_is_undone_or_proved(kind: Kind, tmp_path: Path) -> None:
    for number in range(2, 100, 9):
        if not dying.failing(kind, tmp_path / str(number), number, dying.quiet):
            assert number > 50
            break


def test_a_layer_that_ran_since_its_links_were_made_is_linked_anew(tmp_path: Path) -> None:
    """A store that replaces its files leaves the links with the old ones; an undo would have brought those back."""
    first = KINDS[5].lab(tmp_path / "first")
    begun = first.begin()
    first.burning(0, lambda: first.run(begun))
    at = first.fuse.trace.index("journal evidence keep the layer of db:/data") + 1
    lab = KINDS[5].lab(tmp_path / "second")
    operation = lab.begin()
    assert lab.burning(at, lambda: lab.run(operation))
    lab.engine.start(lab.container("db").id)
    lab.write()
    lab.check()
    lab.store.never_ready.add(lab.goal("db"))
    dying._until_undone(lab, operation, 1)
    lab.check_undone()


@pytest.mark.parametrize("kind", (KINDS[0], KINDS[2]), ids=str)
@pytest.mark.parametrize("scenario", [dying.moving, dying.undoing], ids=lambda scenario: scenario.__name__)
def test_the_host_starts_anew_and_numbers_its_disks_otherwise(kind: Kind, scenario: Scenario, tmp_path: Path) -> None:
    """A device number tells a directory from others only until the next boot."""

    def reboot(lab: Lab) -> None:
        device = os.stat(lab.root).st_dev
        for path in (
            lab.operations.all()[0].directory,
            *Path(lab.operations.all()[0].directory).glob("*.published.json"),
        ):
            file = Path(path, "plan.json") if os.path.isdir(path) else Path(path)
            text = file.read_text().replace(f'"device": {device}', f'"device": {device + 7}')
            file.write_text(text.replace(f'"boot": "{this_boot()}"', '"boot": "the one before"'))

    moves = [number for number, what in dying.traced(scenario, kind, tmp_path / "0") if "renamed" in what]
    assert moves
    for number in moves:
        assert scenario(kind, tmp_path / str(number), number + 1, reboot), number


def test_what_somebody_else_put_at_the_goal_is_never_taken_away(tmp_path: Path) -> None:
    for kind in (KINDS[0], KINDS[1], KINDS[2]):
        lab = kind.lab(tmp_path / str(kind))
        operation = lab.begin()
        goal = Path(lab.goal("db"))
        goal.mkdir()
        (goal / "theirs").write_text("precious")
        dying._until_undone(lab, operation, 1)
        assert (goal / "theirs").read_text() == "precious"
        assert [path.name for path in goal.iterdir()] == ["theirs"]
        lab.check_at_origin()
