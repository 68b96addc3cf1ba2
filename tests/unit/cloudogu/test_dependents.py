# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Dependents that do not start, and what a failed upgrade says: no engine is needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu import ces, ending
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.ces import Host
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.steps import start_dependents
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

    def container(self, name: str) -> Any:
        return None if name in self.lost else SimpleNamespace(id=name, name=name, running=False)

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
    assert "b: it has no container" in raised.value.msg
    assert engine.calls == [("always", "a"), ("always", "c"), ("start", "c")]
    assert "c:" not in raised.value.msg


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
