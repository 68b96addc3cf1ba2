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
# These talk to an API, from the controller.
ON_CONTROLLER = {"upgrade_heroku_postgres.yml"}
ON_HOSTS = [path for path in PLAYBOOKS if path.name not in ON_CONTROLLER]
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
    plays, where = load(path), "all" if path in ON_HOSTS else "localhost"
    assert [play["hosts"] for play in plays] == [f"{{{{ target_hosts | default('{where}') }}}}"] * len(plays)


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: str(path.name))
def test_the_hosts_of_a_playbook_can_be_taken_in_batches(path: Path) -> None:
    plays = load(path)
    assert [play["serial"] for play in plays] == ["{{ target_serial | default('100%') }}"] * len(plays)


@pytest.mark.parametrize("path", ON_HOSTS, ids=lambda path: str(path.name))
def test_a_playbook_runs_on_a_stock_host(path: Path) -> None:
    """It begins with the libraries, which can be had alone by one tag."""
    for play in load(path):
        first = play["roles"][0]
        assert first["role"] == "selfhost.stateful.host_requirements"
        assert "requirements" in first["tags"]


def test_the_variables_of_the_playbooks_are_documented() -> None:
    used = {
        name
        for path in (ROOT / "playbooks").rglob("*.yml")
        for name in re.findall(r"\b((?:target|operation)_[a-z_]+) \| default", path.read_text(encoding="utf-8"))
    }
    table = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "playbooks/README.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert used <= table
    assert {name for name in table if name.startswith(("target_", "operation_"))} - used <= {
        path.stem for path in PLAYBOOKS
    }


def test_a_roll_back_can_be_given_what_is_not_journaled() -> None:
    """The playbook is the next command of every message that says what a roll back lacks."""
    play = (ROOT / "playbooks/operation_rollback.yml").read_text(encoding="utf-8")
    for name in ("login_password", "redis_password", "environment"):
        assert f'{name}: "{{{{ operation_{name} |' in play


@pytest.mark.parametrize(
    "text",
    [ROOT / "README.md", *(ROOT / "roles").glob("*/templates/*.j2"), *(ROOT / "roles").glob("*/tasks/*.yml")],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_variable_that_a_text_names_exists(text: Path) -> None:
    """What an admin is told to set is a variable of a role, under its full name."""
    named = set(re.findall(r"-e (\w+)=", text.read_text(encoding="utf-8")))
    known = {name for role in ROLES for name in load(role / "defaults/main.yml")}
    documented = set(re.findall(r"`(\w+)`", (ROOT / "playbooks/README.md").read_text(encoding="utf-8")))
    assert named <= known | documented


SCALARS = [
    (role, name)
    for role in ROLES
    for name, option in entry_points(role)["main"]["options"].items()
    if option["type"] in ("bool", "int", "float")
]


@pytest.mark.parametrize("role, name", SCALARS, ids=lambda value: getattr(value, "name", value))
def test_a_value_from_the_command_line_is_converted(role: Path, name: str) -> None:
    """``-e name=false`` is a string: a role converts it wherever it does not hand it on to a module or a role."""
    handed_on = re.compile(rf"^\s*\w+: \"{{{{ {name} }}}}\"$", re.MULTILINE)
    text = handed_on.sub("", sources(role))
    bare = re.findall(
        rf"\b{name}\b(?! \| (?:bool|int|float))(?![\w.])", re.sub(r"-e \w+=\S+|^ *#.*$", "", text, flags=re.MULTILINE)
    )
    assert bare == []
