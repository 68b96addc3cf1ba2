# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import staging
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.manifest import read_manifest


def test_a_copy_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    goal = tmp_path / "backup"
    with staging.staged(str(goal)) as place:
        assert os.stat(place).st_mode & 0o777 == 0o700
        Path(place, "data").write_text("x")
        assert not goal.exists()
    assert sorted(os.listdir(goal)) == ["data"]
    assert os.listdir(tmp_path) == ["backup"]


def test_the_copy_is_known_as_ours_until_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync, seen = staging.sync_tree, []

    def synced(top: str) -> None:
        seen.append(os.path.exists(os.path.join(top, staging.MARKER)))
        sync(top)

    monkeypatch.setattr(staging, "sync_tree", synced)
    with staging.staged(str(tmp_path / "backup")):
        pass
    assert seen == [True]
    assert os.listdir(tmp_path / "backup") == []


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with staging.staged(str(tmp_path / "backup")) as place:
            Path(place, "data").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert os.listdir(tmp_path) == []


def test_what_a_killed_run_left_is_started_anew(tmp_path: Path) -> None:
    left = tmp_path / "backup.partial"
    left.mkdir()
    (left / staging.MARKER).touch()
    (left / "torn").touch()
    with staging.staged(str(tmp_path / "backup")):
        pass
    assert os.listdir(tmp_path / "backup") == []


def test_nothing_of_somebody_else_is_removed(tmp_path: Path) -> None:
    (tmp_path / "backup.partial").mkdir()
    (tmp_path / "backup.partial" / "precious").touch()
    with pytest.raises(StatefulError, match="in the way"), staging.staged(str(tmp_path / "backup")):
        pass
    assert (tmp_path / "backup.partial" / "precious").exists()
    (tmp_path / "other").touch()
    with pytest.raises(InvalidInput, match="exists already"), staging.staged(str(tmp_path / "other")):
        pass
    with pytest.raises(InvalidInput, match="does not exist"), staging.staged(str(tmp_path / "no" / "where")):
        pass


def test_the_size_of_a_tree(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_bytes(b"12345")
    (tmp_path / "two").write_bytes(b"1")
    assert staging.tree_size(str(tmp_path)) == (2, 6)


def test_a_manifest(tmp_path: Path) -> None:
    content = {
        "PostgreSQL-Backup-Manifest-Version": 1,
        "Files": [{"Path": "PG_VERSION", "Size": 3}, {"Path": "base/1/1", "Size": 8192}],
        "WAL-Ranges": [{"Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000100"}],
        "Manifest-Checksum": "x",
    }
    path = tmp_path / "backup_manifest"
    path.write_text(json.dumps(content))
    os.utime(path, (1_700_000_000, 1_700_000_000))
    found = read_manifest(str(tmp_path))
    assert (found.files, found.bytes, found.timeline, found.start_lsn, found.end_lsn) == (
        2,
        8195,
        1,
        "0/2000028",
        "0/2000100",
    )
    assert found.written_at.isoformat() == "2023-11-14T22:13:20+00:00"
    assert len(found.sha256) == 64


@pytest.mark.parametrize("text", ["", "{}", '{"Files": [], "WAL-Ranges": []}', "[]"])
def test_no_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / "backup_manifest").write_text(text)
    with pytest.raises(StatefulError, match="cannot be read"):
        read_manifest(str(tmp_path))
