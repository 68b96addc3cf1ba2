# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands between a cluster and an image: one thing at a time, on a pair between which nothing does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.compatibility import compare
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    DUMP,
    PG_UPGRADE,
    SWAP,
    CandidateImage,
    Collation,
    Comparison,
    Extension,
    Library,
    Setting,
    Subject,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Slot, Tablespace
from tests.unit.postgresql.subjects import (
    ALPINE,
    CLUSTER,
    CONFIG,
    DATABASES,
    DOWNGRADED,
    IMAGE,
    INVENTORY,
    NEWER,
    SUBJECT,
    UPGRADED,
)

SHUT = (replace(DATABASES[0], allows_connections=False), *DATABASES[1:])
OLD = (Extension("app", "postgis", "2.5.1"), Extension("gis", "postgis", "3.4.2"))


CRON = replace(UPGRADED, extensions={**UPGRADED.extensions, "pg_cron": "1.6"})


def compared(subject: Subject = SUBJECT, candidate: CandidateImage = UPGRADED, **given: Any) -> Comparison:
    options = {"standby_possible": True, "reflinks": False, "same_filesystem": True, "container": "db-1", **given}
    return compare(subject, candidate, **options)


def test_a_closed_database_closes_a_swap_where_the_order_of_text_changes() -> None:
    subject = being(databases=SHUT)
    assert [blocker.text for blocker in compared(subject, NEWER).blockers] == []
    (blocker,) = compared(subject, ALPINE).blockers
    assert "app" in blocker.text
    assert "ALLOW_CONNECTIONS" in blocker.text
    # What such a database names is unknown, whatever the others do.
    by_bytes = replace(subject, inventory=replace(INVENTORY, collations=()))
    assert compared(by_bytes, ALPINE).blockers
    assert not compared(replace(SUBJECT, inventory=by_bytes.inventory), ALPINE).reindex


def holding(**changes: Any) -> Subject:
    return replace(SUBJECT, inventory=replace(INVENTORY, **changes))


def being(**changes: Any) -> Subject:
    return replace(SUBJECT, cluster=replace(CLUSTER, **changes))


def open_ways(comparison: Comparison) -> list[str]:
    return [] if comparison.blockers else [way.strategy for way in comparison.ways if not way.impediments]


@pytest.mark.parametrize(
    "candidate,ways",
    [
        (NEWER, [SWAP, DUMP]),
        (UPGRADED, [PG_UPGRADE, DUMP]),
        (DOWNGRADED, [DUMP]),
        (ALPINE, [SWAP, DUMP]),
        (IMAGE, []),
    ],
)
def test_the_ways_between_two_plain_images(candidate: CandidateImage, ways: list[str]) -> None:
    comparison = compared(candidate=candidate)
    assert open_ways(comparison) == ways
    assert comparison.blockers == ()
    assert all(way.reason for way in comparison.ways) or comparison.same_image
    assert comparison.same_major == (candidate.major == "15")


def test_nothing_is_to_be_done_for_the_very_image() -> None:
    comparison = compared(candidate=replace(IMAGE, reference="postgres:latest"))
    assert comparison.same_image
    assert (comparison.reindex, comparison.warnings, comparison.updates) == ("", (), ())
    assert {way.downtime for way in comparison.ways} == {0.0}


def test_majors_are_numbers_and_not_texts() -> None:
    old = replace(being(server_version_num=90624, major="9.6"), image=replace(IMAGE, major="9.6", version="9.6.24"))
    assert open_ways(compared(old)) == [PG_UPGRADE, DUMP]
    assert open_ways(compared(candidate=replace(DOWNGRADED, major="9.6", server_version_num=90624))) == [DUMP]


