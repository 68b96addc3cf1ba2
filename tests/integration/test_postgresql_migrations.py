# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Migrations against a real server: each once, whole or not at all, and told when they are not."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox._base import wait_for
from tests.sandbox.engine import Engine
from tests.sandbox.projects import Project, simple_project
from tests.support.module_run import answer_of, start

ROWS = 1000
MEGABYTES = 100


@dataclass
class Runner:
    """A host with one server, and a directory of migrations on it."""

    project: Project
    directory: Path
    series: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> Path:
        return self.directory / "migrations"

    def file(self, name: str, content: str) -> None:
        self.source.mkdir(exist_ok=True)
        (self.source / name).write_text(content)

    def start(
        self, module: str = "postgresql_migrations", check: bool = False, **options: Any
    ) -> subprocess.Popen[bytes]:
        asked: dict[str, Any] = {
            "docker_host": self.project.engine.host,
            "operations_dir": str(self.directory / "operations"),
        }
        if module == "postgresql_migrations":
            subject = {"project_src": str(self.project.directory), "service": "db", "series": self.series}
            where = {} if "migrations" in options else {"src": str(self.source), "src_on": "host"}
            asked = {**asked, **subject, **where, "backup": "none", **self.options}
        return start(module, {**asked, **options}, check=check)

    def run(self, module: str = "postgresql_migrations", check: bool = False, **options: Any) -> dict[str, Any]:
        return answer_of(self.start(module, check, **options))

    def sql(self, statement: str) -> str:
        return self.project.sql(statement).strip()

    def ledger(self) -> list[tuple[str, str, str]]:
        said = self.sql(
            "SELECT name, state, coalesce(rows::text, '-') FROM selfhost_stateful.migrations"
            f" WHERE series = '{self.series}' ORDER BY number"
        )
        return [tuple(line.split("|")) for line in said.splitlines()]  # type: ignore[misc]


def asleep(seconds: float) -> str:
    """Return the condition by which a session that sleeps so long is found."""
    return f"query LIKE '%pg_sleep({seconds})%' AND state = 'active' AND pid <> pg_backend_pid()"


def is_asleep(runner: Runner, seconds: float) -> bool:
    return runner.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {asleep(seconds)}") != "0"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, shared_engine: Engine) -> Iterator[Project]:
    made = simple_project(
        tmp_path_factory.mktemp("migrations") / "project", redis=None, engine=shared_engine,
        db_lines=("  POSTGRES_INITDB_ARGS: --no-sync",),
    )  # fmt: skip
    try:
        yield made.up()
    finally:
        made.down()


@pytest.fixture
def runner(project: Project, tmp_path: Path, request: pytest.FixtureRequest) -> Runner:
    """Yield a runner with a series and a table of its own."""
    series = request.node.name.replace("[", "_").strip("]")
    project.sql(
        "DROP TABLE IF EXISTS items, made; CREATE TABLE items (id bigint PRIMARY KEY, note text);"
        f"INSERT INTO items SELECT g, NULL FROM generate_series(1, {ROWS}) g"
    )
    return Runner(project, tmp_path, series)


def test_each_runs_once_in_order_and_is_noted(runner: Runner) -> None:
    runner.file("01-add.sql", "ALTER TABLE items ADD extra int;\nUPDATE items SET extra = 1 WHERE id <= 10;\n")
    runner.file("02-count.sh", 'psql -Atc "UPDATE items SET extra = 2 WHERE id = 11"\ncat\necho "$GIVEN"\n')
    runner.file("notes.txt", "not a migration")

    foreseen = runner.run(check=True, environment={"GIVEN": "a word"})
    first = runner.run(environment={"GIVEN": "a word"})
    second = runner.run(environment={"GIVEN": "a word"})

    assert foreseen["changed"]
    assert [each["name"] for each in foreseen["pending"]] == ["01-add.sql", "02-count.sh"]
    assert first["changed"], first
    assert [(each["name"], each["state"], each["rows"]) for each in first["ran"]] == [
        ("01-add.sql", "done", 10), ("02-count.sh", "done", None),
    ]  # fmt: skip
    assert first["ran"][1]["output"] == "UPDATE 1\n********\n"  # and its own text is not its input
    operation = runner.directory / "operations" / first["operations"][1]
    assert not [path for path in operation.iterdir() if "a word" in path.read_text()]
    assert not second["changed"]
    assert runner.ledger() == [("01-add.sql", "done", "10"), ("02-count.sh", "done", "-")]
    assert runner.sql("SELECT sum(extra) FROM items") == "12"


