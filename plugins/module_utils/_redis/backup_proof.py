# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove a backup with the programs of the very image that wrote it, in helpers without a network.

The check program of an RDB file verifies its checksum and counts its keys in
constant memory; only where there is none, and for append-only files, is a
server started on the data.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Bind, Container, Helper
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.backup import (
    Patience,
    RedisBackup,
    copy_file,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.counts import Counts, total
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.facts import RedisFacts, observe_redis
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.session import (
    NotAnswering,
    RedisError,
    Session,
)

MOUNTED_AT = "/selfhost-backup"
SOCKET = "/tmp/selfhost-scratch.sock"  # inside the helper, which nobody else is in
ROLE = "redis-proof"
MEMORY_FACTOR = 1.5
"""A scratch server needs as much memory as the live one, and the live one must not be killed for it."""

AGAIN = "look for disk errors (dmesg), then run the same task again: the copy is made anew"


class Unproved(RedisError):
    """The copy is not what it should be; the live data was only read."""


def prove_backup(
    engine: Engine,
    container: Container,
    backup: RedisBackup,
    *,
    facts: RedisFacts,
    operation: str,
    patience: Patience | None = None,
) -> str:
    """Return the proof, in words, that ``backup`` is whole and holds the keys of ``container``'s server.

    Raises :class:`Unproved`. Works with helpers from the image that ``container`` runs.
    """
    bench = _Bench(engine, container.image_id, operation, facts, backup, patience or Patience(timeout=600))
    if backup.kind == "rdb":
        keys = _keys_by_check_rdb(bench)
        if keys is not None:
            _compare_total(backup, keys)
            return f"{facts.server}-check-rdb read it to its end, checksum included: {keys} keys"
    else:
        _check_aof(bench)
        shortage = scratch_shortage(facts, backup)
        if shortage:
            return f"{facts.server}-check-aof read it to its end; its keys were not counted: {shortage}"
    keys = total(_load_in_scratch(bench))
    _compare_total(backup, keys)
    return f"a scratch {facts.server}-server loaded a copy of it: {keys} keys"


@dataclass(frozen=True)
class _Bench:
    """What all proofs of one backup work with."""

    engine: Engine
    image_id: str
    operation: str
    facts: RedisFacts
    backup: RedisBackup
    patience: Patience

    def helper(self, argv: Sequence[str], directory: str, *, read_only: bool) -> Helper:
        return Helper(
            operation=self.operation,
            role=ROLE,
            image_id=self.image_id,
            argv=tuple(argv),
            # The backup is root's alone; nothing but its directory is in reach.
            user="0:0",
            binds=(Bind(directory, MOUNTED_AT, read_only=read_only),),
        )

    def unproved(self, why: str) -> Unproved:
        return Unproved(
            f"The Redis backup in {self.backup.path} is no good: {why}",
            state="the live data was only read and goes on serving",
            next_command=AGAIN,
        )


def _keys_by_check_rdb(bench: _Bench) -> int | None:
    """Return the number of keys that the image's own check program read; None where the image lacks it."""
    argv = (f"{bench.facts.server}-check-rdb", f"{MOUNTED_AT}/{bench.facts.dbfilename}")
    try:
        rc, said = _run(bench, bench.helper(argv, bench.backup.path, read_only=True))
    except StatefulError as error:
        if "not found" in error.msg or "no such file" in error.msg:
            return None
        raise
    keys = re.search(r"\[info\] (\d+) keys read", said)
    if rc != 0 or "looks OK" not in said or keys is None:
        raise bench.unproved(f"{argv[0]} does not accept it (exit code {rc}): {_last(said)}")
    return int(keys.group(1))


def _check_aof(bench: _Bench) -> None:
    files = bench.backup.files
    name = next((name for name in files if name.endswith(".manifest")), files[0])
    argv = (f"{bench.facts.server}-check-aof", f"{MOUNTED_AT}/{name}")
    # It opens for writing what it only reads, so a read-only mount would fail it.
    rc, said = _run(bench, bench.helper(argv, bench.backup.path, read_only=False))
    if rc != 0 or not ("is valid" in said or "are valid" in said):
        raise bench.unproved(f"{argv[0]} does not accept it (exit code {rc}): {_last(said)}")


def _load_in_scratch(bench: _Bench) -> Counts:
    """Load a copy of the copy (a server writes to what it loads) where nobody reaches it, and return its counts."""
    with _second_copy(bench.backup) as scratch:
        argv = scratch_argv(bench.facts, bench.backup)
        container_id = bench.engine.create_helper(bench.helper(argv, scratch, read_only=False))
        try:
            client = (f"{bench.facts.server}-cli", "-s", SOCKET)
            return _loaded(bench, Session(bench.engine, container_id, "the scratch server", client))
        finally:
            bench.engine.remove_container(container_id, force=True)


def scratch_argv(facts: RedisFacts, backup: RedisBackup) -> tuple[str, ...]:
    """Return the command line of a server that loads the copy and never writes a snapshot."""
    argv = [f"{facts.server}-server", "--port", "0", "--unixsocket", SOCKET, "--dir", MOUNTED_AT, "--save", ""]
    if backup.kind == "rdb":
        argv += ["--appendonly", "no", "--dbfilename", facts.dbfilename]
    else:
        # Our copy ends with a whole command: one that does not is damaged.
        argv += ["--appendonly", "yes", "--aof-load-truncated", "no", "--auto-aof-rewrite-percentage", "0"]
        argv += ["--appendfilename", facts.appendfilename]
        argv += ["--appenddirname", facts.appenddirname] if facts.multipart_aof else []
    for path in facts.modules:
        argv += ["--loadmodule", path]
    return tuple(argv)


def scratch_shortage(facts: RedisFacts, backup: RedisBackup, *, meminfo: str = "/proc/meminfo") -> str:
    """Return why a scratch server cannot be afforded, or an empty string."""
    needed = int(facts.used_memory * MEMORY_FACTOR)
    available = _available_memory(meminfo)
    if available < needed:
        return f"a scratch server needs {needed} bytes of memory, and {available} are available"
    free = shutil.disk_usage(backup.path).free
    if free < backup.bytes:
        return f"a second copy needs {backup.bytes} bytes beside the backup, and {free} are free"
    return ""


def _loaded(bench: _Bench, session: Session) -> Counts:
    patience = bench.patience
    deadline = patience.clock() + patience.timeout
    while True:
        container = bench.engine.container(session.container_id)
        if container is None or not container.running:
            raise bench.unproved(f"a server does not start on it: {_last(bench.engine.logs(session.container_id))}")
        try:
            facts = observe_redis(session)
            if not facts.loading:
                return facts.databases
        except NotAnswering:
            pass  # it has not opened its socket yet, or loads
        except StatefulError:
            # It may have ended between the inspection and the question.
            found = bench.engine.container(session.container_id)
            if found is not None and found.running:
                raise
        if patience.clock() >= deadline:
            raise bench.unproved(f"a server has not loaded it after {patience.timeout:.0f} s")
        patience.sleep(patience.pause)


def _compare_total(backup: RedisBackup, found: int) -> None:
    counted = total(backup.keys)
    expiring = sum(count.expires for count in backup.keys.values())
    if not counted - backup.slack - expiring <= found <= counted + backup.slack + expiring:
        raise Unproved(
            f"The Redis backup in {backup.path} holds {found} keys, the server {counted}, "
            f"and at most {backup.slack} changed meanwhile.",
            state="the live data was only read and goes on serving",
            next_command=AGAIN,
        )


def _run(bench: _Bench, helper: Helper) -> tuple[int, str]:
    container_id = bench.engine.create_helper(helper, start=False)
    try:
        bench.engine.start(container_id)
        rc = bench.engine.wait(container_id, timeout=bench.patience.timeout)
        return rc, bench.engine.logs(container_id, tail=200)
    finally:
        bench.engine.remove_container(container_id, force=True)


@contextmanager
def _second_copy(backup: RedisBackup) -> Iterator[str]:
    scratch = backup.path.rstrip("/") + ".scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    os.mkdir(scratch, 0o700)
    try:
        for name in backup.files:
            target = os.path.join(scratch, name)
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            copy_file(os.path.join(backup.path, name), target)
        yield scratch
    finally:
        shutil.rmtree(scratch)


def _available_memory(meminfo: str) -> int:
    with open(meminfo, encoding="ascii") as file:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", file.read(), re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def _last(said: str) -> str:
    return " | ".join(line.strip() for line in said.strip().splitlines()[-3:])
