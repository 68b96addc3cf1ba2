# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is left to run is decided from files and ledger alone, and whatever is doubtful forbids it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.model import (
    DONE,
    FAILED,
    RECOGNISED,
    RUNNING,
    SHELL,
    SQL,
    UNDOING,
    Guards,
    Marker,
    Migration,
    Query,
    Range,
    Row,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.planner import (
    ACCEPT,
    KEEP,
    RUN,
    Decided,
    decide,
    problems,
)

NO_GUARDS = Guards()
NO_TRANSACTION = Guards(transaction=False)


def a_file(number: int, content: str = "SELECT 1", guards: Guards = NO_GUARDS, kind: str = SQL) -> Migration:
    return Migration(number, f"{number:02}-it.{kind}", kind, content, guards)


def a_row(of: Migration, state: str = DONE, **changes: Any) -> Row:
    row = Row(of.number, of.name, of.sha256, state, "app", "host", "2026-01-02T03:04:05Z", operation="o")
    return replace(row, **changes)


def actions(decided: Decided) -> list[tuple[int, str]]:
    return [(decision.migration.number, decision.action) for decision in decided.decisions]


def only_blocker(decided: Decided) -> str:
    (blocker,) = decided.blockers
    return blocker.text


def test_what_has_no_row_runs_in_the_order_of_numbers_and_what_is_done_is_kept() -> None:
    one, two, ten = a_file(1), a_file(2), a_file(3)
    found = decide([ten, two, one], [a_row(one)])
    assert actions(found) == [(1, KEEP), (2, RUN), (3, RUN)]
    assert (found.blockers, found.warnings) == ((), ())
    assert [decision.migration for decision in found.of(RUN)] == [two, ten]
    assert [decision.row for decision in found.decisions] == [a_row(one), None, None]


def test_without_files_there_is_nothing_to_do() -> None:
    assert decide([], []) == Decided(())


@pytest.mark.parametrize("state", [DONE, RECOGNISED])
def test_a_file_that_was_changed_since_stops_all_until_it_is_accepted(state: str) -> None:
    old, new, later = a_file(1), a_file(1, "SELECT 2"), a_file(2)
    refused = decide([new, later], [a_row(old, state)])
    assert actions(refused) == [(1, KEEP), (2, RUN)]
    assert "01-it.sql was changed after it ran on 2026-01-02T03:04:05Z: it had sha256" in only_blocker(refused)
    assert old.sha256[:12] in only_blocker(refused)
    assert new.sha256[:12] in only_blocker(refused)

    accepted = decide([new, later], [a_row(old, state)], accept=[1])
    assert actions(accepted) == [(1, ACCEPT), (2, RUN)]
    assert accepted.blockers == ()


def test_another_file_of_the_same_number_is_told_by_both_names() -> None:
    found = decide([a_file(1, "SELECT 2")], [a_row(a_file(1), name="01-other.sql")])
    assert "(then 01-other.sql)" in only_blocker(found)


def test_a_file_that_was_only_renamed_is_the_same() -> None:
    found = decide([a_file(1)], [a_row(a_file(1), name="01-other.sql")])
    assert (actions(found), found.blockers) == ([(1, KEEP)], ())


def test_accepting_what_was_not_changed_changes_nothing() -> None:
    assert actions(decide([a_file(1), a_file(2)], [a_row(a_file(1))], accept=[1, 2])) == [(1, KEEP), (2, RUN)]


@pytest.mark.parametrize("state", [RUNNING, FAILED])
@pytest.mark.parametrize("guards,kind", [(NO_TRANSACTION, SQL), (Guards(), SHELL)])
def test_what_was_broken_off_waits_for_somebody_who_looked(state: str, guards: Guards, kind: str) -> None:
    broken = a_file(1, "true", guards, kind)
    found = decide([broken], [a_row(broken, state)])
    assert actions(found) == [(1, KEEP)]
    assert f"was begun on 2026-01-02T03:04:05Z and broken off ({state})" in only_blocker(found)
    assert "name 1 in retry" in only_blocker(found)
    assert decide([broken], [a_row(broken, state)], accept=[1]).blockers


