# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run, resume, undo: the same end wherever it is killed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.journal import Journal
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    DONE,
    FINISH,
    ROLLED_BACK,
    RUNNING,
    SWITCH,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation
from tests.unit.operation.fakes import HANDLERS, NAMES, Switch, Switches, again, begun, refusal

BEFORE_THE_PROOF = ["copy", "check", "stop", "move", "prove"]
AFTER_THE_PROOF = ["start", "keep"]


def run(operation: Operation, world: Switches, **more: str) -> execute.Outcome:
    return execute.run(again(operation), HANDLERS, world, **more)


def whats(operation: Operation) -> list[str]:
    return [f"{r.what} {r.step or r.data.get('state', '')}".strip() for r in operation.journal.records()]


def calls(world: Switches, what: str) -> list[str]:
    return [call.partition(" ")[2] for call in world.calls if call.startswith(f"{what} ")]


# -- the straight way ----------------------------------------------------------


def test_every_step_is_made_in_order_and_noted_before_and_after(tmp_path: Path) -> None:
    operation, world = begun(tmp_path)
    outcome = run(operation, world)
    assert (outcome.state, outcome.changed) == (DONE, True)
    assert world.on() == NAMES
    assert calls(world, "apply") == calls(world, "verify") == NAMES
    expected = [line for name in NAMES for line in (f"intent {name}", f"evidence {name}")]
    seen = [line for line in whats(operation) if not line.startswith("progress")]
    assert seen == ["state planned", "state running", *expected, "state done"]
    assert set(outcome.steps) == set(NAMES)
    assert set(outcome.phases) == {"prepare", "switch", "finish"}


def test_what_is_so_already_is_not_made_again(tmp_path: Path) -> None:
    operation, world = begun(tmp_path)
    for name in ("copy", "stop"):
        (world.directory / name).touch()
    run(operation, world)
    assert calls(world, "apply") == [name for name in NAMES if name not in ("copy", "stop")]
    assert "intent copy" not in whats(operation)
    assert operation.history().evidence["copy"] == {"found": True}


def test_a_run_that_changes_nothing_says_so(tmp_path: Path) -> None:
    operation, world = begun(tmp_path)
    for name in NAMES:
        (world.directory / name).touch()
    assert not run(operation, world).changed


def test_it_stops_before_a_phase_and_goes_on_there(tmp_path: Path) -> None:
    operation, world = begun(tmp_path)
    outcome = run(operation, world, stop_before=SWITCH)
    assert (outcome.state, outcome.stopped_before) == (RUNNING, SWITCH)
    assert world.on() == ["copy", "check"]
    assert again(operation).history().state == RUNNING
    assert run(operation, world, stop_before=FINISH).stopped_before == FINISH
    assert world.on() == BEFORE_THE_PROOF
    assert run(operation, world).state == DONE
    assert calls(world, "apply") == NAMES, "nothing was made twice"


def test_a_second_look_keeps_what_the_first_one_noted(tmp_path: Path) -> None:
    operation, world = begun(tmp_path)
    run(operation, world, stop_before=SWITCH)
    run(operation, world)
    assert operation.history().evidence["check"] == {"turned": "check", "found": True}


# -- killed --------------------------------------------------------------------


def in_a_process(work: Callable[[], object], appends: int) -> bool:
    """Do ``work`` in a child that is gone right after its n-th line in a journal; tell whether it came to that."""
    child = os.fork()
    if child == 0:
        count, append = 0, Journal._append

        def counted(self: Journal, *arguments: object, **more: object) -> None:
            nonlocal count
            append(self, *arguments, **more)  # type: ignore[arg-type]
            count += 1
            if count == appends:
                os._exit(77)

        Journal._append = counted  # type: ignore[method-assign]
        try:
            work()
        except StatefulError:
            os._exit(1)
        finally:
            os._exit(0)
    _pid, status = os.waitpid(child, 0)
    return os.WEXITSTATUS(status) == 77


def deaths(scenario: Callable[[Path, int], bool], root: Path) -> int:
    """Run ``scenario`` once for every line that it writes to the journal; return how many there are."""
    number = 1
    while True:
        place = root / str(number)
        place.mkdir()
        if not scenario(place, number):
            return number - 1
        number += 1


