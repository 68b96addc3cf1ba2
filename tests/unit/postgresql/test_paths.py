# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import EngineMount
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import paths
from tests.unit.postgresql.fakes import a_container


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "run" / "postgresql").mkdir(parents=True)
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "run").symlink_to("/run")
    (tmp_path / "data").symlink_to("../../../../var/../run/./postgresql")
    (tmp_path / "loop").symlink_to("/loop")
    return tmp_path


@pytest.mark.parametrize(
    "path,expected",
    [
        ("/var/run/postgresql", "run/postgresql"),
        ("/var/run/postgresql/.s.PGSQL.5432", "run/postgresql/.s.PGSQL.5432"),
        ("/data", "run/postgresql"),
        ("/not/there", "not/there"),
        ("/../../etc", "etc"),
        ("/", ""),
    ],
)
def test_links_are_followed_inside_the_root(root: Path, path: str, expected: str) -> None:
    assert paths.resolve_inside(str(root), path) == str(root / expected)


def test_a_loop_ends(root: Path) -> None:
    with pytest.raises(OSError, match="symbolic links"):
        paths.resolve_inside(str(root), "/loop")


def test_a_stopped_container_has_no_root() -> None:
    with pytest.raises(StatefulError, match="is not running"):
        paths.root_of(a_container(pid=0, status="exited"))


VOLUME = EngineMount("volume", "/volumes/v/_data", "/var/lib/postgresql", True, name="v")
DATA = EngineMount("bind", "/srv/data", "/var/lib/postgresql/data", True)
MEMORY = EngineMount("tmpfs", "", "/run", True)


@pytest.mark.parametrize(
    "path,expected",
    [
        ("/var/lib/postgresql/data/base", "/srv/data/base"),
        ("/var/lib/postgresql/data", "/srv/data"),
        ("/var/lib/postgresql/database", "/volumes/v/_data/database"),
        ("/run/postgresql", ""),
        ("/dev/shm/x", ""),
        ("/etc/postgresql", ""),
    ],
)
def test_what_another_container_can_mount(path: str, expected: str) -> None:
    container = a_container(pid=0, mounts=(VOLUME, DATA, MEMORY), tmpfs=("/dev/shm",))
    assert paths.mountable_path(container, path) == expected


def test_the_merged_layers_can_be_mounted(tmp_path: Path) -> None:
    container = a_container(pid=0, layers={"MergedDir": str(tmp_path)})
    assert paths.mountable_path(container, "/run/postgresql") == f"{tmp_path}/run/postgresql"