@pytest.mark.parametrize(
    "migration,retry",
    [
        (a_file(1), (1,)),
        (a_file(1, guards=Guards(transaction=False, repeatable=True)), ()),
        (a_file(1, guards=Guards(repeatable=True), kind=SHELL), ()),
        (a_file(1, guards=NO_TRANSACTION), (1,)),
        (a_file(1, kind=SHELL), (1,)),
    ],
    ids=["in a transaction by now", "repeatable", "a repeatable script", "retried", "a script that is retried"],
)
def test_what_was_broken_off_runs_again_where_that_is_safe(migration: Migration, retry: tuple[int, ...]) -> None:
    row = a_row(migration, FAILED)
    found = decide([migration], [row], retry=retry)
    assert (actions(found), found.blockers) == ([(1, RUN)], ())
    assert found.decisions[0].row == row


def test_retrying_what_is_done_runs_nothing() -> None:
    done = a_file(1, guards=Guards(transaction=False, repeatable=True))
    assert actions(decide([done], [a_row(done)], retry=[1])) == [(1, KEEP)]


def test_what_was_broken_off_is_not_safe_because_its_text_says_so_today() -> None:
    """It ran in no transaction, so that a part may be done; written anew as one, it would do that part twice."""
    found = decide([a_file(1, "SELECT 2")], [a_row(a_file(1, guards=NO_TRANSACTION), FAILED)])
    assert actions(found) == [(1, KEEP)]
    assert "name 1 in retry" in only_blocker(found)


def test_what_was_broken_off_may_have_been_put_right_in_its_text() -> None:
    found = decide([a_file(1, "SELECT 2", NO_TRANSACTION)], [a_row(a_file(1), FAILED)], retry=[1])
    assert (actions(found), found.blockers) == ([(1, RUN)], ())


@pytest.mark.parametrize("guards", [NO_TRANSACTION, Guards(transaction=False, repeatable=True)])
def test_what_was_half_taken_back_does_not_count_as_done(guards: Guards) -> None:
    one = a_file(1, guards=guards)
    found = decide([one, a_file(2)], [a_row(one, UNDOING)])
    assert only_blocker(found).startswith("01-it.sql was being taken back on 2026-01-02T03:04:05Z, and that was broken")
    assert "Roll the operation o back again" in only_blocker(found)
    assert decide([one], [a_row(one, UNDOING)], retry=[1]).blockers == ()


def test_two_files_of_one_number_have_no_order() -> None:
    found = decide([a_file(1), replace(a_file(1), name="1-else.sql")], [])
    assert only_blocker(found) == "01-it.sql and 1-else.sql have one number: each needs its own."


def test_a_number_that_is_nowhere_is_a_gap() -> None:
    found = decide([a_file(3), a_file(7)], [a_row(a_file(5))])
    assert "Between 03-it.sql and 07-it.sql there is a gap: 04, 06 is nowhere." in [b.text for b in found.blockers]


def test_a_gap_behind_what_only_the_ledger_has_is_one() -> None:
    rows = [a_row(a_file(1)), a_row(a_file(2))]
    assert only_blocker(decide([a_file(4)], rows)) == (
        "Between 02-it.sql, which ran, and 04-it.sql there is a gap: 03 is nowhere."
    )
    assert decide([a_file(3)], rows).blockers == ()


def test_what_only_the_ledger_has_fills_a_gap() -> None:
    assert decide([a_file(3), a_file(5)], [a_row(a_file(3)), a_row(a_file(4))]).blockers == ()


@pytest.mark.parametrize("state", [RUNNING, FAILED])
def test_what_was_broken_off_and_is_gone_fills_none(state: str) -> None:
    found = decide([a_file(3), a_file(5)], [a_row(a_file(3)), a_row(a_file(4), state)])
    assert only_blocker(found) == "Between 03-it.sql and 05-it.sql there is a gap: 04 is nowhere."


def test_numbers_may_begin_anywhere() -> None:
    assert decide([a_file(40), a_file(41)], []).blockers == ()


def test_a_gap_between_two_times_of_day_is_told_at_once_and_in_short() -> None:
    found = decide([a_file(20260101120000), a_file(20260215093000)], [])
    assert "there is a gap: 20260101120001, " in only_blocker(found)
    assert only_blocker(found).endswith(", … is nowhere.")


