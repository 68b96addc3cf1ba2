# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the moved data to the running service: create, start, prove."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import (
    Context,
    Evidence,
    UndoRefused,
    as_stateful,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo, SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import (
    baseline,
    hold,
    note_baseline,
    release,
    stands_on,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import LAYER, RENAME
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.recreate import (
    create_containers,
    prove_mount,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.discarding import (
    can_discard,
    forward_or_back,
    set_aside,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.downtime import never_stopped, running_on
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.moves import (
    published,
    refuse_if_origin_ran,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.originals import refuse_without_original
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import Identity
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Transfer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import (
    World,
    holds,
    in_parallel,
    refuse_second,
    the_container,
    transfer_of,
    transfers_of,
)


class CreateContainers(SelfProving):
    """New containers on the goal, not started yet, so that the mounts are proved before anything can be written.

    args: ``transfers``, ``pins``, ``file_is_theirs``, ``stopped_by``: name of the step with the identities.
    To undo it is to end what runs there, whoever started it; the stop's undo
    then makes containers on the origin again.
    """

    # A plain 'up' makes these containers as soon as data and file are in their new place.
    others_bring_about = True

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        world = context.world
        for transfer in transfers_of(step):
            if not stands_on(world, transfer, transfer.goal, context.operation.directory):
                return None
            if the_container(world, transfer).image_id != transfer.image_at(transfer.goal):
                return None
        return {"mounts": self._mounts(step, world)}

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        world, transfers = context.world, transfers_of(step)
        for transfer in transfers:
            known = published(transfer, context)
            if known is not None:
                refuse_if_origin_ran(transfer, context, known["settled_at"])
            # Whatever happened before: a service is never started on a directory
            # without its data, where its image would initialise an empty one.
            path = transfer.origin.path if transfer.goal.kind == LAYER else transfer.goal.path
            world.store(transfer).identity(transfer.data_at(transfer.goal, path))
        create_containers(
            world,
            transfers,
            {t.name: t.goal for t in transfers},
            directory=context.operation.directory,
            pins=step.args["pins"],
            file_is_theirs=step.args["file_is_theirs"],
        )
        return {"mounts": self._mounts(step, world)}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        world, directory = context.world, context.operation.directory
        for transfer in transfers_of(step):
            _remove_unfinished(world, transfer)
        transfers = [t for t in transfers_of(step) if t.running and not never_stopped(t, context)]
        self._refuse_without_originals(step, context, transfers)
        wrote = [(transfer, words) for transfer in transfers if (words := self._halted(transfer, step, context))]
        losable = all(can_discard(transfer) for transfer, _words in wrote)
        if wrote and losable and world.discard_writes:
            return {"discarded": [set_aside(transfer, words, context) for transfer, words in wrote]}
        if wrote:
            failed = self._serve(step, context, transfers)
            release(world, directory)
            what = "; ".join(f"{transfer.service}: {words}" for transfer, words in wrote)
            forward = "look at the services' logs, then run the same task again: it goes on from here"
            raise UndoRefused(
                f"The new location has taken writes already ({what}), so nothing is undone: going back to the original"
                f" as it was would lose them.{failed and f' Not every service could be started there: {failed}'}",
                state=(
                    f"{'what can run was' if failed else 'the services were'} started on the new location, which holds"
                    " all that was written there; the originals are kept"
                ),
                next_command=forward_or_back(context.operation, forward) if losable else forward,
            )
        return {}

    def _refuse_without_originals(self, step: Step, context: Context[World], transfers: Sequence[Transfer]) -> None:
        """Raise, with the services on the new location, where a copy there may be all that is left of the data."""
        for transfer in transfers_of(step):
            if published(transfer, context) is None:
                continue
            try:
                refuse_without_original(transfer, transfer.goal.path, context)
            except UndoRefused as refusal:
                failed = self._serve(step, context, transfers)
                release(context.world, context.operation.directory)
                refusal.msg += f" Not every service could be started there: {failed}" if failed else ""
                raise

    def theirs(self, transfer: Transfer, wrote: str, path: str, since: Identity, context: Context[World]) -> str:
        """Return what of ``wrote``, which the stopped store on ``path`` took, others may have written."""
        return wrote

    def _halted(self, transfer: Transfer, step: Step, context: Context[World]) -> str:
        """End what runs on the goal, and return what it wrote there that an undo would lose."""
        world, directory = context.world, context.operation.directory
        # A renamed directory goes back whole; what was taken away by an undo that was interrupted is no more.
        losable = transfer.strategy != RENAME and self._is_there(transfer, context)
        identities = context.evidence.get(step.args["stopped_by"], {}).get("identities", {})
        since = baseline(directory, transfer) or identities.get(transfer.name)
        path = transfer.data_at(transfer.goal, world.path_of(transfer, transfer.goal)) if losable else ""
        running, wrote = running_on(world, transfer, transfer.goal), ""
        for container in running:
            # A signal that is not the container's own stop signal does not
            # count as a stop by hand: the policy would start it again.
            hold(world, directory, [transfer.service])
            wrote = self._halt(world, transfer, container, path, since) or wrote
        if not losable:
            return ""
        if since is None:
            return wrote
        wrote = wrote if running else world.store(transfer).took_writes(path, since)
        theirs = wrote and self.theirs(transfer, wrote, path, since, context)
        if not theirs and (running or wrote):
            # What the stop itself wrote is no reason to refuse the next undo, nor is what we did.
            note_baseline(directory, transfer, world.store(transfer).identity(path))
        return theirs

    @staticmethod
    def _halt(
        world: World, transfer: Transfer, container: Container, path: str, since: Mapping[str, Any] | None
    ) -> str:
        store, ends = world.store(transfer), time.monotonic() + world.stop_timeout
        place = path or transfer.data_at(transfer.goal, world.path_of(transfer, transfer.goal))
        try:
            return store.halt(world.engine, container, place, since or store.identity(place), world.stop_timeout)
        except StatefulError:
            # It never got ready, so there may be no server to ask. Then its first process is
            # asked to end, as the engine does it, and never killed.
            left = max(1.0, ends - time.monotonic())
            world.engine.stop(container.id, signal=container.stop_signal, timeout=left)
        return store.took_writes(place, since) if since is not None else ""

    def _serve(self, step: Step, context: Context[World], transfers: Sequence[Transfer]) -> str:
        """Have the services run on the goal again, and return in words why one cannot; empty where all do.

        Of several, a killed run may have made the container of the first alone, and an undo may have taken the
        data of the last away.
        """
        world = context.world
        there = {transfer.service for transfer in transfers if self._on_goal(world, transfer)}
        missing = [transfer for transfer in transfers if transfer.service not in there]
        wanted = [raw for raw, t in zip(step.args["transfers"], transfers_of(step)) if t in missing]
        make = replace(step, args={**step.args, "transfers": wanted})
        works: list[Callable[[], object]] = [
            # What took writes comes first, and nothing is made anew of it.
            lambda: in_parallel(lambda t: self._start_again(world, t), [t for t in transfers if t.service in there]),
            lambda: missing and self.apply(make, context),
            lambda: in_parallel(lambda t: self._start_again(world, t), missing),
        ]
        failed = []
        for work in works:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - told in the refusal, which comes whatever happens here
                failed.append(as_stateful(error).msg)
        return " ".join(failed)

    @classmethod
    def _start_again(cls, world: World, transfer: Transfer) -> None:
        there = cls._on_goal(world, transfer)
        if there and not any(container.running for container in there):
            # Never on a directory that an undo has taken the data out of.
            world.store(transfer).identity(transfer.data_at(transfer.goal, world.path_of(transfer, transfer.goal)))
            world.engine.start(there[0].id)

    @staticmethod
    def _on_goal(world: World, transfer: Transfer) -> list[Container]:
        # Killed while it made the new container, compose has left the old one beside it.
        return [c for c in world.containers_of(transfer.service) if holds(c, transfer, transfer.goal)]

    @staticmethod
    def _is_there(transfer: Transfer, context: Context[World]) -> bool:
        if transfer.goal.kind == LAYER:
            return stands_on(context.world, transfer, transfer.goal, context.operation.directory)
        return published(transfer, context) is not None

    @staticmethod
    def _mounts(step: Step, world: World) -> dict[str, Any]:
        return {t.name: prove_mount(world, t, t.goal) for t in transfers_of(step)}


def _remove_unfinished(world: World, transfer: Transfer) -> None:
    """Remove what a killed run had made beside the container that it was to replace, and never started."""
    for container in world.maker.unfinished(world.engine, world.project, transfer):
        world.engine.remove_container(container.id)


class StartStores(NothingToUndo):
    """The stores start on the goal. args: ``transfers``.

    Undoing the step before, which made the containers, ends what runs in them.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        waiting = [t for t in self._wanted(step) if not running_on(context.world, t, t.goal)]
        return {} if not waiting else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        world = context.world
        waiting = [t for t in self._wanted(step) if not running_on(world, t, t.goal)]
        in_parallel(lambda transfer: self._start(world, transfer), waiting)
        return {"starting_at": time.time()}

    @staticmethod
    def _start(world: World, transfer: Transfer) -> None:
        container = the_container(world, transfer)
        refuse_second(world, transfer, container)
        world.engine.start(container.id)

    @staticmethod
    def _wanted(step: Step) -> list[Transfer]:
        return [transfer for transfer in transfers_of(step) if transfer.running]


class RemoveReplaced(NothingToUndo):
    """What served is not needed for a way back any more. args: ``transfer``."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return None if context.world.engine.container(transfer_of(step).origin.container) else {}

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        context.world.maker.let_go(context.world.engine, transfer_of(step))
        return {}


def _full(transfer: Transfer) -> str:
    """Say so if there is no room where the data is now, which a store does not always tell."""
    if transfer.goal.kind == LAYER:
        return ""
    room = os.statvfs(transfer.goal.path)
    # Without a limit on inodes there are none to be counted.
    full = not room.f_bavail or (room.f_files and not room.f_favail)
    return ", whose file system is full" if full else ""


class ProveGoal(NothingToUndo):
    """The stores answer, on the wanted mounts, as the same stores. The downtime ends here.

    args: ``transfers``, ``stopped_by``.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        try:
            evidence = self.apply(step, context) if self._all_up(step, context.world) else None
        except StatefulError:
            return None
        known = context.evidence.get(step.name)
        return known if known and evidence is not None else evidence

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        world, transfers = context.world, transfers_of(step)
        identities = context.evidence.get(step.args["stopped_by"], {}).get("identities", {})
        in_parallel(lambda t: self._ready(world, t, identities.get(t.name, {})), [t for t in transfers if t.running])
        ready_at = time.time()
        mounts, verification = {}, {}
        for transfer in transfers:
            mounts[transfer.name] = prove_mount(world, transfer, transfer.goal)
            place = transfer.data_at(transfer.goal, world.path_of(transfer, transfer.goal))
            found = world.store(transfer).identity(place)
            differences = world.store(transfer).differences(identities.get(transfer.name, found), found)
            if differences:
                raise StatefulError(f"{transfer.goal.shown()} holds other data: {'; '.join(differences)}.")
            verification[transfer.name] = {"identity": dict(found), "identity_equal": True}
        release(world, context.operation.directory)
        return {"ready_at": ready_at, "mounts": mounts, "verification": verification}

    @staticmethod
    def _ready(world: World, transfer: Transfer, identity: Mapping[str, Any]) -> None:
        container, facts = the_container(world, transfer), transfer.facts_at_goal(identity)
        try:
            world.store(transfer).wait_ready(world.engine, container.id, facts, world.ready_timeout)
        except StatefulError as failure:
            failure.msg += f"\nIt was started on {transfer.goal.shown()}{_full(transfer)}."
            raise

    @staticmethod
    def _all_up(step: Step, world: World) -> bool:
        for transfer in transfers_of(step):
            containers = world.containers_of(transfer.service)
            if len(containers) != 1 or (transfer.running and not containers[0].running):
                return False
        return True