def test_a_file_that_changed_is_refused_by_name_until_it_is_accepted(runner: Runner) -> None:
    runner.file("01-note.sql", "UPDATE items SET note = 'a'")
    runner.run()
    runner.file("01-note.sql", "UPDATE items SET note = 'b'")

    refused = runner.run()
    accepted = runner.run(accept=[1])
    then = runner.run()

    assert refused["failed"]
    assert "01-note.sql was changed after it ran" in refused["msg"]
    assert accepted["changed"]
    assert not then["changed"]
    assert runner.sql("SELECT DISTINCT note FROM items") == "a"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"01-a.sql": "SELECT 1", "03-c.sql": "SELECT 1"}, "there is a gap: 02"),
        pytest.param({"01-a.sql": "SELECT 1", "01-b.sql": "SELECT 1"}, "have one number", marks=pytest.mark.faults),
        ({"01-a.sql": "UPDATE items SET note = 'x'; COMMIT; SELECT 1"}, "COMMIT would end the transaction"),
        pytest.param({"01-a.sql": "\\i other.sql"}, "a command of psql", marks=pytest.mark.faults),
        pytest.param(
            {"01-a.sql": "-- selfhost.stateful:\n--   transactoin: false\nSELECT 1"},
            "transactoin is no option",
            marks=pytest.mark.faults,
        ),
        pytest.param({"01-a.sql": "-- nothing\n"}, "holds no statement", marks=pytest.mark.faults),
    ],
)
def test_what_cannot_be_run_as_it_stands_is_refused_before_anything(
    runner: Runner, files: Mapping[str, str], words: str
) -> None:
    for name, content in files.items():
        runner.file(name, content)

    refused = runner.run()

    assert refused["failed"]
    assert words in refused["msg"]
    assert runner.sql("SELECT count(*) FROM items WHERE note IS NOT NULL") == "0"


def test_what_fails_half_way_leaves_nothing_and_goes_on_there(runner: Runner) -> None:
    runner.file("01-first.sql", "UPDATE items SET note = 'first'")
    runner.file(
        "02-second.sql", "SET ROLE pg_monitor;\nRESET ROLE;\nUPDATE items SET note = 'second';\nSELECT 1 / 0;\n"
    )
    runner.file("03-third.sql", "UPDATE items SET note = note || '!'")

    failed = runner.run()
    between = runner.sql("SELECT DISTINCT note FROM items")
    runner.file("02-second.sql", "UPDATE items SET note = 'second'")
    then = runner.run()

    assert failed["failed"]
    assert "(line 4)" not in failed["msg"]  # a division says no place; a syntax error does
    assert "division by zero" in failed["msg"]
    assert failed["state"] == "nothing of 02-second.sql is done; those before it are"
    assert [each["name"] for each in failed["ran"]] == ["01-first.sql"]
    assert between == "first"
    assert [each["name"] for each in then["ran"]] == ["02-second.sql", "03-third.sql"]
    assert runner.sql("SELECT DISTINCT note FROM items") == "second!"


@pytest.mark.parametrize(
    ("guard", "fails"),
    [
        pytest.param(f"expect_rows: {ROWS}", "", marks=pytest.mark.faults),
        ("expect_rows: 1-5", "it changed 1000 rows, and 1 to 5 are expected"),
        pytest.param("expect_rows: {min: 1001}", "at least 1001 are expected", marks=pytest.mark.faults),
        ("expect_rows: SELECT count(*) FROM items WHERE note IS NULL", ""),
        pytest.param(
            "expect_rows: SELECT count(*) FROM items WHERE id < 6", "5 rows are still to do", marks=pytest.mark.faults
        ),
        pytest.param(
            "done_when: SELECT NOT EXISTS (SELECT FROM items WHERE note IS NULL)", "", marks=pytest.mark.faults
        ),
        pytest.param(
            "done_when: SELECT EXISTS (SELECT FROM items WHERE note = 'z')",
            "done_when still answers false",
            marks=pytest.mark.faults,
        ),
        ("statement_timeout: 0.2", "statement timeout"),
    ],
)
def test_a_guard_that_does_not_hold_rolls_back(runner: Runner, guard: str, fails: str) -> None:
    slow = "SELECT pg_sleep(1);" if "timeout" in guard else ""
    runner.file("01-guarded.sql", f"-- selfhost.stateful:\n--   {guard}\n{slow}UPDATE items SET note = 'y'")

    answer = runner.run()

    assert bool(answer.get("failed")) == bool(fails)
    assert fails in answer.get("msg", "")
    assert runner.sql("SELECT count(*) FROM items WHERE note = 'y'") == ("0" if fails else str(ROWS))


