# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A directory of plain files as a store: nothing is known of it but the files themselves."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import logs_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.last_words import last_words
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import AGAIN, StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Copy
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import FILES, StoreFacts
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import (
    BackupRequest,
    Declared,
    Identity,
    Orphan,
    Report,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import (
    compare,
    copy,
    durable,
    prove,
    rename,
    scan,
    settle,
    still,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import mapped as mapping
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.errors import (
    CopyDamaged,
    SourceChanging,
    TreeError,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.unchanged import RACY_MARGIN_NS

ROUNDS = 5
"""How often a live tree is asked to stand still for as long as it takes to settle its copy."""

QUIET_NS = RACY_MARGIN_NS + 100_000_000
"""How long it has to have stood still before: times that are closer tell nothing."""


class FilesStore:
    """Meets ``_storage.store.Store``. Identity is the number of entries; content is proved by the copy itself."""

    kind = FILES

    def __init__(self, pause: Callable[[float], None] = time.sleep) -> None:
        self._pause = pause

    def declares(self, image_ref: str, env: Mapping[str, str]) -> Declared | None:
        return None

    def recognises(self, engine: Engine, container: Container, host_path_of: Callable[[str], str]) -> str:
        return ""  # anything can be plain files, so nothing is recognised as that

    def observe(self, engine: Engine, container: Container, data_path: str, host_path: str) -> StoreFacts:
        return StoreFacts(kind=self.kind, version="", data_path=data_path, identity=self.identity(host_path))

    def identity(self, host_path: str) -> Identity:
        if not os.path.isdir(host_path):
            raise StatefulError(
                f"{host_path} is not there.", next_command=shell("ls", "-la", os.path.dirname(host_path))
            )
        return {"newest": newest(host_path), "entries": len(os.listdir(host_path))}

    def prove_stopped(self, host_path: str, facts: StoreFacts, since: float = 0.0) -> Identity:
        return self.identity(host_path)

    def differences(self, wanted: Identity, found: Identity) -> list[str]:
        if wanted["entries"] and not found["entries"]:
            return [f"it is empty and should hold {wanted['entries']} entries"]
        return []

    def took_writes(self, host_path: str, since: Identity) -> str:
        found = self.identity(host_path)
        changed = found["newest"] > since["newest"] or found["entries"] != since["entries"]
        return "files changed" if changed else ""

    def wait_ready(self, engine: Engine, container_id: str, facts: StoreFacts, timeout: float) -> None:
        container = engine.container(container_id)
        if container is None or not container.running:
            name = container.name if container else container_id[:12]
            raise StatefulError(
                f"{name} ended instead of running:\n{last_words(engine, container, tail=8) if container else ''}",
                next_command=logs_of(name),
            )

    def counts(self, engine: Engine, container: Container, facts: StoreFacts) -> Mapping[str, Any]:
        return {}

    def orphans(self, directory: str) -> list[Orphan]:
        return []  # any directory holds files

    def compare_counts(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
        return []

    def arrange_stop(self, engine: Engine, container: Container, facts: StoreFacts) -> Mapping[str, Any]:
        return {}

    def unarrange_stop(self, engine: Engine, container: Container, arranged: Mapping[str, Any]) -> None:
        return None

    def stop(self, engine: Engine, container: Container, arranged: Mapping[str, Any], timeout: float) -> None:
        engine.stop(container.id, signal=container.stop_signal, timeout=timeout)

    def halt(self, engine: Engine, container: Container, host_path: str, since: Identity, timeout: float) -> str:
        self.stop(engine, container, {}, timeout)
        return self.took_writes(host_path, since)

    def backup(
        self, engine: Engine, container: Container, facts: StoreFacts, request: BackupRequest, report: Report
    ) -> Copy:
        """Copy the directory as of one moment; raises where files go on changing while they are copied."""
        os.makedirs(os.path.dirname(request.destination), mode=0o700, exist_ok=True)
        staging = str(durable.staging_path(request.destination, request.operation))
        record = f"{staging}.sqlite"
        for _round in range(ROUNDS):
            copied = copy.warm_copy(request.host_path, staging, record=record, progress=report)
            prove.prove_warm(request.host_path, staging, record=record)
            began, changing = self._settle(request.host_path, staging, record, live=container.running)
            if not changing:
                break
        else:
            raise StatefulError(
                f"Files in {request.host_path} change all the time ({changing} was the last), so no copy of one moment"
                f" can be taken while {request.service} runs: stop it, run the same task again, then start it again.",
                state=f"the data was only read; the partial copy is {staging}",
                next_command=shell("docker", "stop", container.name),
            )
        moment = datetime.fromtimestamp(began, timezone.utc).isoformat(timespec="seconds")
        differences = compare.compare_trees(request.host_path, staging) if not container.running else []
        if differences:
            raise StatefulError(
                f"The copy in {staging} differs from {request.host_path}: {differences[0]}.", next_command=AGAIN
            )
        os.unlink(record)
        rename.rename_directory(staging, request.destination)
        return Copy(
            role="backup",
            service=request.service,
            path=request.destination,
            moment=moment,
            size_bytes=copied.bytes_total,
            protected="a directory of its own",
            proof="read back and compared with its source",
        )

    def _settle(self, source: str, staging: str, record: str, *, live: bool) -> tuple[float, str]:
        """Settle and prove the copy; return the moment that it holds, and what changed meanwhile, if anything did."""
        if live:
            age = time.time_ns() - still.last_change(source)[0]
            self._pause(min(max(0, QUIET_NS - age), QUIET_NS) / 1e9)
        mapped, began = mapping.writably_mapped_inodes(), time.time_ns()
        damage: CopyDamaged | None = None
        try:
            settle.settle(source, staging, record=record)
            prove.prove_settled(source, staging, record=record)
        except CopyDamaged as found:
            damage = found
        except TreeError as problem:
            if not isinstance(problem, SourceChanging) and not isinstance(problem.__cause__, FileNotFoundError):
                raise
            return began / 1e9, still.last_change(source)[1] or source
        if live:
            changed, path = still.last_change(source)
            if changed >= began - RACY_MARGIN_NS:
                return began / 1e9, path or source
            mapped |= mapping.writably_mapped_inodes()
            different = still.mapped_difference(source, staging, mapped)
            if different is not None:
                return began / 1e9, different
        if damage is not None:
            raise damage  # nothing was written that would explain it
        return began / 1e9, ""


def newest(directory: str) -> int:
    """Return the latest change (ctime, in nanoseconds) of anything below ``directory``."""
    return max((entry.ctime_ns for entry in scan.scan(directory)), default=0)
