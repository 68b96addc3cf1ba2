# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps that every rung has, beside those of :mod:`release`: backup, quiet, files, and up again."""

from __future__ import annotations

import os
import time
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import ComposeCli
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.command_line import DEFAULT_FILES
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_reverse import HunkConflict
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import back, counting, said
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import host as hosts
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.between import refuse_between
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.host import Host
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.model import after_moves
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.survey import (
    directory_of,
    repository_of,
    tag_of,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import (
    Context,
    Evidence,
    Undecided,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo, SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup.taken import backed_up
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.files import RewriteFiles
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import durable
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World


def host_of(step: Step, context: Context[World]) -> Host:
    """Return the host with its files in the step's ``folder``, or where an undo has brought them back to already."""
    plan = context.operation.plan
    places = [step.args["folder"], *(each.args["folder"] for each in plan.steps if "folder" in each.args)]
    there = (place for place in places if any(os.path.isfile(os.path.join(place, name)) for name in DEFAULT_FILES))
    return Host(
        context.world,
        next(there, step.args["folder"]),
        step.args.get("database", "concurrent"),
        frozenset(plan.facts.get("ailing", ())),
        plan.facts.get("names", {}),
    )


def ensure_down(host: Host, data: str, *, prove: bool = True) -> None:
    """Take down whatever of the project is there, so that files and data may be put in their place."""
    if host.running():
        host.take_down(data, prove=prove)


def is_aside(context: Context[World]) -> bool:
    """Tell whether the old data was set aside: whatever runs from then on, runs on another directory."""
    aside = context.operation.plan.facts.get("aside", {})
    return bool(aside) and os.path.isdir(aside["data"])


def refuse_served(host: Host, context: Context[World]) -> None:
    """Raise where somebody started the services on what is only half loaded: nothing of theirs may be removed."""
    others = host.others()
    if others and is_aside(context):
        aside = context.operation.plan.facts["aside"]["data"]
        raise Undecided(
            f"{', '.join(each.name for each in others)} was started while the old data was set aside, and may have"
            " written to a database that does not have it.",
            state=f"the old data is in {aside}, whole; what was started runs on another directory and was not touched",
            safe_to_rerun=False,
            next_command=(
                "see whether anything was written that is to be kept; then "
                f"{host.compose.typed('down')}, and roll the operation {context.operation.id} back"
            ),
        )


def ask_again(host: Host, context: Context[World]) -> None:
    """Ask once more, on a way back that was broken off, before what runs is put away: somebody may have been let in."""
    refuse_between(host, context)
    if not (is_aside(context) and host.others()):
        return
    if context.operation.history().proved:
        back.may_begin(host, context)
    elif not context.world.discard_writes:
        refuse_served(host, context)


class BackUp(NothingToUndo):
    """args: ``folder``, ``database``, ``path``, ``format``. It is kept, also when the operation is undone."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        found = context.evidence.get(step.name)
        return found if found is not None and os.path.isdir(step.args["path"]) else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        host = host_of(step, context)
        with host.postgresql() as session:
            copy = backed_up(context.world.engine, session, hosts.DB, step.args["path"], step.args["format"])
        return {"copies": [copy.as_dict()]}


class Quiet(SelfProving):
    """Nobody writes, all is counted, the stores are shut down.

    args: ``folder``, ``data``, ``containers`` by id, ``images``: what each reference meant when this was planned.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        noted = _noted(context)
        left = [cid for cid in step.args["containers"] if context.world.engine.container(cid) is not None]
        # Somebody may have brought all of it up since: then it is not quiet, whatever was noted.
        return noted if noted is not None and not left and not host_of(step, context).others() else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        host = host_of(step, context)
        refuse_served(host, context)
        refuse_between(host, context)
        _refuse_elsewhere(host, step.args["data"], context)
        began = (_noted(context) or {}).get("began", 0.0)
        if any(each.running or each.started > began for each in host.others()):
            durable.remove_file(_note_path(context))  # counted before somebody wrote again
        for each in context.operation.plan.steps:
            if each.kind == "concurrent_release":
                # What others have written to that file system, the release is not to wait for once all is down.
                durable.sync_file_system(each.args["root"])
        host.stop_others()
        noted = _noted(context)
        if noted is None:
            counts = counting.count_all(host)
            noted = {"rows": dict(counts.rows), "stream_items": counts.stream_items, "began": time.time()}
            # Written before the stores stop: afterwards nobody can be asked.
            durable.write_json_atomically(_note_path(context), noted)
        location = host.take_down(step.args["data"])
        return {**noted, "checkpoint": location}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        host = host_of(step, context)
        # A tag that floats may mean the new version by now.
        for reference, image_id in step.args["images"].items():
            found = context.world.engine.image(reference)
            if (found is None or found.id != image_id) and "@" not in reference:
                context.world.engine.tag(image_id, repository_of(reference), tag_of(reference) or "latest")
        host.bring_up()
        durable.remove_file(_note_path(context))
        return {"healthy": True}

    def let_go(self, step: Step, context: Context[World]) -> None:
        host_of(step, context).bring_up()


def _refuse_elsewhere(host: Host, data: str, context: Context[World]) -> None:
    """Raise where the database runs on another directory than was looked at: its rows are not what is to be kept."""
    moved = after_moves(data, dict(context.operation.plan.facts.get("moves", ())))
    for container in host.world.containers_of(hosts.DB):
        place = directory_of(container, hosts.DB)
        if container.running and place not in (data, moved):
            raise Undecided(
                f"{container.name} runs on {place or 'no directory of this host'}, and the data is in {data}.",
                state=f"the data is in {data}; what runs beside it was not touched",
                safe_to_rerun=False,
                next_command=(
                    f"see whether anything was written to {place or 'what it runs on'} that is to be kept; then"
                    f" {host.compose.typed('down')}, and run the same task again"
                ),
            )


def counted_before(context: Context[World]) -> counting.Counts:
    """Return what was there when the last writer was stopped."""
    noted = _noted(context) or {}
    return counting.Counts(noted.get("rows", {}), int(noted.get("stream_items", 0)))


def _note_path(context: Context[World]) -> str:
    return os.path.join(context.operation.directory, "before.json")


def _noted(context: Context[World]) -> dict[str, Any] | None:
    noted: dict[str, Any] | None = durable.read_json(_note_path(context))
    return noted


class Files(RewriteFiles):
    """As of storage, in the folder where the files are now. args: ``folder`` and those of ``RewriteFiles``."""

    def compose(self, step: Step, context: Context[World]) -> ComposeCli:
        return host_of(step, context).compose

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        if step.name in context.operation.history().undone:
            return {}  # and the file may be elsewhere by now
        try:
            return super().undo(step, context)
        except HunkConflict as conflict:
            conflict.state = f"the data is in {step.args['data']}, whole, and nothing runs on it"
            raise


class Up(SelfProving):
    """Every service runs again, and the host says which version it is.

    args: ``folder``, ``data``, ``version``.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return None  # starting what runs costs nothing

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        host = host_of(step, context)
        host.bring_up()
        return {"version": said.version_said(said.says(host.container(hosts.API))), "ended": time.time()}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        history = context.operation.history()
        if step.name in history.undone:
            return {}
        host = host_of(step, context)
        if history.proved:
            back.may_begin(host, context)
        if is_aside(context):
            # Stopped alone they would come back with the engine, and let people write to what is about to be put away.
            ensure_down(host, step.args["data"], prove=False)
        else:
            host.stop_others()
        return {}
