# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small database in a directory, with the one habit of real ones that loses data: it initialises an empty one.

A directory holds ``ident`` (who the data is), ``state`` (clean or in production) and one
file a row. A write is acknowledged when its file is there.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Copy
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import StoreFacts
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import (
    BackupRequest,
    Declared,
    Orphan,
    Report,
)

KIND = "fake"
TARGET = "/data"
_idents = itertools.count(1)


def initialise(directory: str) -> str:
    """Make a new and empty database, as an image's entrypoint does where it finds none."""
    ident = f"ident-{next(_idents)}"
    os.makedirs(os.path.join(directory, "rows"), exist_ok=True)
    _put(directory, "ident", ident)
    _put(directory, "state", "clean")
    return ident


def ident_of(directory: str) -> str:
    return _get(directory, "ident")


def state_of(directory: str) -> str:
    return _get(directory, "state")


def mark(directory: str, state: str) -> None:
    _put(directory, "state", state)


def rows_of(directory: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(os.path.join(directory, "rows")))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()


def write_row(directory: str, row: str) -> None:
    _put(os.path.join(directory, "rows"), row, "x")


def _get(directory: str, name: str) -> str:
    try:
        with open(os.path.join(directory, name), encoding="ascii") as handle:
            return handle.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _put(directory: str, name: str, content: str) -> None:
    with open(os.path.join(directory, name), "w", encoding="ascii") as handle:
        handle.write(content)


@dataclass
class FakeStore:
    """Meets ``_storage.store.Store``. ``never_ready`` names host directories that it does not come up on."""

    never_ready: set[str] = field(default_factory=set)
    kind: str = KIND

    def declares(self, image_ref: str, env: Mapping[str, str]) -> Declared | None:
        return Declared("1", TARGET) if image_ref.startswith("store:") else None

    def recognises(self, engine: Engine, container: Container, host_path_of: Callable[[str], str]) -> str:
        return ""

    def observe(self, engine: Engine, container: Container, data_path: str, host_path: str) -> StoreFacts:
        return StoreFacts(self.kind, "1", data_path, identity=self.identity(host_path))

    def backup(
        self, engine: Engine, container: Container, facts: StoreFacts, request: BackupRequest, report: Report
    ) -> Copy:
        draft = f"{request.destination}.draft"
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(request.host_path, draft)
        os.rename(draft, request.destination)
        return Copy("backup", request.service, request.destination, "2026-01-01T00:00:00+00:00", proof="copied")

    def arrange_stop(self, engine: Engine, container: Container, facts: StoreFacts) -> Mapping[str, Any]:
        return {"arranged": container.id}

    def unarrange_stop(self, engine: Engine, container: Container, arranged: Mapping[str, Any]) -> None:
        return None

    def stop(self, engine: Engine, container: Container, arranged: Mapping[str, Any], timeout: float) -> None:
        engine.stop(container.id, signal=container.stop_signal, timeout=timeout)

    def halt(
        self, engine: Engine, container: Container, host_path: str, since: Mapping[str, Any], timeout: float
    ) -> str:
        self.stop(engine, container, {}, timeout)
        return self.took_writes(host_path, since)

    def prove_stopped(self, host_path: str, facts: StoreFacts, since: float = 0.0) -> Mapping[str, Any]:
        identity = self.identity(host_path)
        if state_of(host_path) != "clean":
            raise StatefulError(f"{host_path} was not shut down cleanly.")
        return identity

    def differences(self, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
        if wanted["ident"] != found["ident"]:
            return [f"it is {found['ident']} and should be {wanted['ident']}"]
        if found["rows"] < wanted["rows"]:
            return [f"it holds {found['rows']} rows, fewer than {wanted['rows']}"]
        return []

    def identity(self, host_path: str) -> Mapping[str, Any]:
        if not ident_of(host_path):
            raise StatefulError(f"{host_path} holds no data of this kind.")
        return {"ident": ident_of(host_path), "rows": len(rows_of(host_path))}

    def wait_ready(self, engine: Engine, container_id: str, facts: StoreFacts, timeout: float) -> None:
        container = engine.container(container_id)
        if container is None or not container.running:
            raise StatefulError("The store ended instead of becoming ready.")
        mount = container.mount_at(facts.data_path)
        if mount is not None and mount.source in self.never_ready:
            raise StatefulError("The store does not become ready.")

    def orphans(self, directory: str) -> list[Orphan]:
        ident = ident_of(directory)
        return [Orphan(directory, self.kind, "1", ident, state_of(directory), "2026-01-01T00:00:00")] if ident else []

    def took_writes(self, host_path: str, since: Mapping[str, Any]) -> str:
        more = self.identity(host_path)["rows"] - since["rows"]
        return f"{more} rows" if more > 0 else ""

    def counts(self, engine: Engine, container: Container, facts: StoreFacts) -> Mapping[str, Any]:
        mount = container.mount_at(facts.data_path)
        place = mount.source if mount else os.path.join(container.layers["UpperDir"], facts.data_path.lstrip("/"))
        return {"rows": len(rows_of(place))}

    def compare_counts(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
        return [] if after["rows"] >= before["rows"] else [f"{after['rows']} rows and {before['rows']} before"]
