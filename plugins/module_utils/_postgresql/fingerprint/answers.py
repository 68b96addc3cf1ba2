# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ask many questions in few statements, by several sessions that share one snapshot."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import sql
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.counts import UNDEFINED_TABLE, batches
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.questions import Question
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import SqlError

Answer = tuple[int, str]
Numbered = tuple[int, Question]


def ask_all(
    open_session: Callable[[], Session], questions: Mapping[str, Question], *, jobs: int, snapshot: str
) -> dict[str, Answer]:
    """Return the answers by the names of the questions, without those on what was dropped meanwhile.

    ``snapshot`` is an exported one whose transaction is open, or empty: then each
    statement sees what is there when it runs. Raises :class:`SqlError` naming the table.
    """
    names = sorted(questions, key=lambda name: questions[name].weight)
    numbered = [(number, questions[name]) for number, name in enumerate(names)]
    # The largest first, so that no session is left alone with one at the end.
    waiting = deque(reversed(list(batches(numbered, lambda one: one[1].weight))))

    def work() -> list[tuple[int, Answer]]:
        found: list[tuple[int, Answer]] = []
        with open_session() as session:
            while True:
                try:
                    batch = waiting.popleft()
                except IndexError:
                    return found
                try:
                    found += _ask(session, batch, snapshot)
                except BaseException:
                    waiting.clear()  # nobody is to read on for hours for a result that will not be
                    raise

    workers = min(jobs, len(waiting))
    if not workers:
        return {}
    with ThreadPoolExecutor(workers) as pool:
        working = [pool.submit(work) for _ in range(workers)]
        return {names[number]: answer for one in working for number, answer in one.result()}


def _ask(session: Session, batch: Sequence[Numbered], snapshot: str) -> list[tuple[int, Answer]]:
    try:
        return _ask_at_once(session, batch, snapshot)
    except SqlError as error:
        if len(batch) > 1:
            return [answer for one in batch for answer in _ask(session, [one], snapshot)]
        if error.sqlstate == UNDEFINED_TABLE:
            return []
        raise SqlError(f"{batch[0][1].subject} could not be read: {error.msg}", sqlstate=error.sqlstate) from error


def _ask_at_once(session: Session, batch: Sequence[Numbered], snapshot: str) -> list[tuple[int, Answer]]:
    statement = " UNION ALL ".join(f"SELECT {number}, {question.select}" for number, question in batch)
    if not snapshot:
        return _read(session, statement)
    # A transaction a statement: the locks on ten thousand tables would not fit into the server's memory.
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        session.run(f"SET TRANSACTION SNAPSHOT {sql.literal(snapshot)}")
        return _read(session, statement)
    finally:
        session.run("ROLLBACK")


def _read(session: Session, statement: str) -> list[tuple[int, Answer]]:
    return [(number, (count, text)) for number, count, text in session.rows(statement)]