def test_killed_after_any_line_the_next_run_reaches_the_same_end(tmp_path: Path) -> None:
    def scenario(root: Path, number: int) -> bool:
        operation, world = begun(root)
        died = in_a_process(lambda: run(operation, world), number)
        proved = again(operation).history().proved
        if died and not proved:
            # In the plan's order, each with its evidence or about to be made: nothing was skipped.
            assert world.on() == NAMES[: len(world.on())]
        assert run(operation, world).state == DONE
        assert world.on() == NAMES
        history = again(operation).history()
        assert (history.state, history.undoing) == (DONE, False)
        assert set(history.evidence) == set(NAMES)
        return died

    assert deaths(scenario, tmp_path) >= 2 * len(NAMES)


def test_killed_twice_it_still_gets_there(tmp_path: Path) -> None:
    for number in range(1, 16):
        place = tmp_path / str(number)
        place.mkdir()
        operation, world = begun(place)
        in_a_process(lambda: run(operation, world), number)  # noqa: B023 - done before the next turn
        in_a_process(lambda: run(operation, world), 3)  # noqa: B023
        assert run(operation, world).state == DONE
        assert world.on() == NAMES


def test_evidence_that_no_longer_holds_is_made_again(tmp_path: Path) -> None:
    operation, world = begun(tmp_path)
    run(operation, world, stop_before=FINISH)
    (world.directory / "prove").unlink()
    (world.directory / "stop").unlink()
    world.calls.clear()
    run(operation, world)
    assert calls(world, "apply") == ["stop", "prove", "start", "keep"]


def test_a_proof_that_still_holds_spares_the_steps_before_it(tmp_path: Path) -> None:
    """Asking those again would stop what was started since."""
    operation, world = begun(tmp_path)
    run(operation, world, stop_before=FINISH)
    (world.directory / "stop").unlink()
    world.calls.clear()
    run(operation, world)
    assert calls(world, "ask") == ["prove", "start", "keep"]
    assert not world.is_on("stop")


# -- a failure before the proof ------------------------------------------------


@pytest.mark.parametrize("name", BEFORE_THE_PROOF)
@pytest.mark.parametrize("moment", ["apply", "verify"])
def test_a_failure_before_the_proof_is_undone_newest_first(tmp_path: Path, name: str, moment: str) -> None:
    operation, world = begun(tmp_path)
    error = StatefulError("It broke.", next_command="mend it", why="because")
    world.fails = {f"{moment} {name}": error}
    with pytest.raises(execute.UndoneFailure) as caught:
        run(operation, world)
    made = NAMES[: NAMES.index(name) + 1]
    assert calls(world, "undo") == made[::-1]
    assert list(world.directory.iterdir()) == [], "also what was half done"
    history = again(operation).history()
    assert (history.state, history.undoing, history.failure) == (ROLLED_BACK, False, "It broke.")
    result = caught.value.as_result()
    assert result["msg"] == f"It broke. (step '{name}')"
    assert result["operation"] == operation.id
    assert result["failed_step"] == name
    assert result["why"] == "because"
    assert "run the same task again" in result["next_command"]
    assert "mend it" not in result["next_command"], "it was meant for the state before the undo"
    assert "everything was undone" in result["state"]
    if name != "copy":
        assert [each["path"] for each in result["copies"]] == ["/b/copy"], "the backup stays, and is named"


def test_what_was_found_done_is_undone_too(tmp_path: Path) -> None:
    """Somebody else may have started what has to be stopped before its data goes back."""
    operation, world = begun(tmp_path)
    (world.directory / "stop").touch()
    world.fails = {"apply move": StatefulError("It broke.")}
    with pytest.raises(execute.UndoneFailure):
        run(operation, world)
    assert calls(world, "undo") == ["move", "stop", "check", "copy"]
    assert world.on() == []


def test_what_an_undo_says_is_told(tmp_path: Path) -> None:
    operation, world = begun(tmp_path)
    world.fails = {"apply prove": StatefulError("It broke.")}
    move = {"stays": ["04-b.sql", "05-c.sql"], "told": ["a branch is kept"]}
    world.says = {"move": move, "stop": {"stays": ["03-a.sql"]}}
    with pytest.raises(execute.UndoneFailure) as caught:
        run(operation, world)
    assert caught.value.state.endswith(
        "; what these changed stays in the data, as far as they ran: 03-a.sql, 04-b.sql, 05-c.sql; a branch is kept"
    )
    assert execute.told_by_undo(again(operation)) == ["a branch is kept"]


