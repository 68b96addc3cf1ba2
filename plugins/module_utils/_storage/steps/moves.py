# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ways to move a directory, as steps: rename, clone, and the two halves of a copy.

Every way but rename builds the data up in a staging directory beside the goal
and gives it its final name last, in one rename: the final name never bears
anything but the whole data.
"""

from __future__ import annotations

import os
import shutil
import time

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import (
    Context,
    Evidence,
    Undecided,
    UndoRefused,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo, SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.barrier import is_sealed, seal, unseal
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import baseline, note_baseline
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import LAYER
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.downtime import running_on
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.originals import (
    refuse_without_original,
    stopped_as,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.volumes import make_volume
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import Identity
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Location, Transfer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import clone, copy, durable, prove
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import rename as renaming
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import settle as settling
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import (
    World,
    holds,
    of_any_image,
    transfer_of,
)

SECOND_PASS_AFTER = 3.0
"""Seconds of a warm pass after which a second one is worth its time."""


class Rename(SelfProving):
    """The origin's directory itself becomes the goal's: one rename(2), at any size. args: ``transfer``."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        transfer = transfer_of(step)
        return self._evidence(transfer) if is_same_directory(transfer.goal.path, transfer, context) else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        transfer = transfer_of(step)
        if not is_same_directory(transfer.origin.path, transfer, context):
            raise StatefulError(
                f"{transfer.origin.path} is no longer the directory that the plan was made for.",
                state=f"the data is in {transfer.origin.shown()} or in {transfer.goal.path}; nothing was moved now",
            )
        stop_if_in_use(context.world, transfer, transfer.origin)
        make_room(context.world, transfer.goal)
        renaming.rename_directory(transfer.origin.path, transfer.goal.path)
        seal(transfer.origin)
        return self._evidence(transfer)

    def verify(self, step: Step, context: Context[World], evidence: Evidence) -> None:
        if self.is_done(step, context) is None:
            raise StatefulError("The renamed directory is not the one that was at the origin.")

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        transfer = transfer_of(step)
        if is_same_directory(transfer.goal.path, transfer, context):
            stop_if_in_use(context.world, transfer, transfer.goal)
            make_room(context.world, transfer.origin)
            renaming.rename_directory(transfer.goal.path, transfer.origin.path)
            seal(transfer.goal)  # until the undo of the stop has made a container on the origin
        elif not is_same_directory(transfer.origin.path, transfer, context):
            raise StatefulError(
                f"The directory that was renamed is neither at {transfer.goal.path} nor at {transfer.origin.path}.",
                state="the data is where somebody moved it to; nothing was touched now",
                safe_to_rerun=False,
                next_command=f"find / -xdev -inum {transfer.inode}",
            )
        return {"path": transfer.origin.path}

    @staticmethod
    def _evidence(transfer: Transfer) -> Evidence:
        return {"path": transfer.goal.path, "inode": transfer.inode, "bytes_copied": 0}


class FreeName(NothingToUndo):
    """Nothing mounts the origin any more, so its name need not be sealed. args: ``transfer``."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return None if is_sealed(transfer_of(step).origin) else {}

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        unseal(transfer_of(step).origin)
        return {}


class StagedMove(SelfProving):
    """What clone, copy and replica share: ``fill`` brings the staging directory to the origin's final state."""

    def fill(self, transfer: Transfer, step: Step, context: Context[World]) -> Evidence:
        raise NotImplementedError

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        transfer = transfer_of(step)
        known = published(transfer, context)
        if known is None:
            return None
        # A container that ran and was removed is seen by what it wrote alone.
        at_origin = started_since(context.world, transfer, transfer.origin, known["settled_at"])
        at_origin = at_origin or bool(written_at_origin(transfer, context))
        at_goal = started_since(context.world, transfer, transfer.goal, known["settled_at"])
        if at_origin and (at_goal or written_at_goal(transfer, context)):
            raise Undecided(
                f"The service {transfer.service} ran on {transfer.origin.shown()} and on {transfer.goal.path} since"
                " the data was moved: both may hold writes that the other lacks.",
                state=f"both are kept as they are: {transfer.origin.path} and {transfer.goal.path}",
                safe_to_rerun=False,
                next_command="compare the two by hand and remove the one that is not wanted",
            )
        return None if at_origin else known

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        transfer = transfer_of(step)
        stop_if_in_use(context.world, transfer, transfer.origin)
        if published(transfer, context) is not None:
            # Moved before, and the origin ran since: what lies at the goal is
            # our own copy, and is brought up to date like any other.
            os.rename(transfer.goal.path, transfer.staging)
        # Before the data is read, so that whatever runs on the origin from here on is noticed.
        settled_at = time.time()
        filled = dict(self.fill(transfer, step, context))
        found = self.prove(transfer, context)
        refuse_if_origin_ran(transfer, context, settled_at)
        make_room(context.world, transfer.goal)
        note_baseline(context.operation.directory, transfer, found)
        evidence = {**filled, "path": transfer.goal.path, "settled_at": settled_at}
        # On disk before the rename: a kill right after it must not leave a
        # directory of which nobody knows whose it is.
        status = os.lstat(transfer.staging)
        mark = {"inode": status.st_ino, "device": status.st_dev, "evidence": evidence}
        durable.write_json_atomically(_mark_path(context, transfer), mark)
        renaming.rename_directory(transfer.staging, transfer.goal.path)
        return evidence

    def prove(self, transfer: Transfer, context: Context[World]) -> Identity:
        """Return the identity of what was staged; raises unless it is that of the origin."""
        store = context.world.store(transfer)
        wanted = store.identity(transfer.data_at(transfer.origin))
        found = store.identity(transfer.staged_data)
        differences = store.differences(wanted, found)
        if differences:
            raise StatefulError(f"The copy in {transfer.staging} differs: {'; '.join(differences)}.")
        return found

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        """Take our copy away; the origin was never changed, and what others put at the goal stays."""
        transfer = transfer_of(step)
        for path in (transfer.staging, transfer.goal.path):
            stop_if_in_use(context.world, transfer, Location("bind", path))
        copied = published(transfer, context) is not None
        if copied or os.path.lexists(transfer.staging):
            refuse_without_original(transfer, transfer.goal.path if copied else transfer.staging, context)
        if copied:
            refuse_if_written(transfer, context)
            os.rename(transfer.goal.path, transfer.staging)
        if os.path.exists(_mark_path(context, transfer)) and not os.path.lexists(transfer.goal.path):
            # A container stands on this name until the undo of the stop: started, it would find an empty directory.
            seal(transfer.goal)
        # Before the copy goes: its inode may then be given to anything.
        forget_published(transfer, context)
        remove_staging(transfer)
        return {"removed": transfer.staging}


