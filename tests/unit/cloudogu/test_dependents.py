# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Dependents that do not start, and what a failed upgrade says: no engine is needed."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu import ces, ending
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.ces import Host
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.dependents import (
    start_dependents,
    stop_dependents,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import RestartPolicy
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation


@dataclass
class Engines:
    """An engine that refuses to start some containers, and has lost others."""

    refuses: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    calls: list[tuple[str, str]] = field(default_factory=list)
    running: bool = False

    def container(self, name: str) -> Any:
        if name in self.lost:
            return None
        return SimpleNamespace(id=name, name=name, running=self.running, stop_signal="")

    def stop(self, name: str, *, signal: str, timeout: float, kill: bool) -> None:
        assert timeout > 0
        self.calls.append((f"{signal} {'and kill' if kill else 'only'}", name))

    def execute(self, name: str, argv: tuple[str, ...]) -> Any:
        raise StatefulError("it is restarting")

    def set_restart_policy(self, name: str, policy: RestartPolicy) -> None:
        self.calls.append((policy.name, name))

    def start(self, name: str) -> None:
        if name in self.refuses:
            raise StatefulError("no such mount")
        self.calls.append(("start", name))


def test_one_that_does_not_start_holds_no_other_up() -> None:
    engine = Engines(refuses=("a",), lost=("b",))
    wanted = [{"name": name, "policy": "always", "retries": 0} for name in ("a", "b", "c")]
    with pytest.raises(StatefulError, match=r"a: no such mount") as raised:
        start_dependents(Host(cast(Engine, engine), "postgresql", ("cesapp",)), wanted)
    assert "b:" not in raised.value.msg
    assert engine.calls == [("always", "a"), ("always", "c"), ("start", "c")]
    assert "c:" not in raised.value.msg


def test_one_that_takes_no_signal_is_stopped_all_the_same() -> None:
    engine = Engines(running=True, lost=("b",))
    wanted = [{"name": name, "policy": "always", "retries": 0} for name in ("a", "b")]
    stop_dependents(Host(cast(Engine, engine), "postgresql", ("cesapp",)), wanted)
    assert engine.calls == [("no", "a"), ("SIGTERM and kill", "a")]


def test_who_is_not_there_any_more_is_said_and_nothing_else() -> None:
    engine = Engines(lost=("b",))
    wanted = [{"name": name, "policy": "always", "retries": 0} for name in ("a", "b")]
    assert start_dependents(Host(cast(Engine, engine), "postgresql", ("cesapp",)), wanted) == ["b"]


@pytest.mark.parametrize(
    "line, expected",
    [
        ("/usr/bin/cesapp upgrade dogu postgresql 17.6-1", True),
        ("cesapp upgrade postgresql", True),
        ("sudo cesapp upgrade dogu official/postgresql", True),
        ("cesapp upgrade dogu official/postgresql:17.6-1", True),
        ("cesapp upgrade dogu scm", False),
        ("cesapp upgrade dogu postgresql-tools", False),
        ("cesapp recreate postgresql", False),
        ("apt-get upgrade postgresql", False),
        ("vi cesapp-upgrade-postgresql", False),
    ],
)
def test_who_is_at_work(line: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ces.postmaster, "command_lines", lambda: [("init",), tuple(line.split())])
    assert Host(cast(Engine, Engines()), "postgresql", ("cesapp",)).at_work() is expected


def test_a_container_that_nobody_can_ask_does_not_wait() -> None:
    assert Host(cast(Engine, Engines()), "postgresql", ("cesapp",)).waits() is False


@pytest.mark.parametrize("left, removed", [(["postgres"], False), (["postgres", "scm_1"], True)])
def test_the_original_of_a_dogu_that_was_made_anew_stays(
    left: list[str], removed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = SimpleNamespace(evidence={"prove": {"databases": ["postgres", "scm_1", "redmine_2"]}})
    operation = cast(Operation, SimpleNamespace(id="op-1", history=lambda: history))
    there = SimpleNamespace(rows=lambda query: [(name,) for name in left])
    monkeypatch.setattr(Host, "session", lambda self: nullcontext(there))
    host = Host(cast(Engine, Engines()), "postgresql", ("cesapp",))
    with nullcontext() if removed else pytest.raises(StatefulError, match="none of the databases"):
        ending._refuse_emptied(host, operation)


def test_what_cesapp_said_holds_no_statement(tmp_path: Path) -> None:
    statement = "STATEMENT:  ALTER ROLE scm PASSWORD 'hidden'" + " " * ces.KEPT
    (tmp_path / "cesapp.log").write_text(f"begun\nERROR:  no such role\n{statement}\nended\n")
    said = ces.said(str(tmp_path))
    assert said == "begun\nERROR:  no such role\nended"


def test_a_version_that_does_not_answer_is_given_up_on_request_alone() -> None:
    history = SimpleNamespace(evidence={"prove": {"system_identifier": "42", "next_xid": 7}})
    operation = cast(Operation, SimpleNamespace(id="op-1", history=lambda: history))
    host = Host(cast(Engine, Engines(lost=("postgresql",))), "postgresql", ("cesapp",))
    with pytest.raises(InvalidInput, match="not known what it has taken since") as raised:
        ending._refuse_loss(host, operation)
    assert raised.value.next_command.endswith("operation_discard_writes=true")
