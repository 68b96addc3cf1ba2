# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a check says on a host that lacks libraries: what the files tell, and that this is not all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import (
    Completed,
    ComposeCli,
    find_compose,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.command_line import ProjectOptions
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import Connection
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.from_files import plan_from_files
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import MountRequest

STOCK = """\
services:
  db:
    image: postgres:9.6-alpine
### Uncomment to enable DB persistance
#    volumes:
#      - ./postgres:/var/lib/postgresql/data

  redis:
    image: redis:4.0-alpine
"""
LACKING = "The managed host lacks the Python library docker."
DB, REDIS = MountRequest("db", "./postgres", written="./postgres"), MountRequest("redis", "./redis", written="./redis")


def compose_that_reads(argv: Sequence[str], cwd: str, env: Mapping[str, str], limit: float | None) -> Completed:
    """Answer as compose 2 does for a project of one file, whose mounts are all in the short form."""
    if "version" in argv:
        return Completed(0, "2.30.0\n", "")
    given = [argv[index + 1] for index, word in enumerate(argv) if word == "--file"]
    assert "config" in argv
    assert len(given) == 1
    project = yaml.safe_load(Path(given[0]).read_text())
    for service in project["services"].values():
        pairs = [entry.split(":") for entry in service.get("volumes", ())]
        service["volumes"] = [{"type": "bind", "source": str(Path(cwd, s)), "target": t} for s, t in pairs]
    return Completed(0, json.dumps(project), "")


@pytest.fixture(name="compose")
def compose_of_a_project(tmp_path: Path) -> ComposeCli:
    (tmp_path / "compose.yaml").write_text(STOCK)
    return find_compose(ProjectOptions(str(tmp_path)), Connection(), runner=compose_that_reads)


def planned(
    compose: ComposeCli | None, *mounts: MountRequest, rewrite: str = "in_place", missing: Sequence[str] = ("docker",)
) -> dict[str, Any]:
    return plan_from_files(compose, mounts, rewrite, LACKING, missing)


def test_a_comment_tells_the_target_and_the_hunk_is_shown(compose: ComposeCli, tmp_path: Path) -> None:
    result = planned(compose, DB, REDIS)
    assert (result["changed"], result["plan_complete"], result["missing"]) == (True, False, ["docker"])
    assert result["plan"] == {"moves": [], "files": [str(tmp_path / "compose.yaml")]}
    assert result["plan_text"].splitlines() == [
        LACKING,
        f"Project in {tmp_path}, from its files alone",
        "  db: at /var/lib/postgresql/data",
        f"    to    {tmp_path}/postgres",
        "  redis: at a path for which the engine has to be asked",
        f"    to    {tmp_path}/redis",
        f"  Changes {tmp_path}/compose.yaml (uncommented)",
        "  Not looked at before that: where the data is now, which way it takes, what stops for how long, and what"
        " else stands in the way.",
    ]
    (shown,) = result["diff"]
    assert "./postgres:/var/lib/postgresql/data" in shown["prepared"]
    assert (tmp_path / "compose.yaml").read_text() == STOCK


def test_a_target_that_was_given_counts(compose: ComposeCli) -> None:
    result = planned(compose, MountRequest("redis", "./redis", "/data", "./redis"))
    assert "redis: at /data" in result["plan_text"]
    assert "./redis:/data" in result["diff"][0]["prepared"]


def test_where_only_the_engine_knows_no_file_is_changed(compose: ComposeCli) -> None:
    result = planned(compose, REDIS)
    assert (result["changed"], result["plan"], result["diff"]) == (True, {"moves": [], "files": []}, [])
    assert "Changes" not in result["plan_text"]


def test_without_a_reader_of_the_files_the_rest_is_the_same() -> None:
    result = planned(None, DB, missing=["docker", "yaml"])
    assert (result["changed"], result["plan_complete"], result["missing"]) == (True, False, ["docker", "yaml"])
    assert (result["plan"], result["diff"]) == ({"moves": [], "files": []}, [])
    assert result["plan_text"].startswith(LACKING)
    assert "the compose file" in result["plan_text"]


def test_a_file_that_others_make_has_to_name_the_mount(compose: ComposeCli) -> None:
    with pytest.raises(InvalidInput, match="does not mount") as caught:
        planned(compose, DB, rewrite="none")
    assert caught.value.facts["plan_complete"] is False
    assert caught.value.facts["missing"] == ["docker"]
    assert "BLOCKER" in caught.value.facts["plan_text"]


@pytest.mark.parametrize("mount, words", [
    (MountRequest("cache", "./cache"), "no service 'cache'"),
    (MountRequest("redis", "./postgres/redis"), "overlap"),
])  # fmt: skip
def test_what_no_library_would_help_is_refused(compose: ComposeCli, mount: MountRequest, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        planned(compose, DB, mount)
