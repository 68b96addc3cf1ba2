# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is not as it was, from two fingerprints. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.model import (
    DEFINITION,
    MATERIALIZED_VIEW,
    NOT_ASKED_FOR,
    Database,
    Fingerprint,
    Parts,
    Role,
    Sequence,
    Table,
)

SHOWN = 20


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it was; ``lost`` when something that was there is not there any more.

    ``database`` is empty for what belongs to the whole cluster.
    """

    database: str
    subject: str
    text: str
    lost: bool

    def __str__(self) -> str:
        place = f"{self.database}: " if self.database else ""
        return f"{place}{self.subject} {self.text}"


@dataclass(frozen=True)
class Coverage:
    """How much of what was there before could be compared at all: an equality proves no more than that."""

    tables: int
    rows: int
    contents: int


Words = Mapping[str, str]
Naming = Callable[[str], str]
Change = Callable[[str, str], tuple[str, bool]]
"""From what was and what is to how that is told, and whether something is lost."""


class Counted(Protocol):
    """Rows of a table, as an exact number or as an estimate."""

    @property
    def rows(self) -> int: ...

    @property
    def exact(self) -> bool: ...


def compare(before: Fingerprint, after: Fingerprint) -> list[Difference]:
    """Return what differs, losses first.

    An estimate proves nothing and is never compared; a content only where both have
    its digest. The server's version is no difference.
    """
    found = [*_compare_cluster(before, after)]
    for name, was in before.databases.items():
        now = after.databases.get(name)
        if now is not None:
            found.extend(_compare_database(name, was, now))
        elif after.skipped.get(name) != NOT_ASKED_FOR:
            found.append(Difference("", f"database {name}", after.skipped.get(name, "is missing"), True))
    # Nothing of a closed database can be compared but that it is there.
    for name, reason in before.skipped.items():
        if reason != NOT_ASKED_FOR and name not in after.databases and name not in after.skipped:
            found.append(Difference("", f"database {name}", "is missing", True))
    for name in after.databases:
        if name not in before.databases and name not in before.skipped:
            found.append(Difference("", f"database {name}", "is new", False))
    return sorted(found, key=lambda difference: not difference.lost)


def refuse_losses(before: Fingerprint, after: Fingerprint, what: str) -> None:
    """Raise :class:`StatefulError`, its first words being ``what``, where something is not there any more."""
    lost = [str(difference) for difference in compare(before, after) if difference.lost]
    if lost:
        more = f"; and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
        raise StatefulError(f"{what}: {'; '.join(lost[:SHOWN])}{more}.")


def coverage(before: Fingerprint, after: Fingerprint) -> Coverage:
    """Return how many tables both know, of how many the exact rows, and of how many the content."""
    pairs = [
        (was, after.databases[database].tables[name])
        for database, one in before.databases.items()
        if database in after.databases
        for name, was in one.tables.items()
        if name in after.databases[database].tables
    ]
    return Coverage(
        tables=len(pairs),
        rows=sum(was.exact and now.exact for was, now in pairs),
        contents=sum(bool(was.content and now.content) for was, now in pairs),
    )


def compare_rows(database: str, before: Mapping[str, Counted], after: Mapping[str, Counted]) -> Iterator[Difference]:
    """Yield the tables that are missing or new, and those with another number of rows where both are exact."""
    for name, was in before.items():
        now = after.get(name)
        if now is None:
            yield Difference(database, name, f"is missing ({was.rows} rows before)", True)
        elif was.exact and now.exact and was.rows != now.rows:
            yield Difference(database, name, f"has {now.rows} rows, {was.rows} before", now.rows < was.rows)
    for name in after:
        if name not in before:
            yield Difference(database, name, "is new", False)


def _named(kind: str) -> Naming:
    return lambda name: f"{kind} {name}"


sequence_subject = _named("sequence")


def _redefined(was: str, now: str) -> tuple[str, bool]:
    return f"is {now or '(nothing)'}, {was or '(nothing)'} before", False


def _fewer(was: str, now: str) -> tuple[str, bool]:
    """Tell of lists of what somebody may do."""
    return f"is {now}, {was} before", bool(set(was.split(", ")) - set(now.split(", ")))


def _reset(_was: str, _now: str) -> tuple[str, bool]:
    return "has another value", False


def _compare_cluster(before: Fingerprint, after: Fingerprint) -> Iterator[Difference]:
    for name, was in before.roles.items():
        now = after.roles.get(name)
        if now is None:
            yield Difference("", f"role {name}", "is missing", True)
        else:
            yield from _compare_role(f"role {name}", was, now)
    for name in after.roles:
        if name not in before.roles:
            yield Difference("", f"role {name}", "is new", False)
    yield from _compare_words("", _named("membership"), before.memberships, after.memberships, _fewer)
    yield from _compare_objects("", before.grants, after.grants, joined="on", changed=_fewer)
    yield from _compare_words("", _named("setting"), before.settings, after.settings, _reset)


def _compare_role(subject: str, was: Role, now: Role) -> Iterator[Difference]:
    gone, come = set(was.attributes) - set(now.attributes), set(now.attributes) - set(was.attributes)
    if gone:
        yield Difference("", subject, f"has no longer: {', '.join(sorted(gone))}", True)
    if come:
        yield Difference("", subject, f"now has: {', '.join(sorted(come))}", False)
    if was.password != now.password:
        text = f"has a password by {now.password or 'no method'}, by {was.password or 'no method'} before"
        yield Difference("", subject, text, not now.password)
    if was.connection_limit != now.connection_limit:
        text = f"has the connection limit {now.connection_limit}, {was.connection_limit} before"
        yield Difference("", subject, text, False)
    if was.valid_until != now.valid_until:
        text = f"is valid until {now.valid_until or 'for ever'}, {was.valid_until or 'for ever'} before"
        yield Difference("", subject, text, False)


def _compare_database(name: str, before: Database, after: Database) -> Iterator[Difference]:
    changed = {one for one, version in before.extensions.items() if after.extensions.get(one) != version}
    yield from _compare_words(name, _named("property"), before.properties, after.properties)
    yield from _compare_words(name, _named("extension"), before.extensions, after.extensions)
    yield from _compare_tables(name, before.tables, after.tables, changed)
    yield from _compare_large_objects(name, before.large_objects, after.large_objects)
    yield from _compare_sequences(name, before.sequences, after.sequences, changed)
    yield from _compare_schema(name, before, after)
    # The grants on what is missing are gone with it, and told with it.
    kept = {one: grants for one, grants in before.grants.items() if one in after.grants}
    yield from _compare_objects(name, kept, {one: after.grants[one] for one in kept}, joined="on", changed=_fewer)


def _compare_tables(
    database: str, before: Mapping[str, Table], after: Mapping[str, Table], changed: set[str]
) -> Iterator[Difference]:
    # A restore computes a view anew, and another version of an extension brings tables of its
    # own: what these hold may differ without anything of the user's being gone.
    of_others = {name for name, was in before.items() if was.extension in changed}
    derived = of_others | {name for name, was in before.items() if was.kind == MATERIALIZED_VIEW}
    for found in compare_rows(database, before, after):
        yield replace(
            found, lost=found.lost and found.subject not in (derived if found.subject in after else of_others)
        )
    for name, was in before.items():
        now = after.get(name)
        if now is not None and _other_content(was, now):
            yield Difference(database, name, "holds other content", name not in derived)


def _compare_large_objects(database: str, was: Table, now: Table) -> Iterator[Difference]:
    name = "(large objects)"
    yield from compare_rows(database, {name: was}, {name: now})
    if _other_content(was, now):
        yield Difference(database, name, "hold other content", True)


def _other_content(was: Table, now: Table) -> bool:
    """Tell whether as many rows hold something else; another number of rows says enough by itself."""
    return bool(was.content and now.content) and was.rows == now.rows and was.content != now.content


def _compare_sequences(
    database: str, before: Mapping[str, Sequence], after: Mapping[str, Sequence], changed: set[str]
) -> Iterator[Difference]:
    for name, was in before.items():
        subject, now = sequence_subject(name), after.get(name)
        if now is None:
            yield Difference(database, subject, "is missing", was.extension not in changed)
        elif was.next_value != now.next_value:
            ahead = (now.next_value - was.next_value) * now.increment > 0
            text = f"is {'ahead' if ahead else 'set back'}: next is {now.next_value}, {was.next_value} before"
            yield Difference(database, subject, text, not ahead and not now.cycles)
    for name in after:
        if name not in before:
            yield Difference(database, sequence_subject(name), "is new", False)


def _compare_schema(database: str, before: Database, after: Database) -> Iterator[Difference]:
    known = {f"{part} of {name}" for name, parts in before.objects.items() for part in parts}
    newly = [index for index in after.invalid_indexes if index not in before.invalid_indexes]
    for index in newly:
        yield Difference(database, index, "is invalid", index in known)
    told = {*newly, *(f"{was.kind} {name}" for name, was in before.tables.items() if name not in after.tables)}
    new = {f"{now.kind} {name}" for name, now in after.tables.items() if name not in before.tables}
    for difference in _compare_objects(database, before.objects, after.objects):
        if difference.subject not in told | new:
            yield difference


def _compare_objects(
    database: str, before: Parts, after: Parts, *, joined: str = "of", changed: Change = _redefined
) -> Iterator[Difference]:
    """Yield what differs between objects: one that is missing or new once, else the parts of it that differ."""

    def subject(name: str) -> Naming:
        return lambda part: name if part == DEFINITION else f"{part} {joined} {name}"

    for name, parts in before.items():
        if name in after:
            yield from _compare_words(database, subject(name), parts, after[name], changed)
        else:
            yield Difference(database, name, "is missing", True)
    for name in after:
        if name not in before:
            yield Difference(database, name, "is new", False)


def _compare_words(
    database: str, subject: Naming, before: Words, after: Words, changed: Change = _redefined
) -> Iterator[Difference]:
    for name, was in before.items():
        now = after.get(name)
        if now is None:
            yield Difference(database, subject(name), "is missing", True)
        elif was != now:
            text, lost = changed(was, now)
            yield Difference(database, subject(name), text, lost)
    for name in after:
        if name not in before:
            yield Difference(database, subject(name), "is new", False)
