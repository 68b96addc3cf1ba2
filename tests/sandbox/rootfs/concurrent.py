# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stands in for Concurrent's images: ``ccapi``, ``ccadmin`` and ``ccgateway`` of the version in the environment.

``ccadmin`` has the real one's traps: whatever goes wrong, it ends with 0 and says little or nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import logging
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import psycopg

Version = tuple[int, ...]
Row = dict[str, Any]
UTC = dt.timezone(dt.timedelta())
NAME = os.environ.get("CONCURRENT_VERSION", "v1.4.0")


def number(name: str) -> Version:
    """Return a version to compare by."""
    return tuple(int(part) for part in name.removeprefix("v").split("."))


VERSION = number(NAME)
FQDN = os.environ.get("CONCURRENT_FQDN", "example.com")
STORE_ERRORS = (psycopg.Error, OSError)
# Data passes through these one after the other; a later server refuses what has not.
MILESTONES = ("v1.3.0", "v1.3.3")


@dataclass(frozen=True)
class Column:
    """A column that the models have ``since`` one version and, where they dropped it, before ``until``."""

    name: str
    type: str
    since: Version = (0,)
    until: Version = (999,)

    @property
    def now(self) -> bool:
        """Whether this version's model has it."""
        return self.since <= VERSION < self.until


ID, CCID = Column("id", "uuid DEFAULT gen_random_uuid()"), "char(42)"
AUTHOR, SCHEMA, PAYLOAD = Column("author", CCID), Column("schema", "text"), Column("payload", "json")
SIGNATURE = Column("signature", "char(130)")
C_DATE = Column("c_date", "timestamptz NOT NULL DEFAULT clock_timestamp()")
M_DATE, STREAMS = Column("m_date", "timestamptz"), Column("streams", "text[]")
# What is new in a version has neither default nor NOT NULL: it is empty until something fills it.
MODELS: dict[str, tuple[Column, ...]] = {
    "messages": (
        ID, AUTHOR, SCHEMA, PAYLOAD, SIGNATURE, C_DATE, STREAMS,
        Column("policy_params", "json", (1, 2)), Column("policy_id", "bigint", (1, 3, 3)),
    ),
    "characters": (ID, AUTHOR, SCHEMA, PAYLOAD, SIGNATURE, C_DATE, M_DATE, Column("policy_params", "json", (1, 2))),
    "associations": (
        ID, AUTHOR, SCHEMA, Column("target_id", "uuid"), Column("target_type", "text"),
        Column("content_hash", "char(64)"), PAYLOAD, SIGNATURE, C_DATE, STREAMS,
        Column("variant", "text", (0, 4)), Column("owner", CCID, (1, 3)),
    ),
    "streams": (
        Column("id", "char(20)"), Column("visible", "boolean DEFAULT false"), AUTHOR,
        *(Column(who, "char(42)[] DEFAULT '{}'") for who in ("maintainer", "writer", "reader")),
        SCHEMA, PAYLOAD, C_DATE, M_DATE, Column("policy_params", "json", (1, 3)),
    ),
    # Before v0.3 the items were in Redis alone.
    "stream_items": (
        Column("type", "text", (0, 3)), Column("object_id", "uuid", (0, 3)), Column("stream_id", "char(20)", (0, 3)),
        Column("owner", CCID, (0, 3)), Column("author", CCID, (0, 3)), Column("c_date", C_DATE.type, (0, 3)),
        Column("schema_id", "bigint", (1, 4)),
    ),
    "entities": (
        Column("id", CCID), Column("role", "text", until=(0, 3)), Column("host", "text", until=(0, 3)),
        Column("tag", "text", (0, 3)), Column("domain", "text", (0, 3)), Column("certs", "json", (0, 3)),
        Column("meta", "json"), Column("score", "integer", (0, 3)), Column("inviter", CCID, (0, 3)), C_DATE, M_DATE,
        Column("alias", "text", (1, 2)), Column("is_score_fixed", "boolean", (1, 3, 3)),
    ),
}  # fmt: skip
KEYS = {"stream_items": "object_id, stream_id"}
UNIQUE = (
    "CREATE UNIQUE INDEX IF NOT EXISTS uniq_association"
    " ON associations (author, schema, target_id, target_type, content_hash)"
)
# Where v0.2 kept what has another name since.
LEGACY = {"tag": "role", "domain": "host"}
JSON_NAMES = {
    "c_date": "cdate", "m_date": "mdate", "target_id": "targetID", "target_type": "targetType",
    "content_hash": "contentHash", "object_id": "objectID", "stream_id": "streamID",
}  # fmt: skip


