# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of a store lies apart from what moves, and would be lost with the container or stay behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import EngineMount
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.store import linked_tablespaces
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    ANONYMOUS,
    BIND,
    FILES,
    LAYER,
    NAMED,
    Move,
    StoreFacts,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.outlying import outlying, with_parts
from tests.support import fake_store
from tests.support.fake_store import KIND
from tests.unit.storage.findings import a_move
from tests.unit.storage.projects import Small, bind, small

TEXT = "services:\n  db:\n    image: store:1\n"


def a_part(target: str, kind: str = ANONYMOUS) -> Move:
    return a_move(service="db", target=target, kind=kind, store=FILES, facts=None)


def whole(outside: Mapping[str, str], **changes: Any) -> Move:
    facts = StoreFacts(KIND, "1", "/data", outside=outside)
    return a_move(**{"service": "db", "target": "/data", "store": KIND, "facts": facts, **changes})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    made = small(tmp_path, TEXT)
    monkeypatch.setattr(made.store, "recognises", lambda engine, container, path_of: "/data", raising=False)
    return made


def named(place: Path, target: str) -> EngineMount:
    return EngineMount("volume", str(place), target, True, name="a-name", driver="local")


@pytest.mark.parametrize("kind", [LAYER, ANONYMOUS, NAMED, BIND])
@pytest.mark.parametrize("asked_for", [False, True])
def test_a_tablespace_is_told_with_the_place_that_it_is_in(project: Small, kind: str, asked_for: bool) -> None:
    mounts = {
        LAYER: [],
        ANONYMOUS: [EngineMount("volume", str(project.root / "v"), "/fast", True, name="b" * 64, driver="local")],
        NAMED: [named(project.root / "v", "/fast")],
        BIND: [bind(project.root / "v", "/fast")],
    }[kind]
    if kind == ANONYMOUS:
        project.engine.create_volume("b" * 64, labels={})
    project.add("db", mounts=mounts)
    moves = [whole({"/fast": "the tablespace fast"}), *([a_part("/fast", kind)] if asked_for else [])]
    told = [(found.what, found.path, found.kind) for found in outlying(project.world, project.project, moves)]
    assert told == ([] if asked_for else [("the tablespace fast", "/fast", kind)])


def test_what_lies_in_the_data_s_own_mount_moves_with_it(project: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project.store, "recognises", lambda engine, container, path_of: "/srv/data")
    project.add("db", mounts=[named(project.root / "v", "/srv")])
    moves = [whole({"/srv/fast": "the tablespace fast"}, target="/srv", subpath="data")]
    assert outlying(project.world, project.project, moves) == ()


def test_a_layer_whose_part_moves_keeps_the_rest(project: Small) -> None:
    project.add("db")
    moves = [whole({"/srv/fast": "fast", "/srv/slow": "slow"}), a_part("/srv/fast", LAYER)]
    assert [found.what for found in outlying(project.world, project.project, moves)] == ["slow"]


def test_the_store_s_own_data_must_not_be_lost_over_another_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The declared volume is asked for, and the data lies elsewhere, in the layer that goes with the container."""
    project = small(tmp_path, TEXT)
    monkeypatch.setattr(project.store, "recognises", lambda engine, container, path_of: "/srv/cluster", raising=False)
    container = project.add("db")
    fake_store.initialise(project.engine.host_path(container, "/srv/cluster"))
    (found,) = outlying(project.world, project.project, [a_part("/data")])
    assert (found.path, found.kind) == ("/srv/cluster", LAYER)


def test_a_part_of_a_running_store_is_in_the_store_s_backup() -> None:
    parts = {"/fast": "the tablespace fast"}
    store, part, other = with_parts([whole(parts), a_part("/fast"), a_part("/uploads")])
    assert [store.backed_up_with, part.backed_up_with, other.backed_up_with] == ["", "/data", ""]
    stopped = with_parts([whole(parts, running=False), a_part("/fast")])
    assert [move.backed_up_with for move in stopped] == ["", ""], "it is copied as plain files, each path by itself"
    elsewhere = with_parts([whole(parts), replace(a_part("/fast"), data=replace(a_part("/fast").data, service="db2"))])
    assert elsewhere[1].backed_up_with == ""


def test_links_of_a_stopped_cluster(tmp_path: Path) -> None:
    (tmp_path / "pg_tblspc").mkdir()
    (tmp_path / "pg_tblspc" / "16401").symlink_to("/srv/fast")
    (tmp_path / "pg_tblspc" / "16402").symlink_to("/var/lib/postgresql/data/inside")
    (tmp_path / "pg_tblspc" / "16403").mkdir()
    assert linked_tablespaces(str(tmp_path), "/var/lib/postgresql/data") == {"16401": "/srv/fast"}
