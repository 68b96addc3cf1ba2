# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The image of the guide for authors, upgraded by hand as the guide says, and the module's hooks."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.image.lab import another_build, assert_words, service
from tests.sandbox import images
from tests.sandbox._base import run, wait_for
from tests.sandbox.engine import Engine
from tests.support.module_run import answer_of, start

EXAMPLE = Path(__file__).resolve().parents[3] / "docs/examples/postgresql_image"
VOLUME = "/var/lib/example"


class Example:
    """A container of the image, and what an author types."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        self.engine, self.data = engine, directory / "data"
        self.name = f"sfs-example-{secrets.token_hex(4)}"
        self.tags: list[str] = []
        self.data.mkdir(parents=True)
        self.data.chmod(0o777)

    def build(self, major: str, version: str) -> None:
        tag = f"{self.name}:{version}"
        base = images.ref(f"postgres:{major}", self.engine)
        self.engine.docker("build", "-q", "--build-arg", f"BASE={base}", "-t", tag, str(EXAMPLE))
        self.tags.append(tag)

    def run(self, version: str) -> None:
        self.engine.docker("stop", "-t", "120", self.name, check=False)
        self.engine.docker("rm", self.name, check=False)
        self.engine.docker(
            "run", "-d", "--name", self.name, "-e", "POSTGRES_HOST_AUTH_METHOD=trust", "-v", f"{self.data}:{VOLUME}",
            "-e", "POSTGRES_INITDB_ARGS=--no-sync", f"{self.name}:{version}",
        )  # fmt: skip

    def execute(self, *argv: str, user: str = "postgres", check: bool = True) -> str:
        return self.engine.docker("exec", "-u", user, self.name, *argv, check=check)

    def sql(self, statement: str) -> str:
        return self.execute("psql", "-XAtqU", "postgres", "-c", statement)

    def serves(self) -> bool:
        return "accepting" in self.execute("pg_isready", "-h", "127.0.0.1", check=False)

    def down(self) -> None:
        self.engine.docker("rm", "-fv", self.name, check=False)
        for tag in self.tags:
            self.engine.docker("rmi", tag, check=False)


@pytest.fixture
def example(tmp_path: Path, shared_engine: Engine) -> Iterator[Example]:
    made = Example(shared_engine, tmp_path)
    try:
        yield made
    finally:
        made.down()


@pytest.mark.faults
@pytest.mark.parametrize("old, new", [("15.18-1", "17.6-1"), ("17.5-1", "17.6-1")])
def test_by_hand(example: Example, old: str, new: str) -> None:
    for version in (old, new):
        example.build(version[:2], version)
    example.run(old)
    wait_for(example.serves, "the old version serves", timeout=90)
    assert example.execute("/resources/mark.sh", "read", "02-add-notes") == "done"
    example.sql("INSERT INTO notes (text) VALUES ('kept')")
    # As if the version before had not had it.
    example.execute("/resources/mark.sh", "remove", "02-add-notes")

    example.execute("/resources/pre-upgrade.sh", old, new)
    example.run(new)
    assert not example.serves()
    example.execute("/resources/post-upgrade.sh", old, new, user="root")
    wait_for(example.serves, "the new version serves", timeout=90)
    assert example.sql("SELECT text FROM notes") == "kept"
    assert example.execute("/resources/mark.sh", "read", "02-add-notes") == "done"
    restored = old[:2] != new[:2]
    assert (example.data / f"dump-{new}.sql.restored").exists() is restored
    assert not (example.data / "restoring").exists()
    assert (example.data / f"data.before-{new}/PG_VERSION").exists() is restored
    # Again, as after a kill, it does nothing.
    example.execute("/resources/post-upgrade.sh", new, new, user="root")
    assert example.sql("SELECT count(*) FROM notes") == "1"


@pytest.mark.faults
def test_what_was_restored_half_way_serves_nobody(example: Example) -> None:
    for version in ("15.18-1", "17.6-1"):
        example.build(version[:2], version)
    example.run("15.18-1")
    wait_for(example.serves, "the old version serves", timeout=90)
    example.sql("INSERT INTO notes (text) VALUES ('kept')")
    example.execute("/resources/pre-upgrade.sh", "15.18-1", "17.6-1", user="root")
    dump = example.data / "dump-17.6-1.sql"
    assert dump.stat().st_mode & 0o077 == 0
    whole = dump.read_text()
    dump.write_text(whole.replace("COPY public.notes", "COPY public.note"))
    example.run("17.6-1")
    example.execute("/resources/post-upgrade.sh", "15.18-1", "17.6-1", user="root")
    assert example.engine.docker("wait", example.name) != "0"
    example.engine.docker("start", example.name)
    assert example.engine.docker("wait", example.name) == "75"
    logs = run([example.engine.client, "logs", example.name], env=example.engine.env)
    assert "was not restored to its end" in logs.stderr
    # What it says is the way out.
    (example.data / "data").rename(example.data / "half")
    dump.write_text(whole)
    example.engine.docker("start", example.name)
    wait_for(example.serves, "the new version serves", timeout=90)
    assert example.sql("SELECT text FROM notes") == "kept"


@pytest.mark.faults
def test_a_startup_that_waits_ends_with_words(example: Example) -> None:
    example.build("17", "17.6-1")
    (example.data / "upgrading").write_text("17.6-1")
    example.engine.docker(
        "run", "-d", "--name", example.name, "-e", "UPGRADE_TIMEOUT=1", "-v", f"{example.data}:{VOLUME}",
        f"{example.name}:17.6-1",
    )  # fmt: skip
    assert example.engine.docker("wait", example.name) == "75"
    logs = run([example.engine.client, "logs", example.name], env=example.engine.env)
    assert "post-upgrade.sh FROM TO again" in logs.stderr


HOOK = """test "$1 $2" = "$FROM_VERSION $TO_VERSION"
psql -qc "INSERT INTO hooks VALUES ('{}', '$1', '$2', $FULL_BACKUP)"
"""


@pytest.mark.faults
@pytest.mark.parametrize("wanted", ["15-trixie", "17"])
def test_hooks_and_migrations_around_a_change(tmp_path: Path, wanted: str) -> None:
    options = {
        "pre_upgrade": [{"name": "before.sh", "content": HOOK.format("before")}],
        "post_upgrade": [
            {"name": "after.sh", "content": HOOK.format("after")},
            {
                "name": "after.sql",
                "content": "INSERT INTO hooks VALUES ('sql', current_setting('selfhost_stateful.from_version'),"
                " current_setting('selfhost_stateful.to_version'), false)",
            },
        ],
        "migrations": [
            {"name": "01-note.sql", "content": "CREATE TABLE noted AS SELECT 1 AS id"},
            {"name": "02-known.sql", "content": "SELECT 1/0", "done_when": "SELECT true"},
        ],
    }
    with service(tmp_path, "15", wanted, options=options) as lab:
        lab.project.sql("CREATE TABLE hooks (who text, old text, new text, dumped boolean)")
        result = lab.run().ok()
        major = wanted == "17"
        rows = [row.split("|") for row in lab.project.sql("SELECT * FROM hooks").strip().splitlines()]
        assert [row[0] for row in rows] == ["before", "after", "sql"]
        assert {tuple(row[1:3]) for row in rows} == {(rows[0][1], rows[0][2])}
        assert rows[0][1].startswith("15.")
        assert (rows[0][3] == "t") is major
        assert [Path(copy["path"]).name.endswith("-full") for copy in result["copies"]].count(True) == major
        ledger = lab.project.sql("SELECT name, state FROM selfhost_stateful.migrations ORDER BY 1").split()
        assert ledger == ["01-note.sql|done", "02-known.sql|recognised"]


@pytest.mark.faults
@pytest.mark.parametrize("where", ["pre_upgrade", "post_upgrade", "migrations"])
def test_one_that_fails_undoes_the_change(tmp_path: Path, where: str) -> None:
    name = "01-fails.sql" if where == "migrations" else "fails.sql"
    with service(tmp_path, "15", "17", options={where: [{"name": name, "content": "SELECT 1/0"}]}) as lab:
        said = lab.run().refusal()
        assert "division by zero" in said
        assert name in said or where == "migrations"
        assert lab.project.sql("SHOW server_version_num").startswith("15")
        assert lab.project.sql("SELECT count(*) FROM words").strip() == "7"


FAILS = {"post_upgrade": [{"name": "fails.sql", "content": "SELECT 1/0"}]}
GIVING_UP = "operation_discard_writes=true"


@pytest.mark.faults
def test_what_others_wrote_before_a_hook_failed_is_kept_where_it_is_given_up(tmp_path: Path) -> None:
    """Refused, with the apps on the new cluster, until somebody says that the original is wanted all the same."""
    with service(tmp_path, "15", "17", options=FAILS) as lab:
        lab.run(stop_before="switch").ok()
        pause = lab.paused("post-upgrade of db", "before")
        lab.project.sql("INSERT INTO words VALUES ('outside')")
        answer = pause.end()
        assert "has taken writes" in answer.refusal()
        assert GIVING_UP in answer.data["next_command"]
        lab.project.wait_ready()
        assert lab.project.sql("SHOW server_version_num").startswith("17")
        again = lab.end("rolled_back")
        assert "has taken writes" in again.refusal()
        assert GIVING_UP in again.data["next_command"]

        result = lab.end("rolled_back", discard_writes=True).ok()
        lab.project.wait_ready()
        assert lab.project.sql("SHOW server_version_num").startswith("15")
        assert lab.project.sql("SELECT count(*) FROM words").strip() == "7"
        (kept,) = (Path(copy["path"]) for copy in result["copies"] if copy["role"] == "original")
        assert (kept / "PG_VERSION").read_text().strip() == "17"
        assert not lab.sources["db"].exists()
        assert [copy["path"] for copy in lab.end("committed", id=result["operation"]).ok()["removed"]] == [str(kept)]


@pytest.mark.faults
def test_a_swap_that_is_undone_has_its_order_back_before_its_users(tmp_path: Path) -> None:
    """The recorded version of the collation is another one, so that a swap builds the indexes anew, and so its undo."""
    with (
        service(tmp_path, "15", "15", dependent=True, options=FAILS) as lab,
        another_build(lab, "postgres:15") as reference,
    ):
        lab.options["image"] = reference
        lab.sources.clear()
        lab.project.sql("UPDATE pg_database SET datcollversion = '0.1' WHERE datname = 'postgres'")
        assert "division by zero" in lab.run().refusal()
        (journal,) = lab.operations.glob("*/journal.jsonl")
        records = [json.loads(line) for line in journal.read_text().splitlines()]
        undone = {record["step"]: record.get("data", {}) for record in records if record["what"] == "undone"}
        wanted = ["stop the stores", "promise the order of db", "stop the dependents"]
        assert [step for step in undone if step in wanted] == wanted
        assert undone["promise the order of db"]["indexes_rebuilt"] >= 1
        lab.assert_as_before()
        assert_words(lab)


@pytest.mark.faults
def test_a_new_server_that_crashed_is_asked_what_it_took(tmp_path: Path) -> None:
    with service(tmp_path, "15", "17", options=FAILS) as lab:
        lab.run(stop_before="switch").ok()
        pause = lab.paused("post-upgrade of db", "before")
        lab.engine.docker("kill", str(lab.project.container("db")))
        pause.end().refusal()
        # The one that crashed was undone, and so was the attempt after it.
        assert set(lab.states()) == {"rolled_back"}, lab.story()
        assert lab.project.sql("SHOW server_version_num").startswith("15")
        assert lab.project.sql("SELECT count(*) FROM words").strip() == "7"


@pytest.mark.faults
def test_a_migration_that_was_changed_since_is_refused_before_anything_stops(tmp_path: Path) -> None:
    def migration(content: str) -> dict[str, object]:
        return {"migrations": [{"name": "01-note.sql", "content": content}]}

    with service(tmp_path, "15", "15-trixie", options=migration("CREATE TABLE noted AS SELECT 2 AS id")) as lab:
        project, engine = lab.project, lab.project.engine
        migrate = migration("CREATE TABLE noted AS SELECT 1 AS id")
        asked = {"project_src": str(project.directory), "service": "db", "series": "image", "backup": "none", **migrate}
        asked.update(docker_host=engine.host, operations_dir=str(tmp_path / "operations"))
        assert answer_of(start("postgresql_migrations", asked))["changed"]
        container = project.container("db")
        assert "was changed after it ran" in lab.run().refusal()
        assert project.container("db") == container
