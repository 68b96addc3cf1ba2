# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container, EngineMount, Helper
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import (
    logical_catalogue,
    logical_proof,
    logical_restore,
    pg_restore,
    staging,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.counts import (
    Count,
    Counts,
    emptied_behind,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.helpers import Finished
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.logical_catalogue import Catalogue
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.logical_restore import (
    DESK,
    REPLACED,
    TEMPLATE_TRIED,
    TEMPORARY,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.restore import (
    empty,
    logical,
    note,
    physical,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.restore.model import NOTHING, RESTORE, Plan
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.routes import Route
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import SqlError
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import mounts
from tests.unit.postgresql.control_file import make_cluster
from tests.unit.postgresql.fakes import FakeClock, FakeEngine, a_container
from tests.unit.postgresql.subjects import CLUSTER
from tests.unit.postgresql.test_backup_plan import RECORD
from tests.unit.postgresql.test_globals import GLOBALS

DATA = "/var/lib/postgresql/data"
CATALOGUE = Catalogue(170000, {"forum": "d1", "postgres": "d2", "template1": "d3"}, Counts({}, {}), GLOBALS)

REFUSED = (
    'pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter "transaction_timeout"'
)
GONE_ON = "pg_restore: warning: errors ignored on restore: 1"


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
    held: int = 0

    def rows(self, query: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if "pg_subscription" in query:
            return self.others.get(f"pg_subscription of {params[0]}", [])
        every = [(name,) for name in self.databases] if "pg_database" in query else []
        return next((rows for key, rows in self.others.items() if key in query), every)

    def scalar(self, query: str) -> Any:
        return self.held if "pg_database_size" in query else "170002"

    def run(self, statement: str) -> None:
        self.told.append(statement)
        if statement == self.refused:
            raise SqlError("role cannot be dropped", sqlstate="2BP01")
        if statement.startswith("BEGIN") and self.busy:
            self.busy -= 1
            raise SqlError("is being accessed by other users", sqlstate="55006")

    def sibling(self, database: str, settings: Mapping[str, str] | None = None) -> FakeSession:
        self.told.append(f"connect to {database}")
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


@pytest.mark.parametrize("rows, refused", [(0, True), (500, False)])
def test_no_proof_passes_over_a_table_that_was_rewritten_before_the_dump_held_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, refused: bool
) -> None:
    counted = Counts({"forum": {"public.posts": Count(500, False)}}, {})
    catalogue = replace(CATALOGUE, counts=counted, replaced={"forum": ["public.posts"]})
    restored = Counts({"forum": {"public.posts": Count(rows, True)}}, {})
    monkeypatch.setattr(logical_catalogue, "read_catalogue", lambda _: catalogue)
    server = nullcontext(SimpleNamespace(route=None, image_id=""))
    monkeypatch.setattr(logical_proof.scratch, "server", lambda *_, **__: server)
    monkeypatch.setattr(logical_proof.scratch, "open_session", lambda *_: nullcontext(FakeSession([])))
    monkeypatch.setattr(logical_restore, "bring", lambda *_, **__: logical_restore.Brought(restored, (), (), (), ()))

    def prove() -> dict[str, Any]:
        engine: Any = FakeEngine()
        return logical_proof.prove(
            engine,
            a_container(),
            CLUSTER,
            place=str(tmp_path),
            scratch_directory=str(tmp_path / "scratch"),
            owner=OWNER,
            operation="backup-1",
            labels={},
        )

    if refused:
        with pytest.raises(StatefulError, match=r"no row of forum: public\.posts"):
            prove()
    else:
        assert prove()["tables_compared"] == 0


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
        f'CREATE DATABASE "{DESK}" TEMPLATE template0', f"connect to {DESK}", swap, "ROLLBACK", swap,
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


@pytest.mark.parametrize(
    "state, databases, held, missing",
    [
        ("", ["postgres"], 0, "90"),
        (note.RESTORED, [f"{TEMPORARY}0"], 90, "90"),
        (note.RESTORING, [f"{TEMPORARY}0"], 50, "40"),
        (note.RESTORING, [f"{TEMPORARY}0"], 90, ""),
        (note.RESTORING, [DESK, "forum"], 0, ""),
    ],
)
def test_what_an_interrupted_restore_left_is_room_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, databases: list[str], held: int, missing: str
) -> None:
    monkeypatch.setattr(empty, "occupants", lambda *_, **__: empty.Occupants((), ()))
    monkeypatch.setattr(logical.cluster_globals, "tablespace_names", lambda _: {space.name for space in spaces})
    spaces = CATALOGUE.globals.tablespaces
    session: Any = FakeSession(databases, held=held)
    server = logical.Server(FakeEngine(), session, CLUSTER, str(tmp_path))  # type: ignore[arg-type]
    left = note.Note(state, RECORD.id, "/b", "then") if state else None
    system = replace(mounts.filesystem_of(tmp_path), bytes_free=10)
    found = logical._blockers(server, replace(RECORD, server_version_num=90600), CATALOGUE, left, system, 100)
    assert [blocker.text.split()[3] for blocker in found] == ([missing] if missing else [])


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
        f"connect to {TEMPORARY}0",
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

    session = Empty(["postgres"])
    assert empty.content_of(session, "postgres", 170002) == []  # type: ignore[arg-type]
    assert session.told == ["connect to postgres"]
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
    marks = [f"--ignore={staging.MARKER}", f"--ignore=pg_tblspc/1/{staging.MARKER}"]
    assert [*found] == [*plain, "--ignore=PG_VERSION", *marks]


def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    def found(directory: Path) -> str:
        place = physical.Place(str(directory), {})
        return " ".join(blocker.text for blocker in physical._occupied(place, place.data, RECORD))

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


OWNER = (os.geteuid(), os.getegid())


def killed(place: physical.Place) -> Path:
    """Fill the directories as a restore does that is killed over it, and return the file in the tablespace."""
    with physical._filled(place, OWNER, "/b"):
        apart = Path(place.tablespaces["fast"], "PG_17_202406281", "1", "2")
        apart.parent.mkdir(parents=True)
        apart.touch()
        Path(place.data, "base").mkdir()
    return apart


def test_what_was_killed_is_begun_anew_in_its_tablespaces_too(tmp_path: Path) -> None:
    place = physical.Place(str(tmp_path / "data"), {"fast": str(tmp_path / "fast")})
    killed(place)
    # As one that is killed before it could say whose the tablespace is.
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / staging.MARKER).touch()
    place = replace(place, tablespaces={**place.tablespaces, "empty": str(tmp_path / "empty")})
    for directory in (place.data, *place.tablespaces.values()):
        assert physical._occupied(place, directory, RECORD) == []
    with physical._filled(place, OWNER, "/b"):
        for directory in (place.data, *place.tablespaces.values()):
            assert os.listdir(directory) == [staging.MARKER]


def test_what_was_killed_is_room_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = replace(mounts.filesystem_of(tmp_path), bytes_free=0)
    monkeypatch.setattr(physical.mounts, "filesystem_of", lambda _: full)
    monkeypatch.setattr(physical, "examine", lambda *_, **__: SimpleNamespace(user=OWNER, major="17"))
    container = a_container(
        status="exited",
        mounts=(
            EngineMount("bind", str(tmp_path / "data"), DATA, True),
            EngineMount("bind", str(tmp_path / "fast"), "/fast", True),
        ),
    )
    engine: Any = FakeEngine()

    def blockers() -> list[str]:
        planned = physical.plan(engine, container, replace(RECORD, bytes=100_000), "/b", "restore-1")
        return [blocker.text for blocker in planned.blockers]

    assert "100,000 bytes are missing" in " ".join(blockers())
    killed(physical.find_place(container, RECORD)).write_bytes(b"x" * 60_000)
    (tmp_path / "data" / "base" / "1").write_bytes(b"x" * 60_000)
    staging.sync_tree(str(tmp_path))
    assert blockers() == []


DISKS = {"/srv/pg": (1, 10), "/disk/fast": (2, 90), "/srv/pg2": (1, 10)}


@pytest.mark.parametrize("fast, missing", [("/disk/fast", False), ("/srv/pg2", True)])
def test_a_tablespace_may_have_the_room_that_the_data_directory_lacks(
    monkeypatch: pytest.MonkeyPatch, fast: str, missing: bool
) -> None:
    here = mounts.filesystem_of("/")

    def filesystem_of(path: str) -> mounts.FileSystem:
        device, free = DISKS[path]
        return replace(here, path=path, device=device, bytes_free=free)

    monkeypatch.setattr(mounts, "filesystem_of", filesystem_of)
    mounted = (EngineMount("bind", "/srv/pg", DATA, True), EngineMount("bind", fast, "/fast", True))
    container = a_container(status="exited", mounts=mounted)
    monkeypatch.setattr(physical, "examine", lambda *_, **__: SimpleNamespace(user=OWNER, major="17"))
    engine: Any = FakeEngine()
    planned = physical.plan(engine, container, replace(RECORD, bytes=100), "/b", "restore-1")
    assert any("are missing" in blocker.text for blocker in planned.blockers) is missing
    # And so it is where a server runs.
    found: list[mounts.FileSystem] = []
    monkeypatch.setattr(logical, "_host_path", lambda _, path: fast if path == "/fast" else "/srv/pg")
    monkeypatch.setattr(logical_catalogue, "read_catalogue", lambda _: CATALOGUE)
    monkeypatch.setattr(logical, "_blockers", lambda *facts: [found.append(facts[4])][:0])
    session: Any = FakeSession([])
    server = logical.Server(engine, session, CLUSTER, "/nonexistent")
    logical.plan(server, RECORD, "/b")
    assert [system.bytes_free for system in found] == [10 if missing else 100]


@pytest.mark.parametrize("moved", [False, True])
def test_the_mark_that_a_killed_restore_left_in_a_tablespace_in_use_licenses_nothing(
    tmp_path: Path, moved: bool
) -> None:
    place = physical.Place(str(tmp_path / "data"), {"fast": str(tmp_path / "fast")})
    live = killed(place)
    (tmp_path / "data" / "PG_VERSION").write_text("17\n")
    if moved:
        (tmp_path / "data").rename(tmp_path / "data.old")
    else:
        place = replace(place, data=str(tmp_path / "new"))
    (blocker,) = physical._occupied(place, place.tablespaces["fast"], RECORD)
    assert "PG_17_202406281" in blocker.text
    with pytest.raises(InvalidInput, match="meanwhile"):
        killed(place)
    assert live.exists()


@pytest.mark.parametrize("action", [NOTHING, RESTORE])
def test_no_mark_stays_in_what_is_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    """Neither one that the backup brings along, nor one of a run that was killed over its last steps."""
    mounts = (
        EngineMount("bind", str(tmp_path / "data"), DATA, True),
        EngineMount("bind", str(tmp_path / "fast"), "/fast", True),
    )
    backup = make_cluster(tmp_path / "backup" / "data", major="17").parent
    (backup / "data" / staging.MARKER).touch()
    (backup / "tablespaces" / "fast").mkdir(parents=True)
    if action == NOTHING:
        for name in ("data", "fast"):
            (tmp_path / name).mkdir()
            (tmp_path / name / staging.MARKER).touch()
    monkeypatch.setattr(physical, "examine", lambda *_, **__: SimpleNamespace(user=OWNER))
    monkeypatch.setattr(physical, "_prove", lambda *_: None)
    record = replace(RECORD, evidence={**RECORD.evidence, "manifest_files": 2})
    planned = Plan(action, record, str(tmp_path / "data"), 0, 0, "")
    engine: Any = FakeEngine()
    physical.carry_out(engine, a_container(mounts=mounts), planned, str(backup), operation="restore-1")
    assert list(tmp_path.glob(f"[df]*/{staging.MARKER}")) == []
    assert (tmp_path / "data" / "PG_VERSION").exists() is (action == RESTORE)


def fill(data: Path, error: Exception) -> None:
    with physical._filled(physical.Place(str(data), {}), OWNER, "/b"):
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
    to = pg_restore.Target(session, target, None, "image", None)  # type: ignore[arg-type]
    catalogue = replace(CATALOGUE, server_version_num=server, client_version_num=client)
    logical_restore._prepare(to, catalogue, GLOBALS.databases[0].name, "there", "The restore")
    assert [word for word in session.told if "CREATE ON SCHEMA" in word] == ([told] if told else [])


@pytest.mark.parametrize(
    ("said", "cut", "words"),
    [
        (f"{REFUSED}\n{GONE_ON}", False, None),
        (f"{REFUSED}\npg_restore: error: could not execute query: ERROR:  full\n{GONE_ON}", False, "ERROR:  full"),
        (f"pg_restore: error: could not execute query: ERROR:  full\n{GONE_ON}", False, "ERROR:  full"),
        (f"{REFUSED}\n{GONE_ON}", True, "said more than is kept"),
        (REFUSED, False, "before its end"),
    ],
)
def test_only_the_refusal_of_a_setting_is_passed_over(said: str, cut: bool, words: str | None, tmp_path: Path) -> None:
    """Newer clients set what an older server does not know; of an end that was cut off nobody knows the beginning."""
    session: Any = SimpleNamespace(for_programs=dict)

    def run(helper: Helper, **_how: Any) -> Finished:
        return Finished(helper.role, helper.argv, 1, said, cut)

    route = Route("/run", 5432, "postgres", "none", ())
    to = pg_restore.Target(session, 150000, route, "image", run, ("transaction_timeout",))
    with pytest.raises(StatefulError, match=words) if words else nullcontext():
        pg_restore.restore(to, str(tmp_path), "forum", "forum", "The restore", jobs=1, operation="one", labels={})


def test_rows_of_a_table_that_was_emptied_behind_the_dump_are_told_and_not_refused() -> None:
    """Earlier versions took the count for exact; what is missing, and what nobody emptied, is refused as before."""
    tables = {"public.cache": Count(0, True), "public.kept": Count(7, True), "public.empty": Count(0, True)}
    wanted = Counts({"forum": tables}, {})
    restored = Counts({"forum": {**tables, "public.cache": Count(500, True)}}, {})
    behind = emptied_behind(wanted, restored)
    assert behind == {"forum": ["public.cache"]}
    assert logical_restore._differences(wanted, restored, behind) == []
    assert logical_proof.compared(wanted, restored)["tables_compared"] == 2
    lacking = Counts({"forum": {**restored.databases["forum"], "public.kept": Count(6, True)}}, {})
    (lost,) = logical_restore._differences(wanted, lacking, emptied_behind(wanted, lacking))
    assert lost == "forum: public.kept has 6 rows, 7 before"
