# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs that were broken off, and ways back that cannot be gone: no engine is needed."""

from __future__ import annotations

import errno
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu import (
    ces,
    ending,
    planner,
    proof,
    run,
    upgrade,
    way_back,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.ces import Host
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.dependents import HELD, WRITERS, note_writers
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.run import HANDLERS, goal_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import RestartPolicy
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import DONE, RUNNING, Plan
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.report import rolling_back
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from tests.unit.cloudogu.test_planner import NEXT, NOW, seen

POLICY = RestartPolicy("on-failure", 3)


@dataclass
class One:
    """A container, as far as it is looked at here."""

    name: str
    tag: str
    status: str = "running"
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    started: float = 0.0
    stop_signal: str = ""
    pid: int = 1
    exit_code: int = 0

    @property
    def id(self) -> str:
        return self.name

    @property
    def image_ref(self) -> str:
        return f"official/{self.name}:{self.tag}"

    @property
    def started_at(self) -> str:
        return str(self.started)

    @property
    def running(self) -> bool:
        return self.status in ("running", "restarting")


class Engines:
    """An engine with the dogu and one that depends on it."""

    def __init__(self, version: str) -> None:
        self.all = {each.name: each for each in (One("postgresql", version), One("scm", "3.1.0-1"))}
        self.refuses: tuple[str, ...] = ()

    def container(self, name: str) -> One | None:
        return self.all.get(name)

    def tag(self, *_names: str) -> None:
        pass

    def start(self, name: str) -> None:
        self.all[name].status = "exited" if name in self.refuses else "running"

    def stop(self, name: str, **_how: Any) -> None:
        self.all[name].status = "exited"

    def set_restart_policy(self, name: str, policy: RestartPolicy) -> None:
        self.all[name].restart = policy


@dataclass
class Bench:
    host: Host
    engine: Engines
    operation: Operation
    store: OperationStore

    @property
    def dogu(self) -> One:
        return self.engine.all["postgresql"]

    @property
    def dependent(self) -> One:
        return self.engine.all["scm"]

    def history(self) -> Any:
        return self.store.get(self.operation.id).history()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """An upgrade of whose steps all began, as ``cesapp`` did."""
    volume = tmp_path / "volume"
    volume.mkdir()
    there = seen(volume=str(volume), data=str(volume), policy="on-failure", retries=3)
    made = planner.steps_of(
        there, NEXT, backup="auto", backup_path=str(tmp_path / "op"), original=str(tmp_path / "original"), sought=()
    )
    store = OperationStore(str(tmp_path / "operations"))
    operation = store.begin(
        Plan(goal_of("postgresql", NEXT), made, facts={"subject": {}}, summary={"from": str(NOW), "to": str(NEXT)})
    )
    ces._note(operation.directory, 0, ())
    engine = Engines(str(NEXT))
    monkeypatch.setattr(Host, "serves", lambda self, container: container.status == "running")
    monkeypatch.setattr(Host, "at_work", lambda self: False)
    monkeypatch.setattr(Host, "waits", lambda self: False)
    monkeypatch.setattr(Host, "keys", lambda self: {})
    monkeypatch.setattr(upgrade, "last_words", lambda *_args, **_kwargs: "FATAL")
    return Bench(Host(cast(Engine, engine), "postgresql", ("cesapp",)), engine, operation, store)


def done(bench: Bench) -> None:
    for step in bench.operation.plan.steps:
        bench.operation.journal.evidence(step.name, {"system_identifier": "42", "next_xid": 7} if step.proves else {})
    bench.operation.journal.state(DONE)


def no_space(*_args: Any, **_kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_proved_version_that_cannot_be_kept_aside_stays_and_the_next_roll_back_asks_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(bench)
    monkeypatch.setattr(way_back.settle, "settle", no_space)
    with pytest.raises(execute.UndoRefused, match="No space left") as refused:
        execute.undo(bench.operation, HANDLERS, bench.host, reason="It was rolled back on request.")
    assert refused.value.state == "the new version was started again; nothing was given up"
    assert refused.value.next_command == rolling_back(bench.operation)
    assert (bench.dogu.status, bench.dependent.status, bench.dependent.restart.name) == ("running", "running", "always")
    assert (bench.history().state, bench.history().undoing) == (DONE, False)
    assert bench.store.open_for("postgresql") is None
    # Users write, and somebody rolls back once more.
    there = SimpleNamespace(scalar=lambda query: "1007")
    monkeypatch.setattr(Host, "session", lambda self, container=None: nullcontext(there))
    monkeypatch.setattr(ending, "system_identifier", lambda there: 42)
    ends = ending.ending_of_dogus(bench.store, lambda subject: bench.host, check_mode=True, discard_writes=False)
    with pytest.raises(InvalidInput, match="about 1000 transactions"):
        ends.roll_back(bench.operation)


def test_a_proved_version_that_stays_has_the_policy_of_before(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    done(bench)
    bench.dogu.status = "restarting"
    monkeypatch.setattr(way_back.settle, "settle", no_space)
    with pytest.raises(execute.UndoRefused):
        execute.undo(bench.operation, HANDLERS, bench.host, reason="It was rolled back on request.")
    assert (bench.dogu.status, bench.dogu.restart) == ("running", POLICY)


@pytest.mark.parametrize("put_back", [True, False])
def test_the_version_that_comes_back_has_the_policy_of_before(
    bench: Bench, put_back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(bench)
    for name in (way_back.KEPT_ASIDE, *([way_back.PUT_BACK] if put_back else ())):
        bench.operation.journal.evidence(name, {"copies": []})
    # On the volume that was emptied, it ends over and over.
    bench.dogu.tag, bench.dogu.status = str(NOW), "exited" if put_back else "restarting"
    started: list[RestartPolicy] = []
    monkeypatch.setattr(Engines, "start", lambda self, name: started.append(self.all[name].restart))
    monkeypatch.setattr(way_back, "put_back", lambda *_args: None)
    monkeypatch.setattr(Host, "doguctl", lambda self, *_words: ces.ABSENT)
    monkeypatch.setattr(Host, "wait_serving", lambda self, seconds: bench.dogu)
    monkeypatch.setattr(Host, "session", lambda self, container=None: nullcontext())
    monkeypatch.setattr(Host, "set_password_of_registry", lambda self, container: None)
    monkeypatch.setattr(way_back, "system_identifier", lambda there: 42)
    step = bench.operation.plan.steps[5]
    assert way_back.go_back(step, execute.Context(bench.host, bench.operation)) == {"system_identifier": "42"}
    assert started == [POLICY], "it has it before it is started"
    old = replace(step, args={key: value for key, value in step.args.items() if key not in ("policy", "retries")})
    way_back.give_policy_back(old, bench.host)
    assert bench.dogu.restart == POLICY, "of an earlier plan nothing is known"


def test_once_it_was_kept_aside_it_is_gone_on_with(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    done(bench)
    bench.operation.journal.evidence(way_back.KEPT_ASIDE, {"copies": []})
    monkeypatch.setattr(way_back, "bring_version_back", no_space)
    with pytest.raises(execute.UndoFailure, match="No space left"):
        execute.undo(bench.operation, HANDLERS, bench.host, reason="It was rolled back on request.")
    assert bench.history().undoing


@pytest.mark.parametrize(
    "started, emptying, copied",
    [(50.0, False, 1), (200.0, False, 2), (200.0, True, 1)],
    ids=["it stayed down", "it came up", "it has no data any more"],
)
def test_what_was_written_after_it_was_kept_aside_is_kept_too(
    bench: Bench, started: float, emptying: bool, copied: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the copy and the emptying; a reboot brought the new version up."""
    done(bench)
    copies: list[str] = []
    monkeypatch.setattr(way_back.settle, "settle", lambda source, target, **_more: copies.append(target))
    monkeypatch.setattr(way_back.compare, "refuse_differences", lambda *_paths: None)
    monkeypatch.setattr(way_back, "retained", lambda *_what: SimpleNamespace(as_dict=dict))
    monkeypatch.setattr(way_back.time, "time", lambda: 100.0)
    context = execute.Context(bench.host, bench.operation)
    step = bench.operation.plan.steps[5]
    way_back._keep_new(step, context)
    if emptying:
        bench.operation.journal.evidence(way_back.EMPTYING, {})
    bench.dogu.status, bench.dogu.started = "running", started
    way_back._keep_new(step, context)
    assert len(copies) == copied


def test_it_is_noted_before_anything_is_emptied(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    done(bench)
    bench.operation.journal.evidence(way_back.KEPT_ASIDE, {"copies": []})
    bench.dogu.tag = str(NOW)
    seen_then: list[bool] = []

    def emptied(*_args: object) -> None:
        seen_then.append(way_back.EMPTYING in bench.history().evidence)
        raise OSError(errno.EIO, "stop here")

    monkeypatch.setattr(way_back, "put_back", emptied)
    with pytest.raises(OSError, match="stop here"):
        way_back.go_back(bench.operation.plan.steps[5], execute.Context(bench.host, bench.operation))
    assert seen_then == [True]


@pytest.mark.parametrize("undoing", [True, False])
def test_a_new_version_without_its_data_is_not_waited_for(
    bench: Bench, undoing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way back was broken off where the volume is emptied."""
    done(bench)
    if undoing:
        bench.operation.journal.undoing("It was rolled back on request.")
    calls: list[str] = []
    monkeypatch.setattr(run, "to_its_end", lambda drive: drive.run(bench.operation))
    monkeypatch.setattr(run, "remove_leftover_helpers", lambda *_args: None)
    monkeypatch.setattr(run.steps, "start", lambda host: calls.append("start"))
    monkeypatch.setattr(run.execute, "run", lambda *_args, **_kwargs: calls.append("run"))
    run.carry_out(run.Request("postgresql", NEXT, lambda: bench.host), bench.store, check_mode=False)
    assert calls == (["run"] if undoing else ["start", "run"])


def broken_off(bench: Bench) -> execute.Context[Host]:
    """A run was killed while ``cesapp`` worked, which ended by itself and started the dependent; that is down now."""
    (Path(bench.operation.directory).parent.parent / "op").mkdir()
    for name in ("backup", "original"):
        bench.operation.journal.evidence(name, {})
    bench.operation.journal.evidence("quiet", {"began": 100.0})
    bench.operation.journal.state(RUNNING)
    bench.dependent.status, bench.dependent.started = "exited", 200.0
    return execute.Context(bench.host, bench.operation)


@pytest.mark.parametrize(
    "status, started, held, ran",
    [
        ("running", 50.0, None, True),
        ("exited", 200.0, None, True),
        ("exited", 50.0, None, False),
        # Those that cesapp started are stopped within the run: what lost something then is undone by itself.
        ("exited", 200.0, 300.0, False),
        ("exited", 400.0, 300.0, True),
    ],
)
def test_who_ran_before_the_proof(bench: Bench, status: str, started: float, held: float | None, ran: bool) -> None:
    context = broken_off(bench)
    bench.dependent.status, bench.dependent.started = status, started
    if held:
        bench.operation.journal.evidence(HELD, {"at": held})
    note_writers(context)
    assert bench.history().evidence.get(WRITERS, {}).get("running", []) == (["scm"] if ran else [])


def test_what_dependents_wrote_that_have_ended_since_is_not_undone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_off(bench)

    def lost(*_args: Any) -> None:
        raise StatefulError("It does not have what there was.")

    monkeypatch.setattr(proof.Prove, "_proved", lost)
    for _ in range(2):
        with pytest.raises(execute.Undecided, match="scm ran on the new version") as undecided:
            execute.run(bench.operation, HANDLERS, bench.host)
        assert undecided.value.next_command.startswith(rolling_back(bench.operation))
        assert (bench.history().state, bench.history().undoing) == (RUNNING, False)


def test_a_new_version_that_was_stopped_since_is_started(bench: Bench) -> None:
    context = broken_off(bench)
    bench.dogu.status = "exited"
    upgrade.Upgrade().apply(bench.operation.plan.steps[5], context)
    assert bench.dogu.running


@pytest.mark.parametrize("wrote", [True, False])
def test_a_new_version_that_does_not_come_up_is_undone_only_where_nobody_wrote(bench: Bench, wrote: bool) -> None:
    context = broken_off(bench)
    bench.dogu.status, bench.engine.refuses = "exited", ("postgresql",)
    bench.dependent.started = 200.0 if wrote else 50.0
    with pytest.raises(StatefulError, match="FATAL") as failed:
        upgrade.Upgrade().apply(bench.operation.plan.steps[5], context)
    assert isinstance(failed.value, execute.Undecided) is wrote


@pytest.mark.parametrize(
    "restored, serves, upgrade_timeout, fails",
    [
        (52.0, 58.0, 1800.0, ""),
        (0.0, 31.0, 1800.0, "after 30 s"),
        (52.0, 90.0, 1800.0, "after"),
        (99.0, 99.0, 50.0, "after 50 s"),
    ],
    ids=["a start comes after a restore", "a start alone", "a start that does not end", "a restore that does not end"],
)
def test_a_start_has_its_time_after_a_restore(
    restored: float, serves: float, upgrade_timeout: float, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(upgrade.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(upgrade.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + 0.5))
    monkeypatch.setattr(upgrade, "last_words", lambda *_any, **_more: "")
    host: Any = SimpleNamespace(
        name="postgresql",
        engine=None,
        ready_timeout=30.0,
        upgrade_timeout=upgrade_timeout,
        container=lambda: One("postgresql", "17.6-1"),
        waits=lambda: False,
        serves=lambda _container: now[0] >= serves,
        restores=lambda _container: now[0] < restored,
    )
    with pytest.raises(StatefulError, match=f"does not serve {fails}") if fails else nullcontext():
        assert upgrade.Upgrade()._bring_up(host, None) == []  # type: ignore[arg-type]