def test_one_that_waits_for_a_lock_gives_up_in_its_time(runner: Runner) -> None:
    holder = subprocess.Popen(
        [runner.project.engine.client, "exec", runner.project.container("postgres") or "", "psql", "-U", "postgres",
         "-c", "BEGIN", "-c", "LOCK items", "-c", "SELECT pg_sleep(60)"],
        env={**os.environ, **runner.project.engine.env}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        held = "SELECT count(*) FROM pg_locks WHERE relation = 'items'::regclass AND mode = 'AccessExclusiveLock'"
        wait_for(lambda: runner.sql(held) != "0", "the lock is held")
        answer = runner.run(
            migrations=[{"name": "01-a.sql", "content": "UPDATE items SET note = 'x'", "lock_timeout": 0.2}]
        )
    finally:
        runner.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {asleep(60)}")
        holder.wait(30)

    assert "lock timeout" in answer["msg"]
    assert answer["safe_to_rerun"]


def test_what_was_done_by_hand_is_recognised(runner: Runner) -> None:
    runner.sql("UPDATE items SET note = 'by hand'")
    runner.file(
        "01-fill.sql",
        "-- selfhost.stateful:\n--   done_when: SELECT NOT EXISTS (SELECT FROM items WHERE note IS NULL)\n"
        "UPDATE items SET note = 'ours' WHERE note IS NULL OR note = 'by hand'",
    )

    foreseen = runner.run(check=True)
    answer = runner.run()

    assert "is done already" in foreseen["plan_text"]
    assert answer["ran"][0]["state"] == "recognised"
    assert runner.sql("SELECT DISTINCT note FROM items") == "by hand"


def test_check_mode_says_what_the_query_says_and_writes_nothing(runner: Runner) -> None:
    runner.file(
        "01-fill.sql",
        "-- selfhost.stateful:\n--   expect_rows: WITH x AS (DELETE FROM items RETURNING 1) SELECT count(*) FROM x\n"
        "UPDATE items SET note = 'a'",
    )
    runner.file(
        "02-more.sql",
        "-- selfhost.stateful:\n--   expect_rows: SELECT count(*) FROM items\nUPDATE items SET note = 'b'",
    )

    foreseen = runner.run(check=True)

    assert {each["name"]: each["rows"] for each in foreseen["pending"]} == {"01-fill.sql": None, "02-more.sql": ROWS}
    assert runner.sql("SELECT count(*) FROM items") == str(ROWS)


def test_what_needs_no_transaction_runs_in_none_and_is_not_begun_twice_unasked(runner: Runner) -> None:
    head = "-- selfhost.stateful:\n--   transaction: false\n"
    index = "CREATE INDEX CONCURRENTLY items_note ON items (note)"
    runner.file("01-index.sql", f"{head}{index};\nUPDATE items SET note = 'x' WHERE id = 1;\nSELEKT;")

    failed = runner.run()
    again = runner.run()
    runner.sql("DROP INDEX items_note")
    runner.file("01-index.sql", f"{head}CREATE INDEX CONCURRENTLY items_note ON items (note)")
    retried = runner.run(retry=[1])

    assert "(line 1)" in failed["msg"]  # of its statement
    assert "a part of it may be done" in failed["state"]
    assert "retry: [1]" in failed["next_command"]
    assert runner.sql("SELECT note FROM items WHERE id = 1") == "x"
    assert "was begun on" in again["msg"]
    assert retried["changed"], retried
    assert runner.ledger() == [("01-index.sql", "done", "0")]
    assert runner.sql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'items_note'::regclass") == "t"


@pytest.mark.faults
def test_what_done_when_sees_of_one_that_was_broken_off_is_no_reason_to_skip_the_rest(runner: Runner) -> None:
    runner.file(
        "01-index.sql",
        "-- selfhost.stateful:\n--   transaction: false\n"
        "--   done_when: SELECT to_regclass('public.items_note') IS NOT NULL\n"
        "DROP INDEX IF EXISTS items_note;\nCREATE UNIQUE INDEX CONCURRENTLY items_note ON items (note);\n"
        "UPDATE items SET note = 'x' WHERE id = 1",
    )
    runner.sql("UPDATE items SET note = 'twice' WHERE id > 998")

    failed = runner.run()
    runner.sql("UPDATE items SET note = NULL")
    retried = runner.run(retry=[1])

    assert "items_note" in failed["msg"]
    assert retried["ran"][0]["state"] == "done", retried
    assert runner.sql("SELECT note FROM items WHERE id = 1") == "x"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("false\necho later", marks=pytest.mark.faults),
        pytest.param("echo $NOWHERE\necho later", marks=pytest.mark.faults),
        "false | true\necho later",
        pytest.param("exit 3", marks=pytest.mark.faults),
        pytest.param("if true; then echo open\n", marks=pytest.mark.faults),
    ],
)
def test_a_script_that_fails_anywhere_has_failed(runner: Runner, script: str) -> None:
    runner.file("01-fails.sh", script)

    failed = runner.run()

    assert failed["failed"]
    assert "01-fails.sh ended with" in failed["msg"]
    assert "later" not in failed["msg"]
    assert runner.ledger() == [("01-fails.sh", "failed", "-")]


