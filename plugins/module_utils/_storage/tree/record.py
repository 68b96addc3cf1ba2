# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a copy knows about its source: an SQLite file, so that memory stays small at any size.

A data directory can hold a hundred thousand files and a media store millions; none of that is
kept in memory. SQLite also makes the record whole after SIGKILL and power cuts.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.blocks import Range
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.durable import PathLike
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.errors import NotOurs

SCHEMA_VERSION = 1
_COMMIT_EVERY_S = 0.5

_SCHEMA = """
CREATE TABLE IF NOT EXISTS header (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS file (
    directory BLOB NOT NULL, name BLOB NOT NULL, stamp TEXT NOT NULL, read_began_ns INTEGER NOT NULL,
    proved INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (directory, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rewritten (path BLOB NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL);
CREATE TEMP TABLE directory (number INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, changed INTEGER NOT NULL);
CREATE TEMP TABLE linked (source_inode TEXT PRIMARY KEY, path BLOB NOT NULL, target_inode TEXT UNIQUE);
CREATE TEMP TABLE link (number INTEGER PRIMARY KEY, path BLOB NOT NULL, first BLOB NOT NULL);
"""


class Stamp(NamedTuple):
    """What tells one state of a file from another. (Tuples, for there is one of these per file.)"""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


class Known(NamedTuple):
    """A file as it was copied: its stamp, taken before it was read, and when that began."""

    path: str
    stamp: Stamp
    read_began_ns: int
    proved: bool = False


