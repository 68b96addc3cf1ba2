# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pg_ctl that is back as soon as its server is: it waits for as much as pg_ctl does, and no longer."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import quick_pg_ctl

LOCK = "4711\n/data\n1700000000\n50432\n/work\n\n  123 456\n"
READY = f"printf '{LOCK}ready   ' >$2/postmaster.pid"
ENDLESS = "exec sleep 60"


class Programs:
    """A directory of programs with a pg_ctl that does what a test says, as ``pg_ctl -D data … verb``."""

    def __init__(self, place: Path) -> None:
        self.directory, self.data, self.asked = place / "of the server", place / "data", place / "asked"
        self.data.mkdir()
        (place / "new").mkdir()
        (place / "new" / "postgres").touch()
        (place / "new" / "pg_ctl").touch()
        quick_pg_ctl.put(str(place / quick_pg_ctl.NAME))
        line = quick_pg_ctl.beside(str(place / "new"), str(self.directory), str(place / quick_pg_ctl.NAME))
        subprocess.run(["sh", "-ec", line], check=True)

    def call(self, verb: str, does: str) -> int:
        patient = self.directory / quick_pg_ctl.PATIENT
        patient.unlink()
        patient.write_text(f'#!/bin/sh\necho "$@" >{self.asked}\n{does}\n')
        patient.chmod(0o755)
        argv = [str(self.directory / "pg_ctl"), "-D", str(self.data), "-o", "-c a=b", verb]
        return subprocess.run(argv, timeout=30, check=False).returncode


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


def test_the_other_programs_are_those_of_the_image(programs: Programs) -> None:
    assert sorted(path.name for path in programs.directory.iterdir()) == ["pg_ctl", "pg_ctl.patient", "postgres"]
    assert (programs.directory / "postgres").resolve() == programs.directory.parent / "new" / "postgres"


def test_a_start_is_over_when_the_lock_file_says_ready(programs: Programs) -> None:
    assert programs.call("start", f"sleep 0.1; {READY}; {ENDLESS}") == 0
    assert (programs.data / "postmaster.pid").exists()


def test_pg_ctl_is_handed_what_was_asked(programs: Programs) -> None:
    programs.call("start", READY)
    assert programs.asked.read_text() == f"-D {programs.data} -o -c a=b start\n"


@pytest.mark.parametrize("status", ["", "starting", "stopping"])
def test_a_server_that_is_not_ready_is_waited_for(status: str, programs: Programs) -> None:
    """One before 10 never says so: then pg_ctl's own end counts."""
    not_yet = READY.replace("ready   ", status)
    assert programs.call("start", f"{not_yet}; sleep 0.2; : >{programs.data}/waited") == 0
    assert (programs.data / "waited").exists()


def test_a_start_that_fails_is_told_with_its_code(programs: Programs) -> None:
    assert programs.call("start", "sleep 0.1; exit 3") == 3


def test_a_lock_file_from_before_is_left_to_pg_ctl(programs: Programs) -> None:
    (programs.data / "postmaster.pid").write_text(f"{LOCK}ready   \n")
    assert programs.call("start", "sleep 0.1; exit 1") == 1


def test_a_stop_is_over_when_the_lock_file_is_gone(programs: Programs) -> None:
    lock = programs.data / "postmaster.pid"
    lock.write_text(f"{LOCK}ready   \n")
    assert programs.call("stop", f"sleep 0.1; rm {lock}; {ENDLESS}") == 0


def test_a_stop_that_fails_is_told_with_its_code(programs: Programs) -> None:
    (programs.data / "postmaster.pid").write_text(f"{LOCK}ready   \n")
    assert programs.call("stop", "sleep 0.1; exit 1") == 1


@pytest.mark.parametrize("verb", ["stop", "status", "-V"])
def test_all_else_is_pg_ctls_own(verb: str, programs: Programs) -> None:
    assert programs.call(verb, "exit 4") == 4
