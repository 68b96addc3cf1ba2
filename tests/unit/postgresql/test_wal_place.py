# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import EngineMount
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import wal_place
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.store import Login, PostgresqlStore
from tests.unit.postgresql.control_file import make_cluster
from tests.unit.postgresql.fakes import a_container

DATA = "/var/lib/postgresql/data"
MOUNTS = (
    EngineMount("volume", "/volumes/v/_data", DATA, True, name="v"),
    EngineMount("bind", "/srv/wal", "/wal", True),
)
STOPPED = a_container(pid=0, status="exited", mounts=MOUNTS)


@pytest.mark.parametrize("name", ["pg_wal", "pg_xlog"])
@pytest.mark.parametrize(
    "target, place",
    [
        ("/var/lib/wal", "/var/lib/wal"),
        ("../wal", "/var/lib/postgresql/wal"),
        ("/wal/18", ""),
        (f"{DATA}/elsewhere", ""),
        ("elsewhere", ""),
        ("", ""),
    ],
)
def test_a_log_on_no_mount_is_a_blocker(tmp_path: Path, name: str, target: str, place: str) -> None:
    if target:
        (tmp_path / name).symlink_to(target)
    else:
        (tmp_path / name).mkdir()
    found = wal_place.blockers(STOPPED, DATA, str(tmp_path))
    assert [place in blocker.text and f"the link {DATA}/{name}" in blocker.text for blocker in found] == (
        [True] if place else []
    )


def test_a_running_container_resolves_its_own_links(tmp_path: Path) -> None:
    """This process stands for the container's: its root is the container's."""
    (tmp_path / "wal").mkdir()
    (tmp_path / "wal-link").symlink_to(tmp_path / "wal")
    data = tmp_path / "data"
    data.mkdir()
    (data / "pg_wal").symlink_to(tmp_path / "wal-link")
    mounted = EngineMount("bind", "/srv/wal", str(tmp_path / "wal"), True)
    running = a_container(pid=os.getpid(), mounts=(mounted,))
    assert wal_place.blockers(running, str(data), str(data)) == []
    assert wal_place.blockers(a_container(pid=os.getpid()), str(data), str(data))


def test_a_stopped_cluster_says_so(tmp_path: Path) -> None:
    make_cluster(tmp_path)
    (tmp_path / "pg_wal").symlink_to("/var/lib/wal")
    facts = PostgresqlStore(Login()).observe(None, STOPPED, DATA, str(tmp_path))  # type: ignore[arg-type]
    (blocker,) = facts.blockers
    assert "/var/lib/wal" in blocker.text
