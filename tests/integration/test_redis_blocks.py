# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real Redis servers: whatever they persist by themselves, no acknowledged key is lost across our stop."""

from __future__ import annotations

import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import Connection, DockerEngine, connect
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import OPERATION_LABEL, Container
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.backup import RedisBackup, take_backup
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.backup_proof import Unproved, prove_backup
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.counts import compare_counts, total
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.facts import RedisFacts, observe_redis
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.orphans import inspect_directory
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.readiness import NotReady, wait_ready
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.session import RedisError, Session, ask
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.shutdown import (
    arrange_save,
    ask_to_shut_down,
    plan_save,
    unarrange_save,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.stopped import prove_stopped
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.store import RedisStore
from tests.sandbox import engine as sandbox
from tests.sandbox import images

SECONDS = 60.0
PASSWORD = 'p w"\\ü'
MAJORS = [pytest.param("8"), pytest.param("7", marks=pytest.mark.faults)]


@dataclass
class Lab:
    """An engine, and what a test made on it; all of it is removed at the end."""

    engine: DockerEngine
    host: sandbox.Engine
    operation: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:12]}")
    undo: ExitStack = field(default_factory=ExitStack)

    def start(self, major: str, *argv: str, options: tuple[str, ...] = ()) -> tuple[Container, Session]:
        name = f"sfs-redis-{uuid.uuid4().hex[:12]}"
        self.undo.callback(self.host.docker, "rm", "-fv", name, check=False)
        self.host.docker("run", "-d", "--name", name, *options, images.ref(f"redis:{major}", self.host), *argv)
        return self.ready(name)

    def ready(self, name: str) -> tuple[Container, Session]:
        session = wait_ready(self.engine, name, timeout=SECONDS)
        container = self.engine.container(name)
        assert container is not None
        return container, session

    def helpers(self) -> list[Container]:
        return self.engine.containers(labels={OPERATION_LABEL: self.operation})


@pytest.fixture
def lab(shared_engine: sandbox.Engine) -> Iterator[Lab]:
    made = Lab(connect(Connection(shared_engine.host)), shared_engine)
    with made.undo:
        yield made
        assert made.helpers() == []


class Writer:
    """Sets one key after the other over the network and remembers which were acknowledged, and when."""

    def __init__(self, lab: Lab, container: Container, password: str = "") -> None:
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        address = lab.host.docker("inspect", "-f", form, container.id)
        self.acknowledged: dict[str, float] = {}
        self.ended = threading.Event()
        self._connection = socket.create_connection((address, 6379), timeout=SECONDS)
        self._replies = self._connection.makefile("rb")
        if password:
            assert self._ask("AUTH", password) == b"+OK\r\n"
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _ask(self, *words: str) -> bytes:
        encoded = [word.encode() for word in words]
        parts = [b"*%d\r\n" % len(encoded), *(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)]
        self._connection.sendall(b"".join(parts))
        return self._replies.readline()

    def _write(self) -> None:
        number = 0
        try:
            while not self.ended.is_set():
                number += 1
                if self._ask("SET", f"key{number}", "x" * 100) != b"+OK\r\n":
                    break
                self.acknowledged[f"key{number}"] = time.time()
        except OSError:
            pass  # the server was stopped, or the test has ended
        self.ended.set()

    def wait_for(self, keys: int) -> None:
        deadline = time.monotonic() + SECONDS
        while len(self.acknowledged) < keys and not self.ended.is_set() and time.monotonic() < deadline:
            time.sleep(0.005)
        assert len(self.acknowledged) >= keys

    def join(self) -> set[str]:
        """End the writing and return the acknowledged keys."""
        self.ended.set()
        with suppress(OSError):  # the server may have ended the connection already
            self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        self._connection.close()
        return set(self.acknowledged)


def missing(session: Session, keys: Iterable[str]) -> set[str]:
    wanted = sorted(keys)
    found = ask(session, *(("EXISTS", key) for key in wanted))
    return {key for key, reply in zip(wanted, found, strict=True) if reply != 1}


