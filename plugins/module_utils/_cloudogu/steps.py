# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is done before the upgrade: the image that runs is kept, and the data is copied off the volume, twice."""

from __future__ import annotations

import os
import shutil
import time

from ansible_collections.selfhost.stateful.plugins.module_utils._clock import moment, until
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.ces import Host, has_begun
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Copy, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import postmaster, session, shutdown
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup.model import RESTORE
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup.taken import backed_up
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import NEXT_XID, system_identifier
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint import model as fingerprints
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.take import take
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import let_image_go
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import KEPT_IMAGES
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import copy, scan, settle
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.compare import refuse_differences
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.durable import (
    make_private,
    write_json_atomically,
)

OTHERS = """SELECT usename, application_name FROM pg_stat_activity
    WHERE datname IS NOT NULL AND usename IS NOT NULL AND pid <> pg_backend_pid()"""
GRACE_OF_OTHERS = 10.0
"""Seconds in which a health check, say, is to have ended."""


class KeepImage(NothingToUndo):
    """What runs has a name of ours too. args: ``image_id``."""

    def is_done(self, step: Step, context: Context[Host]) -> Evidence | None:
        return None  # naming it once more costs nothing

    def apply(self, step: Step, context: Context[Host]) -> Evidence:
        context.world.engine.tag(step.args["image_id"], KEPT_IMAGES, context.operation.id)
        return {"kept_image": f"{KEPT_IMAGES}:{context.operation.id}"}

    def undo(self, step: Step, context: Context[Host]) -> Evidence:
        let_image_go(context.world.engine, f"{KEPT_IMAGES}:{context.operation.id}")
        return {}


class BackUp(NothingToUndo):
    """Taken, and restored into a server of its own. args: ``path``, ``format``. Kept, also where it is undone."""

    def is_done(self, step: Step, context: Context[Host]) -> Evidence | None:
        found = context.evidence.get(step.name)
        return found if found is not None and os.path.isdir(step.args["path"]) else None

    def apply(self, step: Step, context: Context[Host]) -> Evidence:
        host = context.world
        make_private(os.path.dirname(step.args["path"]))
        with host.session() as there:
            made = backed_up(host.engine, there, host.name, step.args["path"], step.args["format"], prove=RESTORE)
        return {"copies": [made.as_dict()]}


class WarmCopy(NothingToUndo):
    """Most of the original is copied while everything runs. args: ``volume``, ``original``."""

    def is_done(self, step: Step, context: Context[Host]) -> Evidence | None:
        return context.evidence.get(step.name, {}) if has_begun(context.operation.directory) else None

    def apply(self, step: Step, context: Context[Host]) -> Evidence:
        done = copy.warm_copy(
            step.args["volume"], step.args["original"], record=record_of(context), progress=context.report
        )
        return {"bytes": done.bytes_written}

    def undo(self, step: Step, context: Context[Host]) -> Evidence:
        """The old version runs on the old data: the copy of it is of no more use than the backup, which stays."""
        if os.path.isdir(step.args["original"]):
            shutil.rmtree(step.args["original"])
        return {}


def record_of(context: Context[Host]) -> str:
    return os.path.join(context.operation.directory, "copy.record")


class Original(NothingToUndo):
    """The volume as it was shut down is beside the backup, and the server runs on it again, with nobody who writes.

    args: ``volume``, ``data``, ``original``, ``system_identifier``. What is in it then is noted, to be compared later.
    """

    def is_done(self, step: Step, context: Context[Host]) -> Evidence | None:
        # Until cesapp was called somebody may have written since: then it is taken anew.
        known = context.evidence.get(step.name)
        return known if known is not None and has_begun(context.operation.directory) else None

    def apply(self, step: Step, context: Context[Host]) -> Evidence:
        host, args = context.world, step.args
        shut_down(host, args["data"])
        done = settle.settle(args["volume"], args["original"], record=record_of(context), progress=context.report)
        refuse_differences(args["volume"], args["original"])
        start(host)
        with host.session() as there:
            if str(system_identifier(there)) != args["system_identifier"]:
                raise StatefulError(f"{host.name} runs another cluster than the one that was looked at.")
            until(lambda: not there.rows(OTHERS), GRACE_OF_OTHERS)
            others = sorted({f"{user} ({application or 'unnamed'})" for user, application in there.rows(OTHERS)})
            if others:
                raise StatefulError(
                    f"Somebody else is connected to {host.name}, although its dependents are stopped:"
                    f" {', '.join(others)}. What they wrote from now on would not be in the original.",
                    next_command="stop them, or name their dogus in dependents, and run the same task again",
                )
            found, xid = take(there), int(there.scalar(NEXT_XID))
        write_json_atomically(before_of(context), fingerprints.as_dict(found))
        made = retained(host, args["original"], f"shut down cleanly, and compared: {done.files_total} files")
        return {"copies": [made.as_dict()], "next_xid": xid}

    def undo(self, step: Step, context: Context[Host]) -> Evidence:
        start(context.world)
        return {}

    def let_go(self, step: Step, context: Context[Host]) -> None:
        start(context.world)


def retained(host: Host, path: str, proof: str) -> Copy:
    """Return a copy of the volume as it is journaled, removed by an explicit commit alone."""
    status = os.stat(path)
    return Copy(
        role="original",
        service=host.name,
        path=path,
        moment=moment(),
        size_bytes=scan.tree_size(path).bytes_allocated,
        protected="a directory of its own",
        proof=proof,
        device=status.st_dev,
        inode=status.st_ino,
    )


def before_of(context: Context[Host]) -> str:
    return os.path.join(context.operation.directory, "before.json")


def shut_down(host: Host, data: str) -> None:
    """Stop the server and prove from its control file that it ended cleanly."""
    container = host.container()
    if container.pid:
        with host.session(container) as there:
            shutdown.checkpoint(there)
        server = postmaster.find_postmaster(container, session.data_directory_of(container))
        shutdown.stop_fast(
            host.engine, container, server, timeout=host.stop_timeout, clock=time.monotonic, pause=time.sleep
        )
    shutdown.prove_shut_down(data)


def start(host: Host) -> Container:
    """Start the dogu if it does not run, and wait until it serves."""
    container = host.container()
    if not container.running:
        host.engine.start(container.id)
    return host.wait_serving(host.ready_timeout)