class Record:
    """An open record; use it from one thread. Make it with ``open_record`` or ``scratch_record``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._committed = time.monotonic()

    def header(self, key: str) -> str | None:
        row = self._connection.execute("SELECT value FROM header WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_header(self, key: str, value: str) -> None:
        """Store a value and make it durable at once, with all that came before."""
        self._connection.execute("INSERT OR REPLACE INTO header VALUES (?, ?)", (key, value))
        self.commit()

    def commit(self) -> None:
        self._connection.commit()
        self._committed = time.monotonic()

    def _commit_sometimes(self) -> None:
        if time.monotonic() - self._committed > _COMMIT_EVERY_S:
            self.commit()

    def add(self, known: Iterable[Known]) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, 0)",
            ((*_split(item.path), _encode(item.stamp), item.read_began_ns) for item in known),
        )
        self._commit_sometimes()

    def known_among(self, directory: str, first: str, last: str) -> dict[str, Known]:
        """Return what is known of the files of one directory from name ``first`` to ``last``, by name."""
        rows = self._connection.execute(
            "SELECT name, stamp, read_began_ns, proved FROM file WHERE directory = ? AND name BETWEEN ? AND ?",
            (os.fsencode(directory), os.fsencode(first), os.fsencode(last)),
        )
        prefix = directory + "/" if directory else ""
        found = {}
        for name, stamp, began, proved in rows:
            text = os.fsdecode(name)
            found[text] = Known(prefix + text, _decode(stamp), began, bool(proved))
        return found

    def unproved(self, batch: int = 256) -> Iterator[Known]:
        """Yield the files not proved yet; rows may be changed between two steps."""
        last = (b"", b"")
        while True:
            rows = self._connection.execute(
                "SELECT directory, name, stamp, read_began_ns FROM file "
                "WHERE proved = 0 AND (directory, name) > (?, ?) ORDER BY directory, name LIMIT ?",
                (*last, batch),
            ).fetchall()
            if not rows:
                return
            for directory, name, stamp, began in rows:
                path = os.fsdecode(directory + b"/" + name if directory else name)
                yield Known(path, _decode(stamp), began)
            last = (rows[-1][0], rows[-1][1])

    def set_proved(self, path: str) -> None:
        self._connection.execute("UPDATE file SET proved = 1 WHERE directory = ? AND name = ?", _split(path))
        self._commit_sometimes()

    def forget(self, path: str) -> None:
        """Drop a file, so that it is copied or compared anew."""
        self._connection.execute("DELETE FROM file WHERE directory = ? AND name = ?", _split(path))

    def forget_all(self) -> None:
        self._connection.execute("DELETE FROM file")
        self.commit()

    def totals(self) -> int:
        """Return the number of files known."""
        return int(self._connection.execute("SELECT count(*) FROM file").fetchone()[0])

    def add_directory(self, path: str, *, changed: bool = False) -> None:
        self._connection.execute(
            "INSERT INTO directory (path, changed) VALUES (?, ?) "
            "ON CONFLICT (path) DO UPDATE SET changed = changed OR excluded.changed",
            (os.fsencode(path), changed),
        )

    def directories_deepest_first(self) -> Iterator[tuple[str, bool]]:
        """Yield the directories added, children before parents, with whether names in them changed."""
        for path, changed in self._connection.execute("SELECT path, changed FROM directory ORDER BY number DESC"):
            yield os.fsdecode(path), bool(changed)

    def first_of_link(self, source_inode: int, path: str) -> str | None:
        """Return the path under which this inode was met first, or None where that is now."""
        row = self._connection.execute(
            "SELECT path FROM linked WHERE source_inode = ?", (str(source_inode),)
        ).fetchone()
        if row is not None:
            return os.fsdecode(row[0])
        self._connection.execute("INSERT INTO linked VALUES (?, ?, NULL)", (str(source_inode), os.fsencode(path)))
        return None

    def claim(self, source_inode: int, target_inode: int) -> bool:
        """Bind a target inode to a source inode; False where another source inode holds it."""
        cursor = self._connection.execute(
            "UPDATE OR IGNORE linked SET target_inode = ? WHERE source_inode = ?",
            (str(target_inode), str(source_inode)),
        )
        return cursor.rowcount == 1

    def add_link(self, path: str, first: str) -> None:
        self._connection.execute(
            "INSERT INTO link (path, first) VALUES (?, ?)", (os.fsencode(path), os.fsencode(first))
        )

    def links(self) -> Iterator[tuple[str, str]]:
        for path, first in self._connection.execute("SELECT path, first FROM link ORDER BY number"):
            yield os.fsdecode(path), os.fsdecode(first)

    def clear_rewritten(self) -> None:
        self._connection.execute("DELETE FROM rewritten")

    def add_rewritten(self, path: str, ranges: Iterable[Range]) -> None:
        encoded = os.fsencode(path)
        self._connection.executemany("INSERT INTO rewritten VALUES (?, ?, ?)", ((encoded, *item) for item in ranges))
        self._commit_sometimes()

    def rewritten(self) -> Iterator[tuple[str, int, int]]:
        """Yield path, offset and length of every range that settling wrote."""
        for path, offset, length in self._connection.execute("SELECT path, offset, length FROM rewritten"):
            yield os.fsdecode(path), offset, length


def _split(path: str) -> tuple[bytes, bytes]:
    directory, _slash, name = path.rpartition("/")
    return os.fsencode(directory), os.fsencode(name)


def _encode(stamp: Stamp) -> str:
    # Text, because inode numbers and times of far futures do not fit SQLite's signed 64 bits.
    return f"{stamp.size} {stamp.mtime_ns} {stamp.ctime_ns} {stamp.inode}"


def _decode(text: str) -> Stamp:
    size, mtime_ns, ctime_ns, inode = text.split(" ")
    return Stamp(int(size), int(mtime_ns), int(ctime_ns), int(inode))


@contextmanager
def scratch_record() -> Iterator[Record]:
    """Open a record that SQLite keeps in an unnamed temporary file and drops at the end."""
    with _connected("") as record:
        yield record


@contextmanager
def open_record(path: PathLike, *, source: PathLike, target: PathLike) -> Iterator[Record]:
    """Open or make the record of the copy of ``source`` in ``target``; another copy's raises ``NotOurs``."""
    try:
        with _connected(os.fspath(path)) as record:
            for key, value in (("schema", str(SCHEMA_VERSION)), ("source", _hex(source)), ("target", _hex(target))):
                present = record.header(key)
                if present is None:
                    record.set_header(key, value)
                elif present != value:
                    raise NotOurs(
                        f"{os.fspath(path)} is the record of another copy (its {key} differs).",
                        next_command="name another record file, or remove this one",
                    )
            yield record
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise NotOurs(f"{os.fspath(path)} is not a record of a copy: {error}") from error


def _hex(path: PathLike) -> str:
    # Paths may hold bytes that are no text.
    return os.fsencode(os.path.abspath(path)).hex()


@contextmanager
def _connected(path: str) -> Iterator[Record]:
    if path:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    connection = sqlite3.connect(path)
    try:
        connection.executescript(_SCHEMA)
        yield Record(connection)
        connection.commit()
    finally:
        connection.close()
