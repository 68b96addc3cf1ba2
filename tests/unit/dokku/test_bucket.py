# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A backup counts only when it can be read to its end and holds a dump."""

from __future__ import annotations

import io
import os
import tarfile
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.bucket import (
    Auth,
    Bucket,
    dump_bytes,
    is_backup,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError


def archive(content: bytes) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as made:
        member = tarfile.TarInfo("backup/export")
        member.size = len(content)
        made.addfile(member, io.BytesIO(content))
    return whole.getvalue()


DUMP = b"PGDMP" + os.urandom(100_000)


def test_a_dump_is_read_to_its_end() -> None:
    assert dump_bytes(io.BytesIO(archive(DUMP))) == len(DUMP)
    assert dump_bytes(io.BytesIO(archive(b"SELECT 1"))) == 0


@pytest.mark.parametrize("kept", [10, 20_000, len(DUMP) - 100])
def test_a_dump_that_breaks_off_is_none(kept: int) -> None:
    with pytest.raises((tarfile.TarError, EOFError, OSError)):
        dump_bytes(io.BytesIO(archive(DUMP)[:kept]))


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
    [(b"", "is empty"), (archive(b"SELECT 1"), "holds no dump"), (archive(DUMP)[:5000], "cannot be read to its end")],
)
def test_a_useless_backup_is_a_failure_that_says_why(body: bytes, words: str) -> None:
    pytest.importorskip("botocore")
    with pytest.raises(StatefulError, match=words):
        Bucket("bucket", Auth("", ""), Client(body)).read_back("postgres-a-2026-01-01-00-00-00.tgz", len(body))


def test_a_login_is_never_shown() -> None:
    assert "hush" not in repr(Auth("hush-id", "hush-secret"))
