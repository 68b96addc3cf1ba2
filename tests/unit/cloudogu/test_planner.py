# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Versions of a dogu, what an earlier upgrade left, and what forbids the next: tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu import planner, run
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.ces import Host
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.model import (
    Dependent,
    Seen,
    Version,
    account_of,
    is_a_new_default,
    lost_markers,
    offered,
    unmarked,
    version_of,
    version_of_image,
    way,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.compare import Difference
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.model import Fingerprint
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster, Database

GIB = 1 << 30
NOW, NEXT = Version((14, 17), 5), Version((17, 6), 1)


def cluster(**changes: Any) -> Cluster:
    found = Cluster(
        server_version_num=140017,
        major="14",
        system_identifier=42,
        superuser="postgres",
        in_recovery=False,
        data_directory="/var/lib/postgresql",
        config_file="/var/lib/postgresql/postgresql.conf",
        hba_file="/var/lib/postgresql/pg_hba.conf",
        ident_file="/var/lib/postgresql/pg_ident.conf",
        port=5432,
        unix_socket_directories=("/run/postgresql",),
        wal_level="replica",
        max_wal_senders=10,
        free_wal_senders=10,
        max_connections=100,
        data_checksums=False,
        wal_segment_bytes=16 << 20,
        archive_mode="off",
        shared_preload_libraries="",
        synchronous_standby_names="",
        password_encryption="scram-sha-256",
        databases=(Database("scm_4f2a1c", "scm_4f2a1c", GIB, "UTF8", "C", "C", "c", "", True, False),),
        tablespaces=(),
        slots=(),
        prepared_transactions=0,
        unlogged_tables=0,
        relations=10,
        database_bytes=GIB,
        wal_bytes=0,
    )
    return replace(found, **changes)


def seen(**changes: Any) -> Seen:
    found = Seen(
        name="postgresql",
        container="c0ffee",
        image="registry.cloudogu.com/official/postgresql:14.17-5",
        image_id="sha256:1",
        status="running",
        version=NOW,
        available=NEXT,
        state="ready",
        keys={"user": "postgres", "restricted_stat_visibility": "true"},
        has_password=True,
        volume="/var/lib/ces/postgresql/volumes/data",
        data="/var/lib/ces/postgresql/volumes/data",
        data_major="14",
        cluster=cluster(),
        why_silent="",
        dependents=(Dependent("scm", "scm_4f2a1c", True, "always"), Dependent("redmine", "redmine_1", False)),
        left_over=(),
        superusers=("postgres",),
        volume_bytes=GIB,
        free_bytes=100 * GIB,
    )
    return replace(found, **changes)


def blockers(there: Seen, **changes: Any) -> list[str]:
    asked: dict[str, Any] = {
        "backups": "/srv/backups",
        "free_for_backups": 100 * GIB,
        "same_disk": False,
        **changes,
    }
    return [f"{each.text} [{each.command}]" for each in planner.blockers_of(there, NEXT, **asked)]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("14.17-5", Version((14, 17), 5)),
        ("9.6.2-1", Version((9, 6, 2), 1)),
        ("14.17", None),
        ("latest", None),
        ("", None),
        ("v14.17-5", None),
    ],
)
def test_a_version(text: str, expected: Version | None) -> None:
    assert version_of(text) == expected
    assert expected is None or str(expected) == text


@pytest.mark.parametrize(
    "reference, expected",
    [
        ("registry.cloudogu.com/official/postgresql:14.17-5", "14.17-5"),
        ("localhost:5000/official/postgresql:14.17-5@sha256:00", "14.17-5"),
        ("localhost:5000/official/postgresql", "None"),
        ("postgres:17", "None"),
    ],
)
def test_the_version_of_an_image(reference: str, expected: str) -> None:
    assert str(version_of_image(reference)) == expected


@pytest.mark.parametrize(
    "old, new, expected",
    [
        ("14.17-5", "14.17-5", "equal"),
        ("14.17-5", "14.17-6", "minor"),
        ("14.9-1", "14.17-1", "minor"),
        ("14.17-5", "15.1-1", "major"),
        ("14.17-5", "14.9-9", "down"),
        ("9.6.2-1", "10.1-1", "major"),
    ],
)
def test_how_far_it_is(old: str, new: str, expected: str) -> None:
    before, after = version_of(old), version_of(new)
    assert before
    assert after
    assert way(before, after) == expected


