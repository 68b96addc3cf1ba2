# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A consistent copy of a running server's data, taken by its own means.

Without an append-only file the server writes a snapshot (BGSAVE) and that file
is copied. With one, the append-only file is the truth and an RDB beside it
would be ignored, so its parts are copied as the manifest lists them.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable

from ansible_collections.selfhost.stateful.plugins.module_utils._durable import fsync_directory
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import logs_of
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import AGAIN, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.aof import (
    BASE,
    complete_length,
    manifest_name,
    read_manifest,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.counts import Counts, as_dict
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.facts import RedisFacts, observe_redis
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.session import (
    ErrorReply,
    RedisError,
    Session,
    ask,
    checked,
    command,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import durable, rename

ATTEMPTS = 5
"""A rewrite that replaces the append-only files under our hands makes us begin again."""

WRITE_DELAY = 2.0
"""Seconds for which a server may hold acknowledged writes back from the append-only file while it syncs."""

CHUNK = 1 << 24


@dataclass(frozen=True)
class RedisBackup:
    """What was copied. ``moment``: seconds since the epoch that the copy holds; ``keys`` as counted around it.

    ``slack`` bounds how many keys may have come or gone between counting and
    copying.
    """

    path: str
    kind: str
    files: tuple[str, ...]
    bytes: int
    moment: float
    keys: Counts
    slack: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "kind": self.kind,
            "files": list(self.files),
            "bytes": self.bytes,
            "moment": self.moment,
            "keys": as_dict(self.keys),
        }


@dataclass(frozen=True)
class Patience:
    """How long to wait for the server, with the clock to wait by."""

    timeout: float = 3600.0
    pause: float = 0.05
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@contextmanager
def staged(destination: str, operation: str) -> Iterator[str]:
    """Hand out the directory in which to copy and prove; only what the block let pass is named ``destination``.

    On failure nothing of the copy is left.
    """
    if os.path.lexists(destination):
        raise RedisError(
            f"{destination} exists already; a backup never overwrites anything.",
            next_command=shell("ls", "-la", destination),
        )
    staging = str(durable.staging_path(destination, operation))
    shutil.rmtree(staging, ignore_errors=True)  # left by a run of this operation that was killed
    try:
        yield staging
        rename.rename_directory(staging, destination)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def take_backup(
    session: Session,
    facts: RedisFacts,
    host_directory: str,
    destination: str,
    *,
    patience: Patience | None = None,
) -> RedisBackup:
    """Copy the data of a running server from ``host_directory`` (``facts.dir`` on the host) to ``destination``.

    ``destination`` is made, mode 0700, or is empty; what is in it is complete
    and on disk when this returns, and not proved yet. Raises :class:`RedisError`.
    """
    os.makedirs(destination, mode=0o700, exist_ok=True)
    if os.listdir(destination):
        raise RedisError(
            f"{destination} is to hold a backup and is not empty.", next_command=shell("ls", "-la", destination)
        )
    patience = patience or Patience()
    if facts.appendonly:
        backup = _copy_append_only(session, facts, host_directory, destination, patience)
    else:
        backup = _copy_snapshot(session, facts, host_directory, destination, patience)
    fsync_directory(destination)
    return backup


def _copy_snapshot(
    session: Session, facts: RedisFacts, host_directory: str, destination: str, patience: Patience
) -> RedisBackup:
    after, moment = take_snapshot(session, patience)
    source, target = os.path.join(host_directory, facts.dbfilename), os.path.join(destination, facts.dbfilename)
    size = copy_file(source, target)
    return RedisBackup(
        path=destination,
        kind="rdb",
        files=(facts.dbfilename,),
        bytes=size,
        moment=moment,
        keys=after.databases,
        # The server counts every change since the snapshot began.
        slack=after.changes_since_save + _left_by_themselves(facts, after),
    )


def take_snapshot(session: Session, patience: Patience) -> tuple[RedisFacts, float]:
    """Have the server write its RDB file now, in the background, and wait until that is done and well.

    Returns the facts from then on and the moment that the snapshot holds.
    """
    while True:
        before = _wait(
            session, patience, lambda f: not f.bgsave_in_progress and not f.loading, "a save that was running"
        )
        # The time of the last save is all that tells an old snapshot from a
        # new one, and it has whole seconds.
        _wait_for_next_second(session, before.last_save, patience)
        moment = time.time()
        reply = ask(session, ("BGSAVE",))[0]
        if isinstance(reply, ErrorReply) and "AOF" in reply.text:
            reply = ask(session, ("BGSAVE", "SCHEDULE"))[0]
        if isinstance(reply, ErrorReply) and "in progress" in reply.text:
            continue  # one of the server's own, which may lack what was written since it began
        checked(session, reply, ("BGSAVE",))
        break

    def done(now: RedisFacts) -> bool:
        if not now.bgsave_in_progress and not now.last_bgsave_ok:
            raise RedisError(
                f"Redis in {session.container_name} could not write its snapshot (rdb_last_bgsave_status: err).",
                next_command=logs_of(session.container_name),
            )
        return not now.bgsave_in_progress and now.last_save > before.last_save

    return _wait(session, patience, done, "its snapshot"), moment


def _copy_append_only(
    session: Session, facts: RedisFacts, host_directory: str, destination: str, patience: Patience
) -> RedisBackup:
    # Rewrites are not switched off meanwhile: had we to be killed, they would
    # stay off. A rewrite shows in the manifest, and then we begin again.
    for _attempt in range(ATTEMPTS):
        _wait(session, patience, lambda f: not f.aof_rewrite_in_progress, "a rewrite of its append-only file")
        moment = time.time() - WRITE_DELAY
        _empty(destination)
        copy = _copy_parts if facts.multipart_aof else _copy_single
        files, unchanged = copy(facts, host_directory, destination)
        if unchanged:
            after = observe_redis(session)
            return RedisBackup(
                path=destination,
                kind="aof",
                files=files,
                bytes=sum(os.path.getsize(os.path.join(destination, name)) for name in files),
                moment=moment,
                keys=after.databases,
                slack=_changes_between(facts, after),
            )
    raise RedisError(
        f"Redis in {session.container_name} rewrote its append-only file in each of {ATTEMPTS} attempts to copy it.",
        next_command="run the same task again when fewer writes come in",
    )


def _copy_parts(facts: RedisFacts, host_directory: str, destination: str) -> tuple[tuple[str, ...], bool]:
    source = os.path.join(host_directory, facts.appenddirname)
    target = os.path.join(destination, facts.appenddirname)
    os.mkdir(target, 0o700)
    parts = read_manifest(source, facts.appendfilename)
    try:
        for part in parts:
            copied = os.path.join(target, part.name)
            copy_file(os.path.join(source, part.name), copied)
            if part.type != BASE:
                # It is being appended to: what follows the last whole command is
                # a command half written.
                cut_at(copied, complete_length(copied))
        copy_file(os.path.join(source, manifest_name(facts.appendfilename)), os.path.join(target, "manifest.tmp"))
        os.rename(os.path.join(target, "manifest.tmp"), os.path.join(target, manifest_name(facts.appendfilename)))
        unchanged = read_manifest(target, facts.appendfilename) == parts
    except FileNotFoundError:
        return (), False  # a rewrite took a part away
    fsync_directory(target)
    names = (*(part.name for part in parts), manifest_name(facts.appendfilename))
    return tuple(os.path.join(facts.appenddirname, name) for name in names), unchanged


def _copy_single(facts: RedisFacts, host_directory: str, destination: str) -> tuple[tuple[str, ...], bool]:
    # A rewrite renames a new file into place; the one that we hold open stays whole.
    target = os.path.join(destination, facts.appendfilename)
    copy_file(os.path.join(host_directory, facts.appendfilename), target)
    with open(target, "rb") as file:
        has_preamble = file.read(5) == b"REDIS"
    if not has_preamble:
        cut_at(target, complete_length(target))
    return (facts.appendfilename,), True


def _changes_between(before: RedisFacts, after: RedisFacts) -> int:
    """Return a bound for the keys that came or went: changes where they can be told, else commands."""
    gone = _left_by_themselves(before, after)
    if before.last_save == after.last_save:
        return max(0, after.changes_since_save - before.changes_since_save) + gone
    return max(0, after.commands_processed - before.commands_processed) + gone


def _left_by_themselves(before: RedisFacts, after: RedisFacts) -> int:
    """Return how many keys the server dropped unasked: past their time, or to stay below maxmemory."""
    expired, evicted = after.expired_keys - before.expired_keys, after.evicted_keys - before.evicted_keys
    return max(0, expired) + max(0, evicted)


def _wait(session: Session, patience: Patience, predicate: Callable[[RedisFacts], bool], what: str) -> RedisFacts:
    deadline = patience.clock() + patience.timeout
    while True:
        facts = observe_redis(session)
        if predicate(facts):
            return facts
        if patience.clock() >= deadline:
            raise RedisError(
                f"Redis in {session.container_name} has not finished {what} after {patience.timeout:.0f} s.",
                next_command=logs_of(session.container_name),
            )
        patience.sleep(patience.pause)


def _wait_for_next_second(session: Session, second: int, patience: Patience) -> None:
    deadline = patience.clock() + 5
    while patience.clock() < deadline:
        now = command(session, "TIME")
        if isinstance(now, tuple) and int(str(now[0])) > second:
            return
        patience.sleep(patience.pause)


def _empty(directory: str) -> None:
    """Remove what an attempt of ours that a rewrite spoiled has left."""
    for parent, _directories, files in os.walk(directory, topdown=False):
        for name in files:
            os.unlink(os.path.join(parent, name))
        if parent != directory:
            os.rmdir(parent)


def copy_file(source: str, target: str) -> int:
    """Copy a file through one open handle, with owner and mode, to disk; return its bytes.

    The bytes are those that it had when it was opened: what is appended
    meanwhile is left out.
    """
    with open(source, "rb") as reading, open(target, "wb") as writing:
        status = os.fstat(reading.fileno())
        left = status.st_size
        while left > 0:
            copied = _copy_range(reading.fileno(), writing.fileno(), min(left, CHUNK))
            if copied == 0:
                raise RedisError(f"{source} became shorter while it was copied.", next_command=AGAIN)
            left -= copied
        os.fchmod(writing.fileno(), status.st_mode & 0o7777)
        os.fchown(writing.fileno(), status.st_uid, status.st_gid)
        writing.flush()
        os.fsync(writing.fileno())
    return status.st_size


def cut_at(path: str, length: int) -> None:
    """Shorten a file of ours to ``length`` bytes."""
    with open(path, "r+b") as file:
        file.truncate(length)
        os.fsync(file.fileno())


def _copy_range(source: int, target: int, count: int) -> int:
    try:
        return os.copy_file_range(source, target, count)
    except OSError:
        # Across file systems on older kernels; the offsets are where they were.
        return os.write(target, os.read(source, count))
