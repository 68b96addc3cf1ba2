# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a kind of store (Postgres, Redis, plain files) has to answer so that its data can be moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Copy
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import StoreFacts

Report = Callable[[int, int], None]
Identity = Mapping[str, Any]


@dataclass(frozen=True)
class BackupRequest:
    """``destination`` is a directory that does not exist yet; ``mode`` is auto, physical or logical."""

    operation: str
    service: str
    host_path: str
    destination: str
    mode: str


@dataclass(frozen=True)
class Declared:
    """What an image or a container says of its store without being asked; each is empty where it says nothing."""

    version: str = ""
    data_path: str = ""


@dataclass(frozen=True)
class Orphan:
    """Data that no container uses; ``last_write`` is UTC in ISO 8601, ``identifier`` may be empty."""

    path: str
    store: str
    version: str
    identifier: str
    state: str
    last_write: str


class Store(Protocol):
    """One kind of store. Questions change nothing; ``host_path`` is the data directory on the host."""

    kind: str

    def declares(self, image_ref: str, env: Mapping[str, str]) -> Declared | None:
        """Return what the name of an image and its environment tell; None where they are not of this kind."""

    def recognises(self, engine: Engine, container: Container, host_path_of: Callable[[str], str]) -> str:
        """Return the data directory inside the container, or an empty string if it is not this kind.

        A running server is asked, because the declared volume may be one level off.
        """

    def observe(self, engine: Engine, container: Container, data_path: str, host_path: str) -> StoreFacts: ...

    def backup(
        self, engine: Engine, container: Container, facts: StoreFacts, request: BackupRequest, report: Report
    ) -> Copy:
        """Take a consistent copy and prove it. Live data is only read."""

    def arrange_stop(self, engine: Engine, container: Container, facts: StoreFacts) -> Mapping[str, Any]:
        """Make the coming stop quick and complete (a checkpoint, save points), while the store still serves."""

    def unarrange_stop(self, engine: Engine, container: Container, arranged: Mapping[str, Any]) -> None: ...

    def stop(self, engine: Engine, container: Container, arranged: Mapping[str, Any], timeout: float) -> None:
        """Stop the store cleanly, and never by SIGKILL. ``arranged``: what :meth:`arrange_stop` returned, or empty."""

    def halt(self, engine: Engine, container: Container, host_path: str, since: Identity, timeout: float) -> str:
        """Stop the store with all that it took, and return in words what that was since ``since``; empty for nothing.

        What starting and stopping write by themselves (a checkpoint, a snapshot) does not count.
        """

    def prove_stopped(self, host_path: str, facts: StoreFacts, since: float = 0.0) -> Identity:
        """Return the identity read from the files, and raise unless they are shut down cleanly and complete.

        ``since``: when the stop began (seconds since the epoch), 0 where nobody knows.
        """

    def differences(self, wanted: Identity, found: Identity) -> list[str]:
        """Return in words how two identities differ; empty where they are of the same data."""

    def identity(self, host_path: str) -> Identity:
        """Return the identity read from the files alone; raises where there is no such store."""

    def wait_ready(self, engine: Engine, container_id: str, facts: StoreFacts, timeout: float) -> None:
        """Return when the store answers as the same store; raises at once when it cannot any more."""

    def took_writes(self, host_path: str, since: Identity) -> str:
        """Return in words what was written since ``since``, or an empty string. Asked of a stopped store."""

    def counts(self, engine: Engine, container: Container, facts: StoreFacts) -> Mapping[str, Any]:
        """Return what can be counted and compared by :meth:`compare_counts`."""

    def orphans(self, directory: str) -> list[Orphan]:
        """Return what of this kind lies in a directory that no container uses."""

    def compare_counts(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]: ...
