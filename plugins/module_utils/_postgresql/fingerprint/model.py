# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a cluster holds, as data that can be kept, shown and compared. Pure.

All of it means the same under every major and with every libc, so that the
fingerprint of a cluster and that of its successor can be laid side by side.
Names come as a statement would have them: ``public.t``, ``public."Odd one"``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput

SCHEMA_VERSION = 1

TABLE = "table"
MATERIALIZED_VIEW = "materialized view"
DEFINITION = "definition"
"""The part of an object that is the object itself; the others are its columns, indexes, constraints, ..."""

NOT_ASKED_FOR = "was not asked for"

Parts = Mapping[str, Mapping[str, str]]
"""Object (``table public.t``) → part (``column x``) → what is said of it, in words."""


@dataclass(frozen=True)
class Table:
    """What a relation holds: its own rows, without those of its partitions and of tables that inherit from it.

    ``rows`` is an estimate of the planner's statistics where not ``exact``;
    ``content`` an order-independent digest, empty where it was not taken;
    ``extension`` the one that it belongs to.
    """

    rows: int
    exact: bool
    content: str = ""
    kind: str = TABLE
    extension: str = ""


@dataclass(frozen=True)
class Sequence:
    """Where a sequence is: ``last_value`` was handed out if it was ``called``, and is the next one if not."""

    last_value: int
    called: bool
    increment: int = 1
    cycles: bool = False
    extension: str = ""

    @property
    def next_value(self) -> int:
        return self.last_value + (self.increment if self.called else 0)


@dataclass(frozen=True)
class Database:
    """One database.

    ``objects`` says how everything is defined, ``grants`` who owns it and who may
    do what (object → grantee → privileges). ``one_snapshot``: whether all that was
    counted was counted in one snapshot, or one table after the other.
    """

    properties: Mapping[str, str] = field(default_factory=dict)
    objects: Parts = field(default_factory=dict)
    grants: Parts = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    sequences: Mapping[str, Sequence] = field(default_factory=dict)
    extensions: Mapping[str, str] = field(default_factory=dict)
    invalid_indexes: tuple[str, ...] = ()
    large_objects: Table = Table(0, True)
    one_snapshot: bool = True

    @property
    def schema_digest(self) -> str:
        return _digest(self.objects)

    @property
    def grants_digest(self) -> str:
        return _digest(self.grants)


@dataclass(frozen=True)
class Role:
    """A role. ``password`` is the method of its verifier, empty for none; the verifier itself is never read."""

    attributes: tuple[str, ...] = ()
    connection_limit: int = -1
    valid_until: str = ""
    password: str = ""


@dataclass(frozen=True)
class Fingerprint:
    """A whole cluster. ``skipped`` names a reason for every database that was not looked into.

    ``memberships``: ``app in readers`` → ``member``, or ``admin, member``. ``settings`` (of ALTER ROLE and ALTER
    DATABASE): ``work_mem of role app in database app`` → a digest of the value, which may be a secret.
    ``grants`` are those on what belongs to no database.
    """

    server_version_num: int
    taken_at: str
    databases: Mapping[str, Database] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, Role] = field(default_factory=dict)
    memberships: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    grants: Parts = field(default_factory=dict)


def as_dict(fingerprint: Fingerprint) -> dict[str, Any]:
    """Return the fingerprint for a file, a journal or a result: JSON all the way down."""
    return {
        "schema_version": SCHEMA_VERSION,
        "server_version_num": fingerprint.server_version_num,
        "taken_at": fingerprint.taken_at,
        "databases": {name: _database_as_dict(database) for name, database in fingerprint.databases.items()},
        "skipped": dict(fingerprint.skipped),
        "roles": {
            name: {**vars(role), "attributes": list(role.attributes)} for name, role in fingerprint.roles.items()
        },
        "memberships": dict(fingerprint.memberships),
        "settings": dict(fingerprint.settings),
        "grants": _copied(fingerprint.grants),
    }


def from_dict(raw: Any) -> Fingerprint:
    """Read back what :func:`as_dict` returned; raises :class:`InvalidInput` for anything else."""
    version = raw.get("schema_version") if isinstance(raw, Mapping) else None
    if version != SCHEMA_VERSION:
        raise InvalidInput(
            f"This is no fingerprint of a cluster as this version of the collection takes it (schema_version {version},"
            f" expected {SCHEMA_VERSION}): give what fingerprint was in the result of postgresql_fingerprint_info."
        )
    try:
        return Fingerprint(
            server_version_num=int(raw["server_version_num"]),
            taken_at=raw["taken_at"],
            databases={name: _database_from(one) for name, one in raw["databases"].items()},
            skipped=dict(raw["skipped"]),
            roles={name: Role(**{**one, "attributes": tuple(one["attributes"])}) for name, one in raw["roles"].items()},
            memberships=dict(raw["memberships"]),
            settings=dict(raw["settings"]),
            grants=_copied(raw["grants"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"The fingerprint is damaged: {type(error).__name__}: {error}.") from error


def qualified(*names: str) -> str:
    """Return a dotted name.

    Each part is quoted by one rule, whatever words the server's own major reserves.
    """
    return ".".join(name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else _quoted(name) for name in names)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _database_as_dict(database: Database) -> dict[str, Any]:
    return {
        "schema_digest": database.schema_digest,
        "grants_digest": database.grants_digest,
        "one_snapshot": database.one_snapshot,
        "properties": dict(database.properties),
        "tables": {name: dict(vars(table)) for name, table in database.tables.items()},
        "sequences": {name: dict(vars(sequence)) for name, sequence in database.sequences.items()},
        "extensions": dict(database.extensions),
        "invalid_indexes": list(database.invalid_indexes),
        "large_objects": dict(vars(database.large_objects)),
        "objects": _copied(database.objects),
        "grants": _copied(database.grants),
    }


def _database_from(raw: Mapping[str, Any]) -> Database:
    return Database(
        properties=dict(raw["properties"]),
        objects=_copied(raw["objects"]),
        grants=_copied(raw["grants"]),
        tables={name: Table(**one) for name, one in raw["tables"].items()},
        sequences={name: Sequence(**one) for name, one in raw["sequences"].items()},
        extensions=dict(raw["extensions"]),
        invalid_indexes=tuple(raw["invalid_indexes"]),
        large_objects=Table(**raw["large_objects"]),
        one_snapshot=raw["one_snapshot"],
    )


def _copied(parts: Parts) -> dict[str, dict[str, str]]:
    return {name: dict(inner) for name, inner in parts.items()}


def _digest(parts: Parts) -> str:
    return hashlib.sha256(json.dumps(_copied(parts), sort_keys=True).encode()).hexdigest()
