# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files: what an RDB or an append-only file tells, and what a stopped server must have left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._redis.aof import (
    complete_length,
    parse_manifest,
    read_manifest,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.orphans import inspect_directory
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.rdb import incomplete, read_rdb_header
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.session import RedisError
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.startup import startup_of
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.stopped import prove_stopped
from tests.unit.redis.fakes import a_container, facts
from tests.unit.redis.recorded import INCREMENTAL, MANIFEST_OF_7, MANIFEST_OF_8, RDB_OF_7, RDB_OF_8

NOW = 1_800_000_000.0
WITH_AOF = facts(startup=startup_of(a_container(command=("redis-server", "--appendonly", "yes"))))
WITHOUT_AOF = facts({"aof_enabled": "0"})


def rdb_at(path: Path, content: bytes = RDB_OF_8, *, mtime: float = NOW) -> Path:
    path.write_bytes(content)
    os.utime(path, (mtime, mtime))
    return path


def aof_in(directory: Path) -> Path:
    folder = directory / "appendonlydir"
    folder.mkdir()
    (folder / "appendonly.aof.1.base.rdb").write_bytes(RDB_OF_7)
    (folder / "appendonly.aof.1.incr.aof").write_bytes(INCREMENTAL)
    (folder / "appendonly.aof.manifest").write_text(MANIFEST_OF_7)
    return folder


@pytest.mark.parametrize("content, version, server", [(RDB_OF_7, 10, "7.0.15"), (RDB_OF_8, 12, "8.0.2")])
def test_an_rdb_file_tells_who_wrote_it(tmp_path: Path, content: bytes, version: int, server: str) -> None:
    path = rdb_at(tmp_path / "dump.rdb", content)
    header = read_rdb_header(str(path))
    assert header is not None
    assert (header.version, header.written_by, header.aux["redis-bits"]) == (version, server, "64")
    assert incomplete(str(path)) == ""


@pytest.mark.parametrize("length", range(len(RDB_OF_8)))
def test_an_rdb_file_cut_anywhere_is_incomplete(tmp_path: Path, length: int) -> None:
    # The byte before the last nine may be an end mark by chance; here it never is.
    assert incomplete(str(rdb_at(tmp_path / "dump.rdb", RDB_OF_8[:length])))


def test_what_is_no_rdb_file(tmp_path: Path) -> None:
    assert read_rdb_header(str(rdb_at(tmp_path / "x", b"REDIS"))) is None
    assert read_rdb_header(str(rdb_at(tmp_path / "x", b"PGDMP" + bytes(99)))) is None
    header = read_rdb_header(str(rdb_at(tmp_path / "x", b"VALKEY080\xff" + bytes(8))))
    assert header is not None
    assert header.version == 80


def test_manifests(tmp_path: Path) -> None:
    for text in (MANIFEST_OF_7, MANIFEST_OF_8):
        assert [(p.name, p.sequence, p.type) for p in parse_manifest(text)] == [
            ("appendonly.aof.1.base.rdb", 1, "b"),
            ("appendonly.aof.1.incr.aof", 1, "i"),
        ]
    spaced = parse_manifest('# x\nfile "a b.1.incr.aof" seq 1 type i\nfile old.aof seq 1 type h\n')
    assert [p.name for p in spaced] == ["a b.1.incr.aof", "old.aof"]
    (tmp_path / "a.manifest").write_text("file n seq 2 type i\nfile old seq 1 type h\n")
    assert [p.name for p in read_manifest(str(tmp_path), "a")] == ["n"]


