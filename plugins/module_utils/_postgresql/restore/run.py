# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restore a backup of ours, whichever kind it is, into a cluster or a directory that is empty."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import OPERATION_LABEL, Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup import record as records
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup.model import (
    PHYSICAL,
    Record,
    changes_since,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.restore import logical, physical
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.restore.model import Plan, Restored
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session


@dataclass(frozen=True)
class Target:
    """What is restored into; ``connect`` opens a session where a logical backup needs one."""

    engine: Engine
    container: Container
    connect: Callable[[], Session]

    def operation(self, path: str) -> str:
        """Return the name that helpers bear: the same at every attempt, so that the next one finds them."""
        return f"restore-{hashlib.sha256(f'{self.container.id} {path}'.encode()).hexdigest()[:8]}"


def read(path: str) -> Record:
    """Return the record of the backup; raises where there is none, or where it is not as it was finished."""
    found = records.read(path)
    files, size = records.measure(path)
    changed = changes_since(found, files=files, size=size)
    if changed:
        raise StatefulError(
            f"The backup in {path} is not as it was finished at {found.moment}: {'; '.join(changed)}. Restore another"
            " one, or get this one again from where it is kept.",
        )
    return found


def plan(target: Target, record: Record, path: str) -> Plan:
    """Say what a run does; changes nothing."""
    if record.format == PHYSICAL:
        return physical.plan(target.engine, target.container, record, path, target.operation(path))
    with target.connect() as session:
        return logical.plan(logical.open_server(target.engine, session), record, path)


def carry_out(target: Target, record: Record, path: str, *, jobs: int) -> tuple[Plan, Restored]:
    """Plan and restore; the caller holds the project's lock."""
    engine, container, operation = target.engine, target.container, target.operation(path)
    for helper in engine.containers(labels={OPERATION_LABEL: operation}):
        engine.remove_container(helper.id, force=True)
    if record.format == PHYSICAL:
        planned = physical.plan(engine, container, record, path, operation)
        return planned, physical.carry_out(engine, container, planned, path, operation=operation)
    with target.connect() as session, _told(path):
        server = logical.open_server(engine, session)
        planned = logical.plan(server, record, path)
        return planned, logical.carry_out(server, planned, path, jobs=jobs, operation=operation)


@contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except StatefulError as error:
        if error.state == StatefulError.NOTHING_CHANGED:
            error.state = f"nothing was changed; the backup in {path} is untouched"
        raise
