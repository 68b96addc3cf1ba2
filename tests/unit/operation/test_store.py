# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where operations live: ids, attempts, and locks that end with their process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import store as stores
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    COMMITTED,
    DONE,
    FINISH,
    PREPARE,
    ROLLED_BACK,
    RUNNING,
    SCHEMA_VERSION,
    Goal,
    Plan,
    Step,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from tests.unit.operation.fakes import GOAL, STEPS, a_plan

words = st.text(max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture
def store(tmp_path: Path) -> OperationStore:
    return OperationStore(str(tmp_path / "operations"))


# -- plans ---------------------------------------------------------------------


@given(st.dictionaries(words, values, max_size=4), st.dictionaries(words, values, max_size=3))
def test_a_plan_survives_json(facts: dict[str, object], args: dict[str, object]) -> None:
    plan = Plan(GOAL, (Step("kind", "name", PREPARE, args), Step("kind", "other", FINISH, proves=True)), facts=facts)
    assert Plan.from_dict(json.loads(json.dumps(plan.as_dict()))) == plan


def test_a_plan_with_two_steps_of_one_name_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="repeat"):
        a_plan(steps=(STEPS[0], STEPS[0]))


def test_a_plan_that_goes_back_a_phase_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="phases"):
        a_plan(steps=(STEPS[2], STEPS[0]))


@given(st.permutations(["a", "b", "c"]))
def test_the_order_of_keys_does_not_make_another_goal(keys: list[str]) -> None:
    assert Goal("m", "p", dict.fromkeys(keys, 1)).digest == Goal("m", "p", {"a": 1, "b": 1, "c": 1}).digest


def test_another_goal_has_another_id() -> None:
    ids = {Goal(m, p, {"x": x}).attempt_id(1) for m in ("m", "n") for p in ("p", "q") for x in (1, 2)}
    assert len(ids) == 8


@given(st.text(max_size=20))
def test_an_id_is_a_plain_file_name(project: str) -> None:
    assert all(c.isalnum() or c in "_-" for c in Goal("m", project, {}).attempt_id(3).encode().decode("ascii"))


# -- beginning and finding -----------------------------------------------------


def test_nothing_is_there_before_the_first(store: OperationStore) -> None:
    assert store.all() == []
    assert store.open_for("project") is None
    assert store.newest_done("project") is None
    assert not store.busy("project")
    assert not os.path.exists(store.directory), "asking makes nothing"


def test_what_was_begun_is_read_back_whole(store: OperationStore) -> None:
    begun = store.begin(a_plan(facts={"ü": [1]}, reverts="other-1"))
    found = store.get(begun.id)
    assert found.plan == begun.plan
    assert found.history().state == "planned"
    assert [operation.id for operation in store.all()] == [begun.id]


def test_it_is_closed_to_others(store: OperationStore) -> None:
    directory = Path(store.begin(a_plan()).directory)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert directory.parent.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


def test_each_attempt_has_its_number(store: OperationStore) -> None:
    assert store.next_id(GOAL).endswith("-1")
    first = store.begin(a_plan())
    assert first.id.endswith("-1")
    assert store.next_id(GOAL) == first.id[:-1] + "2"
    assert store.begin(a_plan()).id == first.id[:-1] + "2"


def test_one_is_open_until_it_ends(store: OperationStore) -> None:
    operation = store.begin(a_plan())
    other = store.begin(a_plan(goal=replace(GOAL, project="other")))
    for state, is_open in [(RUNNING, True), (DONE, False), (ROLLED_BACK, False), (COMMITTED, False)]:
        operation.journal.state(state)
        found = store.open_for("project")
        assert (found.id if found else None) == (operation.id if is_open else None)
    found = store.open_for("other")
    assert found is not None
    assert found.id == other.id


def test_one_whose_roll_back_was_broken_off_is_open(store: OperationStore) -> None:
    operation = store.begin(a_plan())
    operation.journal.state(DONE)
    operation.journal.undoing("asked for")
    found = store.open_for("project")
    assert found is not None
    assert (found.id, found.is_open, found.history().state) == (operation.id, True, DONE)
    operation.journal.state(ROLLED_BACK)
    assert store.open_for("project") is None


def test_one_whose_roll_back_was_refused_is_as_done_as_before(store: OperationStore) -> None:
    operation = store.begin(a_plan())
    operation.journal.state(DONE)
    operation.journal.undoing("asked for")
    operation.journal.undo_refused("something was written since")
    assert store.open_for("project") is None
    found = store.newest_done("project")
    assert found is not None
    assert found.id == operation.id


