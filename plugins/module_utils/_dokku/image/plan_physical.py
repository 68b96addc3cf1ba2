# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps by which the files of a service go to the new one, as they are or by pg_upgrade of a copy. Pure.

They are those of an image change (``_postgresql.image.planner``), between two services that dokku has made: what the
new one was made with, its own empty cluster, goes aside and leaves its address to the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.model import FilesWay
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import FINISH, PREPARE, SWITCH, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import planner
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import PG_UPGRADE
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import REPLICA
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.planner import (
    MOVE_KINDS,
    WARM_KINDS,
    partial_of,
    stop_steps,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Transfer

KEEP_DUMP, VACATE = "export, to keep", "set the new service's own cluster aside"
SERVE, ADOPT = "serve the data by the new service", "give the data the new service's names"


@dataclass(frozen=True)
class Steps:
    """Those that cost no downtime, those around the shutting out of the writers, and those after the proof."""

    preparing: tuple[Step, ...]
    before_quiet: tuple[Step, ...]
    after_quiet: tuple[Step, ...]
    tidying: tuple[Step, ...]


def steps_of(way: FilesWay, both: Mapping[str, Any], *, dump: str, operation: str, made_by: str) -> Steps:
    """Return the steps; ``both`` are the names that every step of a swap has, ``dump`` where the export is kept.

    ``made_by``: the step that makes the new service.
    """
    transfer = transfer_of(way, operation)
    one, everything = {"transfer": transfer.as_dict()}, {"transfers": [transfer.as_dict()]}
    arrange, hold, stop = stop_steps((), way.found.findings.stores, {**everything, "pins": {}, "file_is_theirs": False})
    making, moving, refreshing, tidying = _moving(way, transfer, operation)
    brought_by = moving[-1].name
    identified_by = stop.name if way.copied else brought_by
    count = Step("dokku_count", "count the rows", SWITCH, dict(both))
    look = planner.looking_step(way.found, transfer)
    # Within a major version, too, the copy is what is served.
    asked = {"strategy": way.found.way.strategy, "copied_by": way.found.copying.strategy}
    look = replace(look, args={**look.args, **asked})
    remember, compare = planner.comparing_steps(way.found, transfer, identified_by)
    served = {
        **both,
        **one,
        "brought_by": brought_by,
        "identified_by": identified_by,
        "vacated_by": VACATE,
        "owner": list(way.found.candidate.user),
    }
    keep = {"service": both["old"], "path": dump, "image": way.found.candidate.id}
    return Steps(
        preparing=(
            Step("dokku_keep_dump", KEEP_DUMP, PREPARE, keep),
            Step("dokku_vacate", VACATE, PREPARE, {**both, **one, "made_by": made_by}),
            *making,
        ),
        before_quiet=(look, arrange, hold),
        after_quiet=(
            count,
            remember,
            stop,
            *moving,
            Step("dokku_serve", SERVE, SWITCH, served),
            *refreshing,
            compare,
            Step("dokku_adopt", ADOPT, SWITCH, {**served, "counted_by": count.name}),
        ),
        tidying=(
            *tidying,
            Step(
                "dokku_tidy",
                "remove what the new service was made with",
                FINISH,
                {**both, **one, "made_by": made_by},
            ),
        ),
    )


def transfer_of(way: FilesWay, operation: str) -> Transfer:
    """Return the data on its way from the one service to the other."""
    if not way.copied:
        return planner.transfer_for(way.request, way.found, operation)
    # Where a compose service would go on with its own files, this is another service, with a copy of them.
    found = replace(way.found, way=replace(way.found.way, strategy=PG_UPGRADE))
    transfer = planner.transfer_for(way.request, found, operation)
    staging = partial_of(transfer.goal.path, operation)
    return replace(transfer, strategy=way.found.copying.strategy, staging=staging)


def _moving(way: FilesWay, transfer: Transfer, operation: str) -> tuple[list[Step], list[Step], list[Step], list[Step]]:
    """Return what is made while the service runs, what moves, what the new libraries ask for, and what is left."""
    if not way.copied:
        making, moving, afterwards = planner.rebuild_steps(way.request, way.found, transfer, operation)
        # The original is a service of dokku's, and is kept as such.
        return making, moving, [], [step for step in afterwards if step.kind not in ("retain", "keep_in_place")]
    one = {"transfer": transfer.as_dict()}
    prepare = f"prepare {transfer.name}"
    making = []
    if transfer.strategy in WARM_KINDS:
        making.append(Step(WARM_KINDS[transfer.strategy], prepare, PREPARE, one))
    moving = [Step(MOVE_KINDS[transfer.strategy], f"copy {transfer.name}", SWITCH, {**one, "standby": prepare})]
    refresh = planner.refresh_args(way.found)
    refreshing: list[Step] = []
    if refresh["order_changed"] or refresh["updates"]:
        _promise, refreshing = planner.refresh_steps(transfer, refresh)
    helpers = [Step("remove_helpers", f"remove the standby of {transfer.name}", FINISH, one)]
    return making, moving, refreshing, helpers if transfer.strategy == REPLICA else []
