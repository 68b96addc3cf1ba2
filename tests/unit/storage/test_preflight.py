# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What forbids a plan, and that each sentence names a way out."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    ANONYMOUS,
    AUTO,
    BIND,
    COPY,
    FILES,
    LAYER,
    NAMED,
    POSTGRESQL,
    RENAME,
    TMPFS,
    DataPath,
    Findings,
    FoundData,
    MountRequest,
    Move,
    Outlying,
    Request,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.preflight import (
    backup_bytes,
    blockers,
    check_move,
    check_request,
    estimated_downtime,
    name_of,
    warnings,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.starting import can_read, may_use
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.strategy import choose
from tests.unit.storage.findings import DATA, FACTS, GIB, PLACE, REQUEST, a_move, findings, waiting

ELSEWHERE = {RENAME: "another file system", "clone": "another file system", "replica": "no"}


def found(request: Request = REQUEST, what: Findings | None = None) -> list[Blocker]:
    told = what or findings()
    return blockers(request, told, {name_of(move): choose(move, request.strategy) for move in told.moves})


def of(**changes: Any) -> list[Blocker]:
    return found(what=findings(a_move(**changes)))


def test_nothing_is_in_the_way() -> None:
    assert found() == []


LOGICAL = {"logical_backup": ["no psycopg"]}

# What is wrong, what the sentence names, and the way out that it offers.
TABLE = [
    ("no strategy", lambda: of(cannot=dict.fromkeys((RENAME, "clone", "replica", COPY), "no")), "copy: no", "strategy"),
    ("not empty", lambda: of(exists=True, empty=False, occupied_by="3 entries"), "3 entries", "Name another"),
    ("volatile", lambda: of(volatile=True, filesystem="tmpfs"), "tmpfs", "Name a"),
    ("a mount point", lambda: of(exists=True, is_mount_point=True), "itself a mount point", "/srv/app/postgres/db"),
    (
        "a mount point with lost+found",
        lambda: of(exists=True, is_mount_point=True, empty=False, occupied_by="lost+found"), "mount point", "below it",
    ),
    ("no owners", lambda: of(filesystem="exfat"), "exfat", "name a directory"),
    ("read-only", lambda: of(read_only=True), "read-only", "remount,rw"),
    ("closed to root", lambda: of(closed="/srv/app"), "/srv/app", "another directory"),
    ("squashed", lambda: of(closed="/srv/app", filesystem="nfs4"), "root_squash", "another directory"),
    ("soft", lambda: of(soft=True, filesystem="nfs"), "soft", "hard"),
    (
        "closed to the backup", lambda: found(what=findings(backup_place=replace(PLACE, path="/b", closed="/b"))),
        "The backup in /b", "another directory",
    ),
    ("inodes", lambda: of(cannot=ELSEWHERE, free_inodes=10), "10 inodes free", "df -i"),
    ("backup inside the source", lambda: found(replace(REQUEST, backup_dir="/srv/app/postgres/b")), "/b", "backup_dir"),
    ("source inside the backups", lambda: found(replace(REQUEST, backup_dir="/srv/app")), "/srv/app", "backup_dir"),
    (
        "volatile backup", lambda: found(what=findings(backup_place=replace(PLACE, volatile=True, filesystem="tmpfs"))),
        "tmpfs", "backup_dir",
    ),
    (
        "read-only backup", lambda: found(what=findings(backup_place=replace(PLACE, read_only=True))), "read-only",
        "another backup_dir",
    ),
    ("another major", lambda: found(what=findings(other_majors={"db": "17 runs"})), "17 runs", "pin_images: true"),
    ("build context", lambda: of(ignore_line="postgres", ignore_file="/srv/app/.dockerignore"), "'postgres'", "add"),
    ("other users", lambda: of(users=("app-backup-1",)), "app-backup-1", "first"),
    ("shipped by the image", lambda: of(kind=LAYER, shipped_by_image=True), "ships files", "name"),
    ("no layer to see", lambda: of(kind=LAYER, host_path=""), "storage driver", "volume"),
    ("drift", lambda: found(what=findings(drift={"db": ("the command changed",)})), "the command", "accept_drift"),
    (
        "compose v1 forgets", lambda: found(what=findings(compose_v1=True, other_anonymous={"db": ("/extra",)})),
        "/extra", "mounts too",
    ),
    (
        "no backup for a copy", lambda: found(replace(REQUEST, backup="none"), findings(a_move(cannot=ELSEWHERE))),
        "db:/var/lib/postgresql/data", "backup: auto",
    ),
    (
        "a part in the layer", lambda: found(what=findings(outlying=(Outlying("db", "a tablespace", "/fast", LAYER),))),
        "a tablespace", "target: /fast",
    ),
    (
        "a part in memory", lambda: found(what=findings(outlying=(Outlying("db", "a tablespace", "/fast", TMPFS),))),
        "a tablespace", "on disk first",
    ),
    (
        "a backup without proof", lambda: of(facts=replace(FACTS, details=LOGICAL | {"physical_backup": ["12"]})),
        "no psycopg", "host_requirements",
    ),
    (
        "a backup without proof, asked for",
        lambda: found(replace(REQUEST, backup="logical"), findings(a_move(facts=replace(FACTS, details=LOGICAL)))),
        "no psycopg", "host_requirements",
    ),
    ("too long", lambda: found(replace(REQUEST, max_downtime=0.5)), "2.0 s", "max_downtime"),
    ("space", lambda: of(cannot=ELSEWHERE, free_bytes=GIB), "bytes are missing", "Free them"),
]  # fmt: skip


# All others are for the admin to choose: another option, another place.
COMMANDS = {
    "not empty": "ls -la /srv/app/postgres",
    "read-only": "mount -o remount,rw /",
    "inodes": "df -i /",
    "closed to root": "lsattr -d /srv/app",
    "squashed": "findmnt -o TARGET,SOURCE,OPTIONS --target /srv/app",
    "soft": "findmnt -o TARGET,SOURCE,OPTIONS --target /",
    "closed to the backup": "lsattr -d /b",
    "read-only backup": "mount -o remount,rw /",
    "build context": r"printf '\n%s\n' postgres >> /srv/app/.dockerignore",
    "other users": f"docker ps -a --filter volume={'a' * 64}",
    "drift": "cd /srv/app && docker compose up -d --no-deps db",
    "space": "df -h /",
}


@pytest.mark.parametrize("what, ask, named, way_out", TABLE, ids=[row[0] for row in TABLE])
def test_each_is_said_with_a_way_out(what: str, ask: Any, named: str, way_out: str) -> None:
    (blocker,) = ask()
    assert named in blocker.text
    assert way_out in blocker.text
    assert blocker.text.endswith(".")
    assert blocker.command == COMMANDS.get(what, "")


@pytest.mark.parametrize("backup", ["auto", "physical", "none"])
def test_only_a_logical_backup_needs_a_snapshot(backup: str) -> None:
    assert found(replace(REQUEST, backup=backup), findings(a_move(facts=replace(FACTS, details=LOGICAL)))) == []


def test_what_the_store_and_the_files_say_is_passed_on() -> None:
    theirs = [Blocker("Other.", "df"), Blocker("The file lacks it."), Blocker("It is a standby.", "psql")]
    move = a_move(facts=replace(FACTS, blockers=(theirs[2],)))
    rewrite = replace(findings().rewrite, blockers=(theirs[1],))
    assert found(what=findings(move, blockers=(theirs[0],), rewrite=rewrite)) == theirs


def test_paths_are_quoted_for_a_shell() -> None:
    place = {"path": "/srv/Mein Próject/it's", "exists": True, "empty": False, "occupied_by": "a file"}
    commands = [blocker.command for blocker in of(**place, ignore_line="it's", ignore_file="/srv/Mein Próject/.d")]
    assert [shlex.split(command) for command in commands] == [
        ["ls", "-la", "/srv/Mein Próject/it's"],
        ["printf", r"\n%s\n", "it's", ">>", "/srv/Mein Próject/.d"],
    ]


def test_drift_is_not_applied_by_what_would_lose_the_data() -> None:
    (blocker,) = found(what=findings(drift={"db": ("the command changed",)}, stranded_by_up=frozenset({"db"})))
    assert "accept_drift: true" in blocker.text
    assert (blocker.command, "docker compose up -d" in blocker.text) == ("", False)


def test_everything_in_the_way_is_said_at_once() -> None:
    move = a_move(volatile=True, users=("x",), empty=False, occupied_by="a file", exists=True)
    assert len(found(what=findings(move, drift={"db": ("a",)}))) == 4


@pytest.mark.parametrize("kind, told", [(ANONYMOUS, 1), (NAMED, 0), (BIND, 0)])
def test_a_part_that_stays_on_its_volume(kind: str, told: int) -> None:
    what = findings(outlying=(Outlying("db", "a tablespace", "/fast", kind),))
    assert found(what=what) == []
    said = warnings(REQUEST, what, _choices(what))
    assert len(said) == told
    assert all("target: /fast" in sentence for sentence in said)


def test_drift_may_be_accepted() -> None:
    assert found(replace(REQUEST, accept_drift=True), findings(drift={"db": ("the command changed",)})) == []


def test_compose_2_carries_anonymous_volumes_over() -> None:
    assert found(what=findings(other_anonymous={"db": ("/extra",)})) == []


def test_no_backup_is_allowed_for_a_rename_and_said_aloud() -> None:
    request = replace(REQUEST, backup="none")
    assert found(request) == []
    told = findings()
    choices = {name_of(move): choose(move, AUTO) for move in told.moves}
    assert any("No backup" in sentence for sentence in warnings(request, told, choices))
    assert not any("No backup" in sentence for sentence in warnings(REQUEST, told, choices))


@pytest.mark.parametrize("backup, device, free, missing", [
    ("auto", 1, 3 * GIB, False),
    ("auto", 1, 2 * GIB, True),
    ("auto", 2, 2 * GIB, False),
])  # fmt: skip
def test_space_is_added_up_for_each_file_system(backup: str, device: int, free: int, missing: bool) -> None:
    """One GiB of data, copied and backed up: together on one file system, or each on its own."""
    move = a_move(cannot=ELSEWHERE, free_bytes=free)
    place = replace(PLACE, path="/backups", device=device, free_bytes=free, mount_point="/backups")
    said = found(replace(REQUEST, backup=backup), findings(move, backup_place=place))
    assert bool(said) == missing
    if missing:
        needed = int(GIB * 1.05) * 2 + (64 << 20) + (32 << 20)
        assert f"{needed - free:,} bytes are missing" in said[0].text


def test_a_limit_of_nothing_is_no_limit() -> None:
    assert found(replace(REQUEST, max_downtime=0.0)) == []
    assert found(replace(REQUEST, max_downtime=2.0)) == []


@pytest.mark.parametrize("changes, backup, factor", [
    ({}, "auto", 1.05),
    ({}, "logical", 2.1),
    ({"facts": replace(FACTS, details={"physical_backup": ["wal_level is minimal"]})}, "auto", 2.1),
    ({"running": False}, "logical", 1.05),
    ({"store": "redis", "size_bytes": 0, "facts": replace(FACTS, details={"used_memory": GIB})}, "auto", 1.05),
])  # fmt: skip
def test_a_backup_needs_room_for_its_proof(changes: dict[str, Any], backup: str, factor: float) -> None:
    needed = backup_bytes(replace(REQUEST, backup=backup), a_move(**changes).data)
    assert needed == int(GIB * factor) + (32 << 20)


def test_pinned_images_may_have_another_major() -> None:
    assert found(replace(REQUEST, pin_images=True), findings(other_majors={"db": "17 and 18"})) == []


def test_a_copy_that_grows_in_the_build_context_is_told() -> None:
    told = findings(a_move(cannot=ELSEWHERE, partial_line=".postgres.partial-*"))
    assert any("'.postgres.partial-*'" in sentence for sentence in warnings(REQUEST, told, _choices(told)))
    told = findings(a_move(partial_line=".postgres.partial-*"))
    assert warnings(REQUEST, told, _choices(told)) == [], "a rename makes no copy"


@pytest.mark.parametrize("store, told", [(POSTGRESQL, 2), ("redis", 2), (FILES, 1)])
def test_nfs_is_told_with_its_danger_to_a_database(store: str, told: int) -> None:
    what = findings(a_move(filesystem="nfs4", store=store))
    assert found(what=what) == []
    said = [sentence for sentence in warnings(REQUEST, what, _choices(what)) if "nfs4" in sentence]
    assert len(said) == told
    assert any("sync" in sentence for sentence in said) == (store != FILES)
    assert len(warnings(REQUEST, waiting(filesystem="nfs4"), {})) == 2


def test_files_may_lie_on_a_soft_mount_and_what_is_read_only_is_said_once() -> None:
    assert of(soft=True, filesystem="nfs", store=FILES) == []
    assert len(of(read_only=True, closed="/srv/app")) == 1


def test_restarts_overlap_and_moves_add_up() -> None:
    moves = (a_move(cannot=ELSEWHERE), a_move(service="redis", store="redis", cannot=ELSEWHERE))
    each = [estimated_downtime(told, _choices(told)) for told in (findings(moves[0]), findings(moves[1]))]
    both = findings(*moves)
    assert max(each) < estimated_downtime(both, _choices(both)) == pytest.approx(sum(each) - 2.0)


def _choices(told: Findings) -> dict[str, Any]:
    return {name_of(move): choose(move, AUTO) for move in told.moves}


def test_a_floating_tag_is_said_with_the_way_to_pin_it() -> None:
    told = findings(floating={"db": "The tag postgres:alpine means 18 by now."})
    (said,) = warnings(REQUEST, told, _choices(told))
    assert "pin_images: true" in said
    (said,) = warnings(replace(REQUEST, pin_images=True), told, _choices(told))
    assert "pin_images" not in said


# -- services without a container ----------------------------------------------

CLUSTER = FoundData(POSTGRESQL, "17", "postgresql 17, 4711, shut down")
FULL: dict[str, Any] = {"exists": True, "empty": False, "occupied_by": "PG_VERSION, base"}
THERE: dict[str, Any] = {"exists": True, "owner": "0:0", "mode": 0o755}
WAITING: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "the named volume of a project that is down",
        {"mounted_now": "app_db", "mounted_kind": NAMED, "left_behind": "postgresql data"},
        "app_db", "docker compose up --no-start db",
    ),
    (
        "another directory", {"mounted_now": "/srv/old", "mounted_kind": BIND, "left_behind": "postgresql data"},
        "/srv/old", "by hand",
    ),
    ("a mount one level off", {"astray": "/var/lib/postgresql"}, "/var/lib/postgresql", "name the target"),
    ("a volume of the project", {"lost_here": ("app_pg (postgresql 17)",)}, "app_pg", "--no-start db"),
    ("replicas", {"replicas": 2}, "2 replicas", "scale: 1"),
    ("foreign files", FULL, "PG_VERSION, base", "Name another"),
    ("data of another store", {**FULL, "holds": (FoundData("redis", "8", "redis 8"),)}, "postgresql", "Name another"),
    ("another major", {**FULL, "holds": (replace(CLUSTER, version="15", shown="major 15"),)}, "major 15", "name the"),
    ("volatile", {"volatile": True, "filesystem": "tmpfs"}, "tmpfs", "Name a"),
    ("build context", {"ignore_line": "postgres", "ignore_file": "/srv/app/.dockerignore"}, "'postgres'", "add"),
    ("a directory of root's", {**THERE, "user": "1000:1000"}, "0:0 (mode 0755)", "Give it"),
    ("data of another user", {**FULL, **THERE, "holds": (CLUSTER,), "user": "70"}, "0:0 (mode 0755)", "Give it"),
    ("a directory that is not made yet", {"user": "1000:1000"}, "as root's", "make it first"),
]  # fmt: skip


