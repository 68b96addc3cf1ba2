# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What uses the stores stops before them, and starts after them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import logs_of
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo, SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.beyond import beyond_proof
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World, in_parallel


class StopDependents(SelfProving):
    """What uses the stores stops first.

    args: ``order``: lists of container ids, stopped list after list, ``services`` and ``names``: those of each.
    """

    # An engine that restarts while restart policies are held leaves them stopped.
    others_bring_about = True

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        ids = [container_id for group in step.args["order"] for container_id in group]
        containers = [context.world.engine.container(container_id) for container_id in ids]
        if not any(c is not None and c.running for c in containers) or beyond_proof(context):
            return {}
        return None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        began = time.time()
        for group in step.args["order"]:
            in_parallel(lambda container_id: self._stop(context.world, container_id), group)
        return {"stopping_at": began}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        started = start_in_order(context.world, reversed(step.args["order"]))
        missing = without_container(step, context.world)
        told = f"{', '.join(missing)} has no container any more: {made_anew(context.world, missing)}" if missing else ""
        return {**started, "told": [told] if told else []}

    def let_go(self, step: Step, context: Context[World]) -> None:
        self.undo(step, context)

    @staticmethod
    def _stop(world: World, container_id: str) -> None:
        # An application has no data of its own here: after its grace it is
        # killed, as 'docker compose stop' would do.
        container = world.engine.container(container_id)
        if container is not None and container.running:
            grace = float(container.stop_timeout or 10)
            world.engine.stop(container.id, signal=container.stop_signal, timeout=grace, kill=True)


class StartDependents(NothingToUndo):
    """The dependents that ran run again. args as for StopDependents."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        ids = [container_id for group in step.args["order"] for container_id in group]
        containers = [context.world.engine.container(container_id) for container_id in ids]
        run = all(c is None or c.running for c in containers)
        return {} if run and not without_container(step, context.world) else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        started = start_in_order(context.world, reversed(step.args["order"]))
        missing = without_container(step, context.world)
        if missing:
            # Not made anew by us: their file may say by now what nobody has agreed to.
            raise StatefulError(
                f"{', '.join(missing)} ran, was stopped for this, and has no container any more: a prune takes those"
                " that do not run.",
                state=f"the stores run; so do all dependents but {', '.join(missing)}",
                next_command=made_anew(context.world, missing),
            )
        return started


def without_container(step: Step, world: World) -> list[str]:
    """Return the services of what was stopped that have no container at all now, each once.

    One that its file has no more is none of them: whoever took it out wanted it gone.
    """
    services: Mapping[str, str] = step.args.get("services", {})
    names: Mapping[str, str] = step.args.get("names", {})
    gone = [
        service
        for key, service in services.items()
        # What was made anew has another id, and is known by its name alone where it is of another project, or of none.
        if world.engine.container(key) is None and not _is_there(world, names.get(key, ""))
    ]
    found = [service for service in dict.fromkeys(gone) if not world.containers_of(service)]
    return _in_the_files(world, found) if found else []


def _is_there(world: World, name: str) -> bool:
    found = world.engine.container(name) if name else None
    return found is not None and found.name == name


def _in_the_files(world: World, services: Sequence[str]) -> list[str]:
    try:
        declared = world.compose.config(all_profiles=True).get("services") or {}
    except StatefulError:
        return list(services)  # nobody can tell, or there are no files
    return [service for service in services if service in declared]


def made_anew(world: World, services: Sequence[str]) -> str:
    """Return the command that makes these containers anew; where no file says how, the one that lists what is there."""
    try:
        return world.compose.typed("up", "-d", "--no-deps", *services)
    except StatefulError:
        return f"{world.maker.listing(services[0])}; make {', '.join(services)} anew by that name, as it was made"


def start_in_order(world: World, groups: Iterable[Sequence[str]]) -> dict[str, Any]:
    """Start the containers of each group, all that can; raises for those that cannot. One that is gone is named."""
    started, gone, failed = [], [], []
    for group in groups:
        for container_id in group:
            container = world.engine.container(container_id)
            if container is None:
                gone.append(container_id[:12])
            elif not container.running:
                try:
                    world.engine.start(container_id)
                    started.append(container.name)
                except StatefulError as error:
                    failed.append((container.name, error.msg))
    if failed:
        raise StatefulError(
            "; ".join(f"{name} does not start: {why}" for name, why in failed),
            state=f"the stores run; so do all dependents but {', '.join(name for name, _why in failed)}",
            next_command=logs_of(failed[0][0]),
        )
    return {"started": started, "gone": gone, "started_at": time.time()}
