# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A swap is gone on with, taken back or committed after somebody has done something by hand in between."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.arguments import Reached
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.cli import Answer, Call, Dokku
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image import (
    again,
    ending,
    finish,
    journey,
    let_in,
    physical,
    plan_physical,
    planner,
    prepare,
    quiet,
    standstill,
    vacate,
    way_back,
    writes,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.processes import (
    stop_app,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import (
    ALWAYS,
    NEVER,
    RAN,
    RAN_SINCE,
    World,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import RestartPolicy
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import (
    Context,
    Undecided,
    UndoRefused,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    FINISH,
    PREPARE,
    SWITCH,
    Copy,
    Goal,
    Plan,
    Step,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.counts import Count, Counts
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Location, Transfer
from tests.unit.dokku import archives

BOTH = {"app": "blog", "old": "old", "new": "new"}
MADE, SINCE = "7000000000000000001", "7000000000000000002"


@dataclass
class Here:
    """A host with two services, on one of which the app has its data; ``calls`` is what was changed."""

    directory: Path
    primary: str = "new"
    running: str = "true"
    services: tuple[str, ...] = ("old", "new")
    links: Mapping[str, str] = field(default_factory=dict)
    containers_of_app: list[Any] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    old: Any = None

    def __post_init__(self) -> None:
        for name in ("old", "new"):
            (self.directory / name / "data").mkdir(parents=True)
        mount = SimpleNamespace(source=str(self.directory / "new" / "data"))
        self.new = SimpleNamespace(
            id="new", name="dokku.postgres.new", image_id="sha256:new", running=True, pid=1, restart=ALWAYS,
            mount_at=lambda target: mount, env={}, labels={},
        )  # fmt: skip

    @property
    def world(self) -> World:
        return World(Reached(Dokku(runner=self._dokku), cast(Any, self)), stop_timeout=0.2)

    def _dokku(self, call: Call) -> Answer:
        words = call.argv[1:]
        answers = {
            "config:export": json.dumps(
                {"DATABASE_URL": f"postgres://postgres:a@dokku-postgres-{self.primary}:5432/x"}
            ),
            "ps:report": self.running,
            "postgres:links": self.links.get(words[-1], ""),
            "docker-options:report": "",
        }
        if words[0] in answers:
            return Answer(0, answers[words[0]], "")
        if words[0] == "postgres:exists":
            return Answer(0 if words[-1] in self.services else 1, "", "")
        self.calls.append(" ".join(words))
        return Answer(0, "", "")

    # -- the engine ----------------------------------------------------------

    def container(self, name: str) -> Any:
        if name in ("dokku.postgres.old", "old"):
            return self.old
        return self.new if name in ("dokku.postgres.new", "new") else None

    def containers(self, labels: Mapping[str, str] | None = None) -> list[Any]:
        return list(self.containers_of_app)

    def set_restart_policy(self, container: str, policy: Any) -> None:
        self.calls.append(f"policy {container} {policy.name}")

    def stop(self, container: str, *, signal: str, timeout: float, kill: bool = False) -> None:
        self.calls.append(f"stop {container}")

    def start(self, container: str) -> None:
        self.calls.append(f"start {container}")


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path / "services")


def transfer_in(directory: Path) -> Transfer:
    goal = Location("bind", str(directory / "new" / "data"), image="sha256:new", target="/data", subpath="")
    origin = Location("bind", str(directory / "old" / "data"))
    return Transfer(
        service="dokku.postgres.old", target="/data", origin=origin, goal=goal,
        strategy="pg_upgrade", store="postgresql", facts={}, staging=str(directory / "new" / ".partial"), retained="",
        image_id="sha256:old", containers=("old",), running=True, subpath="", inode=1, device=1, size_bytes=1,
        goal_facts={},
    )  # fmt: skip


def operation_of(tmp_path: Path, steps: Iterable[Step], done: Mapping[str, Mapping[str, Any]]) -> Operation:
    """Return an operation that has got as far as ``done``."""
    operations = OperationStore(str(tmp_path / "operations"))
    made = operations.begin(Plan(Goal("dokku_postgres_image", "blog", {"image_id": "x"}), tuple(steps), summary={}))
    made.journal.state("running")
    for name, evidence in done.items():
        made.journal.intent(name)
        made.journal.evidence(name, dict(evidence), durable=True)
    return made


def context_of(here: Here, operation: Operation) -> Context[World]:
    return Context(world=here.world, operation=operation, evidence=dict(operation.history().evidence))


LET_IN = Step("dokku_let_in", planner.LET_IN, SWITCH, {**BOTH, "answer_path": "", "dump": "/dump"}, proves=True)
RETIRE = Step("dokku_retire", planner.RETIRE, FINISH, BOTH)
EXPORTED = Step("dokku_export", planner.EXPORT, SWITCH, {**BOTH, "path": "/dump"})
BROUGHT = {"system_identifier": SINCE, "next_xid": 10, "stamp": "s"}
"""As what the data came to the new service."""


def of_files(directory: Path) -> tuple[Step, ...]:
    one = {"transfer": transfer_in(directory).as_dict()}
    return (
        Step("dokku_vacate", plan_physical.VACATE, PREPARE, {**BOTH, **one, "made_by": planner.MAKE}),
        LET_IN,
        Step("dokku_tidy", "tidy", FINISH, {**BOTH, **one, "made_by": planner.MAKE}),
        Step("dokku_back_up", planner.FIRST_BACKUP, FINISH, {"service": "new", "bucket": "b", "use_iam": False}),
    )


@pytest.mark.parametrize("running", ["mixed", "false"])
def test_once_the_app_was_let_in_its_data_is_set_aside_by_no_run(
    here: Here, tmp_path: Path, running: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first backup has failed, and of the app's processes one has ended, when the run is gone on with."""
    here.running = running
    (here.directory / "new" / "data" / "since").write_text("acknowledged")
    done = {
        planner.MAKE: {"system_identifier": MADE},
        plan_physical.VACATE: {"aside": "x"},
        RAN: {"running": True},
        planner.LET_IN: {"answers": {}},
        "tidy": {},
    }
    operation = operation_of(tmp_path, of_files(here.directory), done)
    monkeypatch.setattr(let_in, "start_app", lambda world, app: here.calls.append("start the app"))
    monkeypatch.setattr(prepare.BackUp, "apply", lambda *_args: {})
    execute.run(operation, journey.HANDLERS, here.world, never_before_proof=True)
    assert here.calls == ["start the app"]
    assert (here.directory / "new" / "data" / "since").read_text() == "acknowledged"


@pytest.mark.parametrize("kind", [vacate.Vacate(), vacate.Tidy()])
def test_only_the_cluster_that_was_made_is_set_aside_or_removed(
    here: Here, tmp_path: Path, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.primary = "old"
    if isinstance(kind, vacate.Tidy):
        (here.directory / "new" / "data.empty").mkdir()
    step = of_files(here.directory)[0 if isinstance(kind, vacate.Vacate) else 2]
    operation = operation_of(tmp_path, [step], {planner.MAKE: {"system_identifier": MADE}})
    monkeypatch.setattr(vacate.control, "read_control", lambda path: SimpleNamespace(system_identifier=int(SINCE)))
    with pytest.raises(Undecided, match=f"holds the cluster {SINCE}"):
        kind.apply(step, context_of(here, operation))
    assert here.calls == []
    assert (here.directory / "new" / "data").is_dir()


def test_killed_while_the_empty_cluster_is_removed_the_next_run_removes_the_rest(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside = here.directory / "new" / "data.empty"
    (aside / "global").mkdir(parents=True)
    (aside / "global" / "pg_control").touch()
    (aside / "base").mkdir()
    step, tidy = of_files(here.directory)[2], vacate.Tidy()
    context = context_of(here, operation_of(tmp_path, [step], {planner.MAKE: {"system_identifier": MADE}}))

    def read(path: str) -> Any:
        if not Path(path, "global", "pg_control").exists():
            raise StatefulError("no pg_control")
        return SimpleNamespace(system_identifier=int(MADE))

    def killed(path: str) -> None:
        shutil.rmtree(Path(path) / "global")
        raise KeyboardInterrupt

    monkeypatch.setattr(vacate.control, "read_control", read)
    with monkeypatch.context() as patched:
        patched.setattr(vacate, "shutil", SimpleNamespace(rmtree=killed))
        with pytest.raises(KeyboardInterrupt):
            tidy.apply(step, context)
    assert tidy.is_done(step, context) is None
    tidy.apply(step, context)
    assert tidy.is_done(step, context) == {}
    assert [path.name for path in (here.directory / "new").iterdir()] == ["data"]


@pytest.mark.parametrize("begun", [True, False])
def test_an_old_server_that_we_never_stopped_is_not_brought_back(here: Here, tmp_path: Path, begun: bool) -> None:
    """Somebody has given it another image since this was prepared; to make it as it was is not what is asked for."""
    stop = Step("stop_stores", "stop the stores", SWITCH, {"transfers": []})
    operation = operation_of(tmp_path, [of_files(here.directory)[0], stop], {stop.name: {}} if begun else {})
    undone: list[str] = []
    inner = cast(Any, SimpleNamespace(undo=lambda *_args: undone.append("undone") or {}, others_bring_about=True))
    running = SimpleNamespace(running=True, restart=ALWAYS)
    world = World(Reached(here.world.dokku, cast(Any, SimpleNamespace(container=lambda _name: running))))
    physical.StopOld(inner).undo(stop, Context(world, operation, evidence={}))
    assert undone == (["undone"] if begun else [])
    running.running = False
    physical.StopOld(inner).undo(stop, Context(world, operation, evidence={}))
    assert undone[-1:] == ["undone"]


@pytest.mark.parametrize("restart", [ALWAYS, NEVER])
def test_an_old_service_that_dokku_made_anew_comes_back_after_a_restart_of_the_engine(
    here: Here, tmp_path: Path, restart: RestartPolicy
) -> None:
    """Its policy was noted of no container that is there, and a way back that compares has stopped it once more."""
    stop = Step("stop_stores", "stop the stores", SWITCH, {"transfers": []})
    operation = operation_of(tmp_path, [of_files(here.directory)[0], stop], {stop.name: {}})
    inner = cast(Any, SimpleNamespace(undo=lambda *_args: {}, others_bring_about=True))
    here.old = SimpleNamespace(id="anew", running=False, restart=restart)
    physical.StopOld(inner).undo(stop, context_of(here, operation))
    assert here.calls == ["policy anew always"] * (restart == NEVER)


TAKEN = {"next_xid": 10}
"""As what the old service stood still when its files were taken."""


@dataclass
class Standing:
    """The old service as it is since: of its files and its server only the next transaction is known."""

    here: Here
    monkeypatch: pytest.MonkeyPatch
    next_xid: int = 10
    started: float = 1.0

    def __post_init__(self) -> None:
        control = self.here.directory / "old" / "data" / "global" / "pg_control"
        control.parent.mkdir()
        control.touch()
        self.here.old = SimpleNamespace(id="old", name="dokku.postgres.old", running=False, started=self.started)
        store = SimpleNamespace(
            identity=lambda _path: {"next_xid": self.next_xid},
            took_writes=lambda _path, since: "written" if self.next_xid > since["next_xid"] else "",
        )
        session = SimpleNamespace(scalar=lambda *_args: self.next_xid)
        patched = self.monkeypatch.setattr
        patched(standstill, "world_of_moves", lambda *_args: SimpleNamespace(store=lambda _transfer: store))
        patched(World, "session", lambda *_args: nullcontext(session))

    def operation(
        self, tmp_path: Path, *, done: Mapping[str, Any] | None = None, more: Iterable[Step] = ()
    ) -> Operation:
        transfer = transfer_in(self.here.directory)
        steps = (
            *of_files(self.here.directory)[:1],
            Step("stop_stores", "stop the stores", SWITCH, {"transfers": [transfer.as_dict()]}),
            *more,
            Step("dokku_adopt", plan_physical.ADOPT, SWITCH, {**BOTH, "brought_by": "copy"}),
            LET_IN,
            RETIRE,
        )
        known = {
            "stop the stores": {"identities": {transfer.name: TAKEN}},
            "copy": {"settled_at": 2.0},
            plan_physical.ADOPT: BROUGHT,
            planner.REPOINT: {},
            RAN: {"running": True},
        }
        return operation_of(tmp_path, steps, {**known, **(done or {})})


@pytest.mark.parametrize("when", ["before the app starts", "while a deploy of before runs"])
@pytest.mark.parametrize("since", [{}, {"running": True}, {"next_xid": 11}, {"running": True, "next_xid": 11}])
def test_an_app_is_not_let_in_where_the_old_service_ran_since_its_files_were_taken(
    here: Here, tmp_path: Path, since: dict[str, Any], when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    standing = Standing(here, monkeypatch)
    operation = standing.operation(tmp_path)

    def happens() -> None:
        standing.next_xid = since.get("next_xid", 10)
        here.old.running = since.get("running", False)

    def started(_world: World, _app: str) -> None:
        here.calls.append("start the app")
        happens()

    monkeypatch.setattr(let_in, "start_app", started)
    if when == "before the app starts":
        happens()
    if since:
        with pytest.raises(StatefulError, match="old was started after its data was taken"):
            let_in.LetIn().apply(LET_IN, context_of(here, operation))
        assert here.calls == ([] if when == "before the app starts" else ["start the app"])
    else:
        let_in.LetIn().apply(LET_IN, context_of(here, operation))
        # Once it was proved, the app works, and is let work again: what the old service has, the last step tells.
        here.old.running = True
        operation.journal.evidence(planner.LET_IN, {}, durable=True)
        let_in.LetIn().apply(LET_IN, context_of(here, operation))


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("kind", ["settle_to_rebuild", "upgrade"])
def test_what_was_written_before_the_old_service_was_stopped_once_more_is_seen(
    here: Here, tmp_path: Path, kind: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody starts it after a kill, the next run finds it running, and it then stands still as something else."""
    standing = Standing(here, monkeypatch)
    taking = Step(kind, "take the files", SWITCH, {})
    operation = standing.operation(tmp_path, more=[taking], done={taking.name: {}})
    stop = next(step for step in operation.plan.steps if step.kind == "stop_stores")
    name = transfer_in(here.directory).name
    stopped = SimpleNamespace(apply=lambda *_args: {"identities": {name: {"next_xid": standing.next_xid}}})
    inner = cast(Any, SimpleNamespace(apply=stopped.apply, others_bring_about=True))
    standing.next_xid = 11
    for _time in range(times):
        evidence = physical.StopOld(inner).apply(stop, context_of(here, operation))
        operation.journal.evidence(stop.name, dict(evidence), durable=True)
    with pytest.raises(StatefulError, match="old was started after its data was taken"):
        let_in.LetIn().apply(LET_IN, context_of(here, operation))
    assert here.calls == []


def test_what_was_written_between_a_stop_and_another_before_any_file_was_taken_comes_along(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standing = Standing(here, monkeypatch)
    operation = standing.operation(tmp_path)
    stop = next(step for step in operation.plan.steps if step.kind == "stop_stores")
    found = {"identities": {transfer_in(here.directory).name: {"next_xid": 11}}}
    inner = cast(Any, SimpleNamespace(apply=lambda *_args: found, others_bring_about=True))
    assert physical.StopOld(inner).apply(stop, context_of(here, operation)) == found


def test_an_old_service_that_was_only_started_and_stands_still_again_lets_a_swap_end(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run before has let the app write to the new one, and could neither end nor go back."""
    operation = Standing(here, monkeypatch).operation(tmp_path)
    going_back(monkeypatch, here)
    here.old.running = True
    with pytest.raises(StatefulError, match=r"old was started after its data was taken.*\(it runs\)"):
        let_in.LetIn().apply(LET_IN, context_of(here, operation))
    with pytest.raises(UndoRefused, match="would lose them") as raised:
        let_in.LetIn().undo(LET_IN, context_of(here, operation))
    assert raised.value.next_command.startswith("docker stop -t 120 dokku.postgres.old; then run the same task again")
    # As that leaves it, long after the files were taken.
    here.old.running, here.old.started = False, 3.0
    let_in.LetIn().apply(LET_IN, context_of(here, operation))
    assert here.calls[-1] == "start_app"


@pytest.mark.parametrize("wrote", [True, False])
def test_what_was_written_to_the_old_service_after_the_proof_is_told_and_destroyed_by_no_commit(
    here: Here, tmp_path: Path, wrote: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    standing = Standing(here, monkeypatch)
    operation = standing.operation(tmp_path)
    removed: list[str] = []
    old = SimpleNamespace(name="old", database="x", data=str(here.directory / "old" / "data"), root="/none")
    monkeypatch.setattr(World, "service", lambda _self, _name: old)
    monkeypatch.setattr(finish.links, "unlink", lambda *_args: None)
    monkeypatch.setattr(finish, "size_of", lambda _service: 1)
    if wrote:
        standing.next_xid = 12
    evidence = finish.Retire().apply(RETIRE, context_of(here, operation))
    assert [("was written to" in each) for each in evidence["warnings"]] == [True] * wrote
    operation.journal.evidence(planner.RETIRE, evidence)
    at = SimpleNamespace(name="new")
    left = SimpleNamespace(**vars(old), status="exited", exposed="")
    monkeypatch.setattr(ending, "service_at", lambda *_args: at)
    monkeypatch.setattr(ending.survey, "services", lambda *_args: [])
    monkeypatch.setattr(ending.survey, "service", lambda *_args: left)
    monkeypatch.setattr(ending.services, "users_of", lambda *_args: [])
    monkeypatch.setattr(ending.services, "remove", lambda _reached, name: removed.append(name))
    if wrote:
        with pytest.raises(StatefulError, match="was written to after its data was taken"):
            ending._destroy(here.world, operation)
    else:
        ending._destroy(here.world, operation)
    assert removed == ([] if wrote else ["old"])


def test_what_the_old_service_does_while_we_ask_it_is_no_write(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own statistics count as transactions; a way back that is refused leaves it as it found it."""
    standing = Standing(here, monkeypatch)
    operation = standing.operation(tmp_path)

    def asked(_world: World, name: str) -> str:
        standing.next_xid += 1
        return name

    def set_running(name: str, running: bool) -> None:
        here.calls.append(f"{'start' if running else 'stop'} {name}")
        here.old.running, here.old.started = running, here.old.started + 5 * running

    monkeypatch.setattr(Here, "start", lambda _self, name: set_running(name, True))
    monkeypatch.setattr(Here, "stop", lambda _self, name, **_options: set_running(name, False))
    monkeypatch.setattr(way_back.services, "wait", lambda *_args: None)
    monkeypatch.setattr(way_back, "cluster_of", asked)
    monkeypatch.setattr(way_back, "beyond", lambda *_args: (["blog"], []))
    monkeypatch.setattr(World, "service", lambda _self, name: SimpleNamespace(name=name, database=name))
    assert way_back.lost(here.world, operation, "old", "new") is not None
    assert here.calls == ["start old", "policy old no", "stop old"]
    standstill.refuse_if_it_ran(here.world, operation)
    assert standstill.written(here.world, operation) == ""
    standing.next_xid += 1
    assert standstill.written(here.world, operation)
    # What others wrote is none of ours because we ask once more, nor where the comparison breaks off.
    monkeypatch.setattr(way_back, "beyond", lambda *_args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        way_back.lost(here.world, operation, "old", "new")
    assert not here.old.running
    assert standstill.written(here.world, operation)


def going_back(monkeypatch: pytest.MonkeyPatch, here: Here) -> None:
    """Let a way back ask and shut nobody; what is done with the app is among the calls."""
    for name in ("stop_app", "start_app"):
        monkeypatch.setattr(let_in, name, lambda _world, _app, _name=name: here.calls.append(_name))
    monkeypatch.setattr(let_in, "writes_since", lambda *_args: 3)
    monkeypatch.setattr(way_back.survey, "service", lambda *_args: None)
    monkeypatch.setattr(way_back, "others", lambda *_args: [])
    monkeypatch.setattr(way_back, "shut", lambda *_args: 1)
    monkeypatch.setattr(way_back, "reopen", lambda *_args: here.calls.append("reopen"))
    monkeypatch.setattr(way_back, "lost", lambda *_args: way_back.Lost(("new",), ()))


@pytest.mark.parametrize("handler", [finish.CarryBackups(), finish.Retire()], ids=["backups", "old service"])
def test_a_refused_way_back_does_again_what_was_undone_and_it_counts_again(
    here: Here, tmp_path: Path, handler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit knows the old service by what the last step noted of it."""
    left = here.directory / "old" / "data"
    copy = Copy("original", "old", str(left), "now", 1, device=left.stat().st_dev, inode=left.stat().st_ino)
    going_back(monkeypatch, here)
    monkeypatch.setattr(type(handler), "undo", lambda *_args: {})
    monkeypatch.setattr(type(handler), "apply", lambda *_args: {"copies": [copy.as_dict()]})
    known = {planner.IMPORT: BROUGHT, planner.REPOINT: {}, planner.LET_IN: {}}
    operation = operation_of(tmp_path, [LET_IN, RETIRE], {**known, planner.RETIRE: {"copies": [copy.as_dict()]}})
    with pytest.raises(UndoRefused):
        execute.undo(operation, {LET_IN.kind: let_in.LetIn(), RETIRE.kind: handler}, here.world, reason="asked for")
    assert planner.RETIRE not in operation.history().undone
    assert operation.history().copies() == [copy]
    assert ending._is_the_one(operation, cast(Any, SimpleNamespace(name="old", data=str(left))))


@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("refused", [True, False])
@pytest.mark.parametrize("at_the_swap, since, runs", [
    (False, "true", True), (False, "mixed", True), (False, "false", False), (True, "false", True)
])  # fmt: skip
def test_an_app_that_was_started_since_the_swap_runs_when_it_is_back_and_where_it_may_not_go_back(
    here: Here, tmp_path: Path, at_the_swap: bool, since: str, runs: bool, refused: bool, killed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    going_back(monkeypatch, here)
    shut = Step("dokku_quiet", planner.QUIET, SWITCH, {**BOTH, "page": False, "read_only": False})
    known = {planner.QUIET: {}, RAN: {"running": at_the_swap}, planner.IMPORT: BROUGHT, planner.REPOINT: {}}
    operation = operation_of(tmp_path, [shut, LET_IN], {**known, planner.LET_IN: {}})
    handlers = {shut.kind: quiet.Quiet(), LET_IN.kind: let_in.LetIn()}
    monkeypatch.setattr(quiet, "start_app", lambda _world, app: here.calls.append("start_app"))
    monkeypatch.setattr(World, "service", lambda _self, name: SimpleNamespace(name=name, database=name))
    monkeypatch.setattr(World, "session", lambda *_args: nullcontext(SimpleNamespace(scalar=lambda *_args: 0)))
    if not refused:
        monkeypatch.setattr(let_in, "writes_since", lambda *_args: 0)
    here.running = since

    def stop(_world: World, _app: str) -> None:
        here.running = "false"
        if killed and "killed" not in here.calls:
            here.calls.append("killed")
            raise KeyboardInterrupt

    monkeypatch.setattr(let_in, "stop_app", stop)
    for _attempt in range(1 + killed):
        with (
            pytest.raises((UndoRefused, KeyboardInterrupt)) if refused or (not here.calls and killed) else nullcontext()
        ):
            execute.undo(operation, handlers, here.world, reason="asked for")
    assert ("start_app" in here.calls) is runs
    # The next way back asks anew.
    assert not operation.history().evidence.get(RAN_SINCE)


@pytest.mark.parametrize("primary", ["new", "old"])
def test_a_service_that_others_use_by_now_is_taken_from_nobody(
    here: Here, tmp_path: Path, primary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.primary = primary
    going_back(monkeypatch, here)
    monkeypatch.setattr(way_back.survey, "service", lambda *_args: SimpleNamespace(name="new"))
    monkeypatch.setattr(way_back.services, "others_of", lambda *_args: ["the app shop is linked to it"])
    monkeypatch.setattr(ending.services, "by_another_user", lambda *_args: ())
    operation = brought_to(tmp_path, planner.LET_IN)
    world = World(here.world.reached, discard_writes=True)
    context = Context(world, operation, evidence=dict(operation.history().evidence))
    monkeypatch.setattr(again, "refuse_without_image", lambda *_args: None)
    with pytest.raises(InvalidInput, match="the app shop is linked to it"):
        ending._check_back(world, operation)
    with pytest.raises(UndoRefused if primary == "new" else StatefulError, match="the app shop is linked to it"):
        let_in.LetIn().undo(LET_IN, context)
    assert here.calls == []


@pytest.mark.parametrize("both", [True, False])
def test_a_refused_way_back_says_where_both_services_have_what_the_other_lacks(
    here: Here, tmp_path: Path, both: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    standing = Standing(here, monkeypatch, next_xid=11 if both else 10)
    going_back(monkeypatch, here)
    with pytest.raises(UndoRefused, match="would lose them") as raised:
        let_in.LetIn().undo(LET_IN, context_of(here, standing.operation(tmp_path)))
    assert ("each of the two has what the other lacks" in raised.value.state) is both
    assert ("discard_writes" in raised.value.next_command) is both


def test_a_service_that_the_app_names_by_another_login_is_not_gone_back_from(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is removed last of all, and not where anything names it: the way back would not end."""
    going_back(monkeypatch, here)
    monkeypatch.setattr(ending.survey, "service", lambda *_args: SimpleNamespace(name="new"))
    monkeypatch.setattr(ending.services, "others_of", lambda *_args: [])
    monkeypatch.setattr(ending.services, "by_another_user", lambda *_args: ("REPORTS_URL",))
    monkeypatch.setattr(again, "refuse_without_image", lambda *_args: None)
    with pytest.raises(InvalidInput, match="REPORTS_URL of blog names new by another login"):
        ending._check_back(World(here.world.reached, discard_writes=True), brought_to(tmp_path, planner.LET_IN))
    assert here.calls == []


def written(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the new service have taken so many transactions, of which the old one lacks all."""
    monkeypatch.setattr(writes, "writes_since", lambda *_args: number)
    monkeypatch.setattr(way_back, "lost", lambda *_args: way_back.Lost(("blog",), ()) if number else None)


def brought_to(tmp_path: Path, *done: str) -> Operation:
    known: dict[str, dict[str, Any]] = {planner.EXPORT: {"stamp": "s"}, planner.IMPORT: BROUGHT, planner.REPOINT: {}}
    return operation_of(tmp_path, [EXPORTED, LET_IN], {**known, **{name: {} for name in done}})


@pytest.mark.parametrize("number", [0, 3])
def test_what_the_app_wrote_before_it_was_put_back_by_hand_is_not_written_over(
    here: Here, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.primary = "old"
    written(monkeypatch, number)
    operation = brought_to(tmp_path)
    if number:
        with pytest.raises(Undecided, match="was put back by hand"):
            writes.refuse_newer(here.world, operation)
    else:
        writes.refuse_newer(here.world, operation)
    assert here.calls == []


def test_a_proved_swap_that_was_put_back_by_hand_is_decided_by_nobody_else(here: Here, tmp_path: Path) -> None:
    here.primary = "old"
    operation = brought_to(tmp_path, planner.LET_IN)
    with pytest.raises(Undecided, match="points at old again"):
        execute.run(operation, journey.HANDLERS, here.world, never_before_proof=True)
    assert here.calls == []


def test_a_roll_back_of_what_was_put_back_by_hand_gives_nothing_up_unasked(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.primary = "old"
    operation = brought_to(tmp_path, planner.LET_IN)
    written(monkeypatch, 3)
    monkeypatch.setattr(way_back, "refuse_others", lambda *_args: None)
    with pytest.raises(InvalidInput, match="would destroy it"):
        ending._refuse_loss(here.world, operation)
    with pytest.raises(StatefulError, match="it would be destroyed"):
        let_in.LetIn().undo(LET_IN, context_of(here, operation))
    kept: list[str] = []
    monkeypatch.setattr(way_back, "kept", lambda _world, _new, path, _lost: kept.append(path) or [])
    world = World(here.world.reached, discard_writes=True)
    ending._refuse_loss(world, operation)
    let_in.LetIn().undo(LET_IN, Context(world, operation, evidence=dict(operation.history().evidence)))
    assert kept == ["/dump.discarded"]
    # Killed afterwards, it is not asked again.
    ending._refuse_loss(here.world, operation)
    assert let_in.LetIn().undo(LET_IN, context_of(here, operation)) == {}


@pytest.mark.parametrize("half", [True, False])
def test_what_is_given_up_is_read_back_before_it_is(
    here: Here, tmp_path: Path, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "discarded"
    path.write_bytes(archives.OF_17[:4300] if half else archives.OF_17)
    monkeypatch.setattr(World, "service", lambda _self, name: SimpleNamespace(name=name, database="new"))
    monkeypatch.setattr(way_back, "exported", lambda *_args: str(path))
    lost = way_back.Lost(("new",), ())
    if half:
        with pytest.raises(StatefulError, match="holds a dump that breaks off in TABLE DATA rows"):
            way_back.kept(here.world, "new", str(path), lost)
    else:
        (copy,) = way_back.kept(here.world, "new", str(path), lost)
        assert copy.proof == "the data of all that it announces is in it"


def test_the_service_that_the_app_uses_is_neither_unlinked_nor_stopped(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.primary = "old"
    monkeypatch.setattr(World, "service", lambda _self, name: SimpleNamespace(name=name, database="x"))
    with pytest.raises(StatefulError, match="neither unlinked nor stopped"):
        finish.Retire().apply(RETIRE, context_of(here, brought_to(tmp_path)))
    assert here.calls == []


def test_a_service_that_somebody_made_meanwhile_is_not_ours(here: Here, tmp_path: Path) -> None:
    step = Step("dokku_make", planner.MAKE, PREPARE, BOTH)
    operation = operation_of(tmp_path, [step], {})
    operation.journal.intent(planner.MAKE)
    with pytest.raises(StatefulError, match="did not make it"):
        prepare.Make().apply(step, context_of(here, operation))
    assert prepare.Make().undo(step, context_of(here, operation)) == {}
    assert here.calls == []


@pytest.mark.parametrize("same", [True, False])
def test_a_commit_destroys_the_service_that_the_swap_left_and_none_that_has_its_name(
    here: Here, tmp_path: Path, same: bool
) -> None:
    left = here.directory / "old" / "data"
    copy = Copy(
        "original", "old", str(left), "now", 1, device=left.stat().st_dev, inode=left.stat().st_ino + (not same)
    )
    operation = operation_of(tmp_path, [LET_IN], {planner.RETIRE: {"copies": [copy.as_dict()]}})
    there = cast(Any, SimpleNamespace(name="old", data=str(left)))
    assert ending._is_the_one(operation, there) is same
    left.rmdir()
    assert ending._is_the_one(operation, there), "it was half destroyed"


def counted(**databases: int) -> Counts:
    return Counts({name: {"public.t": Count(rows, True)} for name, rows in databases.items()}, {})


@pytest.mark.parametrize(
    "found, raises",
    [
        (counted(old_db=5), False),
        (counted(old_db=6), False),  # a session wrote until the server stopped: it was taken along
        (counted(new_db=5), False),  # killed after the database had its new name
        (counted(old_db=4), True),
        (counted(other=5), True),
    ],
)
def test_what_was_taken_along_is_no_difference(here: Here, tmp_path: Path, found: Counts, raises: bool) -> None:
    step = Step("dokku_adopt", plan_physical.ADOPT, SWITCH, {**BOTH, "counted_by": "count"})
    operation = operation_of(tmp_path, [step], {"count": {"counts": physical.counts.as_dict(counted(old_db=5))}})

    def compared() -> Any:
        return physical.Adopt._compared(step, context_of(here, operation), found, {"old_db": "new_db"})

    if raises:
        with pytest.raises(StatefulError, match="does not have what old had"):
            compared()
    else:
        assert compared()["tables"] == 1


@pytest.mark.parametrize(
    "databases, asked",
    [
        (["blog", "postgres"], 'ALTER DATABASE "blog" RENAME TO "new"'),
        (["new", "postgres"], ""),  # killed after it had its new name
        (["blog", "new", "postgres"], None),
    ],
)
def test_no_other_database_is_taken_for_the_apps(
    here: Here, tmp_path: Path, databases: list[str], asked: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.primary = "old"
    ran: list[str] = []
    session = SimpleNamespace(
        rows=lambda _query: [(name,) for name in databases], run=ran.append, scalar=lambda *_args: 7
    )
    session.sibling = lambda **_settings: nullcontext(session)
    monkeypatch.setattr(World, "session", lambda *_args: nullcontext(session))
    dsn = SimpleNamespace(database="new", user="postgres", password="b")
    names = {"old": "blog", "new": "new"}
    monkeypatch.setattr(World, "service", lambda _self, name: SimpleNamespace(database=names[name], dsn=dsn))
    monkeypatch.setattr(physical, "counted", lambda _session: counted(**dict.fromkeys(databases, 1)))
    monkeypatch.setattr(physical, "end_sessions", lambda *_args: 0)
    monkeypatch.setattr(physical, "system_identifier", lambda _session: SINCE)
    step = Step("dokku_adopt", plan_physical.ADOPT, SWITCH, {**BOTH, "counted_by": "count", "brought_by": "copy"})
    operation = operation_of(tmp_path, [step], {"copy": {"settled_at": 2.0}})
    if asked is None:
        with pytest.raises(StatefulError, match="a database new beside blog"):
            physical.Adopt().apply(step, context_of(here, operation))
        assert ran == []
    else:
        physical.Adopt().apply(step, context_of(here, operation))
        assert [each for each in ran if "RENAME" in each] == (
            ['ALTER DATABASE "blog" RENAME TO "new"'] if asked else []
        )


@pytest.mark.parametrize("databases, words", [(["blog"], ""), (["blog", "new"], "a database new beside blog")])
def test_a_database_that_was_made_since_is_found_before_anything_stops(
    here: Here, tmp_path: Path, databases: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = SimpleNamespace(
        others_bring_about=False,
        apply=lambda *_args: {"cluster": {"databases": [{"name": name} for name in databases]}},
    )
    monkeypatch.setattr(World, "service", lambda _self, _name: SimpleNamespace(database="blog"))
    look = physical.LookAgain(cast(Any, inner))
    step, steps = Step("look_again", "look again", SWITCH, {}), of_files(here.directory)
    context = context_of(here, operation_of(tmp_path, (*steps[:1], step, *steps[1:]), {}))
    if words:
        with pytest.raises(StatefulError, match=words):
            look.apply(step, context)
    else:
        assert look.apply(step, context)


def process(kind: str, *, running: Callable[[], bool]) -> Any:
    class Process(SimpleNamespace):
        @property
        def running(self) -> bool:
            return running()

    return Process(id=kind, name=f"blog.{kind}.1", labels={"com.dokku.container-type": kind}, env={})


@pytest.mark.parametrize("kind", ["run", "cron"])
def test_one_offs_are_waited_for_while_the_app_still_works(here: Here, kind: str) -> None:
    here.containers_of_app = [process(kind, running=lambda: True)]
    with pytest.raises(StatefulError, match=rf"One-off processes of blog run on.*blog\.{kind}\.1"):
        stop_app(here.world, "blog")
    assert here.calls == []