COMMANDS_OF_WAITING = {
    "a directory of root's": "chown 1000:1000 /srv/app/postgres",
    "data of another user": "chown -R 70 /srv/app/postgres",
    "a directory that is not made yet": "install -d -m 700 -o 1000 -g 1000 /srv/app/postgres",
    "the named volume of a project that is down": "cd /srv/app && docker compose up --no-start db",
    "another directory": "mkdir -p /srv/app && mv -T /srv/old /srv/app/postgres",
    "a volume of the project": "docker volume ls --filter dangling=true",
    "foreign files": "ls -la /srv/app/postgres",
    "data of another store": "ls -la /srv/app/postgres",
    "build context": r"printf '\n%s\n' postgres >> /srv/app/.dockerignore",
}


@pytest.mark.parametrize("what, changes, named, way_out", WAITING, ids=[row[0] for row in WAITING])
def test_no_service_starts_without_its_data(what: str, changes: dict[str, Any], named: str, way_out: str) -> None:
    (blocker,) = found(what=waiting(**changes))
    assert named in blocker.text
    assert way_out in blocker.text
    assert blocker.text.endswith(".")
    assert blocker.command == COMMANDS_OF_WAITING.get(what, "")


@pytest.mark.parametrize("user, owner, mode, store, may", [
    ("999", "999:999", 0o700, POSTGRESQL, True),
    ("999:999", "0:999", 0o770, POSTGRESQL, False),
    ("999:999", "0:999", 0o770, "redis", True),
    ("999", "0:999", 0o770, "redis", True),
    ("999:1000", "0:999", 0o770, "redis", False),
    ("999:999", "0:999", 0o750, "redis", False),
    ("999:999", "0:0", 0o777, "redis", True),
])  # fmt: skip
def test_who_may_use_a_directory(user: str, owner: str, mode: int, store: str, may: bool) -> None:
    assert may_use(user, replace(PLACE, exists=True, owner=owner, mode=mode), store) is may