def json_name(table: str, column: str) -> str:
    """Return what a column is called in JSON."""
    return "ccid" if (table, column) == ("entities", "id") else JSON_NAMES.get(column, column)


def database(**settings: Any) -> psycopg.Connection[Any]:
    """Connect as the environment says; ``settings`` go before it."""
    given = {
        "host": os.environ.get("DB_HOST", "db"),
        "port": os.environ.get("DB_PORT", "5432"),
        "user": os.environ.get("DB_USER", "postgres"),
        "password": os.environ.get("DB_PASSWORD", "postgres"),
        "dbname": os.environ.get("DB_NAME", "concurrent"),
    }
    return psycopg.connect(**{"connect_timeout": 2, **given, **settings}, autocommit=True)


class Redis:
    """A client small enough to be there at once: the usual one takes longer to import than a command to run."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._file: Any = None

    def command(self, *words: str) -> Any:
        """Send one command and return its reply; connect with the first."""
        if self._file is None:
            host, _colon, port = self.address.partition(":")
            self._file = socket.create_connection((host, int(port or 6379)), timeout=5).makefile("rwb")
        parts = [word.encode() for word in words]
        self._file.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        self._file.flush()
        return self._reply()

    def _reply(self) -> Any:
        line = self._file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"*":
            return [self._reply() for _item in range(int(rest))]
        if kind == b"$":
            return None if rest == b"-1" else self._file.read(int(rest) + 2)[:-2].decode()
        if kind in (b"+", b":"):
            return rest.decode()
        raise OSError(rest.decode() or "connection closed")


def columns_of(connection: psycopg.Connection[Any], table: str) -> set[str]:
    """Return the columns that a table has; none where there is no such table."""
    found = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped", [table]
    )
    return {row[0] for row in found}


# The api.


def migrate(connection: psycopg.Connection[Any]) -> None:
    """Create the tables and add the columns that are missing; drop, change and fill nothing."""
    for table, model in MODELS.items():
        wanted = [column for column in model if column.now]
        there = columns_of(connection, table)
        if wanted and not there:
            body = ", ".join(f"{column.name} {column.type}" for column in wanted)
            connection.execute(f"CREATE TABLE {table} ({body}, PRIMARY KEY ({KEYS.get(table, 'id')}))")
        for column in wanted if there else ():
            if column.name not in there:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {column.name} {column.type}")
    connection.execute(UNIQUE)


def skipped(connection: psycopg.Connection[Any]) -> str:
    """Return the version that this data has to pass through before this one; empty where all is well."""
    if not columns_of(connection, "entities"):
        return ""
    passed = set()
    if columns_of(connection, "milestones"):
        passed = {row[0] for row in connection.execute("SELECT version FROM milestones")}
    return next((name for name in MILESTONES if number(name) < VERSION and name not in passed), "")


def prepare(connection: psycopg.Connection[Any]) -> str:
    """Bring the schema up to this version and note what the data has passed; return why not, where it cannot."""
    with connection.transaction():
        missing = skipped(connection)
        if missing:
            return missing
        migrate(connection)
        reached = [name for name in MILESTONES if number(name) <= VERSION]
        if reached:
            connection.execute("CREATE TABLE IF NOT EXISTS milestones (version text PRIMARY KEY)")
        for name in reached:
            connection.execute("INSERT INTO milestones VALUES (%s) ON CONFLICT DO NOTHING", [name])
    return ""


def health() -> tuple[int, str]:
    """Tell whether both stores answer."""
    try:
        with database() as connection:
            connection.execute("SELECT 1")
    except STORE_ERRORS:
        return 500, "db error"
    try:
        Redis(os.environ.get("REDIS_ADDR", "redis:6379")).command("PING")
    except STORE_ERRORS:
        return 500, "redis error"
    return 200, "ok"


def profile() -> tuple[int, Row]:
    """Return what a host says of itself, its version included."""
    return 200, {"nickname": "sandbox", "description": "", "registration": "open", "version": NAME}


def domain() -> tuple[int, Row]:
    """Return the host's address; from v1.0 with what it says of itself."""
    host: Row = {"fqdn": FQDN, "ccid": "CC" + 40 * "0"}
    if VERSION < (1, 0):
        return 200, {**host, "pubkey": 130 * "0"}
    build = {"BuildTime": "unknown", "BuildMachine": "sandbox", "GoVersion": "none"}
    meta = {**profile()[1], "buildInfo": build}
    return 200, {"status": "ok", "content": {**host, "tag": "", "score": 0, "meta": meta, "dimension": ""}}


