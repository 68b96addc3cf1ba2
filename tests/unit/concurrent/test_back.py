# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nothing that was written since is given up unasked, whatever runs in the place of what was loaded."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.override import override_text
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import back, common, reload
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.handlers import CONCURRENT_HANDLERS
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.host import unsaved
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import (
    Context,
    Undecided,
    UndoRefused,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    COMMITTED,
    DONE,
    FINISH,
    ROLLED_BACK,
    RUNNING,
    SWITCH,
    Goal,
    Plan,
    Step,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._redis import fingerprint
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.ending import StorageEnding
from tests.unit.concurrent.repositories import NEXT, Repository

USER_SETTINGS = fingerprint.Database(2, {"string": 2}, {"string": 2}, True, 0, {}, 1, 2, "00000000000a")
AS_LOADED = fingerprint.Fingerprint("7.4", {"0": USER_SETTINGS})
ANOTHER_VALUE = fingerprint.Fingerprint("7.4", {"0": replace(USER_SETTINGS, digest="00000000000b")})


@dataclass
class Host:
    """The stores of a host, as they answer; ``calls`` says what was done with its services."""

    identity: str = "7"
    xid: int = 900
    redis_holds: fingerprint.Fingerprint = AS_LOADED
    comes_up: bool = True
    others_there: tuple[str, ...] = ()
    compose: Any = field(default_factory=lambda: SimpleNamespace(typed=lambda *words: " ".join(words)))
    calls: list[str] = field(default_factory=list)

    def others(self) -> list[Any]:
        return [SimpleNamespace(name=name) for name in self.others_there]

    def running(self) -> list[Any]:
        return self.others()

    def take_down(self, _data: str, *, prove: bool = True) -> None:
        self.calls.append("down, proved" if prove else "down")

    def stop_others(self) -> None:
        self.calls.append("stop")

    def start_stores(self) -> None:
        self.calls.append("stores")

    def bring_up(self) -> None:
        self.calls.append("up")
        if not self.comes_up:
            raise StatefulError("gateway (restarting) does not go on running.")

    def redis(self) -> fingerprint.Fingerprint:
        return self.redis_holds

    @contextmanager
    def postgresql(self) -> Iterator[Any]:
        yield SimpleNamespace(scalar=lambda query: self.identity if "identifier" in query else self.xid)


@pytest.fixture(autouse=True)
def redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "take", lambda holds, **_options: holds)


@pytest.fixture
def store(tmp_path: Path) -> OperationStore:
    return OperationStore(str(tmp_path / "operations"))


def loaded_on(host: Host) -> dict[str, Any]:
    return {"system_identifier": host.identity, **back.state_of_stores(host)}  # type: ignore[arg-type]


def began(
    store: OperationStore, directory: Path, *, state: str = DONE, module: str = "concurrent_version"
) -> Operation:
    steps = (Step("concurrent_load", "load", SWITCH, proves=True), Step("concurrent_up", "start everything", FINISH))
    aside = {"data": str(directory / "db.aside"), "redis": str(directory / "redis.aside")}
    operation = store.begin(Plan(Goal(module, "p", {}), steps, facts={"aside": aside}))
    operation.journal.state(RUNNING)
    operation.journal.evidence("load", {})
    if state != RUNNING:
        operation.journal.state(state)
    time.sleep(0.002)  # operations are told apart by when they began
    return operation


@pytest.fixture
def reloaded(store: OperationStore, tmp_path: Path) -> Operation:
    (tmp_path / "db.aside").mkdir()
    return began(store, tmp_path)


def way_back(host: Host, operation: Operation, *, discard_writes: bool = False) -> None:
    world: Any = SimpleNamespace(discard_writes=discard_writes)
    back.may_begin(host, Context(world, operation, {"load": loaded_on(Host())}))  # type: ignore[arg-type]


def test_what_nobody_wrote_to_goes_back(reloaded: Operation) -> None:
    host = Host()
    way_back(host, reloaded)
    assert host.calls == ["stop", "stores"]


@pytest.mark.parametrize(
    "host,words",
    [
        (Host(xid=907), "The new database has taken about 7 transactions since. The old data does not have that."),
        (Host(identity="8"), "The database that runs (8) is not the one that was loaded (7)"),
        (Host(identity="8", xid=3), "The database that runs (8) is not the one that was loaded (7)"),
        (Host(redis_holds=ANOTHER_VALUE), "Redis is not as it was loaded (database 0: the 2 sampled keys hold other"),
    ],
    ids=["transactions", "another cluster", "another cluster with fewer transactions", "a setting in Redis alone"],
)
def test_what_was_written_since_is_not_given_up_unasked(reloaded: Operation, host: Host, words: str) -> None:
    with pytest.raises(UndoRefused) as refused:
        way_back(host, reloaded)
    assert refused.value.msg.startswith(words)
    assert refused.value.state == back.UNTOUCHED
    assert host.calls == ["stop", "stores", "up"], "it runs again"
    way_back(host, reloaded, discard_writes=True)


def test_what_does_not_come_up_again_is_told(reloaded: Operation) -> None:
    with pytest.raises(UndoRefused) as refused:
        way_back(Host(xid=907, comes_up=False), reloaded)
    assert "gateway (restarting)" in refused.value.state


