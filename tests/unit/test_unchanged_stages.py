# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stage of ``make test`` is taken as passed on the very files that it passed on, and on no others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info < (3, 11):
    pytest.skip("the tools of the tests ask for a newer Python", allow_module_level=True)

from tests.tools import tree, unchanged
from tests.tools.stages import Stage

STAGE = Stage("lint", (("lint", "."),), reads=("*.yml", "roles"))


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tree, "ROOT", tmp_path)
    monkeypatch.setattr(unchanged, "CI", tmp_path)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "roles").mkdir()
    for name in ("site.yml", "roles/main", "other.py"):
        (tmp_path / name).write_text("a")
    (tmp_path / ".gitignore").write_text("build\n*.passed\n")
    unchanged.remember(STAGE, unchanged.digest_of(STAGE))
    return tmp_path


def passed_before(stage: Stage) -> bool:
    return unchanged.passed_before(stage, unchanged.digest_of(stage))


def test_the_same_files_are_not_read_again(checkout: Path) -> None:
    (checkout / "other.py").write_text("b")
    (checkout / "build").write_text("b")
    assert passed_before(STAGE)


@pytest.mark.parametrize("name", ["site.yml", "roles/main", "new.yml"])
def test_a_file_that_changed_or_came_is_read(checkout: Path, name: str) -> None:
    (checkout / name).write_text("b")
    assert not passed_before(STAGE)


def test_a_file_that_went_or_got_another_mode_counts(checkout: Path) -> None:
    (checkout / "site.yml").chmod(0o755)
    assert not passed_before(STAGE)
    (checkout / "site.yml").chmod(0o644)
    (checkout / "roles/main").unlink()
    assert not passed_before(STAGE)


def test_another_command_is_run(checkout: Path) -> None:
    assert not passed_before(Stage("lint", (("lint", "--strict", "."),), reads=STAGE.reads))


def test_who_never_passed_or_names_nothing_or_other_files_is_run(checkout: Path) -> None:
    assert not passed_before(Stage("other", STAGE.commands, reads=STAGE.reads))
    assert not passed_before(Stage("lint", STAGE.commands))
    assert not passed_before(Stage("lint", STAGE.commands, reads=("roles",)))