def data_of(container: Container, facts: RedisFacts) -> str:
    mount = container.mount_at(facts.dir)
    assert mount is not None
    return mount.source


PERSISTENCE = {
    "default": [],
    "nothing": ["--save", ""],
    "append-only": ["--save", "", "--appendonly", "yes"],
    "both": ["--appendonly", "yes"],
    "password": ["--save", "", "--requirepass", PASSWORD],
    "nosave": ["--shutdown-on-sigterm", "nosave"],
    "no-config": ["--save", "", "--rename-command", "CONFIG", ""],
}
USUAL = {("default", 0), ("nothing", 30000), ("append-only", 30000), ("password", 0), ("no-config", 0)}
WAYS = [
    pytest.param(name, pause, marks=[] if (name, pause) in USUAL else [pytest.mark.faults])
    for name in PERSISTENCE
    for pause in (0, 30000)
]


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("persistence, pause_ms", WAYS)
def test_no_acknowledged_key_is_lost_across_a_stop(lab: Lab, persistence: str, pause_ms: int, major: str) -> None:
    container, session = lab.start(major, "redis-server", *PERSISTENCE[persistence])
    writer = Writer(lab, container, PASSWORD if persistence == "password" else "")
    writer.wait_for(200)

    facts = observe_redis(session)
    assert facts.blockers("redis") == []
    plan = plan_save(facts, pause_ms=pause_ms)
    counted = arrange_save(session, plan)
    began = time.time()
    running = lab.engine.container(container.id)
    assert running is not None
    RedisStore(PASSWORD if persistence == "password" else "").stop(
        lab.engine, running, {"plan": plan.as_dict()}, SECONDS
    )
    acknowledged = writer.join()
    evidence = prove_stopped(data_of(container, facts), facts, stop_began=began)
    assert evidence["bytes"] > 0

    lab.engine.start(container.id)
    _container, session = lab.ready(container.id)
    after = observe_redis(session).databases
    assert missing(session, acknowledged) == set()
    assert compare_counts(counted, after) == []
    if plan.pause_ms:
        assert after == counted


def test_without_our_doing_it_would_be_lost_and_we_would_see_it(lab: Lab) -> None:
    container, session = lab.start("8", "redis-server", "--save", "")
    ask(session, ("SET", "a", "1"), ("SAVE",), ("SET", "b", "1"))
    facts = observe_redis(session)
    plan = plan_save(facts)
    arrange_save(session, plan)
    unarrange_save(session, plan)
    assert observe_redis(session).save == ""
    began = time.time()
    lab.engine.stop(container.id, signal="SIGTERM", timeout=SECONDS)
    with pytest.raises(RedisError, match="before the stop began"):
        prove_stopped(data_of(container, facts), facts, stop_began=began + 1)
    lab.engine.start(container.id)
    _container, session = lab.ready(container.id)
    assert missing(session, ["a", "b"]) == {"b"}


def test_append_only_switched_on_at_run_time_is_saved_as_rdb_too(lab: Lab) -> None:
    container, session = lab.start("8", "redis-server", "--save", "")
    ask(session, ("SET", "a", "1"), ("CONFIG", "SET", "appendonly", "yes"), ("SET", "b", "1"))
    facts = observe_redis(session)
    assert (facts.appendonly, facts.starts_with_aof) == (True, False)
    arrange_save(session, plan_save(facts))
    began = time.time()
    lab.engine.stop(container.id, signal="SIGTERM", timeout=SECONDS)
    assert prove_stopped(data_of(container, facts), facts, stop_began=began)["kind"] == "rdb"
    lab.engine.start(container.id)
    _container, session = lab.ready(container.id)
    assert missing(session, ["a", "b"]) == set()


def test_a_server_behind_a_shell_is_asked_to_end(lab: Lab) -> None:
    script = "redis-server --save '' --protected-mode no; true"
    container, session = lab.start("8", "sh", "-c", script)
    ask(session, ("SET", "a", "1"))
    facts = observe_redis(session)
    assert (facts.process_id == 1, facts.startup.behind_shell) == (False, True)
    began = time.time()
    ask_to_shut_down(session)
    assert lab.engine.wait(container.id, timeout=SECONDS) == 0
    prove_stopped(data_of(container, facts), facts, stop_began=began)


