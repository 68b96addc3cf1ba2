# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many questions by several sessions, and tables that go away meanwhile."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import counts
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint import questions
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.answers import ask_all
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.questions import (
    Column,
    Question,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import SqlError

NOT_AVAILABLE = "55P03"


@dataclass
class Server:
    """Answers every question with the number behind its name; some names it refuses."""

    refused: dict[str, str] = field(default_factory=dict)
    statements: list[str] = field(default_factory=list)
    open: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def connect(self) -> Any:
        return FakeSession(self)


@dataclass
class FakeSession:
    server: Server

    def __enter__(self) -> FakeSession:
        with self.server.lock:
            self.server.open += 1
        return self

    def __exit__(self, *_error: object) -> None:
        with self.server.lock:
            self.server.open -= 1

    def run(self, statement: str) -> None:
        with self.server.lock:
            self.server.statements.append(statement)

    def rows(self, statement: str) -> list[tuple[int, int, str]]:
        self.run(statement)
        for name, sqlstate in self.server.refused.items():
            if re.search(rf"\b{name}\b", statement):
                raise SqlError("no", sqlstate=sqlstate)
        found = re.findall(r"SELECT (\d+), ask t(\d+)", statement)
        return [(int(number), int(asked), "x") for number, asked in found]


def asked(count: int, weight: int = 1) -> dict[str, Question]:
    return {f"t{number}": Question(f"t{number}", f"ask t{number}", weight) for number in range(count)}


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("snapshot", ["", "0000-1"])
def test_every_question_gets_its_answer(jobs: int, snapshot: str) -> None:
    server = Server()
    found = ask_all(server.connect, asked(450), jobs=jobs, snapshot=snapshot)
    assert found == {f"t{number}": (number, "x") for number in range(450)}
    assert server.open == 0
    assert sum("ask" in one for one in server.statements) == 3
    assert sum("SET TRANSACTION SNAPSHOT '0000-1'" in one for one in server.statements) == (3 if snapshot else 0)
    assert server.statements.count("ROLLBACK") == (3 if snapshot else 0)


def test_the_largest_come_first_and_by_themselves() -> None:
    server = Server()
    ask_all(server.connect, {**asked(3), "big": Question("big", "ask t99", counts.BATCH_ROWS)}, jobs=1, snapshot="")
    assert ["ask t99" in one for one in server.statements] == [True, False]


@pytest.mark.parametrize("snapshot", ["", "0000-1"])
def test_what_was_dropped_meanwhile_has_no_answer_and_its_neighbours_have(snapshot: str) -> None:
    server = Server(refused={"t7": counts.UNDEFINED_TABLE})
    found = ask_all(server.connect, asked(10), jobs=2, snapshot=snapshot)
    assert found == {f"t{number}": (number, "x") for number in range(10) if number != 7}


def test_any_other_refusal_names_the_table_and_ends_the_work() -> None:
    server = Server(refused={"t7": NOT_AVAILABLE})
    with pytest.raises(SqlError, match="t7 could not be read: no") as caught:
        ask_all(server.connect, asked(10, counts.BATCH_ROWS), jobs=1, snapshot="")
    assert caught.value.sqlstate == NOT_AVAILABLE
    # The tables of one weight are read from the last to the first: nobody went on behind the refused one.
    assert not [one for one in server.statements if "t6" in one]
    assert server.open == 0


def test_nothing_to_ask_opens_no_session() -> None:
    assert ask_all(Server().connect, {}, jobs=2, snapshot="") == {}


def test_a_content_is_read_without_what_majors_print_differently() -> None:
    table = counts.Relation('Od"d', "t", "r", "", True, 70)
    columns = [Column("id", 20), Column("raw", questions.BYTEA), Column("ratio", questions.FLOAT8)]
    question = questions.of_content(table, columns)
    assert """ROW("id", md5("raw"), float8send("ratio"))::text""" in question.select
    assert question.select.endswith('FROM ONLY "Od""d"."t"')
    assert question.weight == 70


@pytest.mark.parametrize("version, unknown", [(90600, ["jit", "idle_session_timeout", "transaction_timeout"]),
                                              (130000, ["idle_session_timeout", "transaction_timeout"]),
                                              (170000, [])])  # fmt: skip
def test_a_session_is_given_only_what_its_server_knows(version: int, unknown: list[str]) -> None:
    known = questions.settings(version)
    assert not set(unknown) & set(known)
    assert len(known) == len(questions.SETTINGS) + 3 - len(unknown)
    # They travel in one line of options, where a blank would end a value.
    assert not [value for value in known.values() if " " in value]
