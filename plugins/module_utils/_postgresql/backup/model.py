# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A backup of a cluster as data: what is asked for, what is found, and what a finished one says of itself. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, shell

AUTO = "auto"
PHYSICAL = "physical"
LOGICAL = "logical"
VERIFY = "verify"
RESTORE = "restore"

TAKE = "take"
PROVE = "prove"
NOTHING = "nothing"

# Every cluster has it, closed, and as initdb made it.
UNTOUCHED = "template0"

SCHEMA_VERSION = 1
# An empty cluster of its own, with the WAL that a restore writes before it is recycled.
SCRATCH_BYTES = 256 << 20


@dataclass(frozen=True)
class Wanted:
    """What is asked for; ``jobs`` are the processes of a logical backup."""

    path: str
    format: str = AUTO
    prove: str = VERIFY
    jobs: int = 2


@dataclass(frozen=True)
class Record:
    """What a finished backup says of itself.

    ``content`` is what was counted in a server that was restored from it, empty
    where none was. ``evidence`` is that of the way it was taken, ``proof`` says in
    words what was proved and ``differences`` how the content differs from what the
    live server showed before the backup.
    """

    format: str
    moment: str
    server_version: str
    server_version_num: int
    major: str
    system_identifier: str
    superuser: str
    image: str
    image_id: str
    source: str
    bytes: int
    files: int
    tablespaces: tuple[Mapping[str, Any], ...]
    prove: str
    proof: str
    evidence: Mapping[str, Any]
    content: Mapping[str, Any] = field(default_factory=dict)
    differences: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """What tells this backup from any other."""
        return str(self.evidence.get("manifest_sha256") or self.evidence.get("sums_sha256"))

    def as_dict(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Record:
        """Read back what :meth:`as_dict` returned; raises ``KeyError``, ``TypeError``."""
        if raw["schema_version"] != SCHEMA_VERSION:
            raise KeyError(f"schema_version {raw['schema_version']}")
        fields = {key: value for key, value in raw.items() if key != "schema_version"}
        lists = {key: tuple(fields[key]) for key in ("tablespaces", "differences")}
        return Record(**{**fields, **lists})


@dataclass(frozen=True)
class Place:
    """The file system that is to hold a backup; ``reclaimed`` is what an interrupted attempt left there."""

    mount_point: str
    free_bytes: int
    reclaimed: int = 0
    read_only: bool = False


@dataclass(frozen=True)
class Facts:
    """What the format is chosen by: why it cannot be the one or the other, and what each leaves behind.

    ``closed`` names the databases that allow no connections (:func:`closed_databases`).
    """

    against_physical: tuple[str, ...]
    against_logical: tuple[str, ...]
    size_bytes: int
    database_bytes: int
    unlogged_tables: int = 0
    closed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What is done, and what forbids it."""

    action: str
    format: str
    reason: str
    needed_bytes: int
    place: Place
    text: str
    blockers: tuple[Blocker, ...] = ()
    warnings: tuple[str, ...] = ()


def plan_backup(wanted: Wanted, facts: Facts, place: Place, existing: Record | None, source: str) -> Plan:
    """Say what a run does where ``existing`` is the backup that is at the path already."""
    if existing is not None:
        return _plan_existing(wanted, facts, place, existing, source)
    chosen, reason = choose(wanted.format, facts)
    needed = needed_bytes(chosen, wanted.prove, facts)
    against = facts.against_physical if chosen == PHYSICAL else facts.against_logical
    blockers = [
        Blocker(f"A {chosen} backup of {source} is not possible: {'; '.join(against)}.{_other_way(wanted, facts)}")
    ]
    return Plan(
        action=TAKE,
        format=chosen,
        reason=reason,
        needed_bytes=needed,
        place=place,
        text=f"{source} is copied to {wanted.path} ({chosen}: {reason}), and proved by"
        f" {_in_words(chosen, wanted.prove)}. It needs about {needed:,} bytes; {place.mount_point} has"
        f" {place.free_bytes:,} free.",
        blockers=(*(blockers if against else ()), *space_blockers(wanted.path, needed, place)),
        warnings=_warnings(chosen, facts),
    )


def _plan_existing(wanted: Wanted, facts: Facts, place: Place, existing: Record, source: str) -> Plan:
    enough = wanted.prove == VERIFY or existing.prove == RESTORE
    needed = (
        0 if enough else needed_bytes(existing.format, RESTORE, facts) - needed_bytes(existing.format, VERIFY, facts)
    )
    taken = f"{wanted.path} holds a finished {existing.format} backup of {source}, of {existing.moment}"
    return Plan(
        action=NOTHING if enough else PROVE,
        format=existing.format,
        reason="it is there already",
        needed_bytes=needed,
        place=place,
        text=f"{taken}." if enough else f"{taken}; it is proved by {_in_words(existing.format, RESTORE)}.",
        blockers=space_blockers(wanted.path, needed, place),
    )


def choose(wanted: str, facts: Facts) -> tuple[str, str]:
    """Return the format and why it is that one; what speaks against it is asked separately."""
    if wanted != AUTO:
        return wanted, "it was asked for"
    if not facts.against_physical:
        return PHYSICAL, "the server lets it be taken, and it starts as it is"
    return LOGICAL, "; ".join(facts.against_physical)


def needed_bytes(chosen: str, prove: str, facts: Facts) -> int:
    """Return what a backup and its proof take at most, by the size of the cluster.

    A dump holds no indexes and is compressed, so that the size of the databases is more than it takes.
    """
    own = facts.size_bytes if chosen == PHYSICAL else facts.database_bytes
    if prove == VERIFY:
        return own
    return own + facts.size_bytes + SCRATCH_BYTES


def space_blockers(path: str, needed: int, place: Place) -> tuple[Blocker, ...]:
    found = []
    missing = needed - place.free_bytes - place.reclaimed
    if missing > 0:
        found.append(
            Blocker(
                f"{place.mount_point} has {place.free_bytes:,} bytes free, and {path} needs about {needed:,} with its"
                f" proof: {missing:,} bytes are missing. Free them, name a path on another file system, or set"
                " prove: verify, which needs no room for a second copy.",
                shell("df", "-h", place.mount_point),
            )
        )
    if place.read_only:
        found.append(
            Blocker(
                f"{path} lies on {place.mount_point}, which is mounted read-only.",
                shell("findmnt", "-o", "TARGET,SOURCE,OPTIONS", "--target", place.mount_point),
            )
        )
    return tuple(found)


def _other_way(wanted: Wanted, facts: Facts) -> str:
    other = facts.against_logical if wanted.format == PHYSICAL else facts.against_physical
    return "" if wanted.format == AUTO or other else " Set format: auto."


def _in_words(chosen: str, prove: str) -> str:
    if prove == RESTORE:
        return "restoring it into a scratch container and counting there"
    return "pg_verifybackup" if chosen == PHYSICAL else "reading the whole dump"


def _warnings(chosen: str, facts: Facts) -> tuple[str, ...]:
    if chosen == PHYSICAL and facts.unlogged_tables:
        return (
            f"{facts.unlogged_tables} unlogged tables come back empty from a physical backup: Postgres keeps their"
            " content out of it. format: logical has it.",
        )
    if chosen == LOGICAL and facts.closed:
        return (
            f"{', '.join(facts.closed)} will not be in a logical backup: pg_dump reads no database that allows no"
            " connections. format: physical has it; or allow them (ALTER DATABASE ... WITH ALLOW_CONNECTIONS true).",
        )
    return ()


def closed_databases(names: Iterable[str]) -> tuple[str, ...]:
    """Return what a dump lacks, of the databases that allow no connections."""
    return tuple(name for name in names if name != UNTOUCHED)


def not_dumped_in_words(evidence: Mapping[str, Any]) -> str:
    """Say of a logical backup which databases are not in it; empty where it has them all."""
    closed = closed_databases(evidence.get("not_dumped", ()))
    return f"; not in it: {', '.join(closed)}, which allowed no connections" if closed else ""


def changes_since(record: Record, *, files: int, size: int) -> Sequence[str]:
    """Return how a backup on disk is not as it was when it was finished, by what can be told without reading it."""
    found = []
    if files != record.files:
        found.append(f"it has {files:,} files and had {record.files:,}")
    if size != record.bytes:
        found.append(f"its files hold {size:,} bytes and held {record.bytes:,}")
    return found
