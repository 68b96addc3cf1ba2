# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rows of large tables go through pipes: what was not given to its end is never committed, and nobody waits on."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import large_tables
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.large_tables import LargeTable

MIB = 1 << 20
# Two servers and their clients: "give" writes the pipe and prints how many rows, "take" reads it, and commits if the
# script lets it. One that fails does so before it opens the pipe, or when it has dealt with a part of it.
PSQL = """#!/bin/sh
script=$3
name=${script%.*}
table=${name##*/}
what="$1 $(sed -n 's/.*"public"[.]"\\([a-z]*\\)".*/\\1/p' "$script" | head -n 1)"
case $what in $FAILS_BEFORE) exit 3 ;; esac
case $1 in
  give)
    {
      printf '1\\tone\\n'
      case $what in $FAILS_WITHIN) exit 3 ;; esac
      yes '2 two' | head -n 40000
    } >"$name" && echo 40001
    ;;
  take)
    case $what in $FAILS_WITHIN) head -n 1 "$name" >/dev/null; exit 3 ;; esac
    taken=$(cat "$name" | wc -l)
    given=$(eval "$(sed -n 's/^.set given `\\(.*\\)`$/\\1/p' "$script")")
    [ "$given" = "$taken" ] || exit 3
    cp "$script" "$COMMITTED/$table"
    ;;
esac
"""
NOBODY = "none-of-them"


def table(name: str, mebibytes: int = 100) -> LargeTable:
    return LargeTable("public", name, mebibytes * MIB, 'id, "a word"')


def poured(
    place: Path, names: str, *, before: str = NOBODY, within: str = NOBODY, marks: str = "marks"
) -> tuple[int, dict[str, str]]:
    """Return how the script ends where one of the two fails for a table, and what was committed of each."""
    program, rows, committed = place / "psql", place / "the rows", place / "committed"
    program.write_text(PSQL)
    program.chmod(0o755)
    rows.mkdir()
    committed.mkdir()
    owner = (os.getuid(), os.getgid())
    lane = [large_tables._lay(str(rows), str(rows), name, table(name), "LATIN1", owner) for name in names.split()]
    script = large_tables._script([lane], str(rows), f"{program} give", f"{program} take", marks=str(place / marks))
    env = {**os.environ, "FAILS_BEFORE": before, "FAILS_WITHIN": within, "COMMITTED": str(committed)}
    ended = subprocess.run(["sh", "-c", script], env=env, check=False, capture_output=True, timeout=60)
    return ended.returncode, {path.name: path.read_text() for path in committed.iterdir()}


def test_all_rows_are_committed_by_what_emptied_the_table(tmp_path: Path) -> None:
    rc, committed = poured(tmp_path, "one two")
    assert rc == 0
    assert sorted(committed) == ["one", "two"]
    assert committed["one"].splitlines()[:3] == [
        "BEGIN;",
        'TRUNCATE TABLE ONLY "public"."one";',
        f"""COPY "public"."one" (id, "a word") FROM '{tmp_path}/the rows/one' WITH (FREEZE, ENCODING 'LATIN1');""",
    ]
    given = (tmp_path / "the rows" / "one.give").read_text()
    assert given == (
        f"""COPY "public"."one" (id, "a word") TO '{tmp_path}/the rows/one' WITH (ENCODING 'LATIN1');\n"""
        "\\echo :ROW_COUNT\n"
    )


def test_what_nobody_knows_to_be_committed_is_told_as_not_brought(tmp_path: Path) -> None:
    """Where not even an empty file can be made, the script does not get to the table."""
    assert poured(tmp_path, "one two", marks="nowhere/marks") == (1, {})


def test_what_was_known_of_another_database_is_not_taken_for_this_one(tmp_path: Path) -> None:
    """Every database has tables of its own, which the same names stand for."""
    (tmp_path / "marks").mkdir()
    for name in ("one.given", "one.taken", "one.committed"):
        (tmp_path / "marks" / name).touch()
    assert poured(tmp_path, "one", within="take one") == (1, {})


def test_the_clients_may_read_what_they_are_told_whatever_files_are_made_with(tmp_path: Path) -> None:
    before = os.umask(0o777)
    try:
        large_tables._lay(str(tmp_path), str(tmp_path), "one", table("one"), "UTF8", (os.getuid(), os.getgid()))
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == dict.fromkeys(
        ("one", "one.give", "one.take"), 0o600
    )


@pytest.mark.parametrize("who", ["give", "take"])
@pytest.mark.parametrize("when", ["before", "within"])
def test_one_that_fails_is_told_and_leaves_nobody_waiting(who: str, when: str, tmp_path: Path) -> None:
    rc, committed = poured(tmp_path, "one two three", **{when: f"{who} two"})
    assert rc == 1
    assert sorted(committed) == ["one", "three"]


def test_both_failing_is_told_too(tmp_path: Path) -> None:
    assert poured(tmp_path, "one", before="* one") == (1, {})


@pytest.mark.parametrize(
    ("sizes", "jobs", "lanes"),
    [
        ((900, 300, 200, 100), 2, [[900], [300, 200, 100]]),
        ((500, 400, 300), 4, [[500], [400], [300]]),
        ((500, 400), 1, [[500, 400]]),
    ],
)
def test_the_lanes_have_as_much_to_do(sizes: tuple[int, ...], jobs: int, lanes: list[list[int]]) -> None:
    dealt = large_tables._lanes([table(f"of{size}", size) for size in sizes], jobs)
    assert [[each.size // MIB for each in lane] for lane in dealt] == lanes


class Asked:
    """A session of a server that knows a few settings, and has tables of which not all are plainly named."""

    def for_programs(self) -> dict[str, str]:
        return {"role": "none", "statement_timeout": "0"}

    def rows(self, query: str, params: object = ()) -> list[tuple[object, ...]]:
        if "pg_settings" in query:
            return [("DateStyle",), ("search_path",)]
        named = ("posts", "a table", 'quo"ted', "p*", "überall", "_Mixed1")
        return [("public", name, 100 * MIB, "id") for name in named] + [("public", "without_columns", 100 * MIB, None)]


def test_a_table_whose_name_could_be_a_pattern_stays_with_the_dump() -> None:
    session: Any = Asked()
    found = large_tables.of_database(session, 130000)
    assert [each.pattern for each in found] == ['"public"."posts"', '"public"."_Mixed1"']
    assert large_tables.of_database(session, 119999) == ()


def test_a_server_is_only_told_what_it_knows() -> None:
    session: Any = Asked()
    end = large_tables.End(session, "/work/new-socket", "it's")
    words = shlex.split(large_tables._psql(end, large_tables.TAKING, 5433, "admin"))
    assert words[:2] == ["env", "PGOPTIONS=-c role=none -c statement_timeout=0 -c DateStyle=ISO -c search_path="]
    assert words[2] == "psql"
    assert words[-2:] == ["-d", "it's"]
