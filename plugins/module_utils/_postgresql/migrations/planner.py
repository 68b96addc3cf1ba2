# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which migrations are left to run, and what forbids it. Pure: files and ledger in, a decision for each out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations import head
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.model import (
    SHELL,
    UNDOING,
    Migration,
    Range,
    Row,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.statements import (
    Statement,
    split,
)

RUN, ACCEPT, KEEP = "run", "accept", "keep"
"""What is done with a migration: it runs, its changed text is accepted, or it is left alone."""
NAMED = 5
"""So many of the numbers that are missing are named."""


@dataclass(frozen=True)
class Decision:
    migration: Migration
    action: str
    row: Row | None = None


@dataclass(frozen=True)
class Decided:
    decisions: tuple[Decision, ...]
    blockers: tuple[Blocker, ...] = ()
    warnings: tuple[str, ...] = ()

    def of(self, action: str) -> list[Decision]:
        return [decision for decision in self.decisions if decision.action == action]


def decide(
    migrations: Sequence[Migration],
    ledger: Iterable[Row],
    *,
    accept: Collection[int] = (),
    retry: Collection[int] = (),
    until: int | None = None,
) -> Decided:
    """Compare what there is with what was done.

    ``accept`` names changed files whose new text is taken for the one that ran,
    ``retry`` those that were broken off and may be begun again, ``until`` the last
    one that is wanted.
    """
    known = {row.number: row for row in ledger}
    # What has run is not run again: what would be wrong with it today is in nobody's way.
    left = [each for each in migrations if each.number not in known or not known[each.number].complete]
    blockers = [*_misnumbered(migrations, known), *_unusable(left)]
    decisions = []
    for migration in sorted(migrations, key=lambda each: each.number):
        row = known.get(migration.number)
        decision, blocker = _decide_one(migration, row, accept, retry)
        blockers += [blocker] if blocker else []
        if decision.action == RUN and until is not None and migration.number > until:
            decision = Decision(migration, KEEP, row)
        decisions.append(decision)
    blockers += [*_out_of_order(decisions, known), *_marked_for_good(decisions)]
    return Decided(tuple(decisions), tuple(blockers), tuple(_unknown(migrations, known)))


def _decide_one(
    migration: Migration, row: Row | None, accept: Collection[int], retry: Collection[int]
) -> tuple[Decision, Blocker | None]:
    name, number = migration.name, migration.number
    if row is None:
        return Decision(migration, RUN), None
    if row.complete:
        if row.sha256 == migration.sha256:
            return Decision(migration, KEEP, row), None
        if number in accept:
            return Decision(migration, ACCEPT, row), None
        was = f" (then {row.name})" if row.name != name else ""
        return Decision(migration, KEEP, row), Blocker(
            f"{name} was changed after it ran on {row.at}{was}: it had sha256 {row.sha256[:12]} and has"
            f" {migration.sha256[:12]} now. Put the old text back, or name {number} in accept to go on with the new"
            " one, which is not run.",
        )
    if row.state == UNDOING and number not in retry:
        return Decision(migration, KEEP, row), Blocker(
            f"{name} was being taken back on {row.at}, and that was broken off: a part of it may be gone. Roll the"
            f" operation {row.operation} back again; or look at what is left, and name {number} in retry to run it from"
            " its beginning."
        )
    # One in a transaction leaves no such row behind: whatever the text says today, what was broken off ran in none.
    if migration.guards.repeatable or number in retry:
        return Decision(migration, RUN, row), None
    going_on = (
        " A script may still be running in the container (docker top): let it end." if migration.kind == SHELL else ""
    )
    return Decision(migration, KEEP, row), Blocker(
        f"{name} was begun on {row.at} and broken off ({row.state}); it ran in no transaction, so that a part may be"
        f" done.{going_on} Look at what it did; then name {number} in retry to run it from its beginning."
    )


def _misnumbered(migrations: Sequence[Migration], known: Mapping[int, Row]) -> list[Blocker]:
    """Two files of one number have no order, and a file that lacks may be one that others stand on."""
    found, by_number = [], sorted(migrations, key=lambda each: each.number)
    last = max((row for row in known.values() if row.complete), key=lambda row: row.number, default=None)
    # What is to follow what ran has to follow on it, also where src has none of those that ran.
    if last is not None and by_number and by_number[0].number > last.number + 1:
        missing = _named(range(last.number + 1, by_number[0].number))
        found.append(
            Blocker(f"Between {last.name}, which ran, and {by_number[0].name} there is a gap: {missing} is nowhere.")
        )
    for one, other in zip(by_number, by_number[1:]):
        if one.number == other.number:
            found.append(Blocker(f"{one.name} and {other.name} have one number: each needs its own."))
        # As many as a sentence can bear: between two times of day there are millions.
        gap = (n for n in range(one.number + 1, other.number) if n not in known or not known[n].complete)
        missing = _named(gap)
        if missing:
            found.append(Blocker(f"Between {one.name} and {other.name} there is a gap: {missing} is nowhere."))
    return found


def _named(gap: Iterable[int]) -> str:
    missing = [f"{n:02}" for n in islice(gap, NAMED + 1)]
    return ", ".join(missing if len(missing) <= NAMED else [*missing[:NAMED], "…"])


def _out_of_order(decisions: Sequence[Decision], known: dict[int, Row]) -> list[Blocker]:
    last = max((row.number for row in known.values() if row.complete), default=-1)
    return [
        Blocker(
            f"{decision.migration.name} has not run, and {known[last].name}, which comes after it, has: its number was"
            " used too late. Give it the next free one."
        )
        for decision in decisions
        if decision.action == RUN and decision.migration.number < last and decision.row is None
    ]


def _marked_for_good(decisions: Sequence[Decision]) -> list[Blocker]:
    """Find those that run and could not be taken back by their undo file: the mark would go on saying that they are."""
    return [
        Blocker(
            f"{migration.name}: there is an undo file, and marker has a command that sets the mark and none that"
            " removes it. Give remove beside set."
        )
        for migration, marker in (
            (each.migration, each.migration.guards.marker) for each in decisions if each.action == RUN
        )
        if migration.undo and marker is not None and marker.set and not marker.remove
    ]


def _unknown(migrations: Sequence[Migration], known: dict[int, Row]) -> list[str]:
    have = {migration.number for migration in migrations}
    last = max(have, default=-1)
    return [
        f"The ledger has {row.name}, which ran on {row.at}, and src does not: it is older than the database."
        for row in sorted(known.values(), key=lambda each: each.number)
        if row.number > last
    ]


def _unusable(migrations: Sequence[Migration]) -> list[Blocker]:
    """Find what could not be run as it stands, before anything is."""
    return [Blocker(f"{migration.name}: {problem}") for migration in migrations for problem in problems(migration)]


def problems(migration: Migration) -> list[str]:
    """Return what is wrong with one file, in words."""
    guards = migration.guards
    # Postgres' protocol and shells end a text there: what comes after it would not be run, and be noted as done.
    texts = {"it": migration.content, "what takes it back": migration.undo}
    cut = [what for what, text in texts.items() if "\0" in text]
    if cut:
        return [f"{what} holds a NUL byte, as text in UTF-16 does: save it in UTF-8." for what in cut]
    found = _unread(migration)
    if migration.kind == SHELL:
        if isinstance(guards.expect_rows, Range):
            found.append("a script counts no rows: expect_rows can only be a query here.")
        return found
    statements = split(migration.content)
    found += [] if statements else ["it holds no statement."]
    found += _unfit(statements)
    if guards.transaction:
        found += [f"{each}, or declare transaction: false." for each in _ending(statements)]
    undo = split(migration.undo)
    # What takes a migration back always happens as a whole, also where the migration does not.
    unfit = (*_unfit(undo), *(f"{each}." for each in _ending(undo)))
    return found + [f"what takes it back cannot be run: {each}" for each in unfit]


def _unread(migration: Migration) -> list[str]:
    """A guard that is not read is one that does not hold, and who wrote it counts on it."""
    found = []
    if head.is_unread(migration.kind, migration.content):
        found.append(
            f"{head.HEADER} stands in it where it is not read. It is read once, from lines that begin with"
            f" {head.COMMENT[migration.kind]}, before all else but empty lines: move it there."
        )
    if head.count(migration.undo):
        found.append(f"{head.HEADER} stands in what takes it back, which has no guards of its own: leave it out.")
    return found


def _unfit(statements: Sequence[Statement]) -> list[str]:
    found = []
    meta = next((s for s in statements if s.is_meta_command), None)
    if meta is not None:
        found.append(f"{meta.split()[0]} is a command of psql, not SQL: write it as a script (.sh) that calls psql.")
    if any(s.reads_input for s in statements):
        found.append("COPY … FROM STDIN has no input here: write it as a script (.sh) that calls psql.")
    return found


def _ending(statements: Sequence[Statement]) -> list[str]:
    """Return in words, without a full stop, what would end the transaction; of several the first."""
    ending = next((s for s in statements if s.is_transaction_control), None)
    return [f"{ending.words[0]} would end the transaction that it runs in: leave it out"] if ending else []