def test_files_of_no_known_store_may_be_meant_to_be_read_only() -> None:
    told = waiting(**THERE, store="", user="1000:1000")
    assert found(what=told) == []
    (said,) = warnings(REQUEST, told, {})
    assert "chown 1000:1000 /srv/app/postgres" in said


def test_a_service_may_start_on_data_of_its_own() -> None:
    told = waiting(**FULL, holds=(CLUSTER,))
    assert found(what=told) == []
    (said,) = warnings(REQUEST, told, {})
    assert "postgresql 17, 4711" in said


def test_lost_volumes_that_may_be_anybodys_are_named() -> None:
    told = waiting(lost=("abc (postgresql 17)",))
    assert found(what=told) == []
    (said,) = warnings(REQUEST, told, {})
    assert "abc (postgresql 17)" in said
    assert warnings(REQUEST, waiting(lost=("abc",), **FULL, holds=(CLUSTER,)), {})[1:] == []


@pytest.mark.parametrize("store, data, image, reads", [
    (POSTGRESQL, "17", "17", True),
    (POSTGRESQL, "15", "17", False),
    (POSTGRESQL, "17", "15", False),
    (POSTGRESQL, "9.6", "9.6", True),
    (POSTGRESQL, "9.5", "9.6", False),
    (POSTGRESQL, "17", "", True),
    ("redis", "7.2.4", "8.0.1", True),
    ("redis", "8.0.1", "7.2.4", False),
    ("redis", "8.2.0", "8", True),
    ("redis", "", "8", True),
])  # fmt: skip
def test_which_data_an_image_reads(store: str, data: str, image: str, reads: bool) -> None:
    assert can_read(store, data, image) is reads


