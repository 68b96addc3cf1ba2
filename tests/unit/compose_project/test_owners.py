# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who else starts and stops a project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import Completed
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.owners import (
    Owners,
    runs_in_foreground,
    units_of,
    updaters_of,
)
from tests.unit.compose_project.fakes import a_container

START = "cd /srv/app && docker compose start"
UP = "[Service]\nWorkingDirectory=/srv/app\nExecStart=/usr/bin/docker compose up\n"


def look(directory: Path, *, state: str = "inactive", working_dir: str = "/srv/app") -> Owners:
    asked: list[Sequence[str]] = []

    def systemctl(argv: Sequence[str], cwd: str, env: Mapping[str, str], limit: float | None) -> Completed:
        asked.append(argv)
        return Completed(0 if state == "active" else 3, f"{state}\n", "")

    return units_of(working_dir, start=START, directories=(str(directory), str(directory / "absent")), runner=systemctl)


@pytest.mark.parametrize(
    "text, owned",
    [
        (UP, True),
        ("[Service]\nExecStart=/usr/bin/docker-compose -f /srv/app/docker-compose.yml up -d\n", True),
        ("[Service]\nWorkingDirectory=/srv/other\nExecStart=/usr/bin/docker compose up\n", False),
        ("[Service]\nWorkingDirectory=/srv/app\nExecStart=/usr/bin/true\n", False),
        ("[Service]\nWorkingDirectory=/srv/app2\nExecStart=/usr/bin/docker compose up\n", False),
    ],
)
def test_a_unit_that_names_the_project_is_told(tmp_path: Path, text: str, owned: bool) -> None:
    (tmp_path / "app.service").write_text(text)
    (tmp_path / "binary.service").write_bytes(b"\xff\xfe")
    said = look(tmp_path)
    assert said.blockers == ()
    assert len(said.warnings) == owned
    assert all("app.service" in sentence and "systemctl cat" in sentence for sentence in said.warnings)


@pytest.mark.parametrize("state, blocked", [("active", 1), ("activating", 1), ("inactive", 0), ("failed", 0), ("", 0)])
def test_a_unit_that_supervises_the_project_now_is_in_the_way(tmp_path: Path, state: str, blocked: int) -> None:
    (tmp_path / "app.service").write_text(UP)
    said = look(tmp_path, state=state)
    assert (len(said.blockers), len(said.warnings)) == (blocked, 1 - blocked)
    assert all(blocker.command == f"systemctl stop app.service && {START}" for blocker in said.blockers)


@pytest.mark.parametrize("line, removes", [
    ("ExecStop=/usr/bin/docker compose down", True),
    ("ExecStop=/usr/bin/docker compose \\\n  -f /srv/app/compose.yaml down", True),
    ("ExecStopPost=-/usr/bin/docker-compose rm -fv", True),
    ("ExecStop=/usr/bin/docker compose stop", False),
    ("ExecStartPre=/usr/bin/docker compose down", False),
])  # fmt: skip
def test_a_unit_that_removes_its_containers_is_not_just_stopped(tmp_path: Path, line: str, removes: bool) -> None:
    """What would be left of an anonymous volume is a name that nobody knows."""
    (tmp_path / "app.service").write_text(f"{UP}{line}\n")
    (said,) = look(tmp_path, state="active").blockers
    forgets, _then, stops = said.command.rpartition(" && systemctl stop app.service")
    assert ("ExecStop=" in forgets) is removes
    assert ("anonymous" in said.text) is removes
    assert stops == f" && {START}" or said.command == f"systemctl stop app.service && {START}"


def test_one_that_has_only_started_the_project_is_not(tmp_path: Path) -> None:
    (tmp_path / "app.service").write_text(UP.replace("up\n", "up -d\n"))
    said = look(tmp_path, state="active")
    assert (len(said.blockers), len(said.warnings)) == (0, 1)


def test_a_link_to_a_unit_is_the_same_unit(tmp_path: Path) -> None:
    (tmp_path / "app.service").write_text(UP)
    (tmp_path / "alias.service").symlink_to(tmp_path / "app.service")
    assert len(look(tmp_path).warnings) == 1


@pytest.mark.parametrize("directory, name", [("/srv/%i", "compose@app.service"), ("/%I", "compose@srv-app.service")])
def test_a_template_is_told_as_the_instance_that_would_run_it(tmp_path: Path, directory: str, name: str) -> None:
    text = UP.replace("/srv/app", directory)
    (tmp_path / "compose@.service").write_text(text)
    (said,) = look(tmp_path, state="active").blockers
    assert name in said.text
    assert name in said.command
    assert look(tmp_path) == Owners(), "nothing says that this instance was ever meant"
    elsewhere = look(tmp_path, state="active", working_dir="/elsewhere/app2").blockers
    assert bool(elsewhere) is (directory == "/%I")


@pytest.mark.parametrize("command, stays", [
    ("/usr/bin/docker compose up", True),
    ("/usr/bin/docker compose -f /srv/app/compose.yaml up --build", True),
    ("-/usr/bin/docker-compose up --remove-orphans", True),
    ("/usr/bin/docker compose \\\n  up", True),
    ("/usr/bin/docker compose up -d", False),
    ("/usr/bin/docker compose up --detach", False),
    ("/usr/bin/docker compose up --wait", False),
    ("/usr/bin/docker compose start", False),
    ("/srv/app/start-compose.sh", False),
])  # fmt: skip
def test_which_command_stays_with_the_project(command: str, stays: bool) -> None:
    assert runs_in_foreground(f"[Service]\nExecStart={command}\n") is stays


DISABLED = {"com.centurylinklabs.watchtower.enable": "false"}


@pytest.mark.parametrize("image, status, labels, told", [
    ("containrrr/watchtower", "running", {}, True),
    ("ghcr.io/nicholas-fedor/watchtower:1.12", "running", {}, True),
    ("pyouroboros/ouroboros:latest", "running", {}, True),
    ("containrrr/watchtower", "exited", {}, False),
    ("containrrr/watchtower", "running", DISABLED, False),
    ("me/watchtower-notes", "running", {}, False),
])  # fmt: skip
def test_updaters(image: str, status: str, labels: dict[str, str], told: bool) -> None:
    store = a_container(labels=labels)
    updater = a_container(id="w", name="tower", image_ref=image, status=status)
    said = updaters_of([store, updater], [store]).warnings
    assert len(said) == told
    assert all("docker stop tower" in sentence and store.name in sentence for sentence in said)
