# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import counts
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.counts import Count, Counts
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import SqlError
from tests.unit.postgresql.fakes import FakeClock


class FakeSession:
    """One database of tables with estimated and true rows; counting costs a second a question."""

    def __init__(self, tables: Sequence[tuple[str, str, int, int]], clock: FakeClock, refuse: str = "") -> None:
        self.tables = tables
        self.clock = clock
        self.refuse = refuse
        self.limits: list[float] = []

    def limited(self, seconds: float) -> FakeSession:
        self.limits.append(seconds)
        return self

    def rows(self, query: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if query == counts.RELATIONS:
            return [(schema, table, "r", "", True, estimate) for schema, table, estimate, _rows in self.tables]
        self.clock.pause(1)
        if self.refuse:
            raise SqlError("no", sqlstate=self.refuse)
        return [(s, t, rows) for s, t, _estimate, rows in self.tables if f"'{s}', '{t}', count" in query]


def count(session: FakeSession, clock: FakeClock, *, budget: float, exact_up_to: int) -> dict[str, Count]:
    return counts.count_database(session, ends=clock() + budget, exact_up_to=exact_up_to, clock=clock)  # type: ignore[arg-type]


TABLES = [("public", "small", 10, 12), ("public", "middle", 300_000, 300_001), ("public", "large", 9_000_000, 1)]


def test_exact_up_to_a_size_and_estimated_above() -> None:
    clock = FakeClock()
    assert count(FakeSession(TABLES, clock), clock, budget=60, exact_up_to=1_000_000) == {
        "public.small": Count(12, True),
        "public.middle": Count(300_001, True),
        "public.large": Count(9_000_000, False),
    }


def test_the_budget_ends_the_counting() -> None:
    clock = FakeClock()
    session = FakeSession(TABLES, clock)
    found = count(session, clock, budget=0.5, exact_up_to=1 << 60)
    assert [name for name, one in found.items() if one.exact] == ["public.small"]
    assert session.limits == [0.5]


def test_a_cancelled_question_leaves_estimates() -> None:
    clock = FakeClock()
    found = count(FakeSession(TABLES, clock, counts.QUERY_CANCELED), clock, budget=60, exact_up_to=1 << 60)
    assert not any(one.exact for one in found.values())


class InTransaction(FakeSession):
    """What is refused here ends the transaction, unless it is rolled back to a savepoint; ``gone`` was dropped."""

    def __init__(self, tables: Sequence[tuple[str, str, int, int]], clock: FakeClock, refuse: str) -> None:
        super().__init__(tables, clock)
        self.refused_with = refuse
        self.saved = self.aborted = False

    def run(self, statement: str) -> None:
        word = statement.split()[0]
        if word == "ROLLBACK":
            assert self.saved
            self.aborted = False
        elif self.aborted:
            raise SqlError("current transaction is aborted", sqlstate="25P02")
        self.saved = word != "RELEASE"

    def rows(self, query: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if self.aborted:
            raise SqlError("current transaction is aborted", sqlstate="25P02")
        if "'gone', count" in query:
            self.aborted = True
            raise SqlError("no", sqlstate=self.refused_with)
        return super().rows(query, params)


@pytest.mark.parametrize("refuse, exact", [(counts.UNDEFINED_TABLE, ["s.large"]), (counts.QUERY_CANCELED, [])])
def test_a_transaction_goes_on_after_a_refused_question(refuse: str, exact: list[str]) -> None:
    clock = FakeClock()
    session = InTransaction([("s", "gone", 1, 0), ("s", "large", 300_000, 7)], clock, refuse)
    found = counts.count_database(
        session,  # type: ignore[arg-type]
        ends=clock() + 60,
        exact_up_to=1 << 60,
        clock=clock,
        in_transaction=True,
    )
    assert [name for name, one in found.items() if one.exact] == exact
    assert not session.aborted


def test_a_table_that_only_a_snapshot_shows_has_an_estimate() -> None:
    assert "coalesce(pg_relation_size(c.oid), 0)" in counts.RELATIONS


def test_small_tables_share_a_question() -> None:
    clock = FakeClock()
    many = [("s", f"t{number}", 1, 1) for number in range(450)]
    session = FakeSession(many, clock)
    assert all(one.exact for one in count(session, clock, budget=60, exact_up_to=10).values())
    assert len(session.limits) == 3


def test_names_are_quoted() -> None:
    question = counts._question([counts.Relation('Od"d', "it's", "r", "", True, 7)])
    assert question == """SELECT 'Od"d', 'it''s', count(*) AS n FROM ONLY "Od""d"."it's\""""


def test_differences() -> None:
    before = Counts(
        {
            "app": {
                "public.kept": Count(5, True),
                "public.fewer": Count(5, True),
                "public.more": Count(5, True),
                "public.guessed": Count(5, False),
                "public.gone": Count(7, True),
            },
            "lost": {"public.t": Count(1, True)},
        },
        {"template0": "does not allow connections"},
    )
    after = Counts(
        {
            "app": {
                "public.kept": Count(5, True),
                "public.fewer": Count(4, True),
                "public.more": Count(6, True),
                "public.guessed": Count(9, True),
                "public.new": Count(0, True),
            },
            "born": {},
        },
        {"lost": "cannot connect"},
    )
    assert [(str(one), one.lost) for one in counts.compare_counts(before, after)] == [
        ("app: public.fewer has 4 rows, 5 before", True),
        ("app: public.gone is missing (7 rows before)", True),
        ("lost: (all tables) could not be counted: cannot connect", True),
        ("app: public.more has 6 rows, 5 before", False),
        ("app: public.new is new", False),
        ("born: (all tables) came with a new database", False),
    ]


def test_counts_survive_a_journal() -> None:
    kept = Counts({"app": {"public.a": Count(5, True), "public.b": Count(9, False)}}, {"template0": "closed"})
    assert counts.as_dict(kept)["databases"] == {"app": {"public.a": 5, "public.b": "~9"}}
    assert counts.from_dict(counts.as_dict(kept)) == kept
    assert kept.rows == 14
    assert not kept.exact