class Clone(StagedMove):
    """Share the blocks of every file (reflink); both sides then change independently."""

    def fill(self, transfer: Transfer, step: Step, context: Context[World]) -> Evidence:
        clone.clone_tree(transfer.origin.path, transfer.staging)
        return {"bytes_copied": 0}


class Settle(StagedMove):
    """Bring the warm copy to the state in which the origin was stopped, and prove what was written again."""

    def fill(self, transfer: Transfer, step: Step, context: Context[World]) -> Evidence:
        record, origin = record_path(context, transfer), transfer.origin.path
        settled = settling.settle(origin, transfer.staging, record=record, progress=context.report)
        if settled.files_unproved:
            raise StatefulError(
                f"{settled.files_unproved} files of the copy in {transfer.staging} were never read back.",
                state=f"the data is complete in {transfer.origin.shown()}",
            )
        prove.prove_settled(origin, transfer.staging, record=record)
        return {"bytes_copied": settled.bytes_written, "files_rewritten": settled.files_rewritten}


class WarmCopy(SelfProving):
    """Copy while the service runs, and prove the copy against what was read. args: ``transfer``."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        transfer = transfer_of(step)
        known = context.evidence.get(step.name)
        if known is None:
            return None
        # A directory at the goal alone says nothing: that of a volume which is held is there from the first step on.
        return known if os.path.isdir(transfer.staging) or published(transfer, context) is not None else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        transfer, record = transfer_of(step), record_path(context, transfer_of(step))
        os.makedirs(os.path.dirname(transfer.staging), exist_ok=True)
        origin = transfer.origin.path
        copied = copy.warm_copy(origin, transfer.staging, record=record, progress=context.report)
        if copied.copy_seconds > SECOND_PASS_AFTER:
            # What changed during a long pass would have to be settled in the downtime.
            copy.warm_copy(origin, transfer.staging, record=record, progress=context.report)
        prove.prove_warm(origin, transfer.staging, record=record)
        return {"bytes_copied": copied.bytes_written, "copy_seconds": copied.copy_seconds}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        remove_staging(transfer_of(step))
        return {"removed": transfer_of(step).staging}


def record_path(context: Context[World], transfer: Transfer) -> str:
    return os.path.join(context.operation.directory, f"{transfer.label}.copy.sqlite")


def _mark_path(context: Context[World], transfer: Transfer) -> str:
    return os.path.join(context.operation.directory, f"{transfer.label}.published.json")


def published(transfer: Transfer, context: Context[World]) -> Evidence | None:
    """Return the evidence of a staged move if what lies at the goal is the very directory that it put there."""
    mark = durable.read_json(_mark_path(context, transfer))
    if mark is None:
        return None
    same = is_directory(transfer.goal.path, mark["inode"], mark["device"], context.operation)
    return dict(mark["evidence"]) if same else None


def forget_published(transfer: Transfer, context: Context[World]) -> None:
    """Remove the note of which directory a staged move put at its goal."""
    durable.remove_file(_mark_path(context, transfer))


def is_in_place(transfer: Transfer) -> bool:
    """Tell whether a staged move has been given its final name."""
    path = transfer.goal.path
    return os.path.isdir(path) and not _is_empty(path) and not os.path.exists(transfer.staging)


def is_same_directory(path: str, transfer: Transfer, context: Context[World]) -> bool:
    """Tell whether ``path`` is the very directory that the plan was made for."""
    return is_directory(path, transfer.inode, transfer.device, context.operation)


def is_directory(path: str, inode: int, device: int, operation: Operation) -> bool:
    """Tell whether ``path`` is the directory that ``operation`` noted."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return status.st_ino == inode and (status.st_dev == device or not operation.in_its_boot)