@pytest.fixture(params=["snapshot", "append-only"])
def backed_up(
    request: pytest.FixtureRequest, lab: Lab, tmp_path: Path
) -> tuple[Container, RedisFacts, RedisBackup, Writer]:
    """Return a server, and the backup that was taken of it while it was written to."""
    arguments = ["--appendonly", "yes"] if request.param == "append-only" else ["--save", ""]
    container, session = lab.start("8", "redis-server", *arguments)
    ask(session, ("SET", "expiring", "1", "EX", "5000"), ("SELECT", "3"), ("SET", "other", "1"))
    writer = Writer(lab, container)
    lab.undo.callback(writer.join)
    writer.wait_for(100)
    facts = observe_redis(session)
    backup = take_backup(session, facts, data_of(container, facts), str(tmp_path / "backup"))
    return container, facts, backup, writer


def test_a_hot_backup_is_proved_and_holds_what_was_acknowledged(
    lab: Lab, backed_up: tuple[Container, RedisFacts, RedisBackup, Writer], tmp_path: Path
) -> None:
    container, facts, backup, writer = backed_up
    assert f"{facts.server}-" in prove_backup(lab.engine, container, backup, facts=facts, operation=lab.operation)
    assert not (tmp_path / "backup.scratch").exists()
    writer.wait_for(len(writer.acknowledged) + 10)

    restored = tmp_path / "restored"
    shutil.copytree(backup.path, restored)
    arguments = ("--appendonly", "yes") if backup.kind == "aof" else ()
    bind = f"{restored}:/data"
    _container, session = lab.start("8", "redis-server", *arguments, options=("--network", "none", "-v", bind))
    writer.join()
    held = [key for key, moment in writer.acknowledged.items() if moment < backup.moment]
    assert missing(session, held) == set()
    found = observe_redis(session).databases
    assert found["3"].keys == 1
    assert abs(total(found) - total(backup.keys)) <= backup.slack


def test_a_damaged_backup_is_no_backup(lab: Lab, backed_up: tuple[Container, RedisFacts, RedisBackup, Writer]) -> None:
    container, facts, backup, _writer = backed_up
    name = next(name for name in backup.files if not name.endswith((".manifest", "base.rdb")))
    path = Path(backup.path, name)
    content = bytearray(path.read_bytes())
    at = content.index(b"key5")
    content[at - 3] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(Unproved):
        prove_backup(lab.engine, container, backup, facts=facts, operation=lab.operation)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(Unproved):
        prove_backup(lab.engine, container, backup, facts=facts, operation=lab.operation)


def test_files_of_a_volume_tell_what_they_are(lab: Lab) -> None:
    container, session = lab.start("8", "redis-server")
    facts = observe_redis(session)
    ask(session, ("SET", "a", "1"), ("SAVE",))
    found = inspect_directory(data_of(container, facts))
    assert found is not None
    assert (found.rdb_files, found.written_by, found.append_only) == (("dump.rdb",), facts.version_text, False)


def test_a_server_that_does_not_start_is_told_with_its_log(lab: Lab) -> None:
    with pytest.raises(NotReady, match="exit code 1") as caught:
        lab.start("8", "redis-server", "--no-such-option", "1")
    assert "no-such-option" in caught.value.msg


def test_an_rdb_file_of_a_newer_server_is_told_by_an_older_one(lab: Lab, tmp_path: Path) -> None:
    container, session = lab.start("8", "redis-server")
    ask(session, ("SET", "a", "1"), ("SAVE",))
    shutil.copytree(data_of(container, observe_redis(session)), tmp_path / "data")
    with pytest.raises(NotReady, match="RDB format version"):
        lab.start("7", "redis-server", options=("-v", f"{tmp_path / 'data'}:/data"))
