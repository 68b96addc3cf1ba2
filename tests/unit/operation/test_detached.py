# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Work that a lost connection cannot stop: the child goes on when its parent, its terminal and its pipe are gone."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.detached import run_detached
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from tests.unit.operation.fakes import HANDLERS, a_plan, begun


@pytest.fixture
def detached(tmp_path: Path) -> Callable[[Callable[[], dict[str, Any]]], dict[str, Any]]:
    return lambda work: run_detached(
        work, result_path=str(tmp_path / "result.json"), log_path=str(tmp_path / "worker.log")
    )


def real_streams() -> None:
    """Have Python's streams write to the descriptors, as they do in a module: pytest has put others in their place."""
    sys.stdout = open(1, "w", closefd=False, encoding="utf-8")  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, encoding="utf-8")  # noqa: SIM115


Detached = Callable[[Callable[[], dict[str, Any]]], dict[str, Any]]


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 30
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"{path.name} never came"
        time.sleep(0.01)
    return path.read_text()


def test_it_returns_what_the_work_returned(detached: Detached, tmp_path: Path) -> None:
    assert detached(lambda: {"ü": [1, None]}) == {"ü": [1, None]}
    assert json.loads((tmp_path / "result.json").read_text())["kind"] == "ok"
    assert (tmp_path / "result.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "worker.log").stat().st_mode & 0o777 == 0o600


def test_the_work_is_done_in_a_session_of_its_own_that_no_hangup_ends(detached: Detached) -> None:
    found = detached(
        lambda: {
            "pid": os.getpid(),
            "session": os.getsid(0),
            "hangup": signal.getsignal(signal.SIGHUP) is signal.SIG_IGN,
        }
    )
    assert found["pid"] != os.getpid()
    assert found["session"] == found["pid"] != os.getsid(0)
    assert found["hangup"]


def test_what_it_prints_goes_to_the_log_and_never_to_the_modules_output(
    detached: Detached, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def work() -> dict[str, Any]:
        real_streams()
        print("on stdout", flush=True)
        print("on stderr", file=sys.stderr, flush=True)
        return {"stdin": sys.stdin is None or os.read(0, 10).decode()}

    assert detached(work) == {"stdin": ""}
    assert set((tmp_path / "worker.log").read_text().split("\n")) >= {"on stdout", "on stderr"}
    assert capfd.readouterr() == ("", "")


def test_an_error_arrives_with_all_that_it_says(detached: Detached) -> None:
    def work() -> dict[str, Any]:
        raise InvalidInput(
            "It broke.", state="half", copies=[{"path": "/b"}], safe_to_rerun=False, next_command="mend it",
            failed_step="move", rolled_back=True,
        )  # fmt: skip

    with pytest.raises(StatefulError) as caught:
        detached(work)
    assert caught.value.as_result() == {
        "msg": "It broke.", "state": "half", "copies": [{"path": "/b"}], "safe_to_rerun": False,
        "next_command": "mend it", "failed_step": "move", "rolled_back": True,
    }  # fmt: skip


def test_a_bug_is_logged_with_its_traceback_and_said(detached: Detached, tmp_path: Path) -> None:
    def work() -> dict[str, Any]:
        real_streams()
        raise ZeroDivisionError("a bug")

    with pytest.raises(StatefulError, match=r"ended unexpectedly \(exit 1\)") as caught:
        detached(work)
    assert "ZeroDivisionError: a bug" in (tmp_path / "worker.log").read_text()
    assert str(tmp_path / "worker.log") in caught.value.msg
    assert "resumes" in caught.value.next_command


def test_a_worker_that_is_killed_is_said_by_name(detached: Detached) -> None:
    def work() -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    with pytest.raises(StatefulError, match=r"ended unexpectedly \(SIGKILL\)"):
        detached(work)


def test_an_old_result_is_never_taken_for_a_new_one(detached: Detached) -> None:
    assert detached(lambda: {"first": True}) == {"first": True}

    def work() -> dict[str, Any]:
        os._exit(0)

    with pytest.raises(StatefulError, match="ended unexpectedly"):
        detached(work)


def test_what_is_to_be_cleaned_up_belongs_to_the_parent(detached: Detached, tmp_path: Path) -> None:
    cleaned = []

    def work() -> dict[str, Any]:
        return {"child": os.getpid()}

    try:
        detached(work)
    finally:
        cleaned.append(os.getpid())
    assert cleaned == [os.getpid()]


@pytest.mark.parametrize("how", ["SIGKILL to the parent", "SIGHUP to the group"])
def test_it_goes_on_alone_and_keeps_the_lock(tmp_path: Path, how: str) -> None:
    """The way of a lost connection: everything of the session dies, and the operation is made to its end."""
    operation, world = begun(tmp_path)
    store = OperationStore(str(tmp_path / "operations"))
    started, go = tmp_path / "started", tmp_path / "go"

    def work() -> dict[str, Any]:
        started.write_text(str(os.getpid()))
        wait_for(go)
        return {"state": execute.run(operation, HANDLERS, world).state}

    parent = os.fork()
    if parent == 0:
        os.setpgid(0, 0)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and that is inherited
        with store.locked("project", wait=False):
            try:
                run_detached(work, result_path=operation.result_path, log_path=operation.worker_log)
            finally:
                os._exit(0)
    worker = int(wait_for(started))
    if how.startswith("SIGKILL"):
        os.kill(parent, signal.SIGKILL)
    else:
        os.killpg(parent, signal.SIGHUP)
    _pid, status = os.waitpid(parent, 0)
    assert os.WIFSIGNALED(status)
    os.kill(worker, signal.SIGHUP)
    assert store.busy("project"), "the next run waits for it"
    assert not Path(operation.result_path).exists()
    go.write_text("go")
    store.wait_until_free("project", poll=0.01)
    assert json.loads(Path(operation.result_path).read_text()) == {"kind": "ok", "result": {"state": "done"}}
    assert store.get(operation.id).history().state == "done"
    assert store.open_for("project") is None


def test_no_plan_is_begun_by_looking(tmp_path: Path) -> None:
    store = OperationStore(str(tmp_path / "operations"))
    store.next_id(a_plan().goal)
    assert not (tmp_path / "operations").exists()