def test_the_newest_that_is_done_is_on_top(store: OperationStore) -> None:
    first, second = store.begin(a_plan()), store.begin(a_plan())
    back = store.begin(a_plan(goal=Goal("operation", "project", {}), reverts=first.id))
    for operation in (second, first, back):
        operation.journal.state(DONE)
    found = store.newest_done("project")
    assert found is not None
    assert found.id == first.id, "done last, and no way back of another"
    first.journal.state(ROLLED_BACK)
    found = store.newest_done("project")
    assert found is not None
    assert found.id == second.id


@pytest.mark.parametrize("wrong", ["../etc", "", "a/b", ".hidden", "a b"])
def test_an_id_is_no_path(store: OperationStore, wrong: str) -> None:
    with pytest.raises(InvalidInput, match="not the id"):
        store.get(wrong)


def test_an_unknown_id_is_answered_with_the_known_ones(store: OperationStore) -> None:
    known = store.begin(a_plan())
    with pytest.raises(InvalidInput, match=known.id):
        store.get("project-module-00000000-9")


def test_one_that_a_newer_version_wrote_is_refused(store: OperationStore) -> None:
    operation = store.begin(a_plan())
    path = Path(operation.directory, "plan.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(StatefulError, match="newer version"):
        store.open_for("project")


def test_one_that_was_killed_while_it_began_was_never_there(
    store: OperationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(source: str, target: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stores.os, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            store.begin(a_plan())
    assert store.all() == []
    assert store.begin(a_plan()).id.endswith("-1")
    assert [operation.id for operation in store.all()] == [store.get(store.all()[0].id).id]


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = OperationStore(str(tmp_path / "file" / "operations"))
    with pytest.raises(StatefulError, match="cannot be written") as caught, store.locked("project", wait=False):
        pass
    assert "operations_dir" in caught.value.next_command


@pytest.mark.parametrize(
    "uid, state, expected",
    [
        (0, "", stores.SYSTEM_DIRECTORY),
        (1000, "", "/home/me/.local/state/selfhost-stateful/operations"),
        (1000, "/state", "/state/selfhost-stateful/operations"),
    ],
)
def test_where_they_live_unless_told(monkeypatch: pytest.MonkeyPatch, uid: int, state: str, expected: str) -> None:
    monkeypatch.setattr(stores.os, "geteuid", lambda: uid)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_STATE_HOME", state)
    assert stores.default_directory() == expected


# -- locks ---------------------------------------------------------------------

HOLDER = """
import sys, time
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
with OperationStore(sys.argv[1]).locked("project", wait=False) as taken:
    print(taken, flush=True)
    if len(sys.argv) > 2:
        import os
        if os.fork() == 0:
            os.setsid()
            sys.stdin.read()
            os._exit(0)
        os._exit(0)
    sys.stdin.read()
"""


@contextmanager
def holder(store: OperationStore, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run another process that takes the lock and holds it until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, store.directory, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until_free(store: OperationStore) -> bool:
    deadline = time.monotonic() + 30
    while store.busy("project") and time.monotonic() < deadline:
        time.sleep(0.01)
    return not store.busy("project")


def test_a_lock_keeps_another_process_out(store: OperationStore) -> None:
    with holder(store) as process:
        assert store.busy("project")
        assert not store.busy("other")
        with store.locked("project", wait=False) as taken:
            assert not taken
        with store.locked("other", wait=False) as taken:
            assert taken
        process.communicate("")
    with store.locked("project", wait=False) as taken:
        assert taken


def test_a_lock_ends_with_a_process_that_is_killed(store: OperationStore) -> None:
    with holder(store) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with store.locked("project", wait=False) as taken:
            assert taken
    assert os.listdir(store.directory) == [".project.lock"], "the file stays, and means nothing"


def test_a_detached_child_keeps_the_lock_of_its_dead_parent(store: OperationStore) -> None:
    with holder(store, "detach") as process:
        process.wait()
        assert store.busy("project")
        with store.locked("project", wait=False) as taken:
            assert not taken
        assert process.stdin is not None
        process.stdin.close()
        assert until_free(store)
        process.stdin = None


def test_waiting_ends_when_the_other_does(store: OperationStore) -> None:
    with holder(store) as process:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        store.wait_until_free("project", poll=0.01)
        assert not store.busy("project")


def test_a_lock_is_let_go_after_a_failure(store: OperationStore) -> None:
    with pytest.raises(ZeroDivisionError), store.locked("project", wait=False):
        raise ZeroDivisionError
    assert not store.busy("project")
