# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copying a server's files under its hands, and what a backup must hold."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container, Helper
from ansible_collections.selfhost.stateful.plugins.module_utils._redis import backup as backup_module
from ansible_collections.selfhost.stateful.plugins.module_utils._redis import backup_proof
from ansible_collections.selfhost.stateful.plugins.module_utils._redis import store as store_module
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.backup import (
    Patience,
    RedisBackup,
    copy_file,
    take_backup,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.backup_proof import (
    MOUNTED_AT,
    Unproved,
    prove_backup,
    scratch_argv,
    scratch_shortage,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.counts import KeyCount
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.session import RedisError, Session
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.store import RedisStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import REDIS, StoreFacts
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import BackupRequest
from tests.unit.redis.fakes import FakeEngine, a_container, facts
from tests.unit.redis.recorded import INCREMENTAL, INFO, MANIFEST_OF_7, RDB_OF_7

STORE_FACTS = StoreFacts(REDIS, "7.4.1", "/data")
IMPATIENT = Patience(timeout=0, pause=0, sleep=lambda _seconds: None)
LOOKS_OK = "[offset 1] \\o/ RDB looks OK! \\o/\n[info] {} keys read\n[info] 0 expires\n"


def info(**changes: str) -> str:
    lines = [line for line in INFO.splitlines() if line.partition(":")[0] not in changes]
    return "\n".join([*lines, *(f"{name}:{value}" for name, value in changes.items())])


@dataclass
class Server(FakeEngine):
    """A server whose snapshot is done at once, one second later."""

    saves: int = 0
    refuse: list[str] = field(default_factory=list)

    def reply(self, words: list[str]) -> str:
        if words == ["BGSAVE"]:
            if self.refuse:
                return self.refuse.pop(0)
            self.saves += 1
            return "Background saving started"
        if words == ["INFO"]:
            return info(aof_enabled="0", rdb_last_save_time=str(100 + self.saves), rdb_changes_since_last_save="2")
        if words == ["TIME"]:
            return '1) "101"\n2) "5"'
        return super().reply(words)


def session(engine: FakeEngine) -> Session:
    return Session(engine, "r", "app-redis-1", ("redis-cli",))  # type: ignore[arg-type]


@pytest.fixture
def live(tmp_path: Path) -> Path:
    directory = tmp_path / "live"
    (directory / "appendonlydir").mkdir(parents=True)
    (directory / "dump.rdb").write_bytes(RDB_OF_7)
    (directory / "appendonlydir" / "appendonly.aof.1.base.rdb").write_bytes(RDB_OF_7)
    (directory / "appendonlydir" / "appendonly.aof.1.incr.aof").write_bytes(INCREMENTAL + b"*3\r\n$3\r\nSE")
    (directory / "appendonlydir" / "appendonly.aof.manifest").write_text(MANIFEST_OF_7)
    return directory


def test_a_snapshot_is_asked_for_awaited_and_copied(live: Path, tmp_path: Path) -> None:
    engine = Server()
    now = facts({"aof_enabled": "0", "expired_keys": "0"})
    taken = take_backup(session(engine), now, str(live), str(tmp_path / "copy"), patience=IMPATIENT)
    assert (tmp_path / "copy" / "dump.rdb").read_bytes() == RDB_OF_7
    assert (engine.saves, taken.kind, taken.bytes, taken.slack) == (1, "rdb", len(RDB_OF_7), 2)
    assert taken.as_dict()["keys"] == {"0": {"keys": 4, "expires": 1}, "3": {"keys": 1, "expires": 0}}
    assert os.stat(tmp_path / "copy").st_mode & 0o777 == 0o700


def test_keys_that_the_server_dropped_by_itself_are_no_loss(live: Path, tmp_path: Path) -> None:
    engine = Server()
    now = facts({"aof_enabled": "0", "expired_keys": "-3", "evicted_keys": "-5"})
    taken = take_backup(session(engine), now, str(live), str(tmp_path / "copy"), patience=IMPATIENT)
    assert taken.slack == 2 + 3 + 5


def test_a_snapshot_of_the_servers_own_is_not_taken_for_ours(live: Path, tmp_path: Path) -> None:
    engine = Server(refuse=["(error) ERR Background save already in progress"])
    take_backup(session(engine), facts({"aof_enabled": "0"}), str(live), str(tmp_path / "copy"), patience=IMPATIENT)
    assert engine.asked.count("BGSAVE") == 2
    assert engine.saves == 1


def test_a_snapshot_that_is_refused_is_told(live: Path, tmp_path: Path) -> None:
    engine = Server(refuse=["(error) MISCONF no space"])
    with pytest.raises(RedisError, match="MISCONF"):
        take_backup(session(engine), facts({"aof_enabled": "0"}), str(live), str(tmp_path / "c"), patience=IMPATIENT)


def test_append_only_files_are_copied_to_their_last_whole_command(live: Path, tmp_path: Path) -> None:
    engine = FakeEngine({"INFO": INFO})
    taken = take_backup(session(engine), facts(), str(live), str(tmp_path / "copy"), patience=IMPATIENT)
    folder = tmp_path / "copy" / "appendonlydir"
    assert (folder / "appendonly.aof.1.incr.aof").read_bytes() == INCREMENTAL
    assert sorted(os.listdir(folder)) == [
        "appendonly.aof.1.base.rdb",
        "appendonly.aof.1.incr.aof",
        "appendonly.aof.manifest",
    ]
    assert taken.bytes == len(RDB_OF_7) + len(INCREMENTAL) + len(MANIFEST_OF_7)
    assert (live / "appendonlydir" / "appendonly.aof.1.incr.aof").stat().st_size > len(INCREMENTAL)


def test_a_rewrite_in_between_starts_the_copy_over(live: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rewritten = live / "appendonlydir", []

    def copying(source: str, target: str) -> int:
        copied = copy_file(source, target)
        if source.endswith("1.incr.aof") and not rewritten:
            rewritten.append(True)
            for name in ("base.rdb", "incr.aof"):
                (folder / f"appendonly.aof.1.{name}").rename(folder / f"appendonly.aof.2.{name}")
            (folder / "appendonly.aof.manifest").write_text(
                MANIFEST_OF_7.replace(".1.", ".2.").replace("seq 1", "seq 2")
            )
        return copied

    monkeypatch.setattr(backup_module, "copy_file", copying)
    engine = FakeEngine({"INFO": INFO})
    taken = take_backup(session(engine), facts(), str(live), str(tmp_path / "copy"), patience=IMPATIENT)
    assert rewritten
    assert [os.path.basename(name) for name in taken.files][:2] == [
        "appendonly.aof.2.base.rdb",
        "appendonly.aof.2.incr.aof",
    ]
    assert len(os.listdir(tmp_path / "copy" / "appendonlydir")) == 3


def test_one_file_before_7_is_copied_whole_commands_only(live: Path, tmp_path: Path) -> None:
    (live / "appendonly.aof").write_bytes(INCREMENTAL + b"*1\r\n$4")
    old = facts({"redis_version": "6.2.1"})
    engine = FakeEngine({"INFO": INFO})
    take_backup(session(engine), old, str(live), str(tmp_path / "copy"), patience=IMPATIENT)
    assert (tmp_path / "copy" / "appendonly.aof").read_bytes() == INCREMENTAL


def test_a_place_that_is_taken_is_refused(live: Path) -> None:
    with pytest.raises(RedisError, match="not empty"):
        take_backup(session(FakeEngine()), facts(), str(live), str(live))
    assert (live / "dump.rdb").exists()


def request(directory: Path) -> BackupRequest:
    return BackupRequest("op-1", "redis", str(directory / "live"), str(directory / "backups" / "redis"), "auto")


def test_a_copy_is_proved_before_it_is_named(live: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, wanted = store_of(Server(), monkeypatch), request(tmp_path)
    (tmp_path / "backups" / ".redis.partial-op-1").mkdir(parents=True)
    (tmp_path / "backups" / ".redis.partial-op-1" / "torn.rdb").touch()

    def prove(*_given: object, **_named: object) -> str:
        assert os.listdir(tmp_path / "backups") == [".redis.partial-op-1"]
        return "proved"

    monkeypatch.setattr(backup_proof, "prove_backup", prove)
    copy = store.backup(Server(), a_container(), STORE_FACTS, wanted, lambda _done, _total: None)  # type: ignore[arg-type]
    assert (copy.path, copy.proof) == (wanted.destination, "proved")
    assert os.listdir(tmp_path / "backups") == ["redis"]
    assert os.listdir(wanted.destination) == ["dump.rdb"]
    assert os.stat(wanted.destination).st_mode & 0o777 == 0o700


def test_a_copy_that_is_not_proved_is_named_nowhere(
    live: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, wanted = store_of(Server(), monkeypatch), request(tmp_path)

    def refuse(*_given: object, **_named: object) -> str:
        raise Unproved("no good")

    monkeypatch.setattr(backup_proof, "prove_backup", refuse)
    with pytest.raises(Unproved):
        store.backup(Server(), a_container(), STORE_FACTS, wanted, lambda _done, _total: None)  # type: ignore[arg-type]
    assert os.listdir(tmp_path / "backups") == []


def test_a_backup_that_is_there_is_never_overwritten(
    live: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, wanted = store_of(Server(), monkeypatch), request(tmp_path)
    os.makedirs(wanted.destination)
    with pytest.raises(RedisError, match="exists already"):
        store.backup(Server(), a_container(), STORE_FACTS, wanted, lambda _done, _total: None)  # type: ignore[arg-type]


def store_of(engine: Server, monkeypatch: pytest.MonkeyPatch) -> RedisStore:
    store = RedisStore()
    monkeypatch.setattr(store, "_session", lambda _engine, _container: session(engine))
    monkeypatch.setattr(
        store_module, "observe_redis", lambda _session: facts({"aof_enabled": "0", "expired_keys": "0"})
    )
    return store


def test_owner_and_mode_are_kept(tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.write_bytes(b"x" * 10)
    source.chmod(0o640)
    assert copy_file(str(source), str(tmp_path / "b")) == 10
    status = (tmp_path / "b").stat()
    assert (status.st_mode & 0o777, status.st_uid) == (0o640, source.stat().st_uid)


@dataclass
class Bench:
    """An engine that runs one helper with a given end."""

    rc: int
    said: str
    helpers: list[Helper] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    def create_helper(self, helper: Helper, *, start: bool = True) -> str:
        assert helper.network_mode == "none"
        self.helpers.append(helper)
        return f"h{len(self.helpers)}"

    def start(self, _container_id: str) -> None:
        pass

    def wait(self, _container_id: str, *, timeout: float) -> int:
        return self.rc

    def logs(self, _container_id: str, *, tail: int = 50) -> str:
        return self.said

    def remove_container(self, container_id: str, *, force: bool = False) -> None:
        assert force
        self.removed.append(container_id)

    def container(self, _container_id: str) -> Container:
        return a_container(status="exited")


def a_backup(path: Path, kind: str = "rdb", slack: int = 0) -> RedisBackup:
    files = ("dump.rdb",) if kind == "rdb" else ("appendonlydir/a.manifest",)
    return RedisBackup(str(path), kind, files, 10, 0.0, {"0": KeyCount(8, 2)}, slack)


def prove(bench: Bench, backup: RedisBackup) -> str:
    return prove_backup(bench, a_container(), backup, facts=facts({"aof_enabled": "0"}), operation="o")  # type: ignore[arg-type]


@pytest.mark.parametrize("keys, slack, good", [(8, 0, True), (6, 0, True), (5, 0, False), (5, 1, True), (11, 0, False)])
def test_a_snapshot_must_hold_the_keys(tmp_path: Path, keys: int, slack: int, good: bool) -> None:
    bench = Bench(0, LOOKS_OK.format(keys))
    if good:
        assert f"{keys} keys" in prove(bench, a_backup(tmp_path, slack=slack))
    else:
        with pytest.raises(Unproved, match=f"holds {keys} keys, the server 8"):
            prove(bench, a_backup(tmp_path, slack=slack))
    (helper,) = bench.helpers
    assert helper.argv == ("redis-check-rdb", f"{MOUNTED_AT}/dump.rdb")
    assert helper.binds[0].read_only
    assert bench.removed == ["h1"]


@pytest.mark.parametrize(
    "rc, said", [(1, "--- RDB ERROR DETECTED ---"), (0, ""), (1, LOOKS_OK.format(8)), (0, "looks OK")]
)
def test_an_exit_code_proves_nothing_alone(tmp_path: Path, rc: int, said: str) -> None:
    bench = Bench(rc, said)
    with pytest.raises(Unproved, match="does not accept it"):
        prove(bench, a_backup(tmp_path))
    assert bench.removed == ["h1"]


def test_append_only_files_must_be_valid(tmp_path: Path) -> None:
    bench = Bench(0, "AOF analyzed: filename=x, ok_up_to=3, diff=9")
    with pytest.raises(Unproved, match="redis-check-aof"):
        prove(bench, a_backup(tmp_path, "aof"))


def test_the_scratch_server_reads_what_is_there_and_writes_no_snapshot(tmp_path: Path) -> None:
    argv = " ".join(scratch_argv(facts(), a_backup(tmp_path, "aof")))
    assert "--port 0" in argv
    assert "--save  --appendonly yes --aof-load-truncated no" in argv
    assert "--appenddirname appendonlydir" in argv
    old = scratch_argv(facts({"redis_version": "6.2.1"}), a_backup(tmp_path, "aof"))
    assert "--appenddirname" not in old
    assert "--dbfilename dump.rdb" in " ".join(scratch_argv(facts(), a_backup(tmp_path)))


def test_memory_is_left_to_the_live_server(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:    1000 kB\n")
    small, large = facts({"used_memory": "1000"}), facts({"used_memory": "1000000"})
    assert scratch_shortage(small, a_backup(tmp_path), meminfo=str(meminfo)) == ""
    assert "1500000 bytes of memory" in scratch_shortage(large, a_backup(tmp_path), meminfo=str(meminfo))
