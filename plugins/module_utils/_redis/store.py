# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Redis (and its forks) as a store whose data can be moved."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime, timezone
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import logs_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Copy
from ansible_collections.selfhost.stateful.plugins.module_utils._redis import (
    backup,
    backup_proof,
    counts,
    orphans,
    readiness,
    session,
    shutdown,
    stopped,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.facts import RedisFacts, observe_redis
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.startup import Startup
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import REDIS, StoreFacts
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.processes import programs_in
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import (
    BackupRequest,
    Declared,
    Identity,
    Orphan,
    Report,
)

NAMES = ("redis", "valkey", "keydb")
SHUTDOWN_SIGNAL = "SIGTERM"
HALT_PAUSE_MS = 60_000
SERVERS = frozenset(f"{name}-server" for name in NAMES)
VERSIONS = ("REDIS_VERSION", "VALKEY_VERSION")
USUAL_DIRECTORY = "/data"


class RedisStore:
    """Meets ``_storage.store.Store``. Identity is the files: which, how large, written when."""

    kind = REDIS

    def __init__(self, password: str = "") -> None:
        self._password = password
        self._known: dict[tuple[str, str], session.Session] = {}

    def _session(self, engine: Engine, container: Container) -> session.Session:
        """Return a session with a running server; how it is reached is found out once for each of its starts."""
        this_start = (container.id, container.started_at)
        known = self._known.get(this_start)
        if known is None or known.engine is not engine:
            known = self._known[this_start] = session.open_session(engine, container, password=self._password)
        return known

    # -- questions ---------------------------------------------------------

    def declares(self, image_ref: str, env: Mapping[str, str]) -> Declared | None:
        version = next((env[key] for key in VERSIONS if env.get(key)), "")
        if not version and not any(name in image_ref.rpartition("/")[2] for name in NAMES):
            return None
        return Declared(version=version)

    def recognises(self, engine: Engine, container: Container, host_path_of: Callable[[str], str]) -> str:
        named = self.declares(container.image_ref, container.env)
        if named is None and not any(name in " ".join(container.command[:1]) for name in NAMES):
            return ""
        if container.running:
            return self._asked(engine, container)
        candidates = [USUAL_DIRECTORY, *(mount.destination for mount in container.mounts)]
        return next((path for path in candidates if orphans.inspect_directory(host_path_of(path))), "")

    def _asked(self, engine: Engine, container: Container) -> str:
        """Return the server's directory by its own word; empty where none runs, as beside an exporter or a browser."""
        try:
            return observe_redis(self._session(engine, container)).dir
        except StatefulError:
            if container.pid and not SERVERS & programs_in(container):
                return ""
            raise

    def observe(self, engine: Engine, container: Container, data_path: str, host_path: str) -> StoreFacts:
        identity = self.identity(host_path)
        if not container.running:
            return StoreFacts(kind=self.kind, version="", data_path=data_path, identity=identity)
        connection = self._session(engine, container)
        facts = observe_redis(connection)
        plan = shutdown.plan_save(facts)
        warnings = []
        if plan.settings:
            warnings.append(
                f"{container.name} persists nothing by itself: {plan.reason}; it is arranged for this stop."
            )
        return StoreFacts(
            kind=self.kind,
            version=facts.version_text,
            data_path=facts.dir,
            identity=identity,
            blockers=tuple(facts.blockers(container.name, connection.client)),
            warnings=tuple(warnings),
            details=facts_as_dict(facts),
        )

    def identity(self, host_path: str) -> Identity:
        if not os.path.isdir(host_path):
            raise StatefulError(
                f"{host_path} is not there.", next_command=shell("ls", "-la", os.path.dirname(host_path))
            )
        found = orphans.inspect_directory(host_path)
        return {
            "files": sorted(found.rdb_files) if found else [],
            "append_only": bool(found and found.append_only),
            "bytes": found.bytes if found else 0,
            "last_write": found.last_write if found else 0.0,
        }

    def prove_stopped(self, host_path: str, facts: StoreFacts, since: float = 0.0) -> Identity:
        if facts.details:
            stopped.prove_stopped(host_path, facts_from_dict(facts.details), stop_began=since)
        return self.identity(host_path)

    def differences(self, wanted: Identity, found: Identity) -> list[str]:
        gone = [name for name in wanted["files"] if name not in found["files"]]
        different = [f"{name} is missing" for name in gone]
        if wanted["append_only"] and not found["append_only"]:
            different.append("the append-only file is missing")
        return different

    def took_writes(self, host_path: str, since: Identity) -> str:
        return "its files were written" if self.identity(host_path)["last_write"] > since["last_write"] else ""

    def wait_ready(self, engine: Engine, container_id: str, facts: StoreFacts, timeout: float) -> None:
        readiness.wait_ready(
            engine,
            container_id,
            timeout=timeout,
            password=self._password,
            expect_keys=bool(facts.details.get("lasting_keys")),
        )

    def counts(self, engine: Engine, container: Container, facts: StoreFacts) -> Mapping[str, Any]:
        return counts.as_dict(observe_redis(self._session(engine, container)).databases)

    def orphans(self, directory: str) -> list[Orphan]:
        found = orphans.inspect_directory(directory)
        if found is None:
            return []
        written = datetime.fromtimestamp(found.last_write, timezone.utc)
        return [
            Orphan(
                path=found.directory,
                store=self.kind,
                version=found.written_by,
                identifier="",
                state="append-only file" if found.append_only else "snapshot",
                last_write=written.isoformat(timespec="seconds"),
            )
        ]

    def compare_counts(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
        return counts.compare_counts(counts.from_dict(before), counts.from_dict(after))

    # -- verbs -------------------------------------------------------------

    def backup(
        self, engine: Engine, container: Container, facts: StoreFacts, request: BackupRequest, report: Report
    ) -> Copy:
        os.makedirs(os.path.dirname(request.destination), mode=0o700, exist_ok=True)
        connection = self._session(engine, container)
        facts_now = observe_redis(connection)
        with backup.staged(request.destination, request.operation) as staging:
            taken = backup.take_backup(connection, facts_now, request.host_path, staging)
            proof = backup_proof.prove_backup(engine, container, taken, facts=facts_now, operation=request.operation)
        return Copy(
            role="backup",
            service=request.service,
            path=request.destination,
            moment=datetime.fromtimestamp(taken.moment, timezone.utc).isoformat(timespec="seconds"),
            size_bytes=taken.bytes,
            protected="a directory of its own",
            proof=proof,
        )

    def arrange_stop(self, engine: Engine, container: Container, facts: StoreFacts) -> Mapping[str, Any]:
        connection = self._session(engine, container)
        plan = shutdown.plan_save(observe_redis(connection))
        counted = shutdown.arrange_save(connection, plan)
        return {"plan": plan.as_dict(), "keys": counts.as_dict(counted)}

    def unarrange_stop(self, engine: Engine, container: Container, arranged: Mapping[str, Any]) -> None:
        shutdown.unarrange_save(self._session(engine, container), shutdown.plan_from_dict(arranged["plan"]))

    def halt(self, engine: Engine, container: Container, host_path: str, since: Identity, timeout: float) -> str:
        connection = self._session(engine, container)
        plan = shutdown.plan_save(observe_redis(connection), pause_ms=HALT_PAUSE_MS)
        shutdown.arrange_save(connection, plan)
        # Asked while nobody can write any more, and before the stop, which may write the files anew.
        facts = observe_redis(connection)
        wrote = self.took_writes(host_path, since)
        if facts.changes_since_save:
            wrote = f"{facts.changes_since_save} changes"
        self.stop(engine, container, {"plan": plan.as_dict()}, timeout)
        # A server that cannot hold writers back may have taken some until its end.
        return wrote if plan.pause_ms else wrote or self.took_writes(host_path, since)

    def stop(self, engine: Engine, container: Container, arranged: Mapping[str, Any], timeout: float) -> None:
        by_command = arranged.get("plan", {}).get("method") == shutdown.BY_COMMAND
        if _is_server(container.pid) and not by_command:
            # Not the container's own stop signal, which the file may have made one that saves nothing.
            engine.stop(container.id, signal=SHUTDOWN_SIGNAL, timeout=timeout)
            return
        # A shell or an init in front may keep the signal to itself.
        shutdown.ask_to_shut_down(self._session(engine, container))
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            found = engine.container(container.id)
            if found is None or not found.running:
                return
            time.sleep(0.02)
        raise StatefulError(
            f"{container.name} still runs {timeout:.0f} s after SHUTDOWN SAVE; it was not killed.",
            state="Redis serves, or is saving, on its old storage",
            next_command=logs_of(container.name),
        )


def _is_server(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/comm", encoding="ascii", errors="replace") as handle:
            program = handle.read()
    except FileNotFoundError:
        return False
    return any(name in program for name in NAMES)


LEFT_OUT = frozenset({"startup", "databases"})
"""Not kept: the start's arguments may hold the password."""


def facts_as_dict(facts: RedisFacts) -> dict[str, Any]:
    """Return what a journal keeps of the facts."""
    kept = {entry.name: getattr(facts, entry.name) for entry in fields(facts) if entry.name not in LEFT_OUT}
    lasting = sum(count.keys - count.expires for count in facts.databases.values())
    return {**kept, "starts_with_aof": facts.starts_with_aof, "lasting_keys": lasting}


def facts_from_dict(raw: Mapping[str, Any]) -> RedisFacts:
    """Read back what :func:`facts_as_dict` kept."""
    values = {entry.name: raw[entry.name] for entry in fields(RedisFacts) if entry.name not in LEFT_OUT}
    tuples = {name: tuple(values[name]) for name in ("version", "modules")}
    startup = Startup(directives={"appendonly": (("yes" if raw["starts_with_aof"] else "no",),)})
    return RedisFacts(**{**values, **tuples, "databases": {}, "startup": startup})
