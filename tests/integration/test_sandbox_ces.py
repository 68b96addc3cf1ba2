# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stand-in for a CES behaves as the real one was seen to, its traps included."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sandbox._base import wait_for
from tests.sandbox.ces import DUMP, Ces, ces_host
from tests.sandbox.engine import Engine

# What the stand-in is held to is asked once where the whole product of it is run.
pytestmark = [pytest.mark.faults]
ROWS = 500
Host = Callable[..., Ces]


@pytest.fixture
def host(tmp_path: Path, shared_engine: Engine) -> Iterator[Host]:
    made: list[Ces] = []

    def make(version: str, *offered: str) -> Ces:
        made.append(ces_host(tmp_path / str(len(made)), version=version, offered=offered, engine=shared_engine))
        return made[-1].wait_ready().fill(ROWS)

    yield make
    for each in made:
        each.down()


def upgraded(ces: Ces, version: str) -> subprocess.CompletedProcess[str]:
    return ces.cesapp("upgrade", "dogu", ces.postgresql, version)


@pytest.mark.parametrize("old, new", [("13.16-1", "15.12-1"), ("15.12-1", "15.18-1"), ("15.18-1", "17.6-1")])
def test_an_upgrade_that_dumps_and_restores(host: Host, old: str, new: str) -> None:
    ces = host(old, new)
    password = ces.config("password")
    done = upgraded(ces, new)
    assert done.returncode == 0, done.stderr
    ces.wait_ready()
    assert (ces.version, ces.image.rpartition(":")[2]) == (new, new)
    assert ces.sql("SHOW server_version_num")[:2] == new[:2]
    assert ces.count() == ROWS
    assert ces.config("local_state") == ""
    assert ces.config("migration_backup_path") == ""
    assert (ces.config("restricted_stat_visibility"), ces.config("migrated_database_constraints")) == ("true", "true")
    wait_for(lambda: ces.running(ces.dependent), "the dependent runs")
    assert "secret" not in password
    assert ces.execute(ces.postgresql, "doguctl", "config", "-e", "password") not in ces.config("password")


def test_a_minor_upgrade_dumps_nothing_and_runs_the_migrations(host: Host) -> None:
    ces = host("13.16-1", "13.16-2")
    identity = ces.sql("SELECT system_identifier FROM pg_control_system()")
    ces.execute(ces.postgresql, "doguctl", "config", "--rm", "restricted_stat_visibility")
    assert upgraded(ces, "13.16-2").returncode == 0
    ces.wait_ready()
    assert ces.sql("SELECT system_identifier FROM pg_control_system()") == identity
    assert ces.config("restricted_stat_visibility") == "true"
    assert "local_state" not in (each.name for each in (ces.directory / "ces/config" / ces.postgresql).iterdir())


def test_equal_versions_and_older_ones(host: Host) -> None:
    ces = host("13.16-2", "13.16-1")
    container = ces.engine.docker("inspect", "-f", "{{.Id}}", ces.postgresql)
    assert upgraded(ces, "13.16-2").returncode == 0
    assert upgraded(ces, "13.16-1").returncode == 1
    assert upgraded(ces, "99.1-1").returncode == 1
    assert ces.engine.docker("inspect", "-f", "{{.Id}}", ces.postgresql) == container
    for script in ("/pre-upgrade.sh", "/post-upgrade.sh"):
        assert "same" in ces.execute(ces.postgresql, script, "13.16-2", "13.16-2")
    assert ces.config("local_state") == ""
    assert ces.cesapp("list-upgrades").stdout.split()[:2] == [ces.postgresql, "13.16-2"]


def test_a_post_upgrade_that_dies_leaves_startup_waiting_until_the_key_is_gone(host: Host) -> None:
    ces = host("15.18-1", "17.6-1")
    ces.when(ces.postgresql, "post-upgrade", "kill -9 $$")
    assert upgraded(ces, "17.6-1").returncode == 1
    assert ces.config("local_state") == "upgrading"
    assert not ces.running(ces.dependent)
    assert ces.running(ces.postgresql)
    assert not ces.answers()
    ces.execute(ces.postgresql, "/post-upgrade.sh", "15.18-1", "17.6-1")
    ces.wait_ready()
    assert ces.count() == ROWS


def test_the_first_generation_passes_over_errors_of_the_restore(host: Host) -> None:
    ces = host("13.16-1", "15.12-1")
    ces.when(ces.postgresql, "dumped", f"sed -i 's/^COPY public.commits/COPY public.commit/' {DUMP}")
    assert upgraded(ces, "15.12-1").returncode == 0
    ces.wait_ready()
    assert ces.count() == 0


def test_the_only_dump_of_the_first_generation_goes_with_its_container(host: Host) -> None:
    ces = host("13.16-1", "15.12-1")
    ces.when(ces.postgresql, "restoring", "exit 1")
    upgraded(ces, "15.12-1")
    ces.wait_ready()  # restarted by its policy, on the cluster that was just made
    assert ces.sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'sfs-%'") == "0"
    assert list(ces.data.rglob("*.dump")) == []