ARCHIVE = Setting("old_snapshot_threshold", "1", "command line")
BLOCKERS: list[tuple[Subject, CandidateImage, str]] = [
    (holding(extensions=OLD), UPGRADED, "lacks the extension postgis, which is there as 2.5.1 in app; 3.4.2 in gis"),
    (holding(extensions=(Extension("app", "adminpack", "2.1"),)), UPGRADED, "it went with Postgres 17"),
    (holding(libraries=(Library("app", "mine"),)), UPGRADED, "lacks the library mine"),
    (
        holding(settings=(Setting("shared_preload_libraries", "auto_explain, pg_cron", "configuration file", "f:1"),)),
        NEWER,
        "lacks the library pg_cron, which is to be preloaded by shared_preload_libraries (f:1)",
    ),
    (being(shared_preload_libraries="$libdir/citus"), UPGRADED, "lacks the library citus"),
    (being(tablespaces=(Tablespace(1, "fast", "/ssd"),)), UPGRADED, "The cluster has tablespaces: fast (/ssd)"),
    (holding(settings=(ARCHIVE,)), UPGRADED, "The command line sets old_snapshot_threshold"),
    (
        holding(settings=(replace(ARCHIVE, source="configuration file", place="/etc/postgresql/my.conf:3"),)),
        UPGRADED,
        "Files outside the data directory set what postgres:17 does not know, and are not ours to change:"
        " old_snapshot_threshold (/etc/postgresql/my.conf:3)",
    ),
    (
        being(databases=(replace(DATABASES[0], ctype="de_DE.UTF-8"), *DATABASES[1:])),
        UPGRADED,
        "lacks the locale de_DE.UTF-8, which is that of database app",
    ),
    (
        holding(collations=(Collation("app", "german", "c", "", "", "de_DE.utf8"),)),
        NEWER,
        "which is that of collation german in app",
    ),
    (
        holding(settings=(Setting("lc_messages", "de_DE.UTF-8", "configuration file", f"{CONFIG}:9"),)),
        UPGRADED,
        f"which is that of lc_messages ({CONFIG}:9)",
    ),
    (
        holding(collations=(Collation("app", "und-x-icu", "i", "153.1", "153.1", "und"),)),
        replace(UPGRADED, icu=""),
        "built without ICU",
    ),
    (being(in_recovery=True), NEWER, "standby of another one"),
    (being(prepared_transactions=2), UPGRADED, "2 prepared transactions"),
    (being(databases=(replace(DATABASES[0], allows_connections=False), *DATABASES[1:])), UPGRADED, "databases app"),
]


@pytest.mark.parametrize("subject,candidate,told", BLOCKERS)
def test_what_forbids_every_way(subject: Subject, candidate: CandidateImage, told: str) -> None:
    comparison = compared(subject, candidate)
    (blocker,) = comparison.blockers
    assert told in blocker.text
    assert open_ways(comparison) == []


def test_a_blocker_leads_to_what_it_is_about() -> None:
    (blocker,) = compared(holding(extensions=OLD)).blockers
    assert blocker.command == "docker exec db-1 psql -U boss -d app -c '\\dx+ \"postgis\"'"
    (blocker,) = compared(holding(extensions=OLD), container="").blockers
    assert blocker.command == ""


IMPEDIMENTS: list[tuple[Subject, CandidateImage, list[str], str]] = [
    # The files carry them, and nothing else does.
    (being(prepared_transactions=1), NEWER, [SWAP], "prepared transactions"),
    (
        being(databases=(replace(DATABASES[0], allows_connections=False), *DATABASES[1:])),
        NEWER,
        [SWAP],
        "allow no connections",
    ),
    # A new cluster gets the extension as the image has it; files keep what a newer one made.
    (holding(extensions=(Extension("app", "hstore", "1.10"),)), NEWER, [DUMP], "older than the 1.10 in app"),
    (holding(extensions=(Extension("app", "hstore", "1.10"),)), UPGRADED, [DUMP], "older than the 1.10 in app"),
    (
        holding(libraries=(Library("app", "hstore-old", "hstore"),)),
        UPGRADED,
        [DUMP],
        "lacks the library hstore-old, which functions of the extension hstore in app load",
    ),
    (
        holding(settings=(Setting("old_snapshot_threshold", "1", "user", "role app"),)),
        UPGRADED,
        [DUMP],
        "old_snapshot_threshold (role app)",
    ),
]


@pytest.mark.parametrize("subject,candidate,ways,told", IMPEDIMENTS)
def test_what_closes_some_ways(subject: Subject, candidate: CandidateImage, ways: list[str], told: str) -> None:
    comparison = compared(subject, candidate)
    assert comparison.blockers == ()
    assert open_ways(comparison) == ways
    assert any(told in reason for way in comparison.ways for reason in way.impediments)


