# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stopping and starting: the steps that the users of the service notice."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container, RestartPolicy
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo, SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.barrier import unseal
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import (
    NO_RESTART,
    release,
    restore_policies,
    stands_on,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import FILES, LAYER
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.recreate import (
    create_containers,
    prove_mount,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import Store
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import (
    Location,
    Transfer,
    transfers_of_plan,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import (
    World,
    holds,
    in_parallel,
    of_any_image,
    put_aside,
    refuse_second,
    the_container,
    transfers_of,
)


class HoldRestarts(SelfProving):
    """Nothing that we stop may come back by itself when the engine restarts in between.

    args: ``containers``: {container id: {"name": ..., "maximum_retries": ...}}, their policies now.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        present = self._present(step, context.world)
        return {} if all(container.restart == NO_RESTART for container in present) else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        for container in self._present(step, context.world):
            context.world.engine.set_restart_policy(container.id, NO_RESTART)
        return {"restart_policies": dict(step.args["containers"])}

    def verify(self, step: Step, context: Context[World], evidence: Evidence) -> None:
        if self.is_done(step, context) is None:
            raise StatefulError("The engine did not keep the changed restart policies.")

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        release(context.world, context.operation.directory)
        # One that was put aside, and whose place another has, must not come back beside that.
        aside = put_aside(context.world, transfers_of_plan(context.operation.plan))
        policies = {key: policy for key, policy in step.args["containers"].items() if key not in aside}
        return restore_policies(policies, context.world)

    def let_go(self, step: Step, context: Context[World]) -> None:
        self.undo(step, context)

    @staticmethod
    def _present(step: Step, world: World) -> list[Container]:
        found = (world.engine.container(container_id) for container_id in step.args["containers"])
        return [container for container in found if container is not None]


class RestoreRestarts(NothingToUndo):
    """The containers that were only stopped get their restart policies back. args as for HoldRestarts."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        for container_id, policy in step.args["containers"].items():
            container = context.world.engine.container(container_id)
            wanted = RestartPolicy(policy["name"], policy["maximum_retries"])
            if container is not None and container.restart != wanted:
                return None
        return {}

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        return restore_policies(step.args["containers"], context.world)


class ArrangeStop(SelfProving):
    """A checkpoint, or save points: what makes the coming stop quick and complete.

    args: ``transfers``, ``hashes``: compose's of what its files said of each service when this was planned.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        running = [t for t in transfers_of(step) if running_on(context.world, t, t.origin)]
        return context.evidence.get(step.name, {}) if not running else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        world, arranged = context.world, {}
        if not self._was_stopped(context):
            self._refuse_changed_files(step, world)
        for transfer in transfers_of(step):
            for container in running_on(world, transfer, transfer.origin):
                self._refuse_another(transfer, container, context)
                arranged[transfer.name] = dict(
                    world.store(transfer).arrange_stop(world.engine, container, transfer.store_facts)
                )
        return {"arranged": arranged}

    @staticmethod
    def _refuse_another(transfer: Transfer, container: Container, context: Context[World]) -> None:
        """Raise where the service was made anew since the plan: its image and its options may be others by now.

        Once it was stopped for this operation, an admin who brings it back makes another container of the same.
        """
        known = ArrangeStop._was_stopped(context) or container.id in transfer.containers
        if container.image_id == transfer.image_id and known:
            return
        raise StatefulError(
            f"The service {transfer.service} was recreated since this was planned: {container.name} is another"
            " container than the one that the plan was made for.",
            next_command="run the same task again: it plans anew",
        )

    @staticmethod
    def _was_stopped(context: Context[World]) -> bool:
        return any(s.kind == "stop_stores" and s.name in context.evidence for s in context.operation.plan.steps)

    @staticmethod
    def _refuse_changed_files(step: Step, world: World) -> None:
        """Raise where the files say something else of a service than what was looked at, and maybe agreed to.

        The new container is made from them, and so is the old one anew, should it come to that.
        """
        planned: Mapping[str, str] = step.args.get("hashes", {})
        now = world.compose.service_hashes(planned) if planned else {}
        changed = [name for name, value in planned.items() if now.get(name) != value]
        if changed:
            raise StatefulError(
                f"What the compose files say of {', '.join(changed)} was changed since this was planned.",
                next_command="run the same task again: it plans anew, and says what the change would bring along",
            )

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        world = context.world
        arranged = context.evidence.get(step.name, {}).get("arranged", {})
        for transfer in transfers_of(step):
            for container in running_on(world, transfer, transfer.origin):
                if transfer.name in arranged:
                    world.store(transfer).unarrange_stop(world.engine, container, arranged[transfer.name])
        return {}


class StopStores(SelfProving):
    """The stores stop cleanly, and their files prove it. args: ``transfers``, ``pins``, ``file_is_theirs``."""

    # As for their dependents; or one crashes that no policy brings back.
    others_bring_about = True

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        world = context.world
        if any(running_on(world, t, t.origin) for t in transfers_of(step)):
            return None
        known = context.evidence.get(step.name)
        if known is not None:
            return known
        try:
            return {"identities": self._identities(step, world), "stopping_at": time.time()}
        except StatefulError:
            return None  # stopped, but not cleanly: apply starts it once more and stops it well

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        world = context.world
        for transfer in transfers_of(step):
            if not running_on(world, transfer, transfer.origin):
                self._recover(world, transfer)
        began = time.time()
        # What an earlier run stopped already says nothing about this stop's files.
        stopping = {t.name: began for t in transfers_of(step) if running_on(world, t, t.origin)}
        arranged = self._arranged(step, context)
        in_parallel(lambda group: self._stop_all(world, group, arranged), _by_service(transfers_of(step)))
        stopped_at = time.time()
        return {"identities": self._identities(step, world, stopping), "stopping_at": began, "stopped_at": stopped_at}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        """Have the services run on their origins again, on the old containers or on new ones."""
        world, transfers = context.world, [t for t in transfers_of(step) if not never_stopped(t, context)]
        directory = context.operation.directory
        astray = [t for t in transfers if not self._is_back(world, t, directory)]
        if astray:
            create_containers(
                world,
                astray,
                {t.name: t.origin for t in astray},
                directory=directory,
                pins=step.args["pins"],
                file_is_theirs=step.args["file_is_theirs"],
            )
        for transfer in transfers:
            unseal(transfer.goal)
        began = context.operation.journal.began(step.name)
        in_parallel(lambda t: self._start_again(world, t, began), [t for t in transfers if t.running])
        for transfer in transfers:
            if transfer.origin.kind == LAYER and the_container(world, transfer).id == transfer.containers[0]:
                self._remove_links(transfer, context)
        return {"running_on": [t.origin.shown() for t in transfers], "ready_at": time.time()}

    @staticmethod
    def _remove_links(transfer: Transfer, context: Context[World]) -> None:
        """Remove the second names of a layer that is in use again; of one that is gone they are the original."""
        if os.path.isdir(transfer.retained):
            shutil.rmtree(transfer.retained)
        context.operation.journal.removed(transfer.retained)

    @staticmethod
    def _arranged(step: Step, context: Context[World]) -> Mapping[str, Any]:
        arranging = (s.name for s in context.operation.plan.steps if s.kind == "arrange_stop")
        found: Mapping[str, Any] = context.evidence.get(next(arranging, ""), {}).get("arranged", {})
        return found

    @classmethod
    def _stop_all(cls, world: World, transfers: Sequence[Transfer], arranged: Mapping[str, Any]) -> None:
        for transfer in transfers:
            cls._stop(world, transfer, arranged.get(transfer.name, {}))

    @staticmethod
    def _stop(world: World, transfer: Transfer, arranged: Mapping[str, Any]) -> None:
        for container in running_on(world, transfer, transfer.origin):
            world.store(transfer).stop(world.engine, container, arranged, world.stop_timeout)

    @staticmethod
    def _identities(step: Step, world: World, stopping: Mapping[str, float] | None = None) -> dict[str, Any]:
        found = {}
        for transfer in transfers_of(step):
            path = transfer.data_at(transfer.origin, world.path_of(transfer, transfer.origin))
            since = (stopping or {}).get(transfer.name, 0.0)
            found[transfer.name] = dict(world.store(transfer).prove_stopped(path, transfer.store_facts, since))
        return found

    @staticmethod
    def _recover(world: World, transfer: Transfer) -> None:
        """Let a store that was killed recover, so that it can be stopped cleanly."""
        store = world.store(transfer)
        try:
            store.prove_stopped(
                transfer.data_at(transfer.origin, world.path_of(transfer, transfer.origin)), transfer.store_facts
            )
        except StatefulError:
            container = the_container(world, transfer)
            world.engine.start(container.id)
            store.wait_ready(world.engine, container.id, transfer.store_facts, world.ready_timeout)
            store.arrange_stop(world.engine, the_container(world, transfer), transfer.store_facts)

    @staticmethod
    def _is_back(world: World, transfer: Transfer, directory: str) -> bool:
        there = stands_on(world, transfer, transfer.origin, directory)
        return there and the_container(world, transfer).image_id == transfer.image_at(transfer.origin)

    @staticmethod
    def _start_again(world: World, transfer: Transfer, stop_began: float) -> None:
        store = world.store(transfer)
        prove_mount(world, transfer, transfer.origin)
        path = transfer.data_at(transfer.origin, world.path_of(transfer, transfer.origin))
        store.identity(path)  # never start a service on a directory without data
        container = the_container(world, transfer)
        if not container.running:
            refuse_second(world, transfer, container)
            world.engine.start(container.id)
        try:
            store.wait_ready(world.engine, container.id, transfer.store_facts, world.ready_timeout)
            return
        except StatefulError as failure:
            # It had been asked to stop, and is through with that only now, or hangs after it.
            # Where the files say that the server itself has ended, its container may be killed.
            container = the_container(world, transfer)
            if container.running and not StopStores._has_ended(store, path, transfer, stop_began):
                raise failure
        world.engine.stop(container.id, signal=container.stop_signal, timeout=world.stop_timeout, kill=True)
        world.engine.start(container.id)
        store.wait_ready(world.engine, container.id, transfer.store_facts, world.ready_timeout)

    @staticmethod
    def _has_ended(store: Store, path: str, transfer: Transfer, stop_began: float) -> bool:
        try:
            store.prove_stopped(path, transfer.store_facts, stop_began)
        except StatefulError:
            return False
        return True


def never_stopped(transfer: Transfer, context: Context[World]) -> bool:
    """Tell whether the service runs on its data, and no stop of ours began: of whatever image, that is an admin's."""
    history, plan = context.operation.history(), context.operation.plan
    begun = {*history.intents, *history.evidence}
    if transfer.origin.kind == LAYER or any(s.kind == "stop_stores" and s.name in begun for s in plan.steps):
        return False
    containers, data = context.world.containers_of(transfer.service), of_any_image(transfer.origin)
    return any(container.running and holds(container, transfer, data) for container in containers)


def _by_service(transfers: Sequence[Transfer]) -> list[list[Transfer]]:
    """Return the transfers of each service, a known store before plain files: it knows how to stop its container."""
    groups: dict[str, list[Transfer]] = {}
    for transfer in sorted(transfers, key=lambda transfer: transfer.store == FILES):
        groups.setdefault(transfer.service, []).append(transfer)
    return list(groups.values())


def running_on(world: World, transfer: Transfer, location: Location) -> list[Container]:
    """Return the running containers that could write to ``location``."""
    return [container for container in world.on_location(transfer, location) if container.running]
