# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host says of itself is read as far as it says it, and nothing that is lost goes unseen."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import host
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.counting import Counts, lost
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.model import Counted, Kind
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.release import move
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.reload import LOADED, check
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.said import identity_of, version_said
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from tests.unit.postgresql.fakes import a_container


@pytest.mark.parametrize(
    "told,version",
    [
        ({"/domain": {"content": {"meta": {"version": "v1.3.0"}}}, "/profile": {"version": "v0.1.0"}}, "v1.3.0"),
        ({"/domain": {"meta": {"version": "v1.0.0"}}}, "v1.0.0"),
        ({"/domain": {"content": {"meta": {}}}, "/profile": {"version": "v0.2.5"}}, "v0.2.5"),
        ({"/profile": {"version": "v0.2.5"}}, "v0.2.5"),
        ({"/profile": {"version": None}}, ""),
        ({"/domain": {"content": {"meta": {"version": 3}}}}, "3"),
        ({"/domain": {"content": {"meta": {"version": ""}}}}, ""),
        ({"/profile": {}}, ""),
        ({"/domain": None, "/profile": ["version"]}, ""),
        ({"/domain": {"content": "meta", "meta": None}, "/profile": "version"}, ""),
        ({}, ""),
    ],
)
def test_the_version_is_where_each_age_has_it(told: dict[str, Any], version: str) -> None:
    assert version_said(told) == version


@pytest.mark.parametrize(
    "told,names",
    [
        ({"/domain": {"fqdn": "a.example", "ccid": "CC1", "pubkey": "0"}}, {"fqdn": "a.example", "ccid": "CC1"}),
        ({"/domain": {"status": "ok", "content": {"fqdn": "a.example", "ccid": ""}}}, {"fqdn": "a.example"}),
        ({"/domain": ["x"]}, {}),
        ({}, {}),
    ],
)
def test_what_a_host_is_called_is_where_each_age_has_it(told: dict[str, Any], names: dict[str, str]) -> None:
    assert identity_of(told) == names


@pytest.mark.parametrize("called,fails", [("a.example", False), ("", False), ("localhost", True)])
def test_a_version_that_calls_the_host_otherwise_is_not_let_in(
    monkeypatch: pytest.MonkeyPatch, called: str, fails: bool
) -> None:
    told = {"/domain": {"content": {"fqdn": called, "meta": {"version": "v1.0.0"}}}}
    monkeypatch.setattr(host, "says", lambda _container: told)
    monkeypatch.setattr(host.Host, "wait_healthy", lambda _self: None)
    monkeypatch.setattr(host.Host, "container", lambda _self, _name: a_container())
    monkeypatch.setattr(host.Host, "compose", SimpleNamespace(up=lambda *_any, **_more: None))
    one = host.Host(None, "", names={"fqdn": "a.example"})  # type: ignore[arg-type]
    if not fails:
        one.start_api("v1.0.0")
        return
    with pytest.raises(StatefulError, match=r"fqdn localhost and not a\.example"):
        one.start_api("v1.0.0")


def test_a_sidecar_that_did_not_run_before_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    sick = a_container(status="restarting", pid=0, labels={"com.docker.compose.service": "sidecar"})
    monkeypatch.setattr(host.Host, "running", lambda _self: [a_container(), sick])
    monkeypatch.setattr(host, "POLL", 0.0)
    world: Any = SimpleNamespace(ready_timeout=0.0)
    host.Host(world, "", ailing=frozenset({"sidecar"}))._wait_running()
    with pytest.raises(StatefulError, match=r"sidecar \(restarting\) does not go on running"):
        host.Host(world, "")._wait_running()


def test_nothing_is_lost_where_all_is_there_and_more() -> None:
    before = Counts({"a": 3, "empty": 0}, 5)
    assert lost(before, before) == []
    assert lost(before, Counts({"a": 4, "new": 1}, 6)) == []


def test_what_is_lost_is_told_by_name_and_number() -> None:
    before = Counts({"public.a": 3, "public.b": 2, "public.c": 1}, 5)
    assert lost(before, Counts({"public.a": 2, "public.c": 9}, 4)) == [
        "public.a: 3 rows before, 2 now",
        "public.b: 2 rows before, 0 now",
        "items of streams: 5 before, 4 now",
    ]


KIND = Kind("entities", (), (), (Counted("entities", ()), Counted("messages", ())))


def test_counts_that_agree_are_no_failure() -> None:
    check(KIND, {"entities": 2, "messages": 3}, {"entities": 2, "messages": 3}, LOADED)
    check(KIND, {"entities": 2, "messages": 3}, {"entities": 2}, LOADED)


def test_counts_that_only_agree_in_sum_are_one() -> None:
    with pytest.raises(StatefulError) as caught:
        check(KIND, {"entities": 2, "messages": 3}, {"entities": 3, "messages": 2}, LOADED)
    assert caught.value.msg == (
        "entities: 2 entities are there, and 3 were dumped; 3 messages are there, and 2 were dumped (in sum 5 and 5)."
    )


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_a_move_may_be_made_again_and_replaces_nothing(tmp_path: Path, kind: str) -> None:
    old, new = tmp_path / "docs/data", tmp_path / "_docs/data"
    old.parent.mkdir()
    old.write_text("rows") if kind == "file" else old.mkdir()
    move(str(old), str(new))
    move(str(old), str(new))
    assert (old.exists(), new.exists()) == (False, True)

    old.write_text("other rows")
    with pytest.raises(StatefulError):
        move(str(old), str(new))
    assert old.read_text() == "other rows"
    assert new.is_dir() or new.read_text() == "rows"