def test_an_error_that_nobody_foresaw_is_undone_too_and_said(tmp_path: Path) -> None:
    operation, world = begun(tmp_path)
    world.fails = {"apply move": OSError(28, "No space left on device")}
    with pytest.raises(execute.UndoneFailure, match=r"Unexpected OSError: .*No space left"):
        run(operation, world)
    assert world.on() == []


def test_killed_after_any_line_of_an_undo_the_next_run_ends_it(tmp_path: Path) -> None:
    def scenario(root: Path, number: int) -> bool:
        operation, world = begun(root)
        world.fails = {"verify prove": StatefulError("It broke.")}
        died = in_a_process(lambda: run(operation, world), number)
        undoing = again(operation).history().undoing
        if undoing:
            world.fails = {}
            assert run(operation, world).state == ROLLED_BACK, "an undo goes on as one"
            assert not calls(world, "apply")
        elif again(operation).history().state != ROLLED_BACK and "prove" in world.on():
            # Between the failure and the first word of the undo: the proof is asked again, and holds now.
            assert run(operation, world).state == DONE
            assert world.on() == NAMES
            return died
        elif again(operation).history().state != ROLLED_BACK:
            with pytest.raises(execute.UndoneFailure):
                run(operation, world)
        assert list(world.directory.iterdir()) == []
        assert again(operation).history().state == ROLLED_BACK
        return died

    assert deaths(scenario, tmp_path) > 3 * len(BEFORE_THE_PROOF)


def test_a_resumed_undo_asks_every_step_again(tmp_path: Path) -> None:
    """What was undone before the kill may have been done again by an engine that restarted."""
    operation, world = begun(tmp_path)
    world.fails = {"verify prove": StatefulError("It broke."), "undo check": StatefulError("Not now.")}
    with pytest.raises(execute.UndoFailure):
        run(operation, world)
    (world.directory / "move").touch()
    world.fails = {}
    assert run(operation, world).state == ROLLED_BACK
    assert world.on() == []


def test_an_undo_that_fails_touches_nothing_more_and_is_gone_on_with(tmp_path: Path) -> None:
    operation, world = begun(tmp_path)
    world.fails = {
        "apply prove": StatefulError("It broke."),
        "undo move": StatefulError("Not now.", state="the data is over there"),
    }
    with pytest.raises(execute.UndoFailure) as caught:
        run(operation, world)
    assert calls(world, "undo") == ["prove", "move"]
    assert caught.value.msg == "It broke. Undoing the step 'move' then failed too: Not now."
    assert "the data is over there" in caught.value.state
    assert caught.value.safe_to_rerun
    history = again(operation).history()
    assert (history.state, history.undoing) == (RUNNING, True)
    world.fails = {}
    assert run(operation, world).state == ROLLED_BACK
    assert world.on() == []


def test_a_refused_undo_makes_the_way_forward_the_only_one(tmp_path: Path) -> None:
    operation, world = begun(tmp_path)
    world.fails = {"apply prove": StatefulError("It broke."), "undo move": refusal()}
    with pytest.raises(execute.UndoRefused) as caught:
        run(operation, world)
    assert caught.value.msg == "It broke. There is no way back."
    assert caught.value.state == "on the new side"
    assert caught.value.facts["operation"] == operation.id
    assert "stop" in world.on(), "nothing below the refusal was undone"
    assert calls(world, "let_go") == ["prove", "move", "stop", "check", "copy"], "what hampers the services ends"
    history = again(operation).history()
    assert (history.state, history.undoing) == (RUNNING, False)
    world.fails = {}
    assert run(operation, world).state == DONE
    assert world.on() == NAMES