def test_what_is_offered() -> None:
    assert offered("official/postgresql: 14.17-5 -> 17.6-1", "postgresql") == NEXT
    listing = "scm 3.1.0-1 3.2.0-1\nofficial/postgresql  14.17-5  17.6-1\npostgresql-tools 1.0-1 99.0-1\n"
    assert offered(listing, "postgresql") == NEXT
    assert offered(listing, "redmine") is None


@pytest.mark.parametrize(
    "dogu, expected",
    [("scm", "scm_4f2a1c"), ("easy-redmine", "easy_redmine_9"), ("sc", ""), ("postgres", ""), ("nexus", "")],
)
def test_whose_service_account_it_is(dogu: str, expected: str) -> None:
    roles = ["postgres", "scm_4f2a1c", "easy_redmine_9", "nexus_1"]
    assert account_of(dogu, roles, ["postgres", "scm_4f2a1c", "easy_redmine_9"]) == expected


def test_nothing_is_in_the_way_of_a_dogu_that_is_well() -> None:
    assert blockers(seen()) == []
    assert seen().stuck == ""


@pytest.mark.parametrize(
    "there, words, command",
    [
        (seen(keys={"user": "postgres", "local_state": "upgrading"}), "wait for ever", "--rm local_state"),
        (
            seen(keys={"user": "postgres", "local_state": "upgrading"}, cluster=None, data_major="12"),
            "run its post-upgrade again",
            "docker logs",
        ),
        (
            seen(keys={"user": "postgres", "local_state": "upgrading"}, cluster=None, post_upgrade_runs=True),
            "wait until it has ended",
            "docker logs",
        ),
        (
            # What post-upgrade needs is not in its way.
            seen(
                keys={"user": "postgres", "local_state": "upgrading", "migration_backup_path": "/b/a.sql"},
                cluster=None,
                data_major="",
                left_over=("/vol/postgresqlFullBackup.dump",),
            ),
            "run its post-upgrade again",
            "docker logs",
        ),
        (
            # The migrations are still to run: whoever removed the key would leave them out.
            seen(keys={"user": "postgres", "local_state": "upgrading"}, cluster=None),
            "run its post-upgrade again",
            "docker logs",
        ),
        (
            seen(keys={"user": "postgres", "local_state": "upgrading", "migration_backup_path": "/b/a"}, at_work=True),
            "A cesapp upgrades postgresql now",
            "pgrep -af",
        ),
        (seen(serves=False), "not its main process", "docker top"),
        (
            seen(keys={"user": "postgres", "migration_backup_path": "/var/lib/postgresql/backup/a.sql"}),
            "restore that dump",
            "--rm migration_backup_path",
        ),
        (seen(left_over=("/vol/backup/backup.lock",)), "/vol/backup/backup.lock is left", "ls -la"),
        (seen(cluster=None, why_silent="it is exited", keys=None), "does not answer (it is exited)", "docker logs"),
        (seen(keys={}), "no user", "doguctl config user"),
        (seen(superusers=("admin",)), "no superuser of the server is called so (admin)", "doguctl config user"),
        (seen(has_password=False), "no password", "doguctl"),
        (seen(cluster=cluster(prepared_transactions=2)), "2 prepared transactions", "pg_prepared_xacts"),
        (seen(cluster=cluster(in_recovery=True)), "standby", "[]"),
        (seen(free_bytes=GIB), "MiB are missing", "df -h /var/lib/ces"),
    ],
)
def test_what_is_in_the_way_is_named_with_a_way_out(there: Seen, words: str, command: str) -> None:
    found = blockers(there)
    assert len(found) == 1, found
    assert words in found[0]
    assert command in found[0]