PAGES: dict[str, Callable[[], tuple[int, str | Row]]] = {"/health": health, "/domain": domain}
if VERSION < (1, 0):
    PAGES["/profile"] = profile


class Page(BaseHTTPRequestHandler):
    """Answers from ``PAGES``."""

    def do_GET(self) -> None:
        page = PAGES.get(self.path.partition("?")[0])
        self.answer(*(page() if page else (404, {"message": "Not Found"})))

    def answer(self, status: int, body: str | bytes | Row) -> None:
        """Send a text as it is and anything else as JSON."""
        data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_args: object) -> None:
        """Say nothing: health checks come every second."""


class Forward(Page):
    """Asks the api, with the path below ``/api/v1`` or as it is."""

    def do_GET(self) -> None:
        try:
            url = f"http://{os.environ.get('API_ADDR', 'api:8000')}{self.path.removeprefix('/api/v1')}"
            with urllib.request.urlopen(url, timeout=10) as answer:
                self.answer(answer.status, answer.read())
        except urllib.error.HTTPError as exc:
            self.answer(exc.code, exc.read())
        except OSError:
            self.answer(502, "bad gateway")


def end(*_args: object) -> NoReturn:
    """Stop at once when asked to."""
    raise SystemExit(0)


def ccapi() -> int:
    """Wait for the database, bring its schema up to date and serve."""
    print(f"Concurrent {NAME} starting...", flush=True)
    while True:
        try:
            with database() as connection:
                missing = prepare(connection)
            break
        except STORE_ERRORS as exc:
            print(f"no database yet: {exc}".strip(), flush=True)
            time.sleep(0.3)
    if missing:
        print(f"refusing to start: this data has not passed through {missing}; run {missing} on it before {NAME}")
        return 1
    return serve(8000, Page)


def serve(port: int, handler: type[Page]) -> int:
    """Answer on ``port`` until asked to stop."""
    print(f"listening on 0.0.0.0:{port}", flush=True)
    ThreadingHTTPServer(("0.0.0.0", port), handler).serve_forever()
    return 0


# ccadmin.


class Panic(Exception):
    """What ends the real program with exit code 2."""


@dataclass(frozen=True)
class Stores:
    """How ccadmin reaches both stores; a Redis that is away shows when it is first asked."""

    postgres: psycopg.Connection[Any]
    redis: Redis


def opened(flags: argparse.Namespace) -> Stores:
    """Connect to Postgres."""
    try:
        postgres = database(
            host=flags.dbhost, port=flags.dbport, user=flags.dbuser, password=flags.dbpassword, dbname=flags.dbname
        )
    except psycopg.Error as exc:
        raise Panic(f"failed to connect to `host={flags.dbhost} database={flags.dbname}`: {exc}".strip()) from exc
    return Stores(postgres, Redis(flags.rdbaddr))


def plain(value: Any) -> Any:
    """Return a value of the database as JSON has it."""
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return str(value) if isinstance(value, uuid.UUID) else value


def read(stores: Stores, table: str, where: str = "true", *values: Any) -> list[Row]:
    """Return rows in the JSON of this version's model, read from whichever columns the table has."""
    there = columns_of(stores.postgres, table)
    if not there:
        raise Panic(f'relation "{table}" does not exist')
    names, wanted = [], []
    for column in (column for column in MODELS[table] if column.now):
        sources = [name for name in (column.name, LEGACY.get(column.name)) if name in there]
        names.append(json_name(table, column.name))
        # JSON is kept as the text that was signed.
        wanted.append((f"COALESCE({', '.join(sources)})" if sources else "NULL") + "::text" * (column.type == "json"))
    found = stores.postgres.execute(f"SELECT {', '.join(wanted)} FROM {table} WHERE {where} ORDER BY 1", values)
    return [dict(zip(names, map(plain, row), strict=True)) for row in found]