def test_a_mark_that_a_command_keeps_is_read_set_and_removed(runner: Runner) -> None:
    mark = f"/tmp/{runner.series}"
    given = {
        "name": "01-marked.sql", "content": "UPDATE items SET note = 'x'", "undo": "UPDATE items SET note = NULL",
        "marker": {
            "read": ["cat", mark], "set": ["sh", "-c", f"echo yes > {mark}"], "remove": ["rm", mark], "expected": "yes",
        },
    }  # fmt: skip

    ran = runner.run(migrations=[given])
    back = runner.run("operation", id=ran["operations"][0], state="rolled_back")
    nothing_left = (runner.sql("SELECT count(note) FROM items"), runner.ledger())
    runner.project.exec("postgres", "sh", "-c", f"echo yes > {mark}")
    found = runner.run(migrations=[given])
    runner.run("operation", id=found["operations"][0], state="rolled_back")
    again = runner.run(migrations=[given])

    assert ran["ran"][0]["rows"] == ROWS
    assert back["changed"], back
    assert nothing_left == ("0", [])
    assert found["ran"][0]["state"] == "recognised"
    assert again["ran"][0]["state"] == "recognised"
    assert runner.sql("SELECT count(note) FROM items") == "0"


@pytest.mark.faults
def test_a_mark_whose_command_needs_a_variable_is_removed_with_it_and_not_forgotten_without(runner: Runner) -> None:
    marker = {
        "read": ["sh", "-euc", 'cat "$MARK"'],
        "set": ["sh", "-euc", 'echo yes > "$MARK"'],
        "remove": ["sh", "-euc", 'rm "$MARK"'],
    }
    texts = {"content": "UPDATE items SET note = 'x'", "undo": "UPDATE items SET note = NULL"}
    given = {"name": "01-marked.sql", **texts, "marker": marker}
    environment = {"MARK": f"/tmp/{runner.series}"}

    mistyped = runner.run(migrations=[{**given, "marker": {**marker, "read": ["no-such-program"]}}])
    ran = runner.run(migrations=[given], environment=environment)
    refused = runner.run("operation", id=ran["operations"][0], state="rolled_back")
    still = runner.sql("SELECT count(note) FROM items")
    back = runner.run("operation", id=ran["operations"][0], state="rolled_back", environment=environment)
    again = runner.run(migrations=[given], environment=environment)

    assert "cannot be read" in mistyped["msg"], mistyped
    assert "MARK" in refused["msg"]
    assert still == str(ROWS)
    assert back["changed"], back
    assert again["ran"][0]["state"] == "done"


