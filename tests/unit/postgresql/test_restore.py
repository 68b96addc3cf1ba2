# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container, EngineMount
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import (
    logical_catalogue,
    logical_restore,
    staging,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.counts import Count, Counts
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.logical_catalogue import Catalogue
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.logical_restore import (
    DESK,
    REPLACED,
    TEMPLATE_TRIED,
    TEMPORARY,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.restore import empty, note, physical
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import SqlError
from tests.unit.postgresql.control_file import make_cluster
from tests.unit.postgresql.fakes import FakeClock, a_container
from tests.unit.postgresql.test_backup_plan import RECORD
from tests.unit.postgresql.test_globals import GLOBALS

DATA = "/var/lib/postgresql/data"
CATALOGUE = Catalogue(170000, {"forum": "d1", "postgres": "d2", "template1": "d3"}, Counts({}, {}), GLOBALS)


@dataclass
class FakeSession:
    """Knows databases and remembers what it was told; ``busy`` is how often a rename is refused.

    ``others`` are the answers to questions in which the key occurs, ``refused`` is the statement that is.
    """

    databases: list[str]
    busy: int = 0
    others: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    refused: str = ""
    database: str = "template1"
    login: Any = field(default_factory=lambda: SimpleNamespace(user="postgres"))
    container: Container = field(default_factory=a_container)
    told: list[str] = field(default_factory=list)
    holds_transactions: bool = True

    def rows(self, query: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if "pg_subscription" in query:
            return self.others.get(f"pg_subscription of {params[0]}", [])
        every = [(name,) for name in self.databases] if "pg_database" in query else []
        return next((rows for key, rows in self.others.items() if key in query), every)

    def scalar(self, query: str) -> Any:
        return "170002"

    def run(self, statement: str) -> None:
        self.told.append(statement)
        if statement == self.refused:
            raise SqlError("role cannot be dropped", sqlstate="2BP01")
        if statement.startswith("BEGIN") and self.busy:
            self.busy -= 1
            raise SqlError("is being accessed by other users", sqlstate="55006")

    def sibling(self, database: str, settings: Mapping[str, str] | None = None) -> FakeSession:
        self.told.append(f"connect to {database}{' as ourselves' if settings and 'role' in settings else ''}")
        return self

    def __enter__(self) -> FakeSession:
        return self

    def __exit__(self, *_error: object) -> None:
        return None


# -- a dump ------------------------------------------------------------------


def a_dump(place: Path) -> Path:
    (place / "dump" / "database-a").mkdir(parents=True)
    files = {"globals.json": b"{}", "database-a/toc.dat": b"PGDMP", "database-a/1.dat": b"rows"}
    for name, content in files.items():
        (place / "dump" / name).write_bytes(content)
    lines = [f"{logical_catalogue.sha256_of(str(place / 'dump' / name))}  {name}\n" for name in files]
    (place / "SHA256SUMS").write_text("".join(lines))
    return place / "dump"


def test_a_dump_as_it_was_written(tmp_path: Path) -> None:
    a_dump(tmp_path)
    assert len(logical_catalogue.check_sums(str(tmp_path))) == 64


def test_every_kind_of_damage_is_named(tmp_path: Path) -> None:
    dump = a_dump(tmp_path)
    (dump / "globals.json").unlink()
    (dump / "database-a" / "1.dat").write_bytes(b"rowz")
    (dump / "stray").touch()
    with pytest.raises(StatefulError) as caught:
        logical_catalogue.check_sums(str(tmp_path))
    for words in ("globals.json is missing", "database-a/1.dat is not as it was written", "stray does not belong"):
        assert words in caught.value.msg


def test_databases_are_restored_under_names_of_ours() -> None:
    names = logical_restore.temporary_names(CATALOGUE)
    assert names == {"forum": f"{TEMPORARY}0", "postgres": f"{TEMPORARY}1", "template1": TEMPLATE_TRIED}


def test_all_names_are_given_in_one_transaction_and_nobody_else_may_be_connected() -> None:
    session, clock = (
        FakeSession(["postgres", "template0", "template1", f"{TEMPORARY}0", f"{TEMPORARY}1"], busy=1),
        FakeClock(),
    )
    logical_restore.publish(session, CATALOGUE, clock=clock, pause=clock.pause)  # type: ignore[arg-type]
    swap = (
        f'BEGIN; ALTER DATABASE "postgres" RENAME TO "{REPLACED}0"; ALTER DATABASE "{TEMPORARY}0" RENAME TO "forum";'
        f' ALTER DATABASE "{TEMPORARY}1" RENAME TO "postgres"; COMMIT'
    )
    assert session.told == [
        f'CREATE DATABASE "{DESK}" TEMPLATE template0', f"connect to {DESK} as ourselves", swap, "ROLLBACK", swap,
    ]  # fmt: skip
    assert clock.pauses != []


def test_somebody_who_stays_connected_is_waited_for_and_then_told() -> None:
    session, clock = FakeSession(["postgres"], busy=10_000), FakeClock()
    with pytest.raises(SqlError, match="accessed by other users"):
        logical_restore.publish(session, CATALOGUE, clock=clock, pause=clock.pause)  # type: ignore[arg-type]
    assert session.told[-1] == "ROLLBACK"


@pytest.mark.parametrize(
    "names, published",
    [
        ([DESK, "forum"], True),
        ([DESK, TEMPLATE_TRIED, f"{REPLACED}0"], True),
        ([DESK, f"{TEMPORARY}0"], False),
        ([f"{TEMPORARY}0"], False),
        (["forum"], False),
    ],
)
def test_an_interrupted_restore_is_told_by_its_databases(names: list[str], published: bool) -> None:
    assert logical_restore.is_published(names) is published


def test_the_desk_goes_first_and_what_somebody_wrote_into_stays() -> None:
    session = FakeSession([f"{TEMPORARY}0", DESK, f"{REPLACED}0", f"{REPLACED}1", "forum"])
    kept = logical_restore.drop_leftovers(session, is_empty=lambda name: name != f"{REPLACED}1")  # type: ignore[arg-type]
    dropped = [statement for statement in session.told if statement.startswith("DROP")]
    assert kept == [f"{REPLACED}1"]
    assert dropped == [f'DROP DATABASE "{name}"' for name in (DESK, f"{REPLACED}0", f"{TEMPORARY}0")]


def left_by_a_restore() -> FakeSession:
    """Return a server with a database that has a subscription, and a role that may change settings."""
    return FakeSession(
        [f"{TEMPORARY}0", "template1"],
        others={
            f"pg_subscription of {TEMPORARY}0": [("feed",)],
            "pg_parameter_acl": [("log_statement", "app", "SET", True), ("log_statement", "admin", "SET", False)],
            "pg_roles": [("admin",), ("app",)],
        },
    )


def test_what_forbids_to_take_a_restore_back_goes_first() -> None:
    session = left_by_a_restore()
    logical_restore.clear(session, ["app", "never_made"], ["never_made"])  # type: ignore[arg-type]
    assert session.told == [
        f"connect to {TEMPORARY}0 as ourselves",
        'ALTER SUBSCRIPTION "feed" DISABLE',
        'ALTER SUBSCRIPTION "feed" SET (slot_name = NONE)',
        'DROP SUBSCRIPTION "feed"',
        f'ALTER DATABASE "{TEMPORARY}0" WITH IS_TEMPLATE false',
        f'DROP DATABASE "{TEMPORARY}0"',
        'REVOKE ALL ON PARAMETER "log_statement" FROM "app" CASCADE',
        'DROP ROLE "app"',
    ]


def test_what_cannot_be_taken_back_is_the_next_command() -> None:
    session = left_by_a_restore()
    session.refused = 'DROP ROLE "app"'
    with pytest.raises(SqlError) as caught:
        logical_restore.clear(session, ["app"], [])  # type: ignore[arg-type]
    assert caught.value.next_command.endswith("""psql -U postgres -d template1 -c 'DROP ROLE "app"'""")
    assert "still holds" in caught.value.state


def test_another_databases_subscriptions_do_not_fill_this_one() -> None:
    asked: list[str] = []

    class Empty(FakeSession):
        def rows(self, query: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
            asked.append(query)
            return [(0,) * 12] if "pg_largeobject" in query else []

    assert empty.content_of(Empty(["postgres"]), "postgres", 170002) == []  # type: ignore[arg-type]
    (told,) = (part for part in asked[0].split("(SELECT count(*) FROM ") if part.startswith("pg_subscription"))
    assert "subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())" in told


# -- the note ------------------------------------------------------------------


def test_the_note(tmp_path: Path) -> None:
    assert note.read(str(tmp_path)) is None
    written = note.Note(note.RESTORING, "abc", "/b", "then", roles=("app",))
    note.write(str(tmp_path), written)
    assert note.read(str(tmp_path)) == written
    note.remove(str(tmp_path))
    assert note.read(str(tmp_path)) is None
    (tmp_path / note.NOTE).write_text("{")
    with pytest.raises(StatefulError, match="cannot be read"):
        note.read(str(tmp_path))


# -- the place of files ----------------------------------------------------------


def test_where_files_go() -> None:
    mounts = (
        EngineMount("bind", "/srv/pg", "/var/lib/postgresql", True),
        EngineMount("volume", "/v/fast", "/fast", True),
    )
    place = physical.find_place(a_container(mounts=mounts, env={"PGDATA": "/var/lib/postgresql/18/docker"}), RECORD)
    assert place == physical.Place("/srv/pg/18/docker", {"fast": "/v/fast"})


@pytest.mark.parametrize(
    "mount", [None, EngineMount("tmpfs", "", DATA, True), EngineMount("bind", "/srv/pg", DATA, False)]
)
def test_a_place_that_would_not_keep_them(mount: EngineMount | None) -> None:
    with pytest.raises(InvalidInput, match="which is the data directory"):
        physical.find_place(a_container(mounts=(mount,) if mount else ()), replace(RECORD, tablespaces=()))


@pytest.mark.parametrize("version, plain", [(170002, []), (180000, ["--format=plain"])])
def test_a_copy_without_its_version_file_is_not_taken_for_a_tar(version: int, plain: list[str]) -> None:
    found = physical.verify_switches(replace(RECORD, server_version_num=version))
    assert [*found] == [*plain, "--ignore=PG_VERSION", f"--ignore={staging.MARKER}"]


def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    def found(directory: Path) -> str:
        return " ".join(blocker.text for blocker in physical._occupied(str(directory), RECORD, is_data=True))

    assert found(tmp_path / "absent") == ""
    assert found(tmp_path) == ""
    (tmp_path / "lost+found").mkdir()
    assert "lost+found" in found(tmp_path)
    (tmp_path / staging.MARKER).touch()
    assert found(tmp_path) == "", "an interrupted restore left it"
    cluster = make_cluster(tmp_path / "cluster", identifier=1)
    (cluster / staging.MARKER).touch()
    assert "the cluster 1 of Postgres" in found(cluster)
    assert "the one that was backed up" in found(cluster)


def fill(data: Path, error: Exception) -> None:
    with physical._filled(physical.Place(str(data), {}), (os.geteuid(), os.getegid()), "/b"):
        assert data.stat().st_mode & 0o777 == 0o700
        (data / "base").mkdir()
        (data / "base" / "1").touch()
        raise error


@pytest.mark.parametrize(
    "error, words", [(StatefulError("damaged"), "damaged"), (OSError(28, "No space left on device"), "No space left")]
)
def test_a_failure_leaves_the_directory_as_it_was(tmp_path: Path, error: Exception, words: str) -> None:
    with pytest.raises(StatefulError, match=words) as caught:
        fill(tmp_path / "new" / "18", error)
    assert "as it was before" in caught.value.state
    assert os.listdir(tmp_path) == []


def test_what_somebody_put_there_meanwhile_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(InvalidInput, match="meanwhile"):
        fill(tmp_path, StatefulError("not reached"))
    assert os.listdir(tmp_path) == ["precious"]


def test_what_a_restore_computes_anew_is_not_compared() -> None:
    rows = {name: Count(7, exact=True) for name in ("public.posts", "public.stale_view", "public.spatial_ref_sys")}
    counts = Counts({"forum": rows, "postgres": {"public.other": Count(1, exact=True)}}, {})
    own = logical_restore._own(counts, {"forum": {"public.stale_view", "public.spatial_ref_sys"}})
    assert {name: set(tables) for name, tables in own.databases.items()} == {
        "forum": {"public.posts"},
        "postgres": {"public.other"},
    }


@pytest.mark.parametrize(
    "server, client, target, told",
    [
        (130000, 0, 170000, "GRANT CREATE ON SCHEMA public TO PUBLIC"),
        (130000, 170000, 170000, ""),
        (170000, 0, 130000, "REVOKE CREATE ON SCHEMA public FROM PUBLIC"),
        (170000, 170000, 150000, ""),
    ],
)
def test_a_dump_takes_the_defaults_of_its_program_for_granted(server: int, client: int, target: int, told: str) -> None:
    """pg_dump of 15 and later names what differs from its own defaults, whatever the server was."""
    session: Any = FakeSession([])
    to = logical_restore.Target(session, target, None, "image")  # type: ignore[arg-type]
    catalogue = replace(CATALOGUE, server_version_num=server, client_version_num=client)
    logical_restore._prepare(to, catalogue, GLOBALS.databases[0].name, "there", "The restore")
    assert [word for word in session.told if "CREATE ON SCHEMA" in word] == ([told] if told else [])