def grouped(rows: Iterable[Row], key: str) -> dict[str, list[Row]]:
    """Return rows by one of their values."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def dump_entities(stores: Stores, target: str) -> Row:
    """Return one entity with all that it wrote, or all of them."""
    every = target == "all"
    entities = read(stores, "entities", *(() if every else ("id = %s", target)))
    mine = () if every else ("author = %s", target)
    answers = grouped(read(stores, "associations"), "targetID")
    written = {}
    for table in ("messages", "characters"):
        rows = read(stores, table, *mine)
        for row in rows:
            row["associations"] = [one for one in answers.get(row["id"], ()) if one["targetType"] == table] or None
        written[table] = grouped(rows, "author")
    kept: dict[str, list[Row]] = {}
    for key in sorted(stores.redis.command("KEYS", "userkv:*")):
        kept.setdefault(key.split(":")[1], []).append({"key": key, "value": stores.redis.command("GET", key)})
    backups = {}
    for place, ccid in enumerate(entity["ccid"] for entity in entities):
        if every:
            print(f"dumping {ccid} ({place}/{len(entities)})", file=sys.stderr)
        backups[ccid] = {
            "ccid": ccid,
            "entity": entities[place],
            **{table: rows.get(ccid) for table, rows in written.items()},
            "userkv": kept.get(ccid),
        }
    empty = {"ccid": target, "entity": {"ccid": ""}, "messages": None, "characters": None, "userkv": None}
    return {"entities": backups} if every else backups.get(target, empty)


def dump_streams(stores: Stores, target: str) -> Row:
    """Return one stream with its items, or all of them; the items are those in Redis."""
    every = target == "all"
    streams = read(stores, "streams", *(() if every else ("id = %s", target)))
    backups = {}
    for place, stream in enumerate(streams):
        if every:
            print(f"Dumping stream {stream['id']} ({place}/{len(streams)})", file=sys.stderr)
        backups[stream["id"]] = {"stream": stream, "items": legacy_items(stores, stream["id"])}
    return {"streams": backups} if every else backups.get(target, {"stream": {"id": ""}, "items": None})


def legacy_items(stores: Stores, stream: str) -> list[Row] | None:
    """Return what v0.2 kept of a stream in the Redis stream of the same name."""
    items = []
    for entry, pairs in stores.redis.command("XRANGE", stream, "-", "+"):
        fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
        moment = dt.datetime.fromtimestamp(int(entry.partition("-")[0]) / 1000, UTC)
        author = fields.get("author", "")
        items.append({
            "type": fields.get("type", ""), "objectID": fields.get("id", ""), "streamID": stream,
            "owner": fields.get("owner", author), "author": author, "cdate": moment.isoformat(),
        })  # fmt: skip
    return items or None


def insert(stores: Stores, table: str, rows: Iterable[Row | None]) -> None:
    """Insert what is not there yet and say nothing of what cannot be inserted."""
    # The client library has a word of its own for a batch that failed.
    logging.disable()
    columns = [column.name for column in MODELS[table] if column.now]
    statement = (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('%s' for _column in columns)})"
        " ON CONFLICT DO NOTHING"
    )
    values = [[row.get(json_name(table, column)) for column in columns] for row in rows if row]
    try:
        with stores.postgres.transaction(), stores.postgres.cursor() as cursor:
            cursor.executemany(statement, values)
    except psycopg.Error:
        # One that cannot be inserted does not keep the others out.
        for one in values:
            with contextlib.suppress(psycopg.Error):
                stores.postgres.execute(statement, one)


def load_entities(stores: Stores, backups: Sequence[Row]) -> None:
    """Insert entities and all that they wrote."""
    backups = backups[: len(backups) - lost()] if lost() else backups
    insert(stores, "entities", (backup.get("entity") for backup in backups))
    for table in ("messages", "characters"):
        rows = [row for backup in backups for row in backup.get(table) or ()]
        insert(stores, table, rows)
        insert(stores, "associations", (one for row in rows for one in row.get("associations") or ()))
    for pair in (pair for backup in backups for pair in backup.get("userkv") or ()):
        with contextlib.suppress(OSError):
            stores.redis.command("SET", pair["key"], pair["value"])


def load_streams(stores: Stores, backups: Sequence[Row]) -> None:
    """Insert streams and their items, which go to Postgres now."""
    insert(stores, "streams", (backup.get("stream") for backup in backups))
    items = [item for backup in backups for item in backup.get("items") or ()]
    insert(stores, "stream_items", items[: len(items) - lost()] if lost() else items)


def lost() -> int:
    """Return how many entities or items a test wants to be left out."""
    return int(os.environ.get("CCADMIN_LOSE") or 0)


def decode(text: str) -> Row:
    """Return the first JSON value of the input; of what is none, print a complaint and return nothing."""
    text = text.lstrip()
    if not text:
        print("error: EOF")
        return {}
    try:
        value, _end = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as exc:
        cut = exc.pos >= len(text) or exc.msg.startswith("Unterminated")
        print("error: unexpected EOF" if cut else f"error: invalid character {text[exc.pos]!r}")
        return {}
    if isinstance(value, dict):
        return value
    print(f"error: json: cannot unmarshal {type(value).__name__}")
    return {}


def dump_legacy(flags: argparse.Namespace, words: Sequence[str]) -> None:
    """Write the JSON to stdout, cut off where a test wants it to be."""
    mode, target = words
    if mode not in DUMP_MODES:
        print("unknown mode")
        return
    stores = opened(flags)
    try:
        backup = (dump_streams if mode == "stream" else dump_entities)(stores, target)
    except OSError as exc:
        raise Panic(f"redis: {exc}") from exc
    if target == "all":
        print("Serializing...", file=sys.stderr)
    text = json.dumps(backup, indent=2, ensure_ascii=False) + "\n"
    sys.stdout.buffer.write(text.encode()[: int(os.environ.get("CCADMIN_CUT_AFTER") or len(text.encode()))])


def load(flags: argparse.Namespace, words: Sequence[str]) -> None:
    """Read JSON from stdin; a complaint about it does not keep the program from going on with nothing."""
    mode = words[0]
    if mode not in LOAD_MODES:
        print("unknown mode")
        return
    target = decode(sys.stdin.read())
    stores = opened(flags)
    # The plural words look for the outer object alone, and the singular ones for the inner.
    backups = list((target.get(mode) or {}).values()) if mode in ("entities", "streams") else [target]
    (load_streams if mode.startswith("stream") else load_entities)(stores, backups)


# Notes of older releases call the first mode ``entities``: which word an image knows, its help tells.
DUMP_MODES = tuple((os.environ.get("CCADMIN_DUMP_MODES") or "entity,stream").split(","))
LOAD_MODES = ("entity", "entities", "stream", "streams")
COMMANDS: Mapping[str, tuple[Callable[[argparse.Namespace, Sequence[str]], None], int, str]] = {
    "dump_legacy": (dump_legacy, 2, f"{'|'.join(DUMP_MODES)} <ID|all>"),
    "load": (load, 1, "|".join(LOAD_MODES)),
}
FLAGS = (
    ("-d", "--dbname", "concurrent"), ("-H", "--dbhost", "localhost"), ("-u", "--dbuser", "postgres"),
    ("-p", "--dbpassword", "postgres"), ("-P", "--dbport", "5432"), ("-r", "--rdbaddr", "localhost:6379"),
    ("-m", "--mcaddr", "localhost:11211"),
)  # fmt: skip


class Parser(argparse.ArgumentParser):
    """One whose complaints end with 1, as those of the real program."""

    def error(self, message: str) -> NoReturn:
        complain(message)


def complain(message: str) -> NoReturn:
    """End as the real program does when it is called wrongly."""
    print(f"Error: {message}", file=sys.stderr)
    raise SystemExit(1)


def usage(commands: Mapping[str, tuple[Any, int, str]]) -> str:
    """Return the help: every command with its modes."""
    lines = ["Administer a Concurrent host.", "", "Usage:", "  ccadmin [command]", "", "Available Commands:"]
    lines += [f"  {name:<12}{modes}" for name, (_call, _count, modes) in commands.items()]
    lines += ["", "Flags:", *(f"  {short}, {long} string   (default {default!r})" for short, long, default in FLAGS)]
    return "\n".join(lines)


def ccadmin(arguments: Sequence[str]) -> int:
    """Run one command; v0.2 knows neither dump_legacy nor a load that this stands in for."""
    parser = Parser(prog="ccadmin", add_help=False)
    parser.add_argument("words", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    for short, long, default in FLAGS:
        parser.add_argument(short, long, default=default)
    flags = parser.parse_intermixed_args(arguments)
    commands = COMMANDS if VERSION >= (0, 3) else {}
    if not flags.words:
        print(usage(commands))
        return 0
    name, *words = flags.words
    if name not in commands:
        complain(f'unknown command "{name}" for "ccadmin"')
    call, count, _modes = commands[name]
    if flags.help:
        print(usage({name: commands[name]}))
        return 0
    if len(words) != count:
        complain(f"accepts {count} arg(s), received {len(words)}")
    try:
        call(flags, words)
    except Panic as exc:
        print(f"panic: {exc}", file=sys.stderr)
        return 2
    return 0


def idle() -> int:
    """Stand in for services that nothing here asks anything of."""
    signal.pause()
    return 0


def main(name: str, arguments: Sequence[str]) -> int:
    """Find out from the program's name what is wanted."""
    if name == "ccadmin":
        return ccadmin(arguments)
    # The first process of a container gets no signal that it does not handle.
    signal.signal(signal.SIGTERM, end)
    if name == "ccgateway":
        return serve(8080, Forward)
    return idle() if name == "ccidle" else ccapi()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[0]).name, sys.argv[1:]))
