# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a service's cluster holds, and how far one holds what another does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import World
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.compare import compare
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.model import (
    Database,
    Fingerprint,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.take import take

A = TypeVar("A")
B = TypeVar("B")


def cluster_of(world: World, service: str) -> Fingerprint:
    """Return all that a service holds, row by row, with its roles."""
    with world.session(service) as there:
        return take(there, content=True)


def content_of(world: World, service: str, database: str, *, content: bool = False) -> Fingerprint:
    """Return what a service's database holds, every row counted; of roles and grants a dump of it knows nothing."""
    with world.session(service, database) as there:
        found = take(there, databases=[database], content=content)
    return databases_of(found, found.databases)


def beyond(before: Fingerprint, after: Fingerprint, names: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return the databases of ``after`` with more in them than ``before`` has, and the roles that only it has.

    ``names``: databases that have another name there.
    """
    held = {names.get(name, name): one for name, one in before.databases.items()}

    def is_held(name: str) -> bool:
        known = databases_of(before, {name: held[name]}) if name in held else None
        found = databases_of(after, {name: after.databases[name]})
        return known is not None and not compare(rows_of(known), rows_of(found))

    databases = [name for name in after.databases if not is_held(name)]
    return databases, sorted(after.roles.keys() - before.roles.keys())


def databases_of(found: Fingerprint, databases: Mapping[str, Database]) -> Fingerprint:
    """Return these databases alone, without roles and grants."""
    held = {name: replace(one, grants={}) for name, one in databases.items()}
    return replace(found, databases=held, skipped={}, roles={}, memberships={}, settings={}, grants={})


def rows_of(found: Fingerprint) -> Fingerprint:
    """Return a content without how it is defined, which majors tell in other words."""
    bare = {
        name: replace(one, objects={}, properties={}, extensions={}, invalid_indexes=())
        for name, one in found.databases.items()
    }
    return replace(found, databases=bare)


def renamed(found: Fingerprint, database: str) -> Fingerprint:
    """Return the content of one database as that of another name."""
    (only,) = found.databases.values()
    return replace(found, databases={database: only})


def at_once(one: Callable[[], A], other: Callable[[], B]) -> tuple[A, B]:
    """Do two things at the same time, and return what came of both."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        first, second = pool.submit(one), pool.submit(other)
        return first.result(), second.result()
