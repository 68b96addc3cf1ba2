# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a module does where a library is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ansible_collections.selfhost.stateful.plugins.module_utils import _host

ROLE = Path(__file__).resolve().parents[2] / "roles/host_requirements"


class Respawned(Exception):
    """Stands for the end of this process: the module runs elsewhere."""


@pytest.fixture(name="lacking")
def what_this_interpreter_lacks(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the names that are not found; empty at first. There is no virtual environment."""
    absent: set[str] = set()

    def respawn(python: str) -> None:
        raise Respawned(python)

    monkeypatch.setattr(_host.importlib.util, "find_spec", lambda name: None if name in absent else object())
    monkeypatch.setattr(_host, "other_interpreter", lambda: "")
    monkeypatch.setattr(_host, "respawn", respawn)
    return absent


def test_what_can_be_done_without_is_no_refusal(lacking: set[str]) -> None:
    lacking.add("psycopg")
    _host.require("docker", "yaml", optional=("psycopg",))


def test_what_is_needed_is_named_with_all_that_would_be_installed(lacking: set[str]) -> None:
    lacking |= {"psycopg", "docker"}
    with pytest.raises(_host.LibraryMissing) as caught:
        _host.require("docker", "yaml", optional=("psycopg",))
    assert caught.value.missing == ["docker", "psycopg"]
    assert "host_requirements installs them (docker >= 5.0.3, psycopg[binary] >= 3.1.7)" in caught.value.msg


@pytest.mark.parametrize("name", ["docker", "psycopg"])
def test_an_environment_that_has_everything_is_better(
    name: str, lacking: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking.add(name)
    monkeypatch.setattr(_host, "other_interpreter", lambda: "/opt/venv/bin/python3")
    with pytest.raises(Respawned, match="/opt/venv/bin/python3"):
        _host.require("docker", optional=("psycopg",))


def test_the_role_installs_what_is_told() -> None:
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))
    assert sorted(_host.PACKAGES.values()) == sorted(defaults["host_requirements_pip_packages"])