# -- the request itself --------------------------------------------------------


@pytest.mark.parametrize(
    "one, other",
    [
        (MountRequest("db", "/srv/a", "/data"), MountRequest("db", "/srv/b", "/data")),
        (MountRequest("db", "/srv/a"), MountRequest("redis", "/srv/a")),
        (MountRequest("db", "/srv/a"), MountRequest("redis", "/srv/a/below")),
        (MountRequest("db", "/srv/a/below/"), MountRequest("redis", "/srv/a")),
        (MountRequest("db", "/"), MountRequest("redis", "/srv")),
    ],
)
def test_a_request_that_contradicts_itself_is_refused(one: MountRequest, other: MountRequest) -> None:
    with pytest.raises(InvalidInput):
        check_request([one, other])


def test_names_that_only_begin_alike_do_not_overlap() -> None:
    check_request([MountRequest("db", "/srv/a"), MountRequest("redis", "/srv/ab")])
    check_move(DATA, "/engine/volumes/v/_data-new")


@pytest.mark.parametrize(
    "data, source, said",
    [
        (replace(DATA, kind=TMPFS, host_path=""), "/srv/a", "memory"),
        (replace(DATA, kind=BIND), "/srv/a", "bind mount already"),
        (replace(DATA, driver="nfs-driver"), "/srv/a", "nfs-driver"),
        (DATA, DATA.host_path, "overlaps"),
        (DATA, DATA.host_path + "/inside", "overlaps"),
        (DATA, "/engine/volumes", "overlaps"),
    ],
)
def test_what_cannot_be_moved_is_said(data: DataPath, source: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        check_move(data, source)


def test_what_can_be_moved_passes() -> None:
    move: Move = a_move()
    check_move(move.data, move.source)
