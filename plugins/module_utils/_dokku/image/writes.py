# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the two services of a swap have taken since the data went from the one to the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import survey
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image import way_back
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.content import content_of
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.planner import (
    EXPORT,
    LET_IN,
    REPOINT,
    brought,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import World, is_primary
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import container_of
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Undecided
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.report import rolling_back
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import NEXT_XID, system_identifier
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.compare import (
    refuse_losses,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.model import from_dict


def sides_of(operation: Operation) -> Mapping[str, Any]:
    """Return what the step that lets the app in was told: the ``app``, and from which service it goes to which."""
    return next(step.args for step in operation.plan.steps if step.name == LET_IN)


def writes_since(world: World, service: str, known: Mapping[str, Any]) -> int:
    """Return about how many transactions were made on a service since its data was brought there."""
    with world.session(service) as there:
        found = str(system_identifier(there))
        if found != known["system_identifier"]:
            raise StatefulError(
                f"The cluster of {service} ({found}) is not the one that the data was brought to.",
                next_command=world.dokku.typed("postgres:info", service),
            )
        return max(0, int(there.scalar(NEXT_XID)) - int(known["next_xid"]))


def refuse_late(world: World, old: str, known: Mapping[str, Any]) -> None:
    """Raise where the old service has taken writes after it was exported.

    A session may let itself write although its database says otherwise.
    """
    with world.session(old) as there:
        if int(there.scalar(NEXT_XID)) == int(known["next_xid"]):
            return
    # The server's own work counts as transactions, too.
    before = from_dict(known["content"])
    after = content_of(world, old, world.service(old).database)
    refuse_losses(after, before, f"{old} was written to while it was exported, and the export lacks it")
    refuse_losses(before, after, f"{old} was written to while it was exported, and the export has what is gone")


def newer(world: World, operation: Operation) -> way_back.Lost | None:
    """Return what the new service has that the old one lacks, since the data was brought there; None for nothing."""
    args = sides_of(operation)
    known = brought(operation.history().evidence)
    if known is None or REPOINT not in operation.history().intents or not survey.exists(world.dokku, args["new"]):
        return None
    if not writes_since(world, args["new"], known):
        return None
    return way_back.lost(world, operation, args["old"], args["new"])


def refuse_newer(world: World, operation: Operation) -> None:
    """Raise where the app was on the new service, wrote, and was put back to the old one by hand.

    To bring the old service's data once more would be on top of those writes.
    """
    names = [step.name for step in operation.plan.steps]
    history = operation.history()
    if EXPORT not in names or history.undoing or REPOINT not in history.intents:
        return
    args = sides_of(operation)
    container = world.engine.container(container_of(args["new"]))
    if container is None or not container.running or is_primary(world, args["app"], args["new"]):
        return
    found = newer(world, operation)
    if found is not None:
        raise Undecided(
            f"DATABASE_URL of {args['app']} points at {args['old']}, and {args['new']} has what that lacks"
            f" ({found.told()}): the app has written there, and was put back by hand.",
            state=f"nothing was touched; {args['old']} and {args['new']} are both there",
            next_command=f"{world.dokku.typed('postgres:promote', args['new'], args['app'])} and run the same task"
            f" again, to stay on {args['new']}; or {rolling_back(operation)} -e operation_discard_writes=true, which"
            " exports that and stays on the old one",
        )