@pytest.mark.parametrize("discard_writes", [False, True])
def test_before_what_was_committed_since_there_is_no_way_back(
    store: OperationStore, tmp_path: Path, reloaded: Operation, discard_writes: bool
) -> None:
    upgraded = began(store, tmp_path, state=COMMITTED, module="postgresql_image")
    host = Host(identity="8")
    with pytest.raises(UndoRefused, match=f"{upgraded.id}, which came after {reloaded.id}, was committed"):
        way_back(host, reloaded, discard_writes=discard_writes)
    assert host.calls == [], "nothing was stopped for it"


def test_what_was_committed_before_or_taken_back_is_in_nobodys_way(store: OperationStore, tmp_path: Path) -> None:
    (tmp_path / "db.aside").mkdir()
    began(store, tmp_path, state=COMMITTED, module="postgresql_image")
    operation = began(store, tmp_path)
    began(store, tmp_path, state=ROLLED_BACK, module="compose_storage")
    way_back(Host(), operation)


@pytest.mark.parametrize("discard_writes", [False, True])
def test_without_the_old_data_there_is_no_way_back(reloaded: Operation, tmp_path: Path, discard_writes: bool) -> None:
    (tmp_path / "db.aside").rmdir()
    host = Host()
    with pytest.raises(UndoRefused, match="there is nothing to return to"):
        way_back(host, reloaded, discard_writes=discard_writes)
    assert host.calls == []


@pytest.mark.parametrize("loaded", [False, True])
def test_a_proof_is_asked_as_well_where_the_end_was_never_reached(
    store: OperationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: bool
) -> None:
    """Up never began, or failed after the proof: either way somebody may have written since."""
    asked: list[str] = []
    monkeypatch.setattr(back, "may_begin", lambda *_any: asked.append("asked"))
    operation = began(store, tmp_path, state=RUNNING)
    step = replace(operation.plan.steps[0 if loaded else 1], args={"folder": "", "data": str(tmp_path / "db")})
    world: Any = SimpleNamespace(engine=SimpleNamespace(containers=lambda labels: []), project="p")
    CONCURRENT_HANDLERS[step.kind].undo(step, Context(world, operation, {"load": {}}))
    assert asked == ["asked"]


def released(store: OperationStore, repository: Repository) -> tuple[Operation, dict[str, Any]]:
    """Return an operation that has come to another release, and the evidence of that."""
    head = repository.git("rev-parse", "HEAD")
    args = {"root": str(repository.root), "release": NEXT, "merge": False, "head": head, "branch": ""}
    step = Step("concurrent_release", "release", SWITCH, args)
    moves = [(str(repository.root / "docs/data"), str(repository.root / "_docs/data"))]
    operation = store.begin(Plan(Goal("concurrent_version", "p", {}), (step,), facts={"moves": moves}))
    repository.git("checkout", "-q", NEXT)
    (repository.root / "_docs/data").mkdir(parents=True)
    return operation, {"release": {"head": repository.git("rev-parse", "HEAD")}}


def named_in_override(operation: Operation, path: Path) -> None:
    """Write an image into the override file, as the step does."""
    made = override_text(None, (), {"api": "host:v1.3.0"})
    path.write_text(made.text)
    hunks = [{"path": str(path), "created": True, "hunks": [hunk.as_dict() for hunk in made.hunks]}]
    (Path(operation.directory) / "hunks.json").write_text(json.dumps(hunks))


OWN = {
    "nothing": ("", ""),
    "a commit": ("commit own.yml", "its own commits since"),
    "a change": ("write README.md", r"README\.md in .* was changed here and is not committed"),
    "the line that we wrote": ("write docs/compose.override.yml", "have been changed since"),
    "a place to go back to": ("write docs/data/rows", "docs/data came there since, and would be in the way"),
    "an empty one": ("mkdir docs/data", ""),
}


@pytest.mark.parametrize("own", OWN)
def test_what_is_the_admins_own_is_found_before_anything_stops(
    store: OperationStore, repository: Repository, own: str
) -> None:
    operation, evidence = released(store, repository)
    named_in_override(operation, repository.root / "docs/compose.override.yml")
    (how, _blank, name), words = OWN[own][0].partition(" "), OWN[own][1]
    if how == "mkdir":
        (repository.root / name).mkdir()
    elif how:
        getattr(repository, how)(name, "services:\n  api:\n    image: host:hotfix\n")
    host, world = Host(), SimpleNamespace(discard_writes=True)
    if words:
        with pytest.raises(UndoRefused, match=words) as refused:
            back.may_begin(host, Context(world, operation, evidence))  # type: ignore[arg-type]
        assert refused.value.state == back.UNTOUCHED
    else:
        back.may_begin(host, Context(world, operation, evidence))  # type: ignore[arg-type]
    assert host.calls == []


