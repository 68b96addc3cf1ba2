# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What commands of migrations say: told without the values that they were given, believed only of what is whole."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import ExecResult
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations import ledger, perform
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.model import (
    DONE,
    FAILED,
    RECOGNISED,
    RUNNING,
    SQL,
    Guards,
    Marker,
    Migration,
    Row,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.server import (
    Server,
    is_done_already,
    is_marked,
    must_run,
)
from tests.unit.postgresql.fakes import FakeEngine, a_container


class Engine:
    """Has every command fail, and complain of its variables."""

    def execute(self, _container: str, argv: tuple[str, ...], *, environment: dict[str, str], user: str) -> ExecResult:
        return ExecResult(argv, 3, b"", f"as {user}: no login with {environment}".encode())


def test_a_mark_that_cannot_be_set_is_told_without_secrets() -> None:
    engine: Any = Engine()
    environment = {"TOKEN": "s3cret", "LONGER": "s3cret-and-more", "EMPTY": ""}
    server = Server(engine, a_container(), "db", connect=lambda: None, environment=environment)  # type: ignore[arg-type, return-value]
    with pytest.raises(StatefulError, match=r"The mark could not be set: doguctl ended with 3") as caught:
        must_run(server, "The mark could not be set", ("doguctl", "config"))
    assert "no login with" in caught.value.msg
    assert "s3cret" not in caught.value.msg
    assert "and-more" not in caught.value.msg


def test_what_is_no_secret_is_told_as_it_is() -> None:
    """A hook's failure names versions, and says true or false."""
    public = {"FROM_VERSION": "16.4", "FULL_BACKUP": "true"}
    environment = {"TOKEN": "s3cret"}
    engine: Any = Engine()
    server = Server(engine, a_container(), "db", connect=lambda: None, public=public, environment=environment)  # type: ignore[arg-type, return-value]
    with pytest.raises(StatefulError, match=r"'FROM_VERSION': '16\.4', 'FULL_BACKUP': 'true'") as caught:
        must_run(server, "The mark could not be set", ("doguctl", "config"))
    assert "s3cret" not in caught.value.msg


MARKED = Guards(done_when="SELECT true", marker=Marker(("cat", "/mark")))
INDEX = Migration(1, "01-index.sql", SQL, "CREATE INDEX CONCURRENTLY i ON t (a)", MARKED)


def a_row(state: str) -> Row:
    return Row(INDEX.number, INDEX.name, INDEX.sha256, state, "me", "here", "2026-01-01T00:00:00Z")


def a_server(rc: int, said: bytes = b"") -> Server:
    engine: Any = FakeEngine(lambda asked: ExecResult(asked.argv, rc, said, b""))
    return Server(engine, a_container(), "db", connect=lambda: None)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("by", ["done_when", "marker"])
@pytest.mark.parametrize("state,done", [("", True), (DONE, True), (FAILED, False), (RUNNING, False)])
def test_what_was_broken_off_is_not_taken_for_done_by_what_sees_its_first_half(
    monkeypatch: pytest.MonkeyPatch, by: str, state: str, done: bool
) -> None:
    server = a_server(0 if by == "marker" else 1, b"yes")
    session: Any = SimpleNamespace(scalar=lambda _query: by == "done_when")
    row = a_row(state) if state else None
    assert is_done_already(server, session, INDEX, row) is done

    written: list[str] = []
    monkeypatch.setattr(ledger, "read", lambda *_any: [row] if row else [])
    monkeypatch.setattr(ledger, "begun", lambda _migration, state, *_any: a_row(state))
    monkeypatch.setattr(ledger, "write", lambda _session, _series, row: written.append(row.state))
    monkeypatch.setattr(perform, "_in_one_transaction", lambda *_any: perform.Ran(DONE, 0, 0.1))
    assert perform.run(server, session, "s", INDEX, "o").state == (RECOGNISED if done else DONE)
    assert written == ([RECOGNISED] if done else [])


@pytest.mark.parametrize("rc", [126, 127])
def test_a_mark_that_cannot_be_read_is_not_one_that_is_missing(rc: int) -> None:
    assert not is_marked(a_server(1), Marker(("cat", "/mark")))
    with pytest.raises(StatefulError, match=rf"The mark cannot be read: cat ended with {rc}: no such program"):
        is_marked(a_server(rc, b"no such program"), Marker(("cat", "/mark")))
