# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a Redis server holds, so that it can be compared with what it held before: keys, streams, sampled contents.

The server looks through its keys a part at a time, and hands out numbers; contents never come over here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._redis.counts import parse_keyspace
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.session import Session, command

KEYS_A_CALL = 10_000
SAMPLED = 1000
"""About so many keys of each database have their content digested."""
STREAMS_NAMED = 10_000
NO_SAMPLE = 1 << 32
"""One of so many keys is none, for all that a look at contents may cost."""

# KEYS are none: it looks at all of a database. ARGV: the database, where to go on, how many keys to look at, and of how
# many one is sampled. A key with a time to live may end at any time, and is no part of the sample. What a key holds is
# put into an order first: sets and hashes have none of their own, and it differs with their encoding.
LOOK = """
redis.call('SELECT', ARGV[1])
local cursor, most, modulus = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local types, lasting, streams, looked, sampled, digest = {}, {}, {}, 0, 0, 0

local function sorted_pairs(flat)
  local pairs_of = {}
  for i = 1, #flat, 2 do pairs_of[#pairs_of + 1] = redis.sha1hex(flat[i]) .. redis.sha1hex(flat[i + 1]) end
  table.sort(pairs_of)
  return table.concat(pairs_of)
end

local function nested(value)
  if type(value) ~= 'table' then return redis.sha1hex(tostring(value)) end
  local parts = {}
  for i, part in ipairs(value) do parts[i] = nested(part) end
  return redis.sha1hex(table.concat(parts))
end

local function content(key, kind)
  if kind == 'string' then return redis.call('GET', key) end
  if kind == 'list' then return nested(redis.call('LRANGE', key, 0, -1)) end
  if kind == 'hash' then return sorted_pairs(redis.call('HGETALL', key)) end
  if kind == 'zset' then return sorted_pairs(redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')) end
  if kind == 'stream' then return nested(redis.call('XRANGE', key, '-', '+')) end
  if kind == 'set' then
    local members = redis.call('SMEMBERS', key)
    for i, member in ipairs(members) do members[i] = redis.sha1hex(member) end
    table.sort(members)
    return table.concat(members)
  end
  return ''
end

repeat
  local found = redis.call('SCAN', cursor, 'COUNT', 500)
  cursor = found[1]
  for _, key in ipairs(found[2]) do
    local kind = redis.call('TYPE', key).ok
    looked = looked + 1
    types[kind] = (types[kind] or 0) + 1
    if redis.call('PTTL', key) == -1 then
      lasting[kind] = (lasting[kind] or 0) + 1
      if kind == 'stream' then streams[#streams + 1] = {key, redis.call('XLEN', key)} end
      local name = redis.sha1hex(key)
      if tonumber(string.sub(name, 1, 8), 16) % modulus == 0 then
        sampled = sampled + 1
        local whole = redis.sha1hex(name .. kind .. redis.sha1hex(content(key, kind)))
        digest = (digest + tonumber(string.sub(whole, 1, 12), 16)) % 281474976710656
      end
    end
  end
until cursor == '0' or looked >= most
return cjson.encode({cursor = cursor, types = {types}, lasting = {lasting}, streams = streams,
                     looked = looked, sampled = sampled, digest = string.format('%.0f', digest)})
"""


@dataclass(frozen=True)
class Database:
    """What one database holds. ``types`` and ``lasting`` are keys by type, the latter without a time to live.

    ``exact``: whether the scan saw each key once, told from their number. ``streams``: the length of each, of more
    than ten thousand of none; ``stream_items`` is their sum. ``digest``: of the contents of ``sampled`` keys, one of
    ``one_of``, whatever their order.
    """

    keys: int
    types: Mapping[str, int]
    lasting: Mapping[str, int]
    exact: bool
    stream_items: int
    streams: Mapping[str, int]
    one_of: int
    sampled: int
    digest: str