def stop_if_in_use(world: World, transfer: Transfer, location: Location) -> None:
    """Raise where a container runs on ``location``: its data must not be moved under it."""
    users = running_on(world, transfer, location)
    if users:
        names = ", ".join(container.name for container in users)
        raise StatefulError(
            f"{names} runs on {location.shown()}, which was about to be moved.",
            state="nothing was moved: the data is where that container has it",
            next_command=f"find out who started it: docker inspect {users[0].name}",
        )


def refuse_if_origin_ran(transfer: Transfer, context: Context[World], since: float) -> None:
    """Raise where something ran on the origin after ``since``: the copy may lack what was written there.

    A container of the service that is of neither end's image (its tag was pulled meanwhile) is on no location:
    whatever runs beside the goal counts, and what was written at the origin.
    """
    world, goal = context.world, of_any_image(transfer.goal)
    stop_if_in_use(world, transfer, transfer.origin)
    beside = [c for c in world.containers_of(transfer.service) if c.running and not holds(c, transfer, goal)]
    wrote = written_at_origin(transfer, context)
    if beside or wrote or started_since(world, transfer, transfer.origin, since):
        who = ", ".join(container.name for container in beside) or "A container"
        raise StatefulError(
            f"{who} ran on {transfer.origin.shown()} while its data was being moved, so the copy may lack what"
            f" was written there{wrote and f' ({wrote})'}.",
            state=f"the data is complete in {transfer.origin.shown()}",
            next_command=world.maker.listing(transfer.service),
        )


def refuse_if_written(transfer: Transfer, context: Context[World]) -> None:
    """Raise where a copy at the goal, which an undo would remove, holds what was written to it since."""
    wrote = written_at_goal(transfer, context)
    if wrote:
        raise UndoRefused(
            f"{transfer.goal.path} has taken writes ({transfer.service}: {wrote}), so nothing is undone: going back to"
            " the original as it was would lose them.",
            state=f"{transfer.goal.path} holds all data; {transfer.origin.shown()} is as it was at the stop",
            next_command="run the same task again: it goes on from here",
        )


def written_at_goal(transfer: Transfer, context: Context[World]) -> str:
    """Return in words what the copy at the goal took since it was published; empty for nothing."""
    since = baseline(context.operation.directory, transfer)
    if since is None:
        return ""
    return context.world.store(transfer).took_writes(transfer.data_at(transfer.goal), since)


def written_at_origin(transfer: Transfer, context: Context[World]) -> str:
    """Return in words what the origin took since the stop; empty for nothing, and where it is retained elsewhere."""
    since = stopped_as(transfer, context.operation.plan, context.evidence)
    # The files of a layer are marked by the links that keep them, and those are made anew after any start.
    if since is None or transfer.origin.kind == LAYER or not os.path.isdir(transfer.origin.path):
        return ""
    if _is_empty(transfer.origin.path):
        return ""
    return context.world.store(transfer).took_writes(transfer.data_at(transfer.origin), since)


def started_since(world: World, transfer: Transfer, location: Location, moment: float) -> bool:
    """Tell whether any container started on ``location`` after ``moment`` (seconds since the epoch)."""
    return any(c.started > moment for c in world.on_location(transfer, location))


def make_room(world: World, location: Location) -> None:
    """Make sure that ``location`` can take a directory: its parent is there, and nothing but an empty one in it."""
    if location.is_volume:
        make_volume(world.engine, location)
    os.makedirs(os.path.dirname(location.path), exist_ok=True)
    unseal(location)
    if os.path.isdir(location.path):
        os.rmdir(location.path)  # fails, as it must, unless it is empty


def remove_staging(transfer: Transfer) -> None:
    """Remove our own partial copy, and only that: the name is one that only we give."""
    if os.path.exists(transfer.staging):
        # Of an upgrade, what is built up lies in a directory of such a name, beside its copy of the original.
        if not any(map(durable.is_staging_path, (transfer.staging, os.path.dirname(transfer.staging)))):
            raise StatefulError(
                f"{transfer.staging} is not a partial copy of ours; it is not removed.",
                next_command=shell("ls", "-la", transfer.staging),
            )
        shutil.rmtree(transfer.staging)


def _is_empty(path: str) -> bool:
    with os.scandir(path) as entries:
        return next(entries, None) is None
