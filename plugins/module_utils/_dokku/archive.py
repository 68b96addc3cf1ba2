# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An archive of pg_dump's custom format, read to its end without a server: whether all that it announces is in it.

It begins with a table of contents that says which of its entries have data, and goes on with the data of each. Nothing
marks its end, so that one that breaks off between two tables looks whole to whoever has not read the table. The format
is that of ``src/bin/pg_dump/pg_backup_archiver.c`` and ``pg_backup_custom.c``, by its own version and not PostgreSQL's:
https://github.com/postgres/postgres/blob/master/src/bin/pg_dump/pg_backup_archiver.h
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

BEGINS = b"PGDMP"
CUSTOM = 1
FIRST, LAST = (1, 12), (1, 16)
"""The versions that are known, of PostgreSQL 9 to 18."""
WITH_ACCESS_METHOD, WITH_COMPRESSION_NAME, WITH_KIND = (1, 14), (1, 15), (1, 16)
NO_DATA = 3
"""What the table of contents has for where the data of an entry lies that has none."""
ROWS, LARGE_OBJECTS = 1, 3
PIECE = 1 << 20
LONGEST = 1 << 30
"""Bytes of one value in PostgreSQL, and so of a text in an archive."""


class Broken(ValueError):
    """Not all of an archive is there; the text goes on from "a dump that"."""


class NoArchive(Broken):
    """It does not even begin as one."""


class Stream(Protocol):
    """Whatever bytes are read from."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Whole:
    """An archive that was read to its end; ``known``: whether its version is one of those that can be told whole."""

    size_bytes: int
    known: bool

    @property
    def proof(self) -> str:
        """Return what is known of it now, in words."""
        return "the data of all that it announces is in it" if self.known else "begins as an archive of pg_dump's"


def read_to_end(stream: Stream) -> Whole:
    """Read an archive, and return what it is; raises :class:`Broken` where anything is missing.

    The data itself, compressed or not, is gone past; of a version that is not known here only the beginning is looked
    at.
    """
    source = _Source(stream)
    if source.beginning(len(BEGINS)) != BEGINS:
        raise NoArchive("is no archive of pg_dump's")
    major, minor, _revision = source.take(3, "its version")
    version = (major, minor)
    known = FIRST <= version <= LAST
    if known:
        _read_known(source, version)
    while source.skip_some():
        pass
    return Whole(source.offset, known)


def _read_known(source: _Source, version: tuple[int, int]) -> None:
    integer, offset, kind = source.take(3, "its head")
    if kind != CUSTOM:
        raise Broken(f"is of another format ({kind}) than the custom one")
    numbers = _Numbers(source, integer)
    _skip_head(source, numbers, version)
    awaited = _entries_with_data(source, numbers, version, offset)
    while awaited:
        block = source.one_or_none()
        if block is None:
            raise Broken(f"ends before {', '.join(list(awaited.values())[:3])}{_more(len(awaited) - 3)}")
        entry = numbers.read("the data of an entry")
        if block not in (ROWS, LARGE_OBJECTS) or entry not in awaited:
            raise Broken(f"has at byte {source.offset:,} what is no data of any of its entries")
        name = awaited.pop(entry)
        if block == ROWS:
            numbers.skip_pieces(name)
        else:
            while numbers.read(name):
                numbers.skip_pieces(name)
    # What follows is nobody's: of an output that cannot be gone back in, some pg_dump says its contents once more.


def _more(number: int) -> str:
    return f" and of {number} more" if number > 0 else ""


def _skip_head(source: _Source, numbers: _Numbers, version: tuple[int, int]) -> None:
    if version >= WITH_COMPRESSION_NAME:
        source.take(1, "its head")
    else:
        numbers.read("its head")
    for _part_of_the_moment in range(7):
        numbers.read("its head")
    for _text in ("the database", "the server's version", "pg_dump's version"):
        numbers.text("its head")


def _entries_with_data(source: _Source, numbers: _Numbers, version: tuple[int, int], offset: int) -> dict[int, str]:
    """Return the names of the entries that have data, by their numbers."""
    found, where = {}, "its table of contents"
    for _entry in range(numbers.read(where)):
        number = numbers.read(where)
        numbers.read(where)  # whether it has data, of which the offset knows more
        for _oid in ("of the catalogue", "of the object"):
            numbers.text(where)
        tag, what = numbers.text(where), numbers.text(where)
        numbers.read(where)  # the section
        for _text in ("how it is made", "how it is dropped", "how it is copied", "the schema", "the tablespace"):
            numbers.text(where)
        if version >= WITH_ACCESS_METHOD:
            numbers.text(where)
        if version >= WITH_KIND:
            numbers.read(where)
        for _text in ("the owner", "whether it has oids"):
            numbers.text(where)
        while numbers.text(where) is not None:
            pass  # what it depends on, to an absent one
        (state,) = source.take(1, where)
        source.take(offset, where)
        if state != NO_DATA:
            found[number] = f"{what or ''} {tag or ''}".strip()
    return found


@dataclass
class _Source:
    """Bytes in their order; where they end before they should, they are :class:`Broken`."""

    stream: Stream
    offset: int = 0

    def beginning(self, size: int) -> bytes:
        """Return what may be shorter, and is whatever it is."""
        taken = self.stream.read(size)
        self.offset += len(taken)
        return taken

    def take(self, size: int, what: str) -> bytes:
        taken = b""
        while len(taken) < size:
            piece = self.stream.read(min(size - len(taken), PIECE))
            if not piece:
                raise Broken(f"breaks off in {what}, at byte {self.offset:,}")
            taken += piece
            self.offset += len(piece)
        return taken

    def one_or_none(self) -> int | None:
        piece = self.beginning(1)
        return piece[0] if piece else None

    def skip(self, size: int, what: str) -> None:
        while size > 0:
            piece = self.stream.read(min(size, PIECE))
            if not piece:
                raise Broken(f"breaks off in {what}, at byte {self.offset:,}")
            size -= len(piece)
            self.offset += len(piece)

    def skip_some(self) -> int:
        return len(self.beginning(PIECE))


@dataclass(frozen=True)
class _Numbers:
    """What an archive is made of: numbers of a sign and as many bytes as its head says, and texts."""

    source: _Source
    size: int

    def read(self, what: str) -> int:
        sign, *digits = self.source.take(1 + self.size, what)
        number = int.from_bytes(bytes(digits), "little")
        return -number if sign else number

    def text(self, what: str) -> str | None:
        size = self.read(what)
        if size < 0:
            return None
        if size > LONGEST:
            raise Broken(f"has in {what}, at byte {self.source.offset:,}, what is none")
        return self.source.take(size, what).decode("utf-8", "replace")

    def skip_pieces(self, what: str) -> None:
        """Go past data, which comes in pieces, to the empty one that ends it."""
        while size := self.read(what):
            if size < 0:
                raise Broken(f"has in {what}, at byte {self.source.offset:,}, what is none")
            self.source.skip(size, what)
