# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a swap ends: committed, and the old service is destroyed; or rolled back, and it is the app's again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import services, survey
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image import (
    again,
    planner,
    standstill,
    way_back,
    writes,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.journey import HANDLERS
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.let_in import DISCARDED
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import World, calls_of, has_gone_over
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import RUNNING, Service, service_at
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.ending import BACKUP, ORIGINAL, Stepwise
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import DONE, Copy
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.report import rolling_back
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.commit import let_images_go, remove_copy
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.moves import is_directory

Connect = Callable[[Mapping[str, Any]], World]
"""Opens the seams to the host, by what the operation journaled of them."""


def ending_of_swaps(operations: OperationStore, connect: Connect, *, check_mode: bool) -> Stepwise[World]:
    """Return how swaps end: the old service is the app's again, or is destroyed."""

    def world_of(operation: Operation) -> World:
        return connect(operation.plan.facts["dokku"])

    def free(operation: Operation, copies: Sequence[Copy]) -> None:
        world = world_of(operation)
        if operation.history().state == DONE:
            _destroy(world, operation)
        for copy in copies:
            if copy.role == BACKUP and os.path.isfile(copy.path):
                os.unlink(copy.path)
            elif os.path.lexists(copy.path):
                remove_copy(world.engine, operation, copy)
        let_images_go(world.engine, operation)

    return Stepwise(
        operations=operations,
        handlers=HANDLERS,
        open_world=lambda operation: calls_of(operation, world_of(operation)),
        back=_way_back,
        free=free,
        check_back=lambda operation: _check_back(world_of(operation), operation),
        check_mode=check_mode,
    )


def _way_back(operation: Operation) -> str:
    args = writes.sides_of(operation)
    return f"{args['app']} goes back from {args['new']} to {args['old']}, which is as it was."


def _check_back(world: World, operation: Operation) -> None:
    sides = writes.sides_of(operation)
    again.refuse_without_image(world, operation, sides["old"])
    _refuse_loss(world, operation)
    way_back.refuse_others(world, sides, InvalidInput)
    _refuse_other_users(world, sides)


def _refuse_other_users(world: World, sides: Mapping[str, Any]) -> None:
    """Raise where the app itself names the new service by another user: it would not be removed, last of all."""
    there = survey.service(world.dokku, world.engine, sides["new"])
    if there is None:
        return
    named = services.by_another_user(world.reached, survey.app(world.dokku, sides["app"]), there)
    if named:
        raise InvalidInput(
            f"{', '.join(named)} of {sides['app']} names {sides['new']} by another login than the service's own, and"
            f" going back to {sides['old']} would leave it behind. Take it away first.",
            next_command=world.dokku.typed("config:keys", sides["app"]),
        )


def _refuse_loss(world: World, operation: Operation) -> None:
    args = writes.sides_of(operation)
    history = operation.history()
    known = planner.brought(history.evidence)
    if known is None or planner.REPOINT not in history.intents:
        return
    # An app that was moved on has neither of the two to lose, and a third.
    over = has_gone_over(world, args["app"], args["old"], args["new"])
    if world.discard_writes or not survey.exists(world.dokku, args["new"]):
        return
    if not over:
        _refuse_put_back(world, operation)
        return
    written = writes.writes_since(world, args["new"], known)
    if written:
        raise InvalidInput(
            f"About {written} transactions were made on {args['new']} since {operation.id}, and {args['old']} does"
            " not have them. Keep the new service; or, within one major version, go to the old image with"
            " dokku_postgres_image, which takes them along; or set discard_writes, which exports to files what is"
            " given up, and goes back without it.",
            next_command=f"{rolling_back(operation)} -e operation_discard_writes=true",
            operation=operation.id,
            transactions=written,
        )


def _refuse_put_back(world: World, operation: Operation) -> None:
    """Raise where the app was put back to the old service by hand, which lacks what was written to the new one."""
    args, history = writes.sides_of(operation), operation.history()
    if planner.LET_IN in history.undone or DISCARDED in history.evidence:
        return
    found = writes.newer(world, operation)
    if found is not None:
        raise InvalidInput(
            f"DATABASE_URL of {args['app']} points at {args['old']} already, and {args['new']} has what that lacks"
            f" ({found.told()}); going back would destroy it. Set discard_writes, which exports it to files first, or"
            f" put the app on {args['new']} again.",
            next_command=f"{rolling_back(operation)} -e operation_discard_writes=true",
            operation=operation.id,
        )


def _destroy(world: World, operation: Operation) -> None:
    """Destroy the old service, where the app has its data in another one that runs, and nobody uses the old one.

    That is the new one, or the one of a swap that came later.
    """
    args = writes.sides_of(operation)
    primary = survey.app(world.dokku, args["app"]).primary
    at = service_at(primary, survey.services(world.dokku, world.engine)) if primary is not None else None
    if at is None or at.name == args["old"]:
        raise StatefulError(
            f"DATABASE_URL of {args['app']} points at {at.name if at else 'no service'}, so {args['old']} is not"
            " destroyed.",
            next_command=world.dokku.typed("postgres:app-links", args["app"]),
        )
    world.container(at.name)
    old = survey.service(world.dokku, world.engine, args["old"])
    if old is None:
        return
    if not _is_the_one(operation, old):
        raise StatefulError(
            f"{args['old']} is another service than the one that the swap left: it was made since, and is not"
            " destroyed.",
            next_command=world.dokku.typed("postgres:info", args["old"]),
        )
    users = services.users_of(world.reached, old)
    if old.status == RUNNING:
        users.append("it was started since")
    if old.exposed:
        users.append(f"it is exposed on ports of this host ({old.exposed})")
    if users:
        raise StatefulError(
            f"{args['old']} is in use, and is not destroyed: {'; '.join(users)}.",
            next_command=world.dokku.typed("postgres:links", args["old"]),
        )
    wrote = standstill.written(world, operation)
    if wrote:
        raise StatefulError(
            f"{args['old']} was written to after its data was taken for {args['new']} ({wrote}), which {args['new']}"
            " lacks, and is not destroyed. Start it and carry over what is needed; once nobody needs it, destroy it by"
            f" hand ({world.dokku.typed('postgres:destroy', args['old'], '--force')}) and commit again.",
            next_command=world.dokku.typed("postgres:start", args["old"]),
        )
    services.remove(world.reached, args["old"])


def _is_the_one(operation: Operation, old: Service) -> bool:
    """Tell whether a service has the directory that the swap left, or, half destroyed, none. Its name says little."""
    left = [copy for copy in operation.history().copies() if copy.role == ORIGINAL and copy.service == old.name]
    if not os.path.lexists(old.data):
        return True
    return bool(left) and all(is_directory(old.data, copy.inode, copy.device, operation) for copy in left)
