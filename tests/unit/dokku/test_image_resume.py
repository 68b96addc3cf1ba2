# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A swap is gone on with, taken back or committed after somebody has done something by hand in between."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.arguments import Reached
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.cli import Answer, Call, Dokku
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image import (
    ending,
    finish,
    journey,
    let_in,
    physical,
    plan_physical,
    planner,
    prepare,
    vacate,
    way_back,
    writes,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.processes import (
    stop_app,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import (
    ALWAYS,
    RAN,
    World,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Undecided
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


@pytest.mark.parametrize("begun", [True, False])
def test_an_old_server_that_we_never_stopped_is_not_brought_back(here: Here, tmp_path: Path, begun: bool) -> None:
    """Somebody has given it another image since this was prepared; to make it as it was is not what is asked for."""
    stop = Step("stop_stores", "stop the stores", SWITCH, {"transfers": []})
    operation = operation_of(tmp_path, [of_files(here.directory)[0], stop], {stop.name: {}} if begun else {})
    undone: list[str] = []
    inner = cast(Any, SimpleNamespace(undo=lambda *_args: undone.append("undone") or {}, others_bring_about=True))
    running = SimpleNamespace(running=True)
    world = World(Reached(here.world.dokku, cast(Any, SimpleNamespace(container=lambda _name: running))))
    physical.StopOld(inner).undo(stop, Context(world, operation, evidence={}))
    assert undone == (["undone"] if begun else [])
    running.running = False
    physical.StopOld(inner).undo(stop, Context(world, operation, evidence={}))
    assert undone[-1:] == ["undone"]


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
    step = Step("dokku_retire", planner.RETIRE, FINISH, BOTH)
    with pytest.raises(StatefulError, match="neither unlinked nor stopped"):
        finish.Retire().apply(step, context_of(here, brought_to(tmp_path)))
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
