# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a new cluster takes from ourselves before anybody is let in: hooks and migrations are no reason to keep it.

An undo goes back to the original and drops the new cluster, so it refuses where others wrote there. What we write is
told from that by the transactions that begin while our hooks run. Where they begin is noted before. A window that a
killed run left open tells nothing: whatever was written since may be anybody's. One that this run opened is ours, also
where the server crashed before it was closed, as long as nobody was let in since.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import NEXT_XID
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.control import SHUT_DOWN_STATES
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.helpers import must_succeed, run
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import bench as working
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.bench import Bench
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.paths import owner_of
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.second_server import ISOLATED, switches
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.shutdown import prove_shut_down
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.store import postgresql_store
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import baseline, note_baseline
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import POSTGRESQL
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.changeover import CreateContainers
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import Identity
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Transfer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import (
    World,
    can_write,
    the_container,
    transfer_of,
)

WINDOW = "ours_since"
"""In a baseline: where our writing began that did not end yet, as the next transaction and the time."""
_opened_here: list[Mapping[str, Any]] = []
"""The windows that this process opened. Every run is a process of its own."""

MADE_HERE = ("upgrade", "reload")
# A single user's server recovers, finds no command to carry out, and ends with a shutdown checkpoint. It asks nobody
# for a login. In place of the shell, because a lock file that a crash left names the first process of its container.
RECOVERING = ("sh", "-c", 'exec postgres --single -D "$@" </dev/null', "sh")


@contextmanager
def counted_as_ours(step: Step, context: Context[World]) -> Iterator[None]:
    """Count what the new cluster takes meanwhile as ours; on the same files (args: ``stays``) nothing is counted."""
    transfer, directory = transfer_of(step), context.operation.directory
    known = baseline(directory, transfer)
    if step.args["stays"] or known is None:
        yield
        return
    window = {"next_xid": _next_xid(transfer, context), "at": time.time()}
    note_baseline(directory, transfer, {**known, WINDOW: window})
    _opened_here.append(window)
    try:
        yield
    finally:
        _close(transfer, known, window, context)


def _close(transfer: Transfer, known: Mapping[str, Any], window: Mapping[str, Any], context: Context[World]) -> None:
    """Add what we wrote to the baseline; where the server cannot be asked any more, the window stays open."""
    try:
        ours = _next_xid(transfer, context) - int(window["next_xid"])
    except StatefulError:
        return
    rest = {key: value for key, value in known.items() if key != WINDOW}
    note_baseline(context.operation.directory, transfer, {**rest, "next_xid": int(known["next_xid"]) + ours})


def _next_xid(transfer: Transfer, context: Context[World]) -> int:
    world = context.world
    with postgresql_store(world).session(world.engine, the_container(world, transfer)) as session:
        return int(session.scalar(NEXT_XID))


def nobody_was_let_in(since: float, transfer: Transfer, context: Context[World]) -> bool:
    """Tell whether neither the service nor a dependent of it was started since, by us or by anybody else.

    A container that is not there any more may have run.
    """
    world, plan = context.world, context.operation.plan
    dependents = [
        world.engine.container(container_id)
        for step in plan.steps
        if step.kind == "stop_dependents"
        for group in step.args["order"]
        for container_id in group
    ]
    serving = world.containers_of(transfer.service)
    return len(serving) == 1 and all(c is not None and c.started <= since for c in (*serving, *dependents))


class CreateNewContainers(CreateContainers):
    """As for every move; of an image change its undo knows what the new cluster took from ourselves."""

    def theirs(self, transfer: Transfer, wrote: str, path: str, since: Identity, context: Context[World]) -> str:
        if transfer.store != POSTGRESQL:
            return wrote
        store = context.world.store(transfer)
        if store.identity(path)["state"] not in SHUT_DOWN_STATES:
            try:
                if not _recover(transfer, path, context):
                    return wrote
            except StatefulError as error:
                return f"{wrote}; and it could not be recovered to ask it: {error.msg}"
            wrote = store.took_writes(path, since)
        window = since.get(WINDOW)
        if not wrote or window not in _opened_here or not nobody_was_let_in(window["at"], transfer, context):
            return wrote
        return store.took_writes(path, {**since, "next_xid": int(since["next_xid"]) + _in_window(store, path, window)})


def _in_window(store: Any, path: str, window: Mapping[str, Any]) -> int:
    return max(0, int(store.identity(path)["next_xid"]) - int(window["next_xid"]))


def _recover(transfer: Transfer, path: str, context: Context[World]) -> bool:
    """Have a new cluster whose server crashed recover and end cleanly, in a server that nobody else reaches.

    Return whether this operation made it: any other directory is started by its service alone.
    """
    if not any(step.kind in MADE_HERE for step in context.operation.plan.steps):
        return False
    others = [c.name for c in context.world.engine.containers() if c.running and can_write(c, path)]
    if others:
        raise StatefulError(f"{', '.join(others)} runs and can write to {path}: it has to be stopped before.")
    bench = Bench(
        engine=context.world.engine,
        operation=context.operation.id,
        image_id=transfer.image_at(transfer.goal),
        old_image_id=transfer.image_at(transfer.origin),
        owner=owner_of(path),
        work=transfer.goal.path,
        passwd=os.path.join(context.operation.directory, f"{transfer.label}.passwd"),
    )
    working.write_passwd(bench.passwd, bench.owner)
    single = (*RECOVERING, bench.seen(path), *switches(ISOLATED), "template1")
    helper = bench.helper(bench.image_id, *single)
    must_succeed(run(bench.engine, helper, timeout=working.HOURS), f"The recovery of the new cluster in {path}")
    prove_shut_down(path)
    return True
