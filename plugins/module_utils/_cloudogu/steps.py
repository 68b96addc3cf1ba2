# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is done around the upgrade itself: copies before it, the proof and the dependents after it."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._clock import POLL, moment, until
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu import ces, survey
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.ces import Host
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.model import (
    LOCAL_STATE,
    MARKERS,
    is_a_new_default,
    lacking_markers,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import logs_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.last_words import last_words
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container, RestartPolicy
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence, Undecided
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Copy, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.report import rolling_back
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import postmaster, session, shutdown
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup.taken import backed_up
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import NEXT_XID, system_identifier
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint import model as fingerprints
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.compare import (
    SHOWN,
    compare,
    coverage,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.take import take
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import let_image_go
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import KEPT_IMAGES
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import copy, scan, settle
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.compare import compare_trees
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.durable import (
    make_private,
    write_json_atomically,
)

QUIET = "quiet"
STOPPED = "dependents at the switch"
WRITERS = "dependents ran before the proof"
OTHERS = """SELECT usename, application_name FROM pg_stat_activity
    WHERE datname IS NOT NULL AND usename IS NOT NULL AND pid <> pg_backend_pid()"""
GRACE_OF_OTHERS = 10.0
"""Seconds in which a health check, say, is to have ended."""
RESTARTS = 3
STEADY = 3.0
"""Seconds that a dependent has to run without ending, before it is called running."""


def has_begun(context: Context[Host]) -> bool:
    """Tell whether ``cesapp`` was called in this operation: the data may be another's since."""
    return ces.noted(context.operation.directory) is not None


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
    """args: ``path``, ``format``. It is kept, also when the operation is undone."""

    def is_done(self, step: Step, context: Context[Host]) -> Evidence | None:
        found = context.evidence.get(step.name)
        return found if found is not None and os.path.isdir(step.args["path"]) else None

    def apply(self, step: Step, context: Context[Host]) -> Evidence:
        host = context.world
        make_private(os.path.dirname(step.args["path"]))
        with host.session() as there:
            made = backed_up(host.engine, there, host.name, step.args["path"], step.args["format"])
        return {"copies": [made.as_dict()]}


class WarmCopy(NothingToUndo):
    """Most of the original is copied while everything runs. args: ``volume``, ``original``."""

    def is_done(self, step: Step, context: Context[Host]) -> Evidence | None:
        return context.evidence.get(step.name, {}) if has_begun(context) else None

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


class Quiet(NothingToUndo):
    """The dependents that run are stopped, and stay so if the engine restarts. args: ``dependents``, ``sought``."""

    def is_done(self, step: Step, context: Context[Host]) -> Evidence | None:
        return context.evidence.get(step.name, {}) if has_begun(context) else None

    def apply(self, step: Step, context: Context[Host]) -> Evidence:
        began, known = time.time(), dependents_of(context)
        # The backup may have taken hours: who was installed or started since, is of it as well.
        names = {each["name"] for each in known}
        if context.world.serves(context.world.container()):
            now = survey.dependents_now(context.world, step.args["sought"])
            further = [each.as_dict() for each in now if each.running and each.name not in names]
            if further:
                known = [*known, *further]
                context.operation.journal.evidence(STOPPED, {"dependents": known}, durable=True)
        stop_dependents(context.world, known)
        return {"began": began}

    def undo(self, step: Step, context: Context[Host]) -> Evidence:
        start_dependents(context.world, dependents_of(context))
        return {}

    def let_go(self, step: Step, context: Context[Host]) -> None:
        start_dependents(context.world, dependents_of(context))


def dependents_of(context: Context[Host]) -> list[Mapping[str, Any]]:
    """Return the dependents that this operation stops, each as it was before."""
    planned = next(step.args for step in context.operation.plan.steps if step.name == QUIET)
    found: list[Mapping[str, Any]] = context.operation.history().evidence.get(STOPPED, planned)["dependents"]
    return found


def note_writers(context: Context[Host]) -> None:
    """Note for good that dependents ran before the proof, where they do: what is not there, they may have deleted."""
    containers = [context.world.engine.container(each["name"]) for each in dependents_of(context)]
    running = [each.name for each in containers if each is not None and each.running]
    if running:
        context.operation.journal.evidence(WRITERS, {"running": running}, durable=True)


def stop_dependents(host: Host, dependents: list[Mapping[str, Any]]) -> None:
    for each in dependents:
        container = host.engine.container(each["name"])
        if container is None:
            continue
        host.engine.set_restart_policy(container.id, RestartPolicy())
        if container.running:
            host.engine.stop(container.id, signal=container.stop_signal or "SIGTERM", timeout=host.stop_timeout)


def start_dependents(host: Host, dependents: list[Mapping[str, Any]]) -> None:
    """Give all their policies back, then start all; raises afterwards, with every one for which that failed."""
    failed: dict[str, str] = {}
    there: list[Container] = []
    for each in dependents:
        container = host.engine.container(each["name"])
        if container is None:
            failed[each["name"]] = "it has no container any more"
            continue
        try:
            host.engine.set_restart_policy(container.id, RestartPolicy(each["policy"], each["retries"]))
        except StatefulError as error:
            failed[each["name"]] = error.msg
        there.append(container)
    for container in there:
        try:
            if not container.running:
                host.engine.start(container.id)
        except StatefulError as error:
            failed[container.name] = error.msg
    if failed:
        told = "; ".join(f"{name}: {why}" for name, why in failed.items())
        raise StatefulError(
            f"Not every dogu that depends on {host.name} could be started: {told}.",
            state=f"{host.name} and the other dependents were started",
            next_command="docker ps -a",
        )


class Original(NothingToUndo):
    """The volume as it was shut down is beside the backup, and the server runs on it again, with nobody who writes.

    args: ``volume``, ``data``, ``original``, ``system_identifier``. What is in it then is noted, to be compared later.
    """

    def is_done(self, step: Step, context: Context[Host]) -> Evidence | None:
        # Until cesapp was called somebody may have written since: then it is taken anew.
        known = context.evidence.get(step.name)
        return known if known is not None and has_begun(context) else None

    def apply(self, step: Step, context: Context[Host]) -> Evidence:
        host, args = context.world, step.args
        shut_down(host, args["data"])
        done = settle.settle(args["volume"], args["original"], record=record_of(context), progress=context.report)
        differences = compare_trees(args["volume"], args["original"])
        if differences:
            shown = "; ".join(f"{each.path} ({each.what})" for each in differences[:5])
            raise StatefulError(f"The copy of {args['volume']} in {args['original']} differs from it: {shown}.")
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


class Prove(NothingToUndo):
    """Everything that was there is there, and the dogu's migrations are done. args: ``to``, ``keys``."""

    def is_done(self, step: Step, context: Context[Host]) -> Evidence | None:
        known, host = context.evidence.get(step.name), context.world
        if known is None or str(host.version()) != step.args["to"]:
            return None
        with host.session() as there:
            return known if str(system_identifier(there)) == known["system_identifier"] else None

    def apply(self, step: Step, context: Context[Host]) -> Evidence:
        host = context.world
        # Of a run that was killed: cesapp, or a restart of the host, has started them since.
        note_writers(context)
        stop_dependents(host, dependents_of(context))
        before = fingerprints.from_dict(read_json(before_of(context)))
        container = host.container()
        with host.session(container) as there:
            after = take(there)
            identity, xid = str(system_identifier(there)), int(there.scalar(NEXT_XID))
        lost = [each for each in compare(before, after) if each.lost]
        defaults = [each for each in lost if is_a_new_default(each, before, after)]
        missing = [str(each) for each in lost if each not in defaults]
        if missing:
            more = f"; and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            what = (
                f"{host.name} {step.args['to']} does not have what {step.args['from']} had:"
                f" {'; '.join(missing[:SHOWN])}{more}."
            )
            writers = context.operation.history().evidence.get(WRITERS)
            if writers is None:
                raise StatefulError(what)
            raise Undecided(
                f"{what} An earlier run was broken off, and {', '.join(writers['running'])} ran on the new version"
                " meanwhile: the upgrade may have lost it, or they may have deleted it.",
                state=f"the dependents are stopped, the new version runs on {step.args['volume']}, and the original is"
                f" in {step.args['original']}, whole",
                safe_to_rerun=True,
                next_command=f"{rolling_back(context.operation)}: it goes back to the original, and keeps what the new"
                " version has beside it",
            )
        keys = host.keys()
        lacking = lacking_markers(step.args["keys"], keys, migrations_of(host, container))
        if lacking:
            raise StatefulError(
                f"The migrations of {host.name} {step.args['to']} are not all done: the registry has no mark"
                f" {', '.join(lacking)}.",
                next_command=logs_of(host.name),
            )
        if keys.get(LOCAL_STATE):
            raise StatefulError(f"{LOCAL_STATE} is {keys[LOCAL_STATE]} although {host.name} serves.")
        read = coverage(before, after)
        return {
            "system_identifier": identity,
            "next_xid": xid,
            "new_defaults": [str(each) for each in defaults],
            "markers": {key: keys[key] for key in MARKERS if keys.get(key) == "true"},
            "tables": read.tables,
            "rows": sum(each.rows for one in after.databases.values() for each in one.tables.values()),
            "roles": len(after.roles),
            "databases": sorted(after.databases),
        }


def migrations_of(host: Host, container: Container) -> list[str]:
    """Return the names of the migrations that the image brings; raises where they cannot be listed."""
    answer = host.engine.execute(container.id, ("ls", "/docker-entrypoint-initdb.d"))
    if answer.rc == 0:
        return answer.text().split()
    said = answer.stderr.decode("utf-8", "replace").strip()
    if "No such file" in said:
        return []
    raise StatefulError(
        f"The migrations that {host.name} has run cannot be listed: {said or f'ls ended with {answer.rc}'}",
        next_command=logs_of(container.name),
    )


class Dependents(NothingToUndo):
    """The dependents that ran before run again, and go on running. args: ``dependents``."""

    def is_done(self, step: Step, context: Context[Host]) -> Evidence | None:
        return None  # a look costs seconds, and they may have ended since

    def apply(self, step: Step, context: Context[Host]) -> Evidence:
        host, dependents = context.world, dependents_of(context)
        start_dependents(host, dependents)
        for each in dependents:
            self._wait(host, each["name"])
        return {"ended": time.time(), "running": [each["name"] for each in dependents]}

    @staticmethod
    def _wait(host: Host, name: str) -> None:
        """Return once it has run for a while under one start, and is not unhealthy."""
        ends = time.monotonic() + host.ready_timeout
        starts: dict[str, float] = {}
        while True:
            container, now = host.engine.container(name), time.monotonic()
            if container is None or container.status in ("exited", "dead"):
                break
            since = starts.setdefault(container.started_at, now)
            works = container.status == "running" and container.health not in ("starting", "unhealthy")
            if works and now - since >= STEADY:
                return
            if len(starts) > RESTARTS or now >= ends:
                break
            time.sleep(POLL)
        state = f"{container.status}, {container.health or 'no health check'}" if container else "no container"
        raise StatefulError(
            f"{host.name} is upgraded and proved, and its dependent {name} does not come up ({state}):\n"
            f"{last_words(host.engine, container, tail=20) if container else ''}",
            next_command=logs_of(name),
        )

    def undo(self, step: Step, context: Context[Host]) -> Evidence:
        stop_dependents(context.world, dependents_of(context))
        return {}


def read_json(path: str) -> Any:
    with open(path, encoding="utf-8") as file:
        return json.load(file)
