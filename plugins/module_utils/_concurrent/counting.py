# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the stores of a host hold, in numbers: one thing that a rung counts, or all there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.host import Host
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.model import Counted
from ansible_collections.selfhost.stateful.plugins.module_utils._redis import fingerprint as redis_fingerprint

REDIS_STREAM_ITEMS = "redis_stream_items"


def count(host: Host, query: str) -> int:
    """Return the number that a query answers, or what :data:`REDIS_STREAM_ITEMS` stands for."""
    if query == REDIS_STREAM_ITEMS:
        return stream_items(host)
    with host.postgresql() as ours, ours.as_application() as there:
        return int(there.scalar(query))


def stream_items(host: Host) -> int:
    """Return how many items all streams in Redis have."""
    found = redis_fingerprint.take(host.redis())
    return sum(database.stream_items for database in found.databases.values())


def count_orphans(host: Host, counted: Counted) -> int:
    """Return how many of what is counted before belong to nothing that is dumped, and are in no dump therefore."""
    if counted.before != REDIS_STREAM_ITEMS:
        return count(host, counted.orphans) if counted.orphans else 0
    if not counted.known:
        return 0
    with host.postgresql() as ours, ours.as_application() as there:
        known = {str(name) for (name,) in there.rows(counted.known)}
    found = redis_fingerprint.streams_of(host.redis())
    return sum(items for each in found for name, items in each.items() if name not in known)


@dataclass(frozen=True)
class Counts:
    """What the database and Redis hold: rows by table, and the items of all streams."""

    rows: Mapping[str, int] = field(default_factory=dict)
    stream_items: int = 0


def count_all(host: Host) -> Counts:
    """Count every table of the host's database exactly; nobody may write meanwhile."""
    with host.postgresql() as there:
        names = there.rows(TABLES)
        rows = {name: int(there.scalar(f"SELECT count(*) FROM {quoted}")) for name, quoted in names}
    return Counts(rows, stream_items(host))


TABLES = """
SELECT n.nspname || '.' || c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname NOT IN ('information_schema', 'selfhost_stateful')
  AND n.nspname NOT LIKE 'pg\\_%'
ORDER BY 1
"""


def lost(before: Counts, after: Counts) -> list[str]:
    """Return in words what is not there any more."""
    found = [
        f"{name}: {rows} rows before, {after.rows.get(name, 0)} now"
        for name, rows in before.rows.items()
        if after.rows.get(name, 0) < rows
    ]
    if after.stream_items < before.stream_items:
        found.append(f"items of streams: {before.stream_items} before, {after.stream_items} now")
    return found