def test_what_was_there_before_and_is_ignored_since_is_in_the_way_too(
    store: OperationStore, repository: Repository
) -> None:
    repository.release("v0.3.1", "docs/data", "theirs\n")
    repository.git("checkout", "-q", "v0.3.1")
    operation, evidence = released(store, repository)
    repository.write("docs/data", "mine\n")
    with pytest.raises(UndoRefused, match=r"docs/data in .* is unknown to git, and would be in the way"):
        back.may_begin(Host(), Context(SimpleNamespace(discard_writes=True), operation, evidence))  # type: ignore[arg-type]


def undone(host: Host, operation: Operation, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo a step, as a run does that goes on with a roll back."""
    step = operation.plan.steps[place]
    args = {"folder": "", "data": "", "redis": "", "aside": operation.plan.facts["aside"]}
    for module in (common, reload):
        monkeypatch.setattr(module, "host_of", lambda *_any: host)
    world: Any = SimpleNamespace(discard_writes=False)
    evidence = {"load": loaded_on(Host())} if operation.history().proved else {}
    CONCURRENT_HANDLERS[step.kind].undo(replace(step, args=args), Context(world, operation, evidence))


@pytest.mark.parametrize("xid,refused", [(900, False), (907, True)])
def test_who_was_let_in_after_a_way_back_was_broken_off_is_asked_about_again(
    reloaded: Operation, monkeypatch: pytest.MonkeyPatch, xid: int, refused: bool
) -> None:
    """What was stopped has come back with the engine, and people have posted for hours."""
    reloaded.journal.undoing("It was rolled back on request.")
    reloaded.journal.undone("start everything", {})
    host = Host(xid=xid, others_there=("gateway",))
    if refused:
        with pytest.raises(UndoRefused, match="about 7 transactions"):
            undone(host, reloaded, 0, monkeypatch)
        assert host.calls == ["stop", "stores", "up"]
        return
    undone(host, reloaded, 0, monkeypatch)
    assert host.calls == ["stop", "stores", "down"]


@pytest.mark.parametrize("kind", ["concurrent_load", "concurrent_set_aside"])
def test_who_was_let_in_to_what_is_half_loaded_is_not_put_away(
    store: OperationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / "db.aside").mkdir()
    aside = {"data": str(tmp_path / "db.aside"), "redis": str(tmp_path / "redis.aside")}
    plan = Plan(Goal("concurrent_version", "p", {}), (Step(kind, "load", SWITCH),), facts={"aside": aside})
    host = Host(others_there=("gateway",))
    with pytest.raises(Undecided, match="gateway was started while the old data was set aside"):
        undone(host, store.begin(plan), 0, monkeypatch)
    assert host.calls == []


def test_what_is_stopped_for_a_way_back_does_not_come_back_with_the_engine(
    reloaded: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(others_there=("gateway",))
    undone(host, reloaded, 1, monkeypatch)
    assert host.calls == ["stop", "stores", "down"]


def test_once_the_old_data_is_back_nothing_is_asked_any_more(
    store: OperationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the proof, taken back as far as the data, killed again."""
    operation = began(store, tmp_path, state=RUNNING)
    operation.journal.undone("load", {})
    host = Host(xid=907, others_there=("gateway",))
    undone(host, operation, 0, monkeypatch)
    assert host.calls == ["down, proved"]


def test_a_change_that_is_proved_and_cannot_be_finished_is_taken_back(store: OperationStore, tmp_path: Path) -> None:
    operation = began(store, tmp_path, state=RUNNING)

    def connect(_known: Any) -> Any:
        raise StatefulError("reached")

    def ending(*modules: str) -> StorageEnding:
        return StorageEnding(store, {}, connect, lambda _project: None, back_once_proved=modules)  # type: ignore[arg-type,return-value]

    with pytest.raises(StatefulError, match="is proved and unfinished"):
        ending().roll_back(operation)
    text = replace(ending("concurrent_version"), check_mode=True).roll_back(operation)["plan_text"]
    assert text == f"{operation.id} is unfinished (load): what it did is undone."


@pytest.mark.parametrize(
    "said,expected",
    [
        ("rdb_changes_since_last_save:0\r\nrdb_last_bgsave_status:ok\r\n", False),
        ("rdb_changes_since_last_save:3\r\nrdb_last_bgsave_status:ok\r\n", True),
        ("rdb_changes_since_last_save:0\r\nrdb_last_bgsave_status:err\r\n", True),
        ("", True),
    ],
)
def test_redis_is_saved_unless_the_disk_has_all_of_it(said: str, expected: bool) -> None:
    assert unsaved(said) == expected


def test_what_the_api_notes_of_other_hosts_is_no_write_to_what_is_dumped(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any]] = []

    @contextmanager
    def postgresql() -> Iterator[Any]:
        yield SimpleNamespace(scalar=lambda query, values=(): asked.append((query, values)) or 7)

    monkeypatch.setattr(back, "stream_items", lambda _host: 3)
    host: Any = SimpleNamespace(postgresql=postgresql)
    assert back.written_so_far(host, {"public.messages", "public.entities"}) == {"xid": 7, "rows": 7, "items": 3}
    assert asked[1] == (back.ROWS_WRITTEN, ("public.entities public.messages",))
    assert "relname = ANY(string_to_array(%s" in back.ROWS_WRITTEN