@pytest.mark.faults
def test_a_way_back_that_was_not_written_is_refused(runner: Runner) -> None:
    runner.file("01-note.sql", "UPDATE items SET note = 'x'")
    runner.options = {"backup": "auto", "backup_dir": str(runner.directory / "backups")}
    ran = runner.run()

    refused = runner.run("operation", id=ran["operations"][0], state="rolled_back")
    committed = runner.run("operation", id=ran["operations"][0], state="committed", remove_backups=True)

    (backup,) = ran["ran"][0]["copies"]
    assert "there is no undo file" in refused["msg"]
    assert refused["copies"][0]["path"] == backup["path"]
    assert committed["changed"], committed
    assert not os.path.exists(backup["path"])
    assert runner.sql("SELECT DISTINCT note FROM items") == "x"


def test_two_runners_at_once_run_it_once(runner: Runner) -> None:
    runner.file("01-add.sql", "SELECT pg_sleep(0.5); INSERT INTO items SELECT max(id) + 1 FROM items")

    here = [runner.start(), runner.start()]
    answers = [answer_of(process) for process in here]
    runner.file("01-add.sql", "SELECT pg_sleep(61)")
    elsewhere = runner.start(operations_dir=str(runner.directory / "another-host"), series="other")
    try:
        wait_for(lambda: is_asleep(runner, 61), "it runs")
        refused = runner.run(series="other")
    finally:
        runner.sql(f"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE {asleep(61)}")
        answer_of(elsewhere)

    assert sorted(answer["changed"] for answer in answers) == [False, True]
    assert "Another runner works on the migrations" in refused["msg"]
    assert "selfhost.stateful, from the local socket" in refused["msg"]
    assert runner.sql("SELECT count(*) FROM items") == str(ROWS + 1)


KILLED = {
    "sql": ("01-slow.sql", "UPDATE items SET note = 'x'; SELECT pg_sleep(1.5)", True),
    "sh": ("01-slow.sh", "psql -c \"UPDATE items SET note = 'x'\"; psql -c 'SELECT pg_sleep(1.5)'", False),
}


@pytest.mark.parametrize("kind", ["sql", pytest.param("sh", marks=pytest.mark.faults)])
def test_killed_in_the_middle(runner: Runner, kind: str) -> None:
    """The process that did the work is killed; what waits for it is told, and the next run knows what is true."""
    name, content, whole = KILLED[kind]
    runner.file(name, content)
    process = runner.start()
    wait_for(lambda: is_asleep(runner, 1.5), "it runs")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in map(int, children):
        os.kill(child, signal.SIGKILL)
    told = answer_of(process)
    wait_for(lambda: not is_asleep(runner, 1.5), "the server has noticed")

    then = runner.run()
    again = runner.run(retry=[1]) if not whole else then

    assert "ended unexpectedly" in told["msg"]
    assert bool(then.get("failed")) != whole
    assert again["changed"], again
    assert runner.sql("SELECT count(note) FROM items") == str(ROWS)
    assert [row[1] for row in runner.ledger()] == ["done"]


@pytest.mark.faults
def test_a_million_rows_take_little_memory(runner: Runner) -> None:
    runner.sql("INSERT INTO items SELECT g, repeat('x', 60) FROM generate_series(2000, 1001999) g")
    runner.file("01-much.sql", "UPDATE items SET note = 'y' WHERE id >= 2000;\nSELECT * FROM items;\n")
    process = runner.start()
    most = watched(process, lambda: process.poll() is None)
    answer = answer_of(process)

    assert answer["ran"][0]["rows"] == 1_000_000, answer
    assert most < MEGABYTES


def watched(process: subprocess.Popen[bytes], going_on: Callable[[], bool]) -> float:
    """Return the megabytes that the process and its children had at most."""
    most = 0.0
    while going_on():
        try:
            pids = [
                process.pid,
                *map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()),
            ]
            for pid in pids:
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith("VmHWM:"):
                        most = max(most, int(line.split()[1]) / 1024)
        except (FileNotFoundError, ProcessLookupError):
            pass
        time.sleep(0.02)
    return most
