# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook, as an admin runs it: two apps of one host, planned together, prepared, swapped one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.dokku import swapping
from tests.sandbox import images
from tests.sandbox.dokku.installation import Installation
from tests.tools import playbook

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("dokku-playbook")]


def test_two_apps_are_swapped_and_then_left_alone(dokku: Installation, tmp_path: Path) -> None:
    images.ensure(["postgres:15"], dokku.engine)
    apps = [swapping.of(dokku, tmp_path / "operations", word) for word in ("one", "two")]
    variables: dict[str, Any] = {
        "dokku_postgres_image_apps": [{"app": each.app, "name": each.new.name} for each in apps],
        "dokku_postgres_image_image": swapping.REPOSITORY,
        "dokku_postgres_image_version": "17",
        "dokku_postgres_image_pull": False,
        "dokku_postgres_image_operations_dir": str(tmp_path / "operations"),
        "dokku_postgres_image_dokku_program": [str(dokku.program)],
        "dokku_postgres_image_docker_host": dokku.engine.host,
    }
    told: list[playbook.Event] = []

    def run(*arguments: str, **changed: Any) -> int:
        told.clear()
        return playbook.run(
            "selfhost.stateful.swap_dokku_postgres",
            inventory=playbook.here("dokku"),
            variables={**variables, **changed},
            folder=tmp_path / "ansible",
            follow=told.append,
            arguments=["--skip-tags", "requirements", *arguments],
        )

    def changes() -> list[str]:
        return [event["task"] for event in told if event["result"].get("changed")]

    assert run(dokku_postgres_image_version="99") != 0
    assert any("is not on this engine" in str(event["result"].get("msg")) for event in told)
    assert run("--check") == 0
    for each in apps:
        assert not each.new.root.exists()
    assert run("--tags", "prepare") == 0
    for each in apps:
        assert each.new.root.exists()
        assert dokku.config(each.app) == each.before
    assert run() == 0
    assert changes()
    for each in apps:
        each.check_swapped()
    assert run() == 0
    assert changes() == []
