# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A backup counts only when it can be read to its end and holds a dump."""

from __future__ import annotations

import io
import os
import re
import tarfile
import zlib
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.archive import Broken, read_to_end
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.bucket import (
    Auth,
    Bucket,
    dump_bytes,
    is_backup,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from tests.unit.dokku import archives


def archive(content: bytes) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as made:
        member = tarfile.TarInfo("backup/export")
        member.size = len(content)
        made.addfile(member, io.BytesIO(content))
    return whole.getvalue()


LARGE = b"PGDMP" + bytes([1, 99]) + os.urandom(100_000)
"""Of a version that nobody knows yet."""


@pytest.mark.parametrize("dump", [archives.OF_13, archives.OF_17])
def test_a_dump_is_read_to_its_end(dump: bytes) -> None:
    assert dump_bytes(io.BytesIO(archive(dump))) == len(dump)
    # Some pg_dump says its contents once more, where it could not go back to them.
    assert dump_bytes(io.BytesIO(archive(dump + b"more"))) == len(dump) + 4


def test_what_is_no_dump_is_none() -> None:
    for content in (b"", b"PG", b"SELECT 1"):
        assert dump_bytes(io.BytesIO(archive(content))) == 0


@pytest.mark.parametrize("dump", [archives.OF_13, archives.OF_17])
def test_a_dump_that_breaks_off_anywhere_is_none(dump: bytes) -> None:
    assert [kept for kept in range(len(dump)) if is_whole(dump[:kept])] == []


@pytest.mark.parametrize(
    "dump, kept, words",
    [
        (archives.OF_13, 9, "breaks off in its head"),
        (archives.OF_13, 900, "breaks off in its table of contents"),
        (archives.OF_17, 4201, "ends before TABLE DATA empty, TABLE DATA rows, BLOBS 16408..16409"),
        (archives.OF_17, 4230, "ends before TABLE DATA rows, BLOBS 16408..16409"),
        (archives.OF_17, 4300, "breaks off in TABLE DATA rows"),
        (archives.OF_13, 4491, "ends before BLOBS BLOBS"),
    ],
)
def test_half_a_dump_is_told_although_its_archive_is_whole(dump: bytes, kept: int, words: str) -> None:
    with pytest.raises(Broken, match=re.escape(words)):
        dump_bytes(io.BytesIO(archive(dump[:kept])))


def test_what_is_written_over_is_told() -> None:
    """Between two tables lies what belongs to none."""
    with pytest.raises(Broken, match="what is no data of any of its entries"):
        dump_bytes(io.BytesIO(archive(archives.OF_17[:4230] + bytes(500))))


def is_whole(dump: bytes) -> bool:
    try:
        read_to_end(io.BytesIO(dump))
    except Broken:
        return False
    return True


@pytest.mark.parametrize("kept", [10, 0.5, -9])
def test_an_archive_that_breaks_off_is_none(kept: float) -> None:
    whole = archive(LARGE)
    with pytest.raises((tarfile.TarError, EOFError, OSError)):
        dump_bytes(io.BytesIO(whole[: int(len(whole) * kept) if 0 < kept < 1 else int(kept)]))


def test_a_byte_that_became_another_on_the_way_is_found_by_the_check_sum() -> None:
    whole = bytearray(archive(LARGE))
    whole[len(whole) // 2] ^= 1
    with pytest.raises((OSError, zlib.error, Broken)):
        dump_bytes(io.BytesIO(bytes(whole)))


def test_of_a_version_that_nobody_knows_yet_only_the_beginning_counts() -> None:
    assert dump_bytes(io.BytesIO(archive(LARGE))) == len(LARGE)


@pytest.mark.parametrize(
    "key, mine",
    [
        ("postgres-blog-2026-01-02-03-04-05.tgz", True),
        ("postgres-blog-2026-01-02-03-04-05.tgz.gpg", True),
        ("postgres-blog-17-2026-01-02-03-04-05.tgz", False),
        ("postgres-blog-2026-01-02-03-04-05.log", False),
    ],
)
def test_backups_of_a_service_whose_name_begins_alike_are_not_its_own(key: str, mine: bool) -> None:
    assert is_backup(key, "blog") == mine


class Client:
    """Answers with one object."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def get_object(self, **_where: str) -> dict[str, Any]:
        return {"Body": io.BytesIO(self.body)}


@pytest.mark.parametrize(
    "body, words",
    [
        (b"", "is empty"),
        (archive(b"SELECT 1"), "holds no dump"),
        (archive(b""), "holds no dump"),
        (archive(LARGE)[:5000], "cannot be read to its end"),
        (archive(archives.OF_17[:4300]), "holds a dump that breaks off in TABLE DATA rows"),
    ],
    # The bytes tell when they were packed, and two processes of one run would not agree on the names of their tests.
    ids=["empty", "no dump", "nothing", "cut archive", "cut dump"],
)
def test_a_useless_backup_is_a_failure_that_says_why(body: bytes, words: str) -> None:
    pytest.importorskip("botocore")
    with pytest.raises(StatefulError, match=words):
        Bucket("bucket", Auth("", ""), Client(body)).read_back("postgres-a-2026-01-01-00-00-00.tgz", len(body))


def test_a_login_is_never_shown() -> None:
    assert "hush" not in repr(Auth("hush-id", "hush-secret"))
