# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a Redis server holds, so that it can be compared with what it held before: keys, streams, sampled contents.

The server looks through its keys a part at a time, and hands out numbers; contents never come over here. While it does
it serves nobody else, and what it reads it holds twice: of a large key it reads the length and the ends only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._redis.counts import KeyCount, parse_keyspace
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.session import Session, command

KEYS_A_CALL = 10_000
SAMPLED = 1000
"""About so many keys of each database have their content digested."""
STREAMS_NAMED = 10_000
NO_SAMPLE = 1 << 32
"""One of so many keys is none, for all that a look at contents may cost."""
WHOLE_ITEMS = 1000
"""A key of more items is digested by its length and its ends. An earlier fingerprint can be compared only while this
and :data:`WHOLE_BYTES` are what they were."""
WHOLE_BYTES = 1 << 20
"""And so is one whose items are longer together, or a longer string."""
WORK_A_CALL = 10_000
"""About so many items and KiB one call digests, well below a second's: the server serves nobody meanwhile."""

# KEYS are none: it looks at all of a database. ARGV: the database, where to go on, how many keys to look at, of how
# many one is sampled, and the limits from above. A key with a time to live may end at any time, and is no part of the
# sample. What a key holds is put into an order first: sets and hashes have none of their own, and it differs with their
# encoding. So does the memory that it takes: that keeps from reading, at four times of what may be read, and what was
# read decides by its own length, which is the same in every server. Where there is no MEMORY the items' number has to
# do. A step of the scan has about one key of the sample, as work is seen between steps only. Scores have been in the
# fewest digits from 7.2 on (https://github.com/redis/redis/pull/10587): in as many as before, they are the same again.
LOOK = """
redis.call('SELECT', ARGV[1])
local cursor, most, modulus = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local whole_items, whole_bytes, most_work = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local types, lasting, streams, looked, sampled, in_part, digest = {}, {}, {}, 0, 0, 0, 0
local work, bytes = 0, 0
local length_by = {string = 'STRLEN', list = 'LLEN', hash = 'HLEN', set = 'SCARD', zset = 'ZCARD', stream = 'XLEN'}

local function of_item(value)
  work = work + 1 + #value / 1024
  bytes = bytes + #value
  return redis.sha1hex(value)
end

local function sorted_pairs(flat)
  local pairs_of = {}
  for i = 1, #flat, 2 do pairs_of[#pairs_of + 1] = of_item(flat[i]) .. of_item(flat[i + 1]) end
  table.sort(pairs_of)
  return table.concat(pairs_of)
end

local function nested(value)
  if type(value) ~= 'table' then return of_item(tostring(value)) end
  local parts = {}
  for i, part in ipairs(value) do parts[i] = nested(part) end
  return redis.sha1hex(table.concat(parts))
end

local function with_scores(flat)
  for i = 2, #flat, 2 do flat[i] = string.format('%.17g', tonumber(flat[i])) end
  return flat
end

local function whole(key, kind)
  if kind == 'string' then
    local value = redis.call('GET', key)
    of_item(value)
    return value
  end
  if kind == 'list' then return nested(redis.call('LRANGE', key, 0, -1)) end
  if kind == 'hash' then return sorted_pairs(redis.call('HGETALL', key)) end
  if kind == 'zset' then return sorted_pairs(with_scores(redis.call('ZRANGE', key, 0, -1, 'WITHSCORES'))) end
  if kind == 'stream' then return nested(redis.call('XRANGE', key, '-', '+')) end
  if kind == 'set' then
    local members = redis.call('SMEMBERS', key)
    for i, member in ipairs(members) do members[i] = of_item(member) end
    table.sort(members)
    return table.concat(members)
  end
  return ''
end

local function ends(key, kind)
  local first, last = {}, {}
  if kind == 'string' then
    first, last = redis.call('GETRANGE', key, 0, 4095), redis.call('GETRANGE', key, -4096, -1)
  elseif kind == 'list' then
    first, last = redis.call('LRANGE', key, 0, 4), redis.call('LRANGE', key, -5, -1)
  elseif kind == 'zset' then
    first = with_scores(redis.call('ZRANGE', key, 0, 4, 'WITHSCORES'))
    last = with_scores(redis.call('ZRANGE', key, -5, -1, 'WITHSCORES'))
  elseif kind == 'stream' then
    first = redis.call('XRANGE', key, '-', '+', 'COUNT', 5)
    last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 5)
  end
  return nested({first, last})
end

local function content(key, kind)
  if not length_by[kind] then return '' end
  local length = redis.call(length_by[kind], key)
  local memory, readable = length, length <= whole_bytes
  if kind ~= 'string' then
    local samples = length <= whole_items and 0 or 5
    memory = tonumber(redis.pcall('MEMORY', 'USAGE', key, 'SAMPLES', samples)) or 0
    readable = length <= whole_items and memory <= 4 * whole_bytes
  end
  if readable then
    bytes = 0
    local all = whole(key, kind)
    if bytes <= whole_bytes then return all end
  end
  in_part = in_part + 1
  local has_ends = kind ~= 'hash' and kind ~= 'set'
  if kind == 'string' or (has_ends and 10 * memory <= 4 * whole_bytes * length) then
    return 'in part ' .. length .. ' ' .. ends(key, kind)
  end
  return 'in part ' .. length
end

repeat
  local found = redis.call('SCAN', cursor, 'COUNT', math.min(modulus, 500))
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
        local of_key = redis.sha1hex(name .. kind .. redis.sha1hex(content(key, kind)))
        digest = (digest + tonumber(string.sub(of_key, 1, 12), 16)) % 281474976710656
      end
    end
  end
until cursor == '0' or looked >= most or work >= most_work
return cjson.encode({cursor = cursor, types = {types}, lasting = {lasting}, streams = streams,
                     looked = looked, sampled = sampled, in_part = in_part, digest = string.format('%.0f', digest)})
"""