def test_a_number_that_was_used_too_late_is_refused() -> None:
    late = a_file(2)
    found = decide([a_file(1), late, a_file(3)], [a_row(a_file(1)), a_row(a_file(3))])
    assert only_blocker(found).startswith("02-it.sql has not run, and 03-it.sql, which comes after it, has:")


def test_what_was_broken_off_is_not_out_of_order() -> None:
    files = [a_file(1), a_file(2)]
    assert decide(files, [a_row(files[0], FAILED), a_row(files[1])], retry=[1]).blockers == ()
    assert decide(files, [a_row(files[1], FAILED)], retry=[2]).blockers == ()


def test_until_leaves_the_later_ones_for_another_time() -> None:
    files = [a_file(number) for number in (0, 1, 2, 3)]
    assert actions(decide(files, [a_row(files[0])], until=2)) == [(0, KEEP), (1, RUN), (2, RUN), (3, KEEP)]
    assert actions(decide(files, [a_row(files[0])], until=0)) == [(number, KEEP) for number in (0, 1, 2, 3)]


def test_until_hides_no_change_of_a_later_file() -> None:
    new = a_file(2, "SELECT 2")
    rows = [a_row(a_file(1)), a_row(a_file(2))]
    assert "02-it.sql was changed" in only_blocker(decide([a_file(1), new], rows, until=1))
    assert actions(decide([a_file(1), new], rows, until=1, accept=[2])) == [(1, KEEP), (2, ACCEPT)]


def test_a_ledger_that_is_ahead_of_the_files_is_told() -> None:
    rows = [a_row(a_file(9)), a_row(a_file(2)), a_row(a_file(1)), a_row(a_file(0))]
    found = decide([a_file(1)], rows)
    assert [warning.split()[3] for warning in found.warnings] == ["02-it.sql,", "09-it.sql,"]
    assert found.blockers == ()
    assert len(decide([], rows).warnings) == 4


