# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rows of the large tables, straight from one server into the other: written once, and read while they are written.

A dump is complete before anything of it can be loaded, and most of its time goes into a few tables. Their rows go
through a pipe, several tables at a time, as pg_dump would have them: ``COPY`` under the settings that it makes. All
else, the definitions of these tables included, is the dump's. Nobody but ourselves reaches either server.

Each pipe is one of the file system's, which one server writes and the other reads: every program in between would have
to take all of it in and hand it on.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import globals as cluster_globals
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import helpers, sql
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.basebackup import (
    Progress,
    give_privately,
    make_owned,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.bench import HOURS, Bench
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import session_options

LARGE = 32 << 20
"""Bytes, with what is stored out of line: below, a pipe of its own is not worth its start."""
FIRST_ASKED = 120000
"""The first server that has generated columns, which no COPY takes. Older ones are dumped whole."""
PLACE = "rows"
MARKS = "/dev/shm/rows"
"""Where the clients keep what they know of each other: a file there needs no room on the disk that they fill.

One database after another may be poured in the same container.
"""
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What an extension brings is its own affair. Below a table that is partitioned by hash, rows may belong elsewhere in
# another cluster, and pg_dump sees to that.
QUESTION = """
SELECT n.nspname, c.relname, pg_table_size(c.oid)::bigint,
       (SELECT string_agg('"' || replace(a.attname::text, '"', '""') || '"', ', ' ORDER BY a.attnum)
          FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%%'
  AND pg_table_size(c.oid) >= %s
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                   AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e')
  AND NOT EXISTS (
        WITH RECURSIVE above AS (
            SELECT inhparent FROM pg_inherits WHERE inhrelid = c.oid
            UNION SELECT i.inhparent FROM above JOIN pg_inherits i ON i.inhrelid = above.inhparent)
        SELECT FROM above JOIN pg_partitioned_table p ON p.partrelid = above.inhparent WHERE p.partstrat = 'h')
ORDER BY 3 DESC, 1, 2
"""
# As pg_dump and pg_restore have them; a role or a database may have others by default.
COMMON = {
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "lc_monetary": "C",
    "search_path": "",
    "row_security": "off",
}
GIVING = {**COMMON, "extra_float_digits": "3", "bytea_output": "hex", "synchronize_seqscans": "off"}
TAKING = {**COMMON, "default_transaction_read_only": "off", "xmloption": "content", "array_nulls": "on"}
PSQL = ("psql", "-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1")


@dataclass(frozen=True)
class LargeTable:
    """A table whose rows are not in the dump.

    ``columns`` are those that have values of their own, each in quotes: what is a word of SQL differs from one major to
    another.
    """

    schema: str
    name: str
    size: int
    columns: str

    @property
    def pattern(self) -> str:
        """Return what pg_dump takes for this table alone."""
        return f"{sql.identifier(self.schema)}.{sql.identifier(self.name)}"

    @property
    def sql(self) -> str:
        return f"{self.pattern} ({self.columns})"


@dataclass(frozen=True)
class End:
    """One of the two servers: a superuser's session, the directory of its socket as a helper sees it, its database."""

    session: Session
    sockets: str
    database: str


def of_database(session: Session, version: int) -> tuple[LargeTable, ...]:
    """Return the large tables of the session's database, the largest first; ``version`` is its server_version_num.

    One whose name pg_dump could take for a pattern is left to the dump.
    """
    if version < FIRST_ASKED:
        return ()
    found = (LargeTable(*row) for row in session.rows(QUESTION, (LARGE,)) if row[3])
    return tuple(table for table in found if _PLAIN.fullmatch(table.schema) and _PLAIN.fullmatch(table.name))


def pour(
    bench: Bench,
    image_id: str,
    run: helpers.Run,
    tables: Sequence[LargeTable],
    giving: End,
    taking: End,
    *,
    port: int,
    jobs: int,
    progress: Progress,
) -> None:
    """Fill ``tables``, which have no rows and no index yet; raises :class:`StatefulError` unless all are committed.

    ``image_id`` is the image of the client programs, which understand both servers, and ``run`` runs them.
    ``progress`` is told of the bytes of the database that is filled, towards those of the other.
    """
    size, encoding = giving.session.rows(
        "SELECT pg_database_size(oid)::bigint, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = %s",
        (giving.database,),
    )[0]
    user, place = giving.session.user, os.path.join(bench.work, PLACE)
    shutil.rmtree(place, ignore_errors=True)
    make_owned(place, bench.owner)
    seen = bench.seen(place)
    lanes = [
        [_lay(place, seen, f"{number}-{index}", table, encoding, bench.owner) for index, table in enumerate(lane)]
        for number, lane in enumerate(_lanes(tables, jobs))
    ]
    script = _script(lanes, seen, _psql(giving, GIVING, port, user), _psql(taking, TAKING, port, user))
    # Names are written in UTF-8, whatever the rows are in.
    helper = bench.helper(image_id, "sh", "-c", script, PGCLIENTENCODING="UTF8")

    def tick() -> None:
        held = int(taking.session.scalar("SELECT pg_database_size(%s)", (taking.database,)))
        progress(min(held, size), size)

    finished = run(helper, timeout=24 * HOURS, tick=tick)
    what = f"Bringing the rows of {', '.join(table.pattern for table in tables)} in {giving.database} over"
    helpers.must_be_silent(helpers.must_succeed(finished, what).output, what)
    shutil.rmtree(place)


def _psql(end: End, settings: Mapping[str, str], port: int, user: str) -> str:
    """Return the call of psql, with the settings that the server knows, as a shell has it."""
    known = {name.lower() for name in cluster_globals.setting_names(end.session)}
    made = {**end.session.for_programs(), **{name: value for name, value in settings.items() if name.lower() in known}}
    settled = f"PGOPTIONS={session_options(made)}"
    argv = ("env", settled, *PSQL, "-h", end.sockets, "-p", str(port), "-U", user, "-d", end.database)
    return shlex.join(argv)


def _lay(place: str, seen: str, name: str, table: LargeTable, encoding: str, owner: tuple[int, int]) -> str:
    """Lay out in ``place``, which servers and programs see as ``seen``, what carries the rows of one table over.

    As the table is emptied in the transaction that fills it, nothing of that is logged, and its rows are frozen at
    once. It ends with a commit only if as many rows were taken as were given: that the pipe has no more says nothing.
    Returns ``name``.
    """
    pipe, spoken = sql.literal(f"{seen}/{name}"), f"ENCODING {sql.literal(encoding)}"
    os.mkfifo(os.path.join(place, name))
    _write(os.path.join(place, f"{name}.give"), f"COPY {table.sql} TO {pipe} WITH ({spoken});", "\\echo :ROW_COUNT")
    _write(
        os.path.join(place, f"{name}.take"),
        "BEGIN;",
        f"TRUNCATE TABLE ONLY {table.pattern};",
        f"COPY {table.sql} FROM {pipe} WITH (FREEZE, {spoken});",
        "\\set taken :ROW_COUNT",
        f"\\set given `until [ -e {name}.given ]; do sleep 0.02; done; cat {name}.given`",
        "SELECT :'given' = :'taken' AS whole \\gset",
        "\\if :whole",
        "COMMIT;",
        "\\else",
        "DO 'BEGIN RAISE EXCEPTION ''the rows were not given to their end''; END';",
        "\\endif",
    )
    for path in (name, f"{name}.give", f"{name}.take"):
        give_privately(os.path.join(place, path), owner)
    return name


def _write(path: str, *lines: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


# Who opens a pipe waits for the other end: one that is left alone is let go by somebody who opens both, and finds the
# pipe at its end then, or broken.
CARRY = """\
carry() {
  {
    give -f "$rows/$1.give" >"$1.counted" || : >"$1.counted"
    mv "$1.counted" "$1.given"
    until [ -e "$1.taken" ]; do : <>"$rows/$1"; sleep 0.05; done
  } &
  take -f "$rows/$1.take" && : >"$1.committed"
  : >"$1.taken"
  until [ -e "$1.given" ]; do : <>"$rows/$1"; sleep 0.05; done
  wait $!
}"""


def _script(lanes: Sequence[Sequence[str]], seen: str, giving: str, taking: str, *, marks: str = MARKS) -> str:
    """Return a shell script that ends with 0 only if the rows of every table were committed.

    ``seen`` is where the pipes are, ``marks`` a directory that is made anew.
    """
    committed = (f"[ -e {name}.committed ]" for lane in lanes for name in lane)
    return "\n".join(
        (
            f"rows={shlex.quote(seen)}",
            f"rm -rf {shlex.quote(marks)} && mkdir {shlex.quote(marks)} && cd {shlex.quote(marks)} || exit",
            f'give() {{ {giving} "$@"; }}',
            f'take() {{ {taking} "$@"; }}',
            CARRY,
            *(f"{{ {' '.join(f'carry {name};' for name in lane)} }} &" for lane in lanes),
            "wait",
            " && ".join(committed),
        )
    )


def _lanes(tables: Sequence[LargeTable], jobs: int) -> list[list[LargeTable]]:
    """Deal the tables out, each to the lane that has least to do; the largest come first."""
    lanes: list[list[LargeTable]] = [[] for _lane in range(max(1, min(jobs, len(tables))))]
    for table in tables:
        min(lanes, key=lambda lane: sum(each.size for each in lane)).append(table)
    return lanes


def patterns(found: Mapping[str, Sequence[LargeTable]]) -> dict[str, list[str]]:
    """Return what pg_dump is told of them, by database."""
    return {name: [table.pattern for table in tables] for name, tables in found.items()}
