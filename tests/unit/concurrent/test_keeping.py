# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A copy has its name only once it is seen to be the same, and what others may have written to is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import keeping
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.handlers import CopyRedis
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.reload import Load, SetAside
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import SWITCH, Goal, Plan, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import control


def test_a_copy_is_whole_and_one_that_is_not_gets_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "redis"
    source.mkdir()
    (source / "dump.rdb").write_bytes(b"all")
    keeping.copy_tree(str(source), str(tmp_path / "copy"))

    def half(argv: Sequence[str], _limit: float) -> tuple[int, str, str]:
        Path(argv[-1]).mkdir()
        (Path(argv[-1]) / "dump.rdb").write_bytes(b"al")
        return 0, "", ""

    monkeypatch.setattr(keeping, "run", half)
    with pytest.raises(StatefulError, match=r"differs from it: .*dump\.rdb"):
        keeping.copy_tree(str(source), str(tmp_path / "second"))

    assert (tmp_path / "copy/dump.rdb").read_bytes() == b"all"
    assert not (tmp_path / "second").exists()


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Any]:
    """A host whose old data is aside, and that was killed while it loaded."""
    root = tmp_path / "data"
    for name in ("db.o", "db", "redis"):
        (root / name).mkdir(parents=True)
    (root / "db.o/PG_VERSION").write_text("17")
    (root / "redis/dump.rdb").write_text("all")
    keeping.copy_tree(str(root / "redis"), str(root / "redis.o"))
    aside = {"data": str(root / "db.o"), "redis": str(root / "redis.o")}
    return {"folder": str(root), "data": str(root / "db"), "redis": str(root / "redis"), "aside": aside}


@pytest.fixture
def context(tmp_path: Path, places: dict[str, Any]) -> Context[Any]:
    steps = (Step("concurrent_set_aside", "set the old data aside", SWITCH, places),)
    plan = Plan(Goal("concurrent_version", "p", {}), steps, facts={"aside": places["aside"]})
    operation = OperationStore(str(tmp_path / "operations")).begin(plan)
    world = SimpleNamespace(engine=SimpleNamespace(containers=lambda labels: []), project="p")
    return Context(world, operation, {"load": {"system_identifier": "7"}})


def kept(operation: Operation) -> dict[str, str]:
    """Return what the journal says is kept beside, by path; all of it is there."""
    found = {copy.path: copy.service for copy in operation.history().copies()}
    assert [path for path in found if not Path(path).is_dir()] == []
    return found


def begin_anew(context: Context[Any], places: dict[str, Any]) -> None:
    Load._begin_anew(places, context)


def test_a_load_that_begins_removes_nothing_and_keeps_nothing_where_nobody_was(
    context: Context[Any], places: dict[str, Any]
) -> None:
    before = Path(places["redis"]).stat().st_ino
    begin_anew(context, places)
    assert kept(context.operation) == {}
    assert Path(places["redis"]).stat().st_ino == before


def test_what_was_posted_to_a_half_loaded_database_is_kept_when_it_is_loaded_anew(
    context: Context[Any], places: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it loaded; the admin types up, people post, he types down, and runs it again."""
    monkeypatch.setattr(control, "read_control", lambda _path: SimpleNamespace(system_identifier=7))
    (Path(context.operation.directory) / "loading-into").write_text("7")
    Path(places["data"], "posts").write_text("of people")
    Path(places["redis"], "dump.rdb").write_text("all, and a setting")
    begin_anew(context, places)
    posts, settings = (f"{places[name]}.{context.operation.id}.discarded-1" for name in ("data", "redis"))
    assert kept(context.operation) == {posts: "db", settings: "redis"}
    assert Path(posts, "posts").read_text() == "of people"
    assert Path(settings, "dump.rdb").read_text() == "all, and a setting"
    assert list(Path(places["data"]).iterdir()) == []
    assert Path(places["redis"], "dump.rdb").read_text() == "all"

    Path(places["data"], "posts").write_text("of others")
    begin_anew(context, places)
    assert Path(posts, "posts").read_text() == "of people"
    assert Path(f"{posts[:-1]}2", "posts").read_text() == "of others"
    assert len(kept(context.operation)) == 3


def test_what_was_posted_to_a_half_loaded_database_is_kept_when_it_is_taken_back(
    context: Context[Any], places: dict[str, Any]
) -> None:
    Path(places["data"], "posts").write_text("of people")
    (step,) = context.operation.plan.steps
    SetAside().undo(step, context)
    SetAside().undo(step, context)
    (posts,) = kept(context.operation)
    assert Path(posts, "posts").read_text() == "of people"
    assert Path(places["data"], "PG_VERSION").read_text() == "17"
    assert Path(places["redis"], "dump.rdb").read_text() == "all"
    assert sorted(path.name for path in Path(places["folder"]).iterdir()) == ["db", Path(posts).name, "redis"]


@pytest.mark.parametrize("aside, kept", [(False, "all, and more"), (True, "all")])
def test_the_copy_of_redis_is_of_the_last_time_that_all_was_quiet(tmp_path: Path, aside: bool, kept: str) -> None:
    for name in ("redis", "db.o"):
        (tmp_path / name).mkdir()
    redis = tmp_path / "redis/dump.rdb"
    redis.write_text("all")
    step = Step("concurrent_copy_redis", "copy", SWITCH, {"redis": str(redis.parent), "path": str(tmp_path / "copy")})
    facts = {"aside": {"data": str(tmp_path / "db.o")}} if aside else {}
    plan = SimpleNamespace(plan=SimpleNamespace(facts=facts))
    context: Any = SimpleNamespace(operation=plan, evidence={"quiet": {"began": 1.0}})
    context.evidence["copy"] = CopyRedis().apply(step, context)
    assert CopyRedis().is_done(step, context)

    # Killed, brought up by an admin, written to, and made quiet again.
    redis.write_text("all, and more")
    context.evidence["quiet"] = {"began": 2.0}
    if CopyRedis().is_done(step, context) is None:
        CopyRedis().apply(step, context)
    assert (tmp_path / "copy/dump.rdb").read_text() == kept
