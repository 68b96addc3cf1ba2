# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every variable of a role is documented with the default that it has, and reaches what it is for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))
EVERY_ROLE = pytest.mark.parametrize("role", ROLES, ids=lambda role: str(role.name))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def entry_points(role: Path) -> dict[str, Any]:
    specs: dict[str, Any] = load(role / "meta/argument_specs.yml")["argument_specs"]
    return specs


def sources(role: Path) -> str:
    places = ("tasks", "templates", "vars")
    return "\n".join(path.read_text(encoding="utf-8") for place in places for path in (role / place).glob("*"))


@EVERY_ROLE
def test_documented_and_set_are_the_same(role: Path) -> None:
    defaults = load(role / "defaults/main.yml")
    for entry in entry_points(role).values():
        assert {name: option["default"] for name, option in entry["options"].items()} == defaults


@EVERY_ROLE
def test_names_begin_with_the_role(role: Path) -> None:
    assert [name for name in load(role / "defaults/main.yml") if not name.startswith(f"{role.name}_")] == []


@EVERY_ROLE
def test_every_variable_is_used(role: Path) -> None:
    text = sources(role)
    assert [name for name in load(role / "defaults/main.yml") if not re.search(rf"\b{name}\b", text)] == []


@EVERY_ROLE
def test_an_entry_point_has_its_tasks(role: Path) -> None:
    assert [name for name in entry_points(role) if not (role / f"tasks/{name}.yml").exists()] == []


@EVERY_ROLE
def test_the_readme_names_every_variable(role: Path) -> None:
    text = (role / "README.md").read_text(encoding="utf-8")
    assert [name for name in load(role / "defaults/main.yml") if f"`{name}`" not in text] == []


def test_mastodon_storage_hands_on_every_option_of_compose_storage() -> None:
    """Two roles that share an option share its type and its choices, and the one passes it to the other."""
    outer = entry_points(ROOT / "roles/mastodon_storage")["main"]["options"]
    inner = entry_points(ROOT / "roles/compose_storage")["main"]["options"]
    handed = (ROOT / "roles/mastodon_storage/tasks/main.yml").read_text(encoding="utf-8")
    not_for_mastodon = re.compile("compose_storage_rehearse_")
    for name, option in inner.items():
        if not_for_mastodon.match(name):
            continue
        assert f"{name}:" in handed
        twin = outer.get(name.replace("compose_storage_", "mastodon_storage_", 1))
        if twin is not None:
            assert (twin["type"], twin.get("choices")) == (option["type"], option.get("choices")), name


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: str(path.name))
def test_the_hosts_of_a_playbook_can_be_named(path: Path) -> None:
    plays = load(path)
    assert [play["hosts"] for play in plays] == ["{{ target_hosts | default('all') }}"] * len(plays)