def test_copies_have_to_be_elsewhere_and_to_have_room() -> None:
    inside = blockers(seen(), backups="/var/lib/ces/postgresql/volumes/data/backups")
    assert "on the volume" in inside[0]
    assert "df -h /srv/backups" in blockers(seen(), free_for_backups=GIB)[0]
    # On one disk both need their room at one time, which is said once.
    assert len(blockers(seen(free_bytes=4 * GIB), free_for_backups=4 * GIB, same_disk=True)) == 1
    assert blockers(seen(free_bytes=4 * GIB), free_for_backups=6 * GIB) == []
    # What the new version makes of it is to have room, too: the dump, and a cluster beside the old one.
    assert "MiB are missing" in blockers(seen(), free_for_backups=5 * GIB)[0]


@pytest.mark.parametrize("wanted, expected", [(NOW, 0), (Version((14, 17), 6), 1), (NEXT, 1)])
def test_prepared_transactions_are_in_the_way_of_whatever_may_dump(wanted: Version, expected: int) -> None:
    there = seen(cluster=cluster(prepared_transactions=2))
    found = planner.blockers_of(there, wanted, backups="/srv", free_for_backups=100 * GIB, same_disk=False)
    assert len([each for each in found if "prepared" in each.text]) == expected


def test_the_newest_of_what_could_not_be_listed_is_not_the_one_that_runs() -> None:
    host = Host(cast(Engine, None), "postgresql", ("cesapp",))
    request = run.Request("postgresql", None, lambda: host)
    operations = cast(OperationStore, None)
    with pytest.raises(StatefulError, match="cesapp list-upgrades failed") as raised:
        run.plan(request, run.Look(host, seen(available=None, listed=False)), operations)
    assert raised.value.next_command == "cesapp list-upgrades"
    assert run.plan(request, run.Look(host, seen(available=None)), operations).plan is None


def test_the_steps() -> None:
    steps = planner.steps_of(
        seen(), NEXT, backup="auto", backup_path="/b/op", original="/b/op-original", sought=("auto",)
    )
    assert [step.name for step in steps] == [
        *("keep the image", "backup", "copy", "quiet", "original", "upgrade", "prove", "start the dependents"),
    ]
    assert [step.name for step in steps if step.proves] == ["prove"]
    quiet = next(step for step in steps if step.name == "quiet")
    # One that did not run is not started afterwards.
    assert [each["name"] for each in quiet.args["dependents"]] == ["scm"]


@pytest.mark.parametrize(
    "before, after, expected",
    [
        ({}, {}, []),
        ({"restricted_stat_visibility": "true"}, {}, ["restricted_stat_visibility"]),
        ({"restricted_stat_visibility": "true"}, {"restricted_stat_visibility": "true"}, []),
        ({"restricted_stat_visibility": "false"}, {}, []),
    ],
)
def test_a_mark_that_was_there_and_is_gone(before: dict[str, str], after: dict[str, str], expected: list[str]) -> None:
    assert lost_markers(before, after) == expected


def test_a_migration_need_not_set_its_mark() -> None:
    names = ["01-restore.sh", "02-restrictStatVisibility.sh", "03-migrateConstraintsOnPartitionedTables.sh"]
    assert unmarked({"restricted_stat_visibility": "true"}, names) == [names[2]]
    assert unmarked({}, []) == []


def test_the_password_is_in_no_answer() -> None:
    assert "password" not in {*seen().as_dict()["registry"]} - {"password_set"}


@pytest.mark.parametrize(
    "subject, before, after, expected",
    [
        ("grant to PUBLIC on schema public", 140017, 150001, True),
        ("owner postgres on schema public", 130000, 170006, True),
        ("grant to scm on schema public", 140017, 150001, False),
        ("grant to PUBLIC on schema app", 140017, 150001, False),
        ("grant to PUBLIC on schema public", 150001, 170006, False),
        ("grant to PUBLIC on schema public", 130000, 140000, False),
        ("table public.commits", 140017, 150001, False),
    ],
)
def test_what_15_makes_otherwise_is_not_lost(subject: str, before: int, after: int, expected: bool) -> None:
    empty = {"databases": {}, "skipped": {}, "roles": {}, "memberships": (), "settings": {}, "grants": {}}
    old = Fingerprint(server_version_num=before, taken_at="", **empty)  # type: ignore[arg-type]
    new = Fingerprint(server_version_num=after, taken_at="", **empty)  # type: ignore[arg-type]
    assert is_a_new_default(Difference("scm", subject, "is missing", True), old, new) is expected