@dataclass(frozen=True)
class Database:
    """What one database holds. ``types`` and ``lasting`` are keys by type, the latter without a time to live.

    ``exact``: whether the scan saw each of the latter once, told from their number. ``streams``: the length of each, of
    more than ten thousand of none; ``stream_items`` is their sum. ``digest``: of the contents of ``sampled`` keys, one
    of ``one_of``, whatever their order. ``in_part``: so many of these were too large to be read whole, and are in the
    digest by their length, and the ends of what has any; None where an earlier version read them whole.
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
    in_part: int | None = None


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
        found[number] = _database(session, number, count, modulus)
    return Fingerprint(version, found)


def streams_of(session: Session) -> list[dict[str, int]]:
    """Return the length of every stream by its name, for each database; however many there are, unlike :func:`take`."""
    databases = parse_keyspace(str(command(session, "INFO", "keyspace")))
    return [
        {name: int(length) for part in _parts(session, number, NO_SAMPLE) for name, length in part["streams"]}
        for number in databases
    ]


def _database(session: Session, number: str, count: KeyCount, modulus: int) -> Database:
    types: dict[str, int] = {}
    lasting: dict[str, int] = {}
    streams: dict[str, int] = {}
    sampled = in_part = digest = items = 0
    named = True
    for part in _parts(session, number, modulus):
        sampled += part["sampled"]
        in_part += part["in_part"]
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
        keys=count.keys,
        types=types,
        lasting=lasting,
        # Keys that have ended count until the server comes by them, and a scan does not show them.
        exact=sum(lasting.values()) == count.keys - count.expires,
        stream_items=items,
        streams=streams if named else {},
        one_of=modulus,
        sampled=sampled,
        digest=f"{digest:012x}",
        in_part=in_part,
    )


def _parts(session: Session, number: str, modulus: int) -> Iterator[dict[str, Any]]:
    cursor = "0"
    limits = [str(limit) for limit in (KEYS_A_CALL, modulus, WHOLE_ITEMS, WHOLE_BYTES, WORK_A_CALL)]
    while True:
        answer = command(session, "EVAL", LOOK, "0", number, cursor, *limits)
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
        if was.sampled == now.sampled and was.in_part is None and now.in_part:
            text = f"whether the {now.sampled} sampled keys hold the same cannot be told: {now.in_part} of them are too"
            yield Difference(number, f"{text} large to be read whole, as an earlier version had done", False)
        elif was.sampled == now.sampled:
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
