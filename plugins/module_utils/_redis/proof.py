# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove a backup with the programs of the very image that wrote it, in helpers without a network."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Bind, Helper
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.backup import (
    Patience,
    RedisBackup,
    copy_file,
    with_evidence,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.counts import Counts, as_dict, total
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


class Unproved(RedisError):
    """The copy is not what it should be; the live data was only read."""


def prove_backup(
    engine: Engine,
    facts: RedisFacts,
    backup: RedisBackup,
    *,
    image_id: str,
    operation: str,
    patience: Patience | None = None,
) -> RedisBackup:
    """Return ``backup`` with the evidence that it is whole and holds the keys; raises :class:`Unproved`."""
    patience = patience or Patience(timeout=600)
    if backup.kind == "rdb":
        keys = check_rdb(engine, facts, backup, image_id=image_id, operation=operation, patience=patience)
        if keys is not None:
            _compare_total(backup, keys)
            return with_evidence(backup, proved_by=f"{facts.startup.family}-check-rdb", keys_in_copy=keys)
    else:
        check_aof(engine, facts, backup, image_id=image_id, operation=operation, patience=patience)
        shortage = scratch_shortage(facts, backup)
        if shortage:
            return with_evidence(backup, proved_by=f"{facts.startup.family}-check-aof", keys_not_counted=shortage)
    counts = count_in_scratch(engine, facts, backup, image_id=image_id, operation=operation, patience=patience)
    _compare_total(backup, total(counts))
    return with_evidence(
        backup,
        proved_by="a scratch server that loaded a copy of it",
        keys_in_copy=total(counts),
        loaded=as_dict(counts),
    )


def check_rdb(
    engine: Engine, facts: RedisFacts, backup: RedisBackup, *, image_id: str, operation: str, patience: Patience
) -> int | None:
    """Return the number of keys that ``redis-check-rdb`` read, checksum included; None where the image lacks it."""
    argv = (f"{facts.startup.family}-check-rdb", f"{MOUNTED_AT}/{facts.dbfilename}")
    bind = Bind(backup.path, MOUNTED_AT)
    try:
        rc, said = _run_helper(engine, argv, bind, image_id=image_id, operation=operation, patience=patience)
    except StatefulError as error:
        if "not found" in error.msg or "no such file" in error.msg:
            return None
        raise
    keys = re.search(r"\[info\] (\d+) keys read", said)
    if rc != 0 or "looks OK" not in said or keys is None:
        raise _unproved(backup, f"{argv[0]} does not accept it (exit code {rc}): {_last(said)}")
    return int(keys.group(1))


def check_aof(
    engine: Engine, facts: RedisFacts, backup: RedisBackup, *, image_id: str, operation: str, patience: Patience
) -> None:
    """Have ``redis-check-aof`` read the copy to its end."""
    name = next((name for name in backup.files if name.endswith(".manifest")), backup.files[0])
    # It opens for writing what it only reads, so a read-only mount would fail it.
    bind = Bind(backup.path, MOUNTED_AT, read_only=False)
    argv = (f"{facts.startup.family}-check-aof", f"{MOUNTED_AT}/{name}")
    rc, said = _run_helper(engine, argv, bind, image_id=image_id, operation=operation, patience=patience)
    if rc != 0 or not ("is valid" in said or "are valid" in said):
        raise _unproved(backup, f"{argv[0]} does not accept it (exit code {rc}): {_last(said)}")


def count_in_scratch(
    engine: Engine, facts: RedisFacts, backup: RedisBackup, *, image_id: str, operation: str, patience: Patience
) -> Counts:
    """Load a copy of the copy in a server that nobody reaches, and return its key counts."""
    with _second_copy(backup) as scratch:
        helper = Helper(
            operation=operation,
            role=ROLE,
            image_id=image_id,
            argv=scratch_argv(facts, backup),
            user="0:0",
            binds=(Bind(scratch, MOUNTED_AT, read_only=False),),
        )
        container_id = engine.create_helper(helper)
        try:
            session = Session(engine, container_id, "the scratch server", (f"{facts.startup.family}-cli", "-s", SOCKET))
            return _loaded(engine, session, backup, patience)
        finally:
            engine.remove_container(container_id, force=True)


def scratch_argv(facts: RedisFacts, backup: RedisBackup) -> tuple[str, ...]:
    """Return the command line of a server that loads the copy and never writes a snapshot."""
    argv = [facts.startup.program, "--port", "0", "--unixsocket", SOCKET, "--dir", MOUNTED_AT, "--save", ""]
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


def _loaded(engine: Engine, session: Session, backup: RedisBackup, patience: Patience) -> Counts:
    deadline = patience.clock() + patience.timeout
    while True:
        container = engine.container(session.container_id)
        if container is None or not container.running:
            raise _unproved(backup, f"a server does not start on it: {_last(engine.logs(session.container_id))}")
        try:
            facts = observe_redis(session)
            if not facts.loading:
                return facts.databases
        except NotAnswering:
            pass  # it has not opened its socket yet, or loads
        if patience.clock() >= deadline:
            raise _unproved(backup, f"a server has not loaded it after {patience.timeout:.0f} s")
        patience.sleep(patience.pause)


def _compare_total(backup: RedisBackup, found: int) -> None:
    counted = total(backup.keys)
    expiring = sum(count.expires for count in backup.keys.values())
    if not counted - backup.slack - expiring <= found <= counted + backup.slack + expiring:
        raise _unproved(
            backup,
            f"it holds {found} keys, the server {counted}, and at most {backup.slack} changed meanwhile",
        )


def _run_helper(
    engine: Engine, argv: Sequence[str], bind: Bind, *, image_id: str, operation: str, patience: Patience
) -> tuple[int, str]:
    helper = Helper(operation=operation, role=ROLE, image_id=image_id, argv=tuple(argv), user="0:0", binds=(bind,))
    container_id = engine.create_helper(helper, start=False)
    try:
        engine.start(container_id)
        rc = engine.wait(container_id, timeout=patience.timeout)
        return rc, engine.logs(container_id, tail=200)
    finally:
        engine.remove_container(container_id, force=True)


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


def _unproved(backup: RedisBackup, why: str) -> Unproved:
    return Unproved(
        f"The Redis backup in {backup.path} is no good: {why}",
        state="the live data was only read and goes on serving",
        next_command=f"ls -laR {backup.path}",
    )


def _last(said: str) -> str:
    return " | ".join(line.strip() for line in said.strip().splitlines()[-3:])
