# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a hook or a migration may take of the downtime."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.hooks import RunHooks, check_hooks
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.limits import limit_of, within
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations import perform
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.server import Server

from .fakes import FakeEngine, a_container


class Backend:
    """A session whose work ends when another one has terminated it; connecting fails at first."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.connects = 0

    def scalar(self, _query: str) -> int:
        return 42

    def rows(self, query: str, values: tuple[int, ...]) -> list[Any]:
        assert "pg_terminate_backend" in query
        assert values == (42,)
        self.ended.set()
        return []

    @contextmanager
    def connect(self) -> Iterator[Backend]:
        self.connects += 1
        if self.connects == 1:
            raise StatefulError("too many clients")
        yield self

    def work(self, seconds: float) -> None:
        if self.ended.wait(seconds):
            raise StatefulError("terminating connection due to administrator command")


def server_of(backend: Backend, **more: Any) -> Server:
    return Server(FakeEngine(), a_container(), "db", backend.connect, **more)  # type: ignore[arg-type]


def test_what_takes_longer_is_ended_and_said() -> None:
    backend = Backend()
    with pytest.raises(StatefulError) as told, within(server_of(backend), backend, 0.1, "a.sql"):  # type: ignore[arg-type]
        backend.work(20)
    assert told.value.msg.startswith("a.sql took longer than 0.1 s (timeout), and was ended. terminating")
    assert backend.connects == 2


@pytest.mark.parametrize("seconds", [0, 30])
def test_what_ends_in_time_is_let_be(seconds: float) -> None:
    backend = Backend()
    with within(server_of(backend), backend, seconds, "a.sql"):  # type: ignore[arg-type]
        backend.work(0.01)
    assert backend.connects == 0


def test_every_hook_has_an_hour_unless_it_says_otherwise() -> None:
    assert [limit_of(given) for given in ({}, {"timeout": None}, {"timeout": 5}, {"timeout": 0})] == [3600, 3600, 5, 0]
    with pytest.raises(InvalidInput, match=r"timeout of 01-a\.sql"):
        check_hooks([], migrations=[{"name": "01-a.sql", "timeout": -1}])


def test_a_script_is_given_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []

    def executed(server: Server, _name: str, _content: str) -> str:
        limits.append(server.limit)
        return ""

    monkeypatch.setattr(perform, "execute", executed)
    args = {"from": "15", "to": "17"}
    RunHooks._run(server_of(Backend(), limit=7.0), "a.sh", "true", args)
    assert limits == [7.0]
