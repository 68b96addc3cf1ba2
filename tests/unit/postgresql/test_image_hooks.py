# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a full backup is due, and where hooks and migrations are in the plan: tables."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import SWITCH, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import hooks as running
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.hooks import fresh, what_stays
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.plan_hooks import (
    Hooks,
    before_the_proof,
    before_the_stop,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Location, Transfer
from tests.unit.postgresql.fakes import a_container

HOOK = {"name": "a.sh", "content": "true"}
MIGRATION = {"name": "01-a.sql", "content": "SELECT 1"}
TRANSFER = Transfer(
    service="db", target="/var/lib/postgresql/data", origin=Location("bind", "/d"), goal=Location("bind", "/d"),
    strategy="swap", store="postgresql", facts={}, staging="", retained="", image_id="", containers=(), running=True,
    subpath="", inode=0, device=0, size_bytes=0,
)  # fmt: skip


def kinds(hooks: Hooks, versions: tuple[str, str], layout: bool = False) -> list[str]:
    steps = before_the_stop(hooks, TRANSFER, versions, layout_changes=layout, backup_dir="/b/op")
    return [step.kind for step in [*steps, *before_the_proof(hooks, TRANSFER, versions, in_place=True)]]


@pytest.mark.parametrize(
    "hooks, versions, layout, expected",
    [
        (Hooks(), ("15.1", "17.2"), True, []),
        (Hooks(pre=(HOOK,)), ("15.1", "15.2"), False, ["image_hooks"]),
        (Hooks(pre=(HOOK,)), ("15.1", "17.2"), False, ["full_backup", "image_hooks"]),
        (Hooks(pre=(HOOK,)), ("15.1", "15.2"), True, ["full_backup", "image_hooks"]),
        (Hooks(pre=(HOOK,)), ("9.5.1", "9.6.2"), False, ["full_backup", "image_hooks"]),
        (Hooks(pre=(HOOK,), full_backup="never"), ("15.1", "17.2"), True, ["image_hooks"]),
        (Hooks(full_backup="always"), ("15.1", "15.2"), False, ["full_backup"]),
        (Hooks(post=(HOOK,), migrations=(MIGRATION,)), ("15.1", "15.2"), False, ["image_hooks", "image_migrations"]),
    ],
)
def test_what_is_planned(hooks: Hooks, versions: tuple[str, str], layout: bool, expected: list[str]) -> None:
    assert kinds(hooks, versions, layout) == expected


def test_a_hook_knows_both_versions_and_the_decision() -> None:
    hooks = Hooks(pre=(HOOK,), post=(HOOK,))
    (backup, pre) = before_the_stop(hooks, TRANSFER, ("15.1", "17.2"), layout_changes=False, backup_dir="/b/op")
    (post,) = before_the_proof(hooks, TRANSFER, ("15.1", "17.2"), in_place=True)
    told: list[dict[str, Any]] = [dict(step.args) for step in (pre, post)]
    assert [(each["from"], each["to"], each["full_backup"]) for each in told] == [
        ("15.1", "17.2", True),
        ("15.1", "17.2", False),
    ]
    assert backup.args["path"] == "/b/op-full"
    assert len({backup.name, pre.name, post.name}) == 3


def test_what_a_hook_is_told_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "the_container", lambda *_given: a_container())
    monkeypatch.setattr(running, "postgresql_store", lambda _world: None)
    context: Any = SimpleNamespace(world=SimpleNamespace(engine=None))
    told = {"TO_VERSION": "16.4", "FULL_BACKUP": "true"}
    server = running.server_of(Step("image_hooks", "post", SWITCH, {"transfer": TRANSFER.as_dict()}), context, told)
    assert server.variables == told
    assert server.masked("16.4 is true") == "16.4 is true"


@pytest.mark.parametrize("in_place", [True, False])
def test_what_an_undo_leaves_in_the_data_is_told(in_place: bool) -> None:
    hooks, versions = Hooks(pre=(HOOK,), post=(HOOK,), migrations=(MIGRATION,), full_backup="never"), ("15.1", "15.2")
    (pre,) = before_the_stop(hooks, TRANSFER, versions, layout_changes=False, backup_dir="/b/op")
    post, migrations = before_the_proof(hooks, TRANSFER, versions, in_place=in_place)
    assert what_stays(pre, "hook", pre.args["hooks"]) == {"stays": ["hook a.sh"]}
    assert what_stays(post, "hook", post.args["hooks"]) == ({"stays": ["hook a.sh"]} if in_place else {})
    left = what_stays(migrations, "migration", migrations.args["migrations"])
    assert left == ({"stays": ["migration 01-a.sql"]} if in_place else {})


def test_a_backup_that_is_taken_anew_takes_a_place_of_its_own(tmp_path: Path) -> None:
    wanted = tmp_path / "op-full"
    assert fresh(str(wanted)) == str(wanted)
    wanted.mkdir()
    assert fresh(str(wanted)) == f"{wanted}-2"
    Path(f"{wanted}-2").mkdir()
    assert fresh(str(wanted)) == f"{wanted}-3"
