# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.observe import measured, place
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import mounts
from tests.unit.storage.findings import DATA
from tests.unit.storage.projects import small


@pytest.mark.parametrize(
    "subpath, beside",
    [("18/docker", ("backup", "server.crt", "18/notes")), ("18", ("backup", "server.crt")), ("", ())],
)
def test_what_lies_beside_the_data_is_seen(tmp_path: Path, subpath: str, beside: tuple[str, ...]) -> None:
    for name in ("18/docker/base", "18/notes", "backup", "lost+found"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "server.crt").touch()
    assert measured(replace(DATA, host_path=str(tmp_path), subpath=subpath)).beside == beside


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_a_place_is_closed_where_root_may_make_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool, shared: bool
) -> None:
    """What is put in place as a whole needs the directory above it, what is shared the one itself."""
    path = tmp_path / "above" / "place"
    (path if exists else path.parent).mkdir(parents=True)
    world = small(tmp_path, "services: {}\n").world
    assert place(world, str(path), shared=shared).closed == ""
    needed = path if shared and exists else path.parent
    monkeypatch.setattr(os, "access", lambda asked, mode: asked != str(needed) and mode == os.W_OK | os.X_OK)
    assert place(world, str(path), shared=shared).closed == str(needed)


def test_a_directory_below_a_closed_one_that_is_not_made_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda asked, mode: False)
    world = small(tmp_path, "services: {}\n").world
    assert place(world, str(tmp_path / "not" / "there")).closed == str(tmp_path)


def test_whose_a_place_is(tmp_path: Path) -> None:
    world = small(tmp_path, "services: {}\n").world
    (tmp_path / "place").mkdir(mode=0o750)
    found = place(world, str(tmp_path / "place"))
    assert (found.owner, found.mode) == (f"{os.getuid()}:{os.getgid()}", 0o750)
    assert place(world, str(tmp_path / "absent")).owner == ""


@pytest.mark.parametrize("kind, options, soft", [
    ("nfs4", ("rw", "vers=4.2", "soft"), True),
    ("nfs", ("rw", "softerr"), True),
    ("nfs4", ("rw", "hard", "softreval"), False),
    ("ext4", ("soft",), False),
])  # fmt: skip
def test_a_soft_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, options: tuple[str, ...], soft: bool
) -> None:
    real = mounts.filesystem_of(tmp_path)
    monkeypatch.setattr(mounts, "filesystem_of", lambda path: replace(real, fs_type=kind, options=options))
    assert place(small(tmp_path, "services: {}\n").world, str(tmp_path / "place")).soft is soft
