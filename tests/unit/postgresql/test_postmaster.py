# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import paths, postmaster
from tests.unit.postgresql.fakes import a_container

LOCK = "1\n/var/lib/postgresql/data\n1700000000\n5432\n/var/run/postgresql\n*\n   5432001         0\nready   \n"


def test_the_lock_file_of_a_running_server() -> None:
    assert postmaster.parse_pid_file(LOCK) == postmaster.PidFile(
        pid=1,
        data_directory="/var/lib/postgresql/data",
        port=5432,
        socket_directory="/var/run/postgresql",
        listen_address="*",
        status="ready",
    )


def test_the_temporary_server_listens_nowhere() -> None:
    lock = postmaster.parse_pid_file(LOCK.replace("*", ""))
    assert lock.listen_address == ""


def test_a_server_before_10_tells_no_status() -> None:
    assert postmaster.parse_pid_file("\n".join(LOCK.splitlines()[:7])).status == ""


@pytest.mark.parametrize("text", ["", "1\n/data\n17000", "garbage\n"])
def test_half_a_lock_file_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "postmaster.pid").write_text(text)
    assert postmaster.read_pid_file(str(tmp_path)) is None


def test_no_lock_file_is_none(tmp_path: Path) -> None:
    assert postmaster.read_pid_file(str(tmp_path)) is None


def test_the_process_is_found_by_its_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # This process plays the container's main process, a child of it the server.
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()", "-D", "x"], stdin=subprocess.PIPE)
    try:
        monkeypatch.setattr(paths, "seen_path", lambda _container, path: path)
        (tmp_path / "postmaster.pid").write_text(LOCK.replace("1\n", f"{child.pid}\n", 1))
        found = postmaster.find_postmaster(a_container(pid=os.getpid()), str(tmp_path))
        assert found.pid == child.pid
        assert not found.is_main
        assert found.argv[-2:] == ("-D", "x")
    finally:
        child.communicate()


def test_a_stale_lock_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "seen_path", lambda _container, path: path)
    (tmp_path / "postmaster.pid").write_text(LOCK.replace("1\n", "4194999\n", 1))
    with pytest.raises(StatefulError, match="process 4194999, which does not run"):
        postmaster.find_postmaster(a_container(pid=os.getpid()), str(tmp_path))
