# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a Concurrent host of the sandbox holds: some thousand rows and items, and how to count them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .project import Project
from .projects import TEMPLATES

EMOJI = "https://raw.githubusercontent.com/totegamma/concurrent-schemas/master/associations/emoji/0.0.1.json"
TABLES = ("entities", "messages", "characters", "associations", "streams")
Items = Literal["redis", "postgres"]
# Of a stream: triples of entry, message and author.
ADD_ITEMS = (
    "for i = 1, #ARGV, 3 do redis.call('XADD', KEYS[1], ARGV[i],"
    " 'id', ARGV[i + 1], 'type', 'message', 'author', ARGV[i + 2], 'owner', ARGV[i + 2]) end"
)
ADD_SETTINGS = "for _, ccid in ipairs(ARGV) do redis.call('SET', 'userkv:' .. ccid .. ':settings', '{}') end"


@dataclass(frozen=True)
class Counts:
    """How much a host holds; ``items`` by the id of their stream, streams without any included."""

    entities: int
    messages: int
    characters: int
    associations: int
    streams: int
    items: Mapping[str, int]

    @property
    def all_items(self) -> int:
        """The items of all streams."""
        return sum(self.items.values())


def fill(
    project: Project, *, entities: int = 2000, streams: int = 20, items: int = 100, associations: int = 3000
) -> None:
    """Add data to a host that has none, in the form of the version that runs.

    Every entity has one message, every tenth a character and a setting in Redis. Every stream but the last, which
    is empty, has ``items`` items or up to two more. A third of the associations are what v0.4's query changes.
    """
    new = bool(project.sql("SELECT to_regclass('stream_items')"))
    text = (TEMPLATES / "concurrent-seed.sql.in").read_text()
    for word, value in {
        "ENTITIES": entities,
        "STREAMS": streams,
        "ITEMS": items,
        "ASSOCIATIONS": associations,
        "EMOJI": EMOJI,
        "TAG": "tag" if new else "role",
        "DOMAIN": "domain" if new else "host",
        "PLACE_ITEMS": (
            "INSERT INTO stream_items (type, object_id, stream_id, owner, author, c_date)"
            " SELECT 'message', message, stream, author, author, to_timestamp(ms / 1000.0) FROM seeded_items"
            if new
            else "SELECT stream, ms || '-0', message, author FROM seeded_items ORDER BY stream, ms"
        ),
    }.items():
        text = text.replace(f"@{word}@", str(value))
    by_stream: dict[str, list[str]] = {}
    for row in project.sql(text).splitlines():
        stream, *words = row.split("|")
        by_stream.setdefault(stream, []).extend(words)
    for stream, words in by_stream.items():
        project.redis("EVAL", ADD_ITEMS, "1", stream, *words)
    owners = project.sql(f"SELECT id FROM entities ORDER BY c_date LIMIT {entities // 10}").split()
    project.redis("EVAL", ADD_SETTINGS, "0", *owners)


def counts(project: Project, items: Items) -> Counts:
    """Count everything; the items where v0.2 keeps them, in Redis, or where later versions do, in Postgres."""
    rows = {table: project.count_rows(table) for table in TABLES}
    streams = project.sql("SELECT id FROM streams ORDER BY id").split()
    if items == "redis":
        return Counts(**rows, items={stream: int(project.redis("XLEN", stream)) for stream in streams})
    grouped = project.sql("SELECT stream_id, count(*) FROM stream_items GROUP BY 1").splitlines()
    found = {stream: int(count) for stream, count in (row.split("|") for row in grouped)}
    return Counts(**rows, items={**dict.fromkeys(streams, 0), **found})