UNUSABLE = {
    "nothing but comments": (a_file(1, "-- SELECT 1;\n"), "it holds no statement."),
    "psql": (a_file(1, "SELECT 1;\n\\copy a from 'b'"), "\\copy is a command of psql"),
    "data": (a_file(1, "COPY a FROM STDIN;"), "COPY … FROM STDIN has no input here"),
    "a transaction": (a_file(1, "BEGIN; SELECT 1; COMMIT"), "BEGIN would end the transaction"),
    "a transaction below a comment": (a_file(1, "-- done\ncommit;"), "COMMIT would end the transaction"),
    "an undo that ends its transaction": (
        replace(a_file(1, guards=NO_TRANSACTION), undo="SELECT 1; COMMIT"),
        "what takes it back cannot be run: COMMIT would end the transaction that it runs in: leave it out.",
    ),
    "an undo for psql": (replace(a_file(1), undo="\\i other"), "what takes it back cannot be run: \\i is a command"),
    "an undo with data": (replace(a_file(1), undo="COPY a FROM STDIN"), "what takes it back cannot be run: COPY"),
    "a NUL": (a_file(1, "INSERT 1;\n\0INSERT 2;"), "it holds a NUL byte"),
    "UTF-16": (a_file(1, "SELECT 1".encode("utf-16-be").decode()), "it holds a NUL byte"),
    "a script with a NUL": (a_file(1, "true\0", kind=SHELL), "it holds a NUL byte"),
    "an undo with a NUL": (replace(a_file(1), undo="SELECT 1\0"), "what takes it back holds a NUL byte"),
    **{
        f"a head below {where}": (
            a_file(1, f"{above}-- selfhost.stateful:\n--   expect_rows: 1\nDELETE FROM i"),
            "selfhost.stateful: stands in it where it is not read.",
        )
        for where, above in {
            "a licence": "/* licence */\n",
            "a statement": "SET a = 1;\n",
            "an indentation": " ",
            "another head": "-- selfhost.stateful: {repeatable: true}\n",
            "a block": "/*\nselfhost.stateful:\n*/\n",
        }.items()
    },
    "a head of another language": (a_file(1, "#selfhost.stateful:\ntrue"), "selfhost.stateful: stands in it"),
    "a head of a script below a command": (
        a_file(1, "set -e\n# selfhost.stateful: {repeatable: true}", kind=SHELL),
        "selfhost.stateful: stands in it where it is not read. It is read once, from lines that begin with #,",
    ),
    "an undo with a head": (
        replace(a_file(1), undo="-- selfhost.stateful: {transaction: false}\nSELECT 1"),
        "selfhost.stateful: stands in what takes it back",
    ),
    "rows of a script": (a_file(1, "true", Guards(expect_rows=Range(1, 1)), SHELL), "a script counts no rows"),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_what_could_not_be_run_is_found_before_anything_is(what: str) -> None:
    migration, words = UNUSABLE[what]
    found = decide([migration, a_file(2)], [])
    assert only_blocker(found).startswith(f"{migration.name}: {words}")


def test_what_has_run_is_in_nobodys_way_as_it_is_not_run_again() -> None:
    done = a_file(1, "SELECT 1;\0")
    assert decide([done, a_file(2)], [a_row(done)]).blockers == ()
    assert only_blocker(decide([done], [a_row(done, FAILED)], retry=[1])).startswith("01-it.sql: it holds a NUL byte")


def test_everything_that_is_wrong_with_a_file_is_told_at_once() -> None:
    assert len(problems(a_file(1, "\\set a\nBEGIN;\nCOPY a FROM STDIN;"))) == 3


@pytest.mark.parametrize(
    "migration",
    [
        a_file(1, "BEGIN; SELECT 1; COMMIT", NO_TRANSACTION),
        a_file(1, "SAVEPOINT a; SELECT 1; ROLLBACK TO a"),
        a_file(1, "SELECT 1", Guards(expect_rows=Range(1, 1))),
        a_file(1, "-- Why.\n\n-- selfhost.stateful:\n--   transaction: true\nSELECT 'selfhost.stateful:'"),
        replace(a_file(1), undo="-- there is nothing to take back"),
        replace(a_file(1, "\\copy; BEGIN", Guards(expect_rows=Query("SELECT 1")), SHELL), undo="COMMIT"),
    ],
    ids=[
        "a transaction of its own",
        "a savepoint",
        "rows of SQL",
        "a head",
        "an undo of nothing",
        "a script may hold anything",
    ],
)
def test_what_can_be_run_is_not_refused(migration: Migration) -> None:
    assert problems(migration) == []


@pytest.mark.parametrize(
    "migration,whole",
    [(a_file(1), True), (a_file(1, guards=NO_TRANSACTION), False), (a_file(1, kind=SHELL), False)],
)
def test_only_sql_in_a_transaction_happens_as_a_whole(migration: Migration, whole: bool) -> None:
    assert migration.in_transaction == whole


@pytest.mark.parametrize(
    "expected,holding,words",
    [(Range(2, 4), {2, 3, 4}, "2 to 4"), (Range(3, 3), {3}, "3"), (Range(4, None), {4, 5}, "at least 4")],
)
def test_both_ends_of_a_range_count(expected: Range, holding: set[int], words: str) -> None:
    assert {rows for rows in range(6) if expected.holds(rows)} == holding
    assert str(expected) == words


def test_a_row_survives_a_journal_and_leaves_out_what_it_does_not_know() -> None:
    row = a_row(a_file(1), seconds=1.5, rows=3)
    assert Row.from_dict({**row.as_dict(), "of_a_later_version": 1}) == row
    assert [a_row(a_file(1), state).complete for state in (RUNNING, FAILED, DONE, RECOGNISED)] == [
        *(False, False, True, True)
    ]


def test_the_hash_is_that_of_the_file() -> None:
    assert a_file(1, "SELECT 'é'\n").sha256 == "8947c71f2b8bcdb340fdb30d282c9433eb432588f0185d16ad88fea7389b338c"


def test_a_mark_that_nothing_removes_is_refused_before_it_is_set_where_there_is_an_undo_file() -> None:
    one = replace(a_file(1, guards=Guards(marker=Marker(("read",), set=("set",)))), undo="SELECT 2")
    assert "01-it.sql: there is an undo file" in only_blocker(decide([one], []))
    assert not decide([one], [a_row(one)]).blockers
    assert not decide([replace(one, undo="")], []).blockers
    for marker in (Marker(("read",)), Marker(("read",), set=("set",), remove=("remove",))):
        assert not decide([replace(one, guards=Guards(marker=marker))], []).blockers