@pytest.mark.parametrize(
    "subject,candidate",
    [
        # musl takes any locale.
        (being(databases=(replace(DATABASES[0], collate="de_DE.UTF-8"), *DATABASES[1:])), ALPINE),
        (holding(settings=(Setting("ssl_ecdh_curve", "x", "command line"),)), replace(UPGRADED, parameters=())),
        (
            holding(settings=(Setting("ssl_ecdh_curve", "x", "command line"),)),
            replace(UPGRADED, server_version_num=180000, parameters=("work_mem",)),
        ),
        # Neither image lists it, as none lists those for developers.
        (holding(settings=(Setting("zero_damaged_pages", "on", "command line"),)), UPGRADED),
        (holding(settings=(Setting("app.secret", "", "database", "database app"),)), UPGRADED),
        (holding(settings=(Setting("shared_preload_libraries", '"auto_explain", ', "command line"),)), UPGRADED),
    ],
)
def test_what_only_seems_to_stand_in_the_way(subject: Subject, candidate: CandidateImage) -> None:
    comparison = compared(subject, candidate)
    assert comparison.blockers == ()
    assert len(open_ways(comparison)) == 2


@pytest.mark.parametrize(
    "changes,candidate,told",
    [
        ({}, NEWER, ""),
        ({}, replace(NEWER, libc_version="2.41"), "glibc changes from 2.36 to 2.41"),
        ({}, replace(NEWER, libc_version="2.24"), "across 2.28"),
        ({}, ALPINE, "the libc changes from glibc 2.36 to musl 1.2.5"),
        ({}, replace(NEWER, icu="76"), ""),
        ({"collations": (Collation("app", "default", "i", "1", "1"),)}, replace(NEWER, icu="76"), "ICU changes"),
        ({"collations": ()}, ALPINE, ""),
        ({"collations": (Collation("app", "default", "c", "2.31", "2.36"),)}, IMAGE, "recorded in app (2.31"),
        # Postgres refuses to record a version where it had none: it would be a reason for ever.
        ({"collations": (Collation("app", "default", "c", "", "2.36"),)}, NEWER, ""),
    ],
)
def test_when_text_is_ordered_anew(changes: dict[str, Any], candidate: CandidateImage, told: str) -> None:
    reindex = compared(holding(**changes), candidate).reindex
    assert told in reindex
    assert bool(reindex) == bool(told)


def test_what_the_command_line_sets_is_told_where_another_major_judges_it() -> None:
    command = holding(
        settings=(Setting("work_mem", "1", "command line"), Setting("config_file", "/etc/x.conf", "command line"))
    )
    told = [warning for warning in compared(command).warnings if "command line" in warning]
    assert len(told) == 1
    assert "sets work_mem, and" in told[0]
    assert not any("command line" in warning for warning in compared(command, NEWER).warnings)


def test_one_musl_orders_as_another() -> None:
    older = replace(SUBJECT, image=replace(ALPINE, id="sha256:old", libc_version="1.2.2"))
    assert compared(older, ALPINE).reindex == ""
    assert "musl 1.2.2 to glibc 2.36" in compared(older, NEWER).reindex


@pytest.mark.parametrize(
    "subject,candidate,told",
    [
        (SUBJECT, replace(NEWER, version="15.2", server_version_num=150002), "older than the 15.4 that runs"),
        (SUBJECT, ALPINE, "3 indexes on text (100 MiB) have to be built anew"),
        (SUBJECT, ALPINE, "as 70:70 in place of 999:999"),
        (holding(text_partitions=2), ALPINE, "2 tables are partitioned by text"),
        (
            holding(collations=(Collation("app", "default", "c", "", "2.36"),)),
            NEWER,
            "No collation version is recorded in app",
        ),
        (
            SUBJECT,
            replace(UPGRADED, data_directory="/var/lib/postgresql/18/docker", volumes=("/var/lib/postgresql",)),
            "mount and PGDATA change together",
        ),
        (holding(md5_roles=("old", "older")), UPGRADED, "(old, older)"),
        (being(relations=30_000), UPGRADED, "make pg_upgrade slow"),
        (being(unlogged_tables=1), UPGRADED, "1 unlogged tables"),
        (being(slots=(Slot("debezium", "logical", True),)), UPGRADED, "(debezium)"),
        (being(tablespaces=(Tablespace(1, "fast", "/fast"),)), NEWER, "fast in /fast"),
        (holding(extensions=(Extension("app", "hstore", "1.2"),)), NEWER, "hstore stays at 1.2"),
        (holding(extensions=(Extension("app", "hstore", "1.10"),)), NEWER, "hstore 1.10 of app anew as the older 1.8"),
        (holding(libraries=(Library("app", "/opt/mine"),)), NEWER, "by their path"),
        (
            holding(settings=(Setting("old_snapshot_threshold", "1", "configuration file", f"{CONFIG}:9"),)),
            UPGRADED,
            f"left out: old_snapshot_threshold ({CONFIG}:9)",
        ),
    ],
)
def test_what_is_worth_knowing(subject: Subject, candidate: CandidateImage, told: str) -> None:
    plain = compared(candidate=candidate).warnings
    found = [warning for warning in compared(subject, candidate).warnings if told in warning]
    assert len(found) == 1
    assert subject == SUBJECT or found[0] not in plain
    assert compared(candidate=NEWER).warnings == ()