@pytest.mark.parametrize(
    "text", ["file x seq 1", "file ../x seq 1 type b", "file x seq 1 type z", "file x seq y type b"]
)
def test_what_is_no_manifest(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_manifest(text)


def commands_end_at() -> list[int]:
    """Return the offsets at which a command that stands by itself ends."""
    transaction = INCREMENTAL.index(b"*1\r\n$5\r\nMULTI"), INCREMENTAL.index(b"EXEC\r\n") + len("EXEC\r\n")
    starts = [
        at
        for at in range(len(INCREMENTAL))
        if INCREMENTAL[at : at + 1] == b"*" and INCREMENTAL[at - 1 : at] in (b"\n", b"")
    ]
    return [0, *(at for at in starts if not transaction[0] < at < transaction[1] and at), len(INCREMENTAL)]


def test_a_torn_append_only_file_is_cut_before_the_torn_command(tmp_path: Path) -> None:
    ends = commands_end_at()
    assert len(ends) == 7
    for length in range(len(INCREMENTAL) + 1):
        path = tmp_path / "x.aof"
        path.write_bytes(INCREMENTAL[:length])
        assert complete_length(str(path)) == max(end for end in ends if end <= length)


def test_annotations_belong_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.aof"
    path.write_bytes(b"#TS:1628217470\r\n" + INCREMENTAL[:23] + b"#TS:16")
    assert complete_length(str(path)) == 16 + 23


def test_a_stop_that_saved_is_proved(tmp_path: Path) -> None:
    rdb_at(tmp_path / "dump.rdb")
    evidence = prove_stopped(str(tmp_path), WITHOUT_AOF, stop_began=NOW - 1)
    assert evidence == {
        "kind": "rdb",
        "file": str(tmp_path / "dump.rdb"),
        "bytes": len(RDB_OF_8),
        "mtime": NOW,
        "rdb_version": 12,
    }


def test_a_stop_that_did_not_save_is_no_proof(tmp_path: Path) -> None:
    with pytest.raises(RedisError, match="there is no"):
        prove_stopped(str(tmp_path), WITHOUT_AOF, stop_began=NOW)
    rdb_at(tmp_path / "dump.rdb", mtime=NOW - 60)
    with pytest.raises(RedisError, match=r"60\.0 s before the stop began"):
        prove_stopped(str(tmp_path), WITHOUT_AOF, stop_began=NOW)
    rdb_at(tmp_path / "dump.rdb", RDB_OF_8[:-1])
    with pytest.raises(RedisError, match="end mark") as caught:
        prove_stopped(str(tmp_path), WITHOUT_AOF, stop_began=NOW)
    assert not caught.value.safe_to_rerun


def test_append_only_files_are_proved_by_their_manifest(tmp_path: Path) -> None:
    folder = aof_in(tmp_path)
    evidence = prove_stopped(str(tmp_path), WITH_AOF, stop_began=NOW)
    assert evidence["parts"] == ["appendonly.aof.1.base.rdb", "appendonly.aof.1.incr.aof"]
    assert evidence["bytes"] == len(RDB_OF_7) + len(INCREMENTAL)
    (folder / "appendonly.aof.1.base.rdb").write_bytes(RDB_OF_7[:40])
    with pytest.raises(RedisError, match="end mark"):
        prove_stopped(str(tmp_path), WITH_AOF, stop_began=NOW)
    (folder / "appendonly.aof.1.incr.aof").unlink()
    with pytest.raises(RedisError, match="which the manifest names"):
        prove_stopped(str(tmp_path), WITH_AOF, stop_began=NOW)
    (folder / "appendonly.aof.manifest").unlink()
    with pytest.raises(RedisError, match="cannot be read"):
        prove_stopped(str(tmp_path), WITH_AOF, stop_began=NOW)


def test_one_append_only_file_before_7(tmp_path: Path) -> None:
    old = facts({"redis_version": "6.2.1"}, startup_of(a_container(command=("redis-server", "--appendonly", "yes"))))
    with pytest.raises(RedisError, match=r"no .*appendonly\.aof"):
        prove_stopped(str(tmp_path), old, stop_began=NOW)
    (tmp_path / "appendonly.aof").write_bytes(INCREMENTAL)
    assert prove_stopped(str(tmp_path), old, stop_began=NOW)["bytes"] == len(INCREMENTAL)


def test_a_volume_with_redis_files_is_recognised(tmp_path: Path) -> None:
    rdb_at(tmp_path / "old.rdb", RDB_OF_7, mtime=NOW - 9)
    rdb_at(tmp_path / "dump.rdb", RDB_OF_8, mtime=NOW)
    found = inspect_directory(str(tmp_path))
    assert found is not None
    assert found.rdb_files == ("dump.rdb", "old.rdb")
    assert (found.rdb_version, found.written_by, found.append_only) == (12, "8.0.2", False)
    assert (found.bytes, found.last_write) == (len(RDB_OF_7) + len(RDB_OF_8), NOW)


def test_append_only_files_alone_are_recognised(tmp_path: Path) -> None:
    aof_in(tmp_path)
    found = inspect_directory(str(tmp_path))
    assert found is not None
    assert (found.append_only, found.written_by, found.rdb_files) == (True, "7.0.15", ())


def test_other_directories_are_not_taken_for_redis(tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("17\n")
    (tmp_path / "base").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.rdb").symlink_to("/dev/zero")
    assert inspect_directory(str(tmp_path)) is None
    assert inspect_directory(str(tmp_path / "missing")) is None