def test_a_refused_undo_may_name_copies_that_another_operation_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation, world = begun(tmp_path)
    monkeypatch.setattr(type(operation.history()), "copies", lambda _self: [])
    theirs = {"role": "backup", "path": "/b"}
    world.fails = {"apply prove": StatefulError("It broke."), "undo move": execute.UndoRefused("No.", copies=[theirs])}
    with pytest.raises(execute.UndoRefused) as caught:
        run(operation, world)
    assert caught.value.copies == [theirs]


def test_advice_that_only_looks_is_passed_on(tmp_path: Path) -> None:
    operation, world = begun(tmp_path)
    world.fails = {"apply move": StatefulError("It broke.", next_command="docker logs --tail 50 db")}
    with pytest.raises(execute.UndoneFailure) as caught:
        run(operation, world)
    assert caught.value.next_command.startswith("docker logs --tail 50 db; then ")


def test_what_cannot_be_let_go_is_told_beside_the_refusal(tmp_path: Path) -> None:
    operation, world = begun(tmp_path)
    world.fails = {
        "apply prove": StatefulError("It broke."), "undo move": refusal(), "let_go stop": StatefulError("Port taken."),
    }  # fmt: skip
    with pytest.raises(execute.UndoRefused, match="Port taken"):
        run(operation, world)
    assert calls(world, "let_go")[-1] == "copy", "the others are let go all the same"


def test_where_neither_way_is_safe_nothing_more_is_touched(tmp_path: Path) -> None:
    operation, world = begun(tmp_path)
    world.fails = {"apply move": execute.Undecided("Both took writes.", safe_to_rerun=False)}
    with pytest.raises(execute.Undecided) as caught:
        run(operation, world)
    assert calls(world, "undo") == []
    assert (caught.value.safe_to_rerun, caught.value.facts["operation"]) == (False, operation.id)
    assert (again(operation).history().state, again(operation).history().failure) == (RUNNING, "Both took writes.")


def test_a_step_that_others_can_bring_about_is_undone_though_it_never_began(tmp_path: Path) -> None:
    class Theirs(Switch):
        others_bring_about = True

    operation, world = begun(tmp_path)
    world.fails = {"apply stop": StatefulError("It broke.")}
    with pytest.raises(execute.UndoneFailure):
        execute.run(again(operation), {"switch": Theirs()}, world)
    assert calls(world, "undo") == ["prove", "move", "stop", "check", "copy"], "all of the phase that was reached"


@pytest.mark.parametrize("name, halts", [("check", True), ("stop", False), ("move", False)])
def test_a_run_that_was_killed_beyond_the_halt_goes_on_and_does_not_halt(
    tmp_path: Path, name: str, halts: bool
) -> None:
    """The services may be down, and halting would leave them so."""
    operation, world = begun(tmp_path)
    for step in operation.plan.steps[: NAMES.index(name) + 1]:
        operation.journal.intent(step.name)
    outcome = run(operation, world, stop_before=SWITCH)
    assert (outcome.state, outcome.stopped_before) == ((RUNNING, SWITCH) if halts else (DONE, ""))


# -- a failure after the proof -------------------------------------------------


@pytest.mark.parametrize("name", AFTER_THE_PROOF)
def test_a_failure_after_the_proof_undoes_nothing_and_is_gone_on_with(tmp_path: Path, name: str) -> None:
    operation, world = begun(tmp_path)
    world.fails = {f"apply {name}": StatefulError("It broke.", hint="this")}
    with pytest.raises(execute.ProvedFailure) as caught:
        run(operation, world)
    assert calls(world, "undo") == []
    assert set(BEFORE_THE_PROOF) <= set(world.on())
    result = caught.value.as_result()
    assert (result["operation"], result["failed_step"], result["hint"]) == (operation.id, name, "this")
    assert again(operation).history().state == RUNNING
    world.fails, world.calls = {}, []
    assert run(operation, world).state == DONE
    assert calls(world, "apply") == NAMES[NAMES.index(name) :]


def test_a_proof_that_does_not_hold_any_more_still_forbids_an_undo(tmp_path: Path) -> None:
    operation, world = begun(tmp_path)
    run(operation, world, stop_before=FINISH)
    (world.directory / "prove").unlink()
    world.fails = {"apply prove": StatefulError("It does not answer.")}
    with pytest.raises(execute.ProvedFailure):
        run(operation, world)
    assert calls(world, "undo") == []
    assert "move" in world.on()
