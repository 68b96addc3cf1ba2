# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From findings to the steps of an image change. Pure: the same findings give the same plan.

The order is the safety, as in every move: all that can be made while the
service runs is made then; the copy that is upgraded is brought to the final
state after the clean stop; the file changes once the new cluster is whole, so
that a stray ``up`` cannot start the new image on anything less; and the
original is neither started nor written by anything but its own image.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    FINISH,
    PREPARE,
    SWITCH,
    Goal,
    Step,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    PG_UPGRADE,
    SWAP,
    ImageFindings,
    ImageRequest,
    Sides,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import BIND, REPLICA
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.planner import (
    MOVE_KINDS,
    WARM_KINDS,
    after_steps,
    backup_steps,
    partial_of,
    start_steps,
    stop_steps,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import (
    Location,
    Transfer,
    facts_as_dict,
)

KEPT = "selfhost-stateful/kept"
"""The repository of the names that keep images from being pruned."""


def goal_of(request: ImageRequest, image_id: str) -> Goal:
    """Return the goal: this service on this image, by its id; a tag may mean another one tomorrow."""
    return Goal("postgresql_image", request.storage.project, {"service": request.service, "image": image_id})


def transfer_for(request: ImageRequest, found: ImageFindings, operation: str) -> Transfer:
    """Return the service's data on its way from the image that runs to the other one."""
    data, old, new = found.move.data, found.subject.image, found.candidate
    strategy = found.way.strategy
    stays = strategy == SWAP
    origin = Location(data.kind, data.host_path, data.volume, image=old.id)
    goal = (
        Location(data.kind, data.host_path, data.volume, image=new.id)
        if stays
        else Location(BIND, found.move.source, image=new.id, target=found.wanted.target, subpath=found.wanted.subpath)
    )
    facts = facts_as_dict(data.facts) if data.facts else {}
    there = posixpath.normpath(posixpath.join(found.wanted.target, found.wanted.subpath))
    return Transfer(
        service=data.service,
        target=data.target,
        origin=origin,
        goal=goal,
        strategy=strategy,
        store=data.store,
        facts=facts,
        staging="" if stays else posixpath.join(partial_of(found.move.source, operation), "new"),
        retained=posixpath.join(
            request.storage.retained_dir, operation, f"{data.service}{data.target}".replace("/", "_")
        ),
        image_id=old.id,
        containers=(data.container,),
        running=data.running,
        subpath=data.subpath,
        inode=data.inode,
        device=data.device,
        size_bytes=data.size_bytes,
        goal_facts={} if stays else {**facts, "version": new.major, "data_path": there},
    )


def copy_for(transfer: Transfer, strategy: str, operation: str) -> Transfer:
    """Return the transfer of the copy that is upgraded: from the original to a place beside the new cluster."""
    place = posixpath.join(posixpath.dirname(transfer.staging), "old")
    raw = transfer.as_dict()
    origin = Location(transfer.origin.kind, transfer.origin.path, transfer.origin.volume)
    return Transfer.from_dict(
        {
            **raw,
            "origin": origin.as_dict(),
            "goal": Location(BIND, place).as_dict(),
            "strategy": strategy,
            "staging": partial_of(place, operation),
            "goal_facts": {},
        }
    )


def steps_for(
    request: ImageRequest, found: ImageFindings, transfer: Transfer, operation: str, backup_dir: str
) -> tuple[Step, ...]:
    """Return the steps of the change."""
    strategy, everything = transfer.strategy, {"transfers": [transfer.as_dict()]}
    one = {"transfer": transfer.as_dict()}
    context = {**everything, "pins": {}, "file_is_theirs": request.storage.rewrite == "none"}
    sides = Sides(found.subject.image, found.candidate).as_dict()
    name = f"{KEPT}:{operation.lower()}"
    steps = backup_steps(request.storage, found.findings, [transfer], backup_dir)
    steps.append(Step("count_before", "count", PREPARE, everything))
    steps.append(
        Step("keep_image", f"keep the image of {transfer.service}", PREPARE, {"image": transfer.image_id, "name": name})
    )
    identified_by = "stop the stores"
    moving: list[Step] = []
    if strategy == PG_UPGRADE:
        made, copied = (
            f"make the new cluster of {transfer.service}",
            copy_for(transfer, found.copying.strategy, operation),
        )
        steps.append(Step("make_cluster", made, PREPARE, {**one, "sides": sides}))
        steps += _copy_steps(copied, transfer, WARM_KINDS, f"prepare the copy of {transfer.name}", PREPARE)
        moving += _copy_steps(copied, transfer, MOVE_KINDS, f"copy {transfer.name}", SWITCH)
        identified_by = f"upgrade {transfer.name}"
        args = {**one, "sides": sides, "made_by": made, "copied_by": copied.strategy, "refresh": refresh_args(found)}
        moving.append(Step("upgrade", identified_by, SWITCH, args))
    refreshes = strategy == SWAP and bool(found.comparison.reindex or found.comparison.updates)
    refreshed_by = f"refresh {transfer.service}"
    if refreshes and found.comparison.reindex:
        args = {**one, "refreshed_by": refreshed_by}
        steps.append(Step("order_back", f"promise the order of {transfer.service}", SWITCH, args))
    steps += stop_steps(found.findings.dependents, found.findings.stores, context)
    steps += moving
    if found.findings.rewrite.paths:
        steps.append(Step("rewrite", "rewrite the compose file", SWITCH, rewrite_args(request, transfer)))
    starting = start_steps(context, identified_by)
    if refreshes:
        refreshing = {**one, "refresh": refresh_args(found)}
        starting.insert(-1, Step("refresh_service", refreshed_by, SWITCH, refreshing))
    steps += starting
    steps += after_steps(found.findings.dependents, everything)
    if strategy == PG_UPGRADE:
        if copied.strategy == REPLICA:
            steps.append(Step("remove_helpers", f"remove the standby of {transfer.name}", FINISH, one))
        steps.append(Step("discard", f"discard the linked copy of {transfer.name}", FINISH, one))
        steps.append(Step("analyze", f"analyze {transfer.service}", FINISH, one))
        retaining = "retain" if transfer.origin.is_volume else "keep_in_place"
        kept = {**one, "in_place": True}
        steps.append(Step(retaining, f"retain the original of {transfer.name}", FINISH, kept))
    return tuple(steps)


def refresh_args(found: ImageFindings) -> dict[str, Any]:
    """Return what has to be done to the cluster for the libraries of the new image."""
    return {
        "order_changed": found.comparison.reindex,
        "updates": [asdict(extension) for extension in found.comparison.updates],
    }


def _copy_steps(copied: Transfer, upgraded: Transfer, kinds: Mapping[str, str], name: str, phase: str) -> list[Step]:
    if copied.strategy not in kinds:
        return []
    args = {
        "transfer": copied.as_dict(),
        "upgrade": upgraded.as_dict(),
        "standby": f"prepare the copy of {upgraded.name}",
    }
    return [Step(f"{kinds[copied.strategy]}_to_upgrade", name, phase, args)]


def rewrite_args(request: ImageRequest, transfer: Transfer) -> dict[str, Any]:
    """Return what the files are to say: the image, and where it has its data if that is another place."""
    mounts = [
        {"service": mount.service, "target": mount.target, "source": mount.written, "replaces": mount.replaces}
        for mount in request.storage.mounts
        if transfer.strategy != SWAP
    ]
    images = {transfer.service: request.image}
    return {"mounts": mounts, "images": images, "rewrite": request.storage.rewrite}