@dataclass(frozen=True)
class Fingerprint:
    """``databases`` by their number as text; those without a key are left out."""

    version: str
    databases: Mapping[str, Database] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it was; ``lost`` where something is not there any more."""

    database: str
    text: str
    lost: bool

    def __str__(self) -> str:
        return f"database {self.database}: {self.text}"


def take(session: Session, *, one_of: Mapping[str, int] | None = None) -> Fingerprint:
    """Return the fingerprint of a server; changes nothing.

    ``one_of``: by database of how many keys one is sampled, as an earlier fingerprint had it; a sample of another size
    could not be compared with it.
    """
    keyspace = parse_keyspace(str(command(session, "INFO", "keyspace")))
    server = str(command(session, "INFO", "server"))
    version = next((line.partition(":")[2].strip() for line in server.splitlines() if "redis_version" in line), "")
    found = {}
    for number, count in keyspace.items():
        modulus = (one_of or {}).get(number, max(1, count.keys // SAMPLED))
        found[number] = _database(session, number, count.keys, modulus)
    return Fingerprint(version, found)


def streams_of(session: Session) -> list[dict[str, int]]:
    """Return the length of every stream by its name, for each database; however many there are, unlike :func:`take`."""
    databases = parse_keyspace(str(command(session, "INFO", "keyspace")))
    return [
        {name: int(length) for part in _parts(session, number, NO_SAMPLE) for name, length in part["streams"]}
        for number in databases
    ]


def _database(session: Session, number: str, keys: int, modulus: int) -> Database:
    types: dict[str, int] = {}
    lasting: dict[str, int] = {}
    streams: dict[str, int] = {}
    looked = sampled = digest = items = 0
    named = True
    for part in _parts(session, number, modulus):
        looked += part["looked"]
        sampled += part["sampled"]
        digest = (digest + int(part["digest"])) % (1 << 48)
        _add(types, part["types"])
        _add(lasting, part["lasting"])
        for name, length in part["streams"]:
            items += length
            streams[name] = length
        if len(streams) > STREAMS_NAMED:
            named = False
            streams.clear()
    return Database(
        keys=keys,
        types=types,
        lasting=lasting,
        exact=looked == keys,
        stream_items=items,
        streams=streams if named else {},
        one_of=modulus,
        sampled=sampled,
        digest=f"{digest:012x}",
    )


def _parts(session: Session, number: str, modulus: int) -> Iterator[dict[str, Any]]:
    cursor = "0"
    while True:
        answer = command(session, "EVAL", LOOK, "0", number, cursor, str(KEYS_A_CALL), str(modulus))
        part: dict[str, Any] = json.loads(str(answer))
        yield part
        cursor = part["cursor"]
        if cursor == "0":
            return


def _add(counts: dict[str, int], more: Any) -> None:
    # An empty table of Lua is an empty list in JSON as well as an empty object: each comes in a list of its own.
    for kind, number in dict(more[0]).items():
        counts[kind] = counts.get(kind, 0) + number


def compare(before: Fingerprint, after: Fingerprint) -> list[Difference]:
    """Return what differs, losses first. Keys with a time to live may have ended it, and are never missed."""
    found: list[Difference] = []
    for number, was in before.databases.items():
        now = after.databases.get(number)
        if now is None:
            found.append(Difference(number, f"is empty, {was.keys} keys before", bool(sum(was.lasting.values()))))
        else:
            found += _compare_database(number, was, now)
    for number, now in after.databases.items():
        if number not in before.databases:
            found.append(Difference(number, f"has {now.keys} keys, none before", False))
    return sorted(found, key=lambda difference: not difference.lost)


def _compare_database(number: str, was: Database, now: Database) -> Iterator[Difference]:
    if was.exact and now.exact:
        for kind in sorted({*was.lasting, *now.lasting}):
            before, after = was.lasting.get(kind, 0), now.lasting.get(kind, 0)
            if before != after:
                text = f"{after} keys of type {kind} without a time to live, {before} before"
                yield Difference(number, text, after < before)
    for name, length in was.streams.items():
        there = now.streams.get(name)
        if there is None and now.streams:
            yield Difference(number, f"the stream {name} is missing ({length} items before)", True)
        elif there is not None and there != length:
            yield Difference(number, f"the stream {name} has {there} items, {length} before", there < length)
    if was.stream_items != now.stream_items and not (was.streams and now.streams):
        text = f"the streams have {now.stream_items} items, {was.stream_items} before"
        yield Difference(number, text, now.stream_items < was.stream_items)
    if was.one_of == now.one_of and was.digest != now.digest:
        if was.sampled == now.sampled:
            yield Difference(number, f"the {now.sampled} sampled keys hold other content", True)
        else:
            yield Difference(
                number, f"{now.sampled} keys are in the sample, {was.sampled} before", now.sampled < was.sampled
            )


def as_dict(fingerprint: Fingerprint) -> dict[str, Any]:
    return asdict(fingerprint)


def from_dict(raw: Mapping[str, Any]) -> Fingerprint:
    """Read back what :func:`as_dict` returned; raises ValueError where it is none."""
    try:
        return Fingerprint(
            raw["version"], {number: Database(**database) for number, database in raw["databases"].items()}
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"that is no fingerprint of Redis: {error!r}") from error
