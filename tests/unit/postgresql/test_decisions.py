# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import EngineMount
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import (
    basebackup,
    cluster,
    impediments,
    scratch,
    second_server,
    shutdown,
    standby,
    transport,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import (
    Database,
    Slot,
    Tablespace,
    major_from,
)
from tests.unit.postgresql import subjects
from tests.unit.postgresql.control_file import make_cluster
from tests.unit.postgresql.fakes import FakeEngine, a_container

TEMPLATE = Database("template1", "postgres", 1, "UTF8", "de_DE.utf8", "C", "c", "", True, True)
DATA = subjects.CLUSTER.data_directory
CLUSTER = replace(
    subjects.CLUSTER,
    system_identifier=1,
    hba_file="/etc/postgresql/pg_hba.conf",
    databases=(TEMPLATE,),
    relations=1,
    database_bytes=1,
    wal_bytes=1,
)
STOPPED = a_container(pid=0, status="exited")


@pytest.mark.parametrize(
    "number,major", [(90624, "9.6"), (90505, "9.5"), (100023, "10"), (150004, "15"), (180000, "18")]
)
def test_major_versions(number: int, major: str) -> None:
    assert major_from(number) == major


def test_configuration_outside_the_data_directory_is_named() -> None:
    assert CLUSTER.files_outside() == ("/etc/postgresql/pg_hba.conf",)


@pytest.mark.parametrize(
    "changes,reason",
    [
        ({"server_version_num": 120010, "major": "12"}, "no backup manifest"),
        ({"in_recovery": True}, "itself a standby"),
        ({"wal_level": "minimal"}, "wal_level"),
        ({"free_wal_senders": 1}, "1 of 10 WAL senders"),
        ({"unlogged_tables": 3}, "3 unlogged tables"),
        ({"slots": (Slot("debezium", "logical", False),)}, "debezium"),
        ({"synchronous_standby_names": "*"}, "synchronous_standby_names"),
        ({"tablespaces": (Tablespace(1, "fast", "/fast"),)}, "fast"),
    ],
)
def test_each_reason_against_a_standby_is_said(changes: dict[str, Any], reason: str) -> None:
    (found,) = impediments.to_standby(replace(CLUSTER, **changes), STOPPED)
    assert reason in found


def test_nothing_speaks_against_a_plain_cluster() -> None:
    assert impediments.to_standby(CLUSTER, STOPPED) == []
    assert impediments.to_physical_backup(CLUSTER, STOPPED) == []


def test_a_standby_needs_a_session_that_lasts() -> None:
    (found,) = impediments.to_standby(CLUSTER, STOPPED, lasting_session=False)
    assert "psql" in found


def test_only_a_server_that_no_driver_knows_is_dumped_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert impediments.to_logical_backup(CLUSTER) == []
    monkeypatch.setattr(transport, "driver_missing", lambda: "No module named 'psycopg'")
    (found,) = impediments.to_logical_backup(CLUSTER)
    assert "No module named 'psycopg'" in found
    assert impediments.to_logical_backup(replace(CLUSTER, server_version_num=90624)) == []


def test_reasons_against_a_physical_backup() -> None:
    inside = Tablespace(1, "inner", f"{DATA}/pg_inner")
    broken = replace(CLUSTER, server_version_num=120010, wal_level="minimal", free_wal_senders=0, tablespaces=(inside,))
    assert len(impediments.to_physical_backup(broken, STOPPED)) == 4
    beside = Tablespace(1, "beside", f"{DATA}base")
    assert impediments.to_physical_backup(replace(CLUSTER, tablespaces=(beside,)), STOPPED) == []


def test_what_a_base_backup_would_leave_out_is_named(tmp_path: Path) -> None:
    """This process stands for the container's: its root is the container's."""
    for name in ("base/1", "pg_tblspc", "conf"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "conf" / "server.crt").touch()
    (tmp_path / "pg_tblspc" / "16385").symlink_to("/fast")
    (tmp_path / "pg_wal").symlink_to("/wal")
    running, cluster = a_container(pid=os.getpid()), replace(CLUSTER, data_directory=str(tmp_path))
    assert basebackup.left_out(running, cluster) == []
    (tmp_path / "server.crt").symlink_to(tmp_path / "conf" / "server.crt")
    assert impediments.to_physical_backup(cluster, running) == []
    (tmp_path / "log").symlink_to(tmp_path / "conf")
    (tmp_path / "base" / "1" / "1259").symlink_to("/elsewhere/1259")
    assert basebackup.left_out(running, cluster) == ["base/1/1259", "log", "server.crt"]
    assert impediments.to_standby(cluster, running)[-1].endswith("not carried: base/1/1259, log, server.crt")
    (impediment,) = impediments.to_physical_backup(cluster, running)
    assert impediment.endswith("lead to: base/1/1259, log")


@pytest.mark.parametrize(
    "changes,database,tail",
    [
        ({}, {}, ()),
        ({"data_checksums": True}, {}, ("--data-checksums",)),
        ({"server_version_num": 180000}, {}, ("--no-data-checksums",)),
        ({"server_version_num": 180000, "data_checksums": True}, {}, ("--data-checksums",)),
        ({}, {"provider": "i", "locale": "und"}, ("--locale-provider", "icu", "--icu-locale", "und")),
        ({}, {"provider": "b", "locale": "C.UTF-8"}, ("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8")),
    ],
)
def test_a_scratch_cluster_is_made_like_the_original(
    changes: dict[str, Any], database: dict[str, Any], tail: tuple[str, ...]
) -> None:
    like = replace(CLUSTER, databases=(replace(TEMPLATE, **database),), **changes)
    argv = scratch.initdb_argv(like)
    assert argv[argv.index("--lc-ctype") + 2 :] == tail
    assert argv[argv.index("-U") + 1] == "boss"
    assert argv[argv.index("--lc-collate") + 1] == "de_DE.utf8"


def test_only_what_does_not_hold_the_data_is_mounted_again() -> None:
    mounts = (
        EngineMount("volume", "/v/18/_data", "/var/lib/postgresql", True, name="v"),
        EngineMount("bind", "/srv/my.conf", f"{DATA}/postgresql.conf", False),
        EngineMount("bind", "/srv/hba.conf", "/etc/postgresql/pg_hba.conf", True),
        EngineMount("tmpfs", "", "/run", True),
        EngineMount("volume", "/v/certs/_data", "/certs", True, name="certs"),
    )
    binds = second_server.surroundings(a_container(pid=0, mounts=mounts), CLUSTER)
    assert [(bind.source, bind.target, bind.read_only) for bind in binds] == [
        ("/srv/hba.conf", "/etc/postgresql/pg_hba.conf", True),
        ("/v/certs/_data", "/certs", True),
    ]


def test_secrets_for_the_entrypoint_are_not_passed_on() -> None:
    env = {"PGDATA": DATA, "POSTGRES_PASSWORD": "x", "LANG": "de_DE.utf8", "PATH": "/usr/lib"}
    assert second_server.environment_of(a_container(env=env)) == {
        "PGDATA": DATA,
        "LANG": "de_DE.utf8",
        "PATH": "/usr/lib",
    }


@pytest.mark.parametrize("sign", ["standby.signal", "backup_label"])
def test_an_unfinished_standby_is_removed(tmp_path: Path, sign: str) -> None:
    directory = make_cluster(tmp_path / "standby")
    (directory / sign).touch()
    standby.abandon(FakeEngine(), operation="op", directory=str(directory))  # type: ignore[arg-type]
    assert not directory.exists()
    standby.abandon(FakeEngine(), operation="op", directory=str(directory))  # type: ignore[arg-type]


def test_a_removal_that_was_killed_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signs that a standby is one of ours may go before the rest of it."""
    directory = make_cluster(tmp_path / "standby")
    (directory / "standby.signal").touch()

    def killed(path: str) -> None:
        (Path(path) / "standby.signal").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            standby.abandon(FakeEngine(), operation="op", directory=str(directory))  # type: ignore[arg-type]
    standby.abandon(FakeEngine(), operation="op", directory=str(directory))  # type: ignore[arg-type]
    assert not directory.exists()


def test_a_finished_standby_is_kept(tmp_path: Path) -> None:
    directory = make_cluster(tmp_path / "standby", state=2)
    with pytest.raises(StatefulError, match="not removed"):
        standby.abandon(FakeEngine(), operation="op", directory=str(directory))  # type: ignore[arg-type]
    assert (directory / "PG_VERSION").exists()


def test_a_clean_shutdown_is_proved(tmp_path: Path) -> None:
    assert shutdown.prove_shut_down(str(make_cluster(tmp_path / "data"))).shut_down


@pytest.mark.parametrize("state", [0, 2, 3, 4, 5, 6])
def test_any_other_state_is_refused(tmp_path: Path, state: int) -> None:
    with pytest.raises(StatefulError, match="not shut down cleanly"):
        shutdown.prove_shut_down(str(make_cluster(tmp_path / "data", state=state)))


def test_a_lock_file_that_is_left_is_refused_and_kept(tmp_path: Path) -> None:
    directory = make_cluster(tmp_path / "data")
    (directory / "postmaster.pid").touch()
    with pytest.raises(StatefulError, match=r"postmaster\.pid is left"):
        shutdown.prove_shut_down(str(directory))
    assert (directory / "postmaster.pid").exists()


@pytest.mark.parametrize(
    ("logged_in", "told", "follows"),
    [
        (False, "The role app is no superuser", "set login_user to a superuser, such as 'boss'"),
        (True, "In the database forum, app becomes the role visitor by a default", "set login_db to a database"),
    ],
)
def test_whoever_is_no_superuser_is_told_why(logged_in: bool, told: str, follows: str) -> None:
    class Asked:
        user, database = "app", "forum"

        def scalar(self, question: str, _params: object = ()) -> object:
            answers = {"rolname = current_user": False, "rolname = session_user": logged_in, "oid = %s": "boss"}
            return next((answer for words, answer in answers.items() if words in question), "visitor")

    session: Any = Asked()
    with pytest.raises(StatefulError, match=told) as caught:
        cluster.require_superuser(session, "see it")
    assert caught.value.next_command.startswith(follows)
