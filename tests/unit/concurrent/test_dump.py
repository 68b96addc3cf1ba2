# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A dump has all that was there, or is none; and the cluster that runs is the one that was made of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import back, counting, reload
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.model import Counted, Kind
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import ExecResult
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    COMMITTED,
    DONE,
    ROLLED_BACK,
    SWITCH,
    Goal,
    Plan,
    Step,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import control
from ansible_collections.selfhost.stateful.plugins.module_utils._stream import run as streams
from tests.unit.postgresql.fakes import a_container

BEFORE = {"xid": 900, "rows": 50, "items": 7}


@pytest.mark.parametrize("now", [BEFORE, {**BEFORE, "xid": 903}, {**BEFORE, "rows": 60}])
def test_what_the_server_does_by_itself_is_no_write(now: Mapping[str, int]) -> None:
    back.refuse_written(BEFORE, now)


@pytest.mark.parametrize(
    "now,words",
    [
        ({**BEFORE, "xid": 903, "rows": 51}, r"\(3 transactions in the database\)"),
        ({**BEFORE, "items": 9}, r"\(2 items of streams\)"),
        ({"xid": 901, "rows": 51, "items": 8}, r"\(1 transactions in the database, 1 items of streams\)"),
    ],
)
def test_what_was_written_while_it_was_dumped_is_not_lost_unseen(now: Mapping[str, int], words: str) -> None:
    with pytest.raises(StatefulError, match=words):
        back.refuse_written(BEFORE, now)


@pytest.mark.parametrize(
    "at_rest,looks,words,stops",
    [
        ([900], [BEFORE], "", 1),
        ([903, 903], [BEFORE, {**BEFORE, "xid": 903}], "", 2),
        ([903], [BEFORE, {**BEFORE, "xid": 903, "rows": 51}], r"\(3 transactions in the database\)", 1),
        ([901, 902, 903], [{**BEFORE, "xid": xid} for xid in (900, 901, 902)], "whenever the database is about", 3),
    ],
    ids=["nobody", "the server itself", "somebody by psql", "somebody who goes on"],
)
def test_what_was_written_between_the_last_look_and_the_stop_is_seen_by_the_cluster_at_rest(
    monkeypatch: pytest.MonkeyPatch, at_rest: list[int], looks: list[Mapping[str, int]], words: str, stops: int
) -> None:
    stopped: list[str] = []
    host: Any = SimpleNamespace(
        take_down=lambda data: stopped.append(data) or f"0/{len(stopped)}",
        start_stores=lambda: None,
        container=lambda _name: a_container(),
    )
    xids, seen = iter(at_rest), iter(looks)
    monkeypatch.setattr(back, "written_so_far", lambda *_any: next(seen))
    monkeypatch.setattr(control, "read_control", lambda _data: SimpleNamespace(next_xid=next(xids)))
    if words:
        with pytest.raises(StatefulError, match=words):
            back.down_unwritten(host, "/db", BEFORE, ())
    else:
        assert back.down_unwritten(host, "/db", BEFORE, ()) == f"0/{stops}"
    assert stopped == ["/db"] * stops


KIND = Kind("entities", ("ccadmin", "{word}", "all"), (), (), ("entity", "entities"), ("ccadmin", "--help"))


@pytest.mark.parametrize(
    "listed,knows,asked",
    [
        (b"modes: entity|stream", "entity", ["entity"]),
        (b"modes: entities|streams", "entities", ["entities"]),
        (b"", "entities", ["entity", "entities"]),
        (b"usage", "neither", ["entity", "entities"]),
    ],
)
def test_a_word_that_is_not_known_is_followed_by_the_next(
    monkeypatch: pytest.MonkeyPatch, listed: bytes, knows: str, asked: list[str]
) -> None:
    tried: list[str] = []

    def carry_out(_engine: object, _container: object, request: streams.Request) -> str:
        tried.append(request.argv[1])
        if request.argv[1] != knows:
            raise StatefulError(f"what it wrote is no JSON: unknown mode {request.argv[1]}")
        return "dumped"

    monkeypatch.setattr(streams, "carry_out", carry_out)
    engine = SimpleNamespace(execute=lambda _id, argv: ExecResult(argv, 0, listed, b""))
    host: Any = SimpleNamespace(world=SimpleNamespace(engine=engine), container=lambda _name: a_container())
    if knows == "neither":
        with pytest.raises(StatefulError, match="unknown mode entity"):
            reload.dumped(host, KIND, "/dump")
    else:
        assert reload.dumped(host, KIND, "/dump") == "dumped"
    assert tried == asked


@pytest.mark.parametrize("finished", [False, True])
def test_a_dump_that_was_not_finished_is_gone_before_anything_else_needs_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    there: list[bool] = []
    dump = tmp_path / "dump"
    dump.mkdir()
    monkeypatch.setattr(reload, "ensure_down", lambda *_any: there.append(dump.exists()))
    monkeypatch.setattr(reload, "host_of", lambda *_any: None)
    monkeypatch.setattr(reload, "ask_again", lambda *_any: None)
    context: Any = SimpleNamespace(evidence={"dump": {}} if finished else {})
    reload.Dump().undo(Step("concurrent_dump", "dump", SWITCH, {"dump": str(dump), "data": ""}), context)
    assert there == [finished]


def ended(store: OperationStore, module: str, state: str, identity: str = "", reverts: str | None = None) -> Operation:
    steps = (Step("prove", "prove", SWITCH, proves=True),)
    operation = store.begin(Plan(Goal(module, "p", {}), steps, reverts=reverts))
    operation.journal.evidence("prove", {"verification": {"db": {"identity": {"system_identifier": identity}}}})
    operation.journal.state(state)
    time.sleep(0.002)
    return operation


def test_only_a_change_of_the_image_that_came_after_and_stands_explains_another_cluster(tmp_path: Path) -> None:
    store = OperationStore(str(tmp_path / "operations"))
    ended(store, "postgresql_image", DONE, "before")
    loaded = ended(store, "concurrent_version", DONE, "7")
    ended(store, "postgresql_image", COMMITTED, "8")
    ended(store, "postgresql_image", ROLLED_BACK, "taken back")
    ended(store, "postgresql_image", "running", "unfinished")
    ended(store, "postgresql_image", DONE, "9")
    ended(store, "postgresql_image", DONE, "carried back", reverts="x")
    ended(store, "compose_storage", DONE, "moved")
    assert reload.reached_since(loaded) == ["8", "9"]


@pytest.mark.parametrize("accepted, wanted", [([], 10), (["orphans:messages"], 7), (["orphans:streams"], 10)])
def test_only_what_was_accepted_need_not_be_in_the_dump(
    monkeypatch: pytest.MonkeyPatch, accepted: list[str], wanted: int
) -> None:
    monkeypatch.setattr(counting, "count", lambda _host, query: {"all": 10, "lonely": 3}[query])
    kind = Kind("entities", (), (), (Counted("messages", (), "all", "loaded", "lonely"), Counted("beside", ())))
    plan = SimpleNamespace(summary={"left": accepted})
    context: Any = SimpleNamespace(operation=SimpleNamespace(plan=plan))
    assert reload.to_be_dumped(None, kind, context) == {"messages": wanted}  # type: ignore[arg-type]
