# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import orphans
from tests.unit.postgresql.control_file import IDENTIFIER, make_cluster


def test_a_cluster_is_found_where_images_put_it(tmp_path: Path) -> None:
    make_cluster(tmp_path / "flat", major="13", identifier=13)
    make_cluster(tmp_path / "off" / "data", state=6)
    make_cluster(tmp_path / "new" / "18" / "docker", major="18")
    os.utime(tmp_path / "flat" / "global" / "pg_control", (0, 1_600_000_000))
    (flat,) = orphans.find_clusters(str(tmp_path / "flat"))
    assert (flat.path, flat.major, flat.system_identifier, flat.state) == (
        str(tmp_path / "flat"),
        "13",
        13,
        "shut down",
    )
    assert flat.last_write.isoformat() == "2020-09-13T12:26:40+00:00"
    (off,) = orphans.find_clusters(str(tmp_path / "off"))
    assert (off.path, off.system_identifier, off.state) == (str(tmp_path / "off" / "data"), IDENTIFIER, "in production")
    (new,) = orphans.find_clusters(str(tmp_path / "new"))
    assert (new.path, new.major) == (str(tmp_path / "new" / "18" / "docker"), "18")


def test_several_clusters_side_by_side(tmp_path: Path) -> None:
    make_cluster(tmp_path / "15" / "docker")
    make_cluster(tmp_path / "18" / "docker")
    assert [found.path for found in orphans.find_clusters(str(tmp_path))] == [
        str(tmp_path / "15" / "docker"),
        str(tmp_path / "18" / "docker"),
    ]


def test_what_is_no_cluster(tmp_path: Path) -> None:
    make_cluster(tmp_path / "a" / "b" / "c" / "too_deep")
    make_cluster(tmp_path / "elsewhere" / "data")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "broken" / "global").mkdir(parents=True)
    (tmp_path / "broken" / "global" / "pg_control").write_bytes(b"\0" * 8192)
    for place in ("a", "here", "broken", "missing"):
        assert orphans.find_clusters(str(tmp_path / place)) == []


def test_not_everything_in_a_volume_of_files_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "DIRECTORIES_AT_MOST", 2)
    for name in ("a", "b", "c", "d"):
        (tmp_path / name / "inner").mkdir(parents=True)
    make_cluster(tmp_path / "b" / "docker")
    looked = []
    real = orphans.cluster_at

    def looking(path: str) -> orphans.FoundCluster | None:
        looked.append(path)
        return real(path)

    monkeypatch.setattr(orphans, "cluster_at", looking)
    assert [found.path for found in orphans.find_clusters(str(tmp_path))] == [str(tmp_path / "b" / "docker")]
    assert len(looked) == 1 + 2 + 2