@pytest.mark.parametrize(
    "version,known,updated",
    [
        ("3.4.2", ("3.4.2", "3.5.0"), True),
        ("3.1.0", ("3.5.0", "ANY"), True),
        ("3.1.0", ("3.5.0",), False),
        ("3.5.0", ("3.5.0", "ANY"), False),
        ("3.6.0", ("3.5.0", "ANY"), False),
    ],
)
def test_which_extensions_are_updated(version: str, known: tuple[str, ...], updated: bool) -> None:
    image = replace(UPGRADED, extensions={"postgis": "3.5.0"}, updates={"postgis": known})
    held = Extension("app", "postgis", version)
    assert compared(holding(extensions=(held,), libraries=()), image).updates == ((held,) if updated else ())


def test_estimates_follow_what_decides_them() -> None:
    plain = compared()
    large = compared(being(database_bytes=8 << 30))
    many = compared(being(relations=11_000))
    assert large.way(PG_UPGRADE).downtime == plain.way(PG_UPGRADE).downtime
    assert large.way(DUMP).downtime > 3 * plain.way(DUMP).downtime
    assert many.way(PG_UPGRADE).downtime >= plain.way(PG_UPGRADE).downtime + 26
    huge = being(database_bytes=100 << 30)
    copied = compared(huge, standby_possible=False)
    assert copied.way(PG_UPGRADE).downtime > compared(huge).way(PG_UPGRADE).downtime
    assert large.way(PG_UPGRADE).space > 8 << 30
    assert compared(being(database_bytes=8 << 30), reflinks=True).way(PG_UPGRADE).space < 1 << 30
    elsewhere = compared(being(database_bytes=8 << 30), reflinks=True, same_filesystem=False)
    assert elsewhere.way(PG_UPGRADE).space > 8 << 30
    assert compared(candidate=NEWER).way(SWAP).downtime < compared(candidate=ALPINE).way(SWAP).downtime
    assert compared(candidate=ALPINE).way(DUMP).downtime == compared(candidate=NEWER).way(DUMP).downtime
    for way in plain.ways:
        assert way.downtime == int(way.downtime) > 0


@pytest.mark.parametrize(
    ("subject", "candidate", "closed", "words"),
    [
        (holding(extensions=(Extension("app", "pg_cron", "1.6"),)), CRON, {"dump"}, "one database"),
        (holding(subscriptions=2), UPGRADED, {"dump"}, "2 logical subscriptions"),
        (holding(subscriptions=1), replace(UPGRADED, server_version_num=160000, major="16"), {"dump", "pg_upgrade"},
         "1 logical subscriptions"),
    ],
)  # fmt: skip
def test_what_another_cluster_would_leave_behind_closes_the_ways_to_it(
    subject: Subject, candidate: CandidateImage, closed: set[str], words: str
) -> None:
    found = compared(subject, candidate)
    impeded = {way.strategy for way in found.ways if any(words in told for told in way.impediments)}
    blocked = any(words in blocker.text for blocker in found.blockers)
    assert impeded == closed or (blocked and closed == {"dump", "pg_upgrade"})


def test_an_order_that_the_image_knows_for_no_database_is_found_beforehand() -> None:
    ordered = tuple(replace(database, provider="i", locale="en") for database in CLUSTER.databases)
    older = replace(UPGRADED, major="14", version="14.9", server_version_num=140009, icu="72")
    found = compared(being(databases=ordered), older)
    assert any("ordered by ICU" in blocker.text for blocker in found.blockers)
