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
from dataclasses import asdict, replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    FINISH,
    PREPARE,
    SWITCH,
    Goal,
    Step,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    ANOTHER_CLUSTER,
    DUMP,
    PG_UPGRADE,
    SWAP,
    ImageFindings,
    ImageRequest,
    Sides,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.plan_hooks import (
    before_the_proof,
    before_the_stop,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import BIND, REPLICA
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.planner import (
    MOVE_KINDS,
    WARM_KINDS,
    after_steps,
    backup_steps,
    holding_steps,
    keeping_steps,
    partial_of,
    releasing_steps,
    start_steps,
    stop_steps,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import (
    Location,
    Transfer,
    facts_as_dict,
    label_of,
)

MODULE = "postgresql_image"
LOOK = "look again"
STOP = "stop the stores"
"""The name of the step that says as what the cluster was stopped."""
MADE_BY = {PG_UPGRADE: ("make_upgradable_cluster", "upgrade"), DUMP: ("make_cluster", "reload")}
"""By strategy the kinds of the steps that make the new cluster while the service runs, and that fill it."""


def goal_of(request: ImageRequest, image_id: str) -> Goal:
    """Return the goal: this service on this image, by its id; a tag may mean another one tomorrow."""
    return Goal(MODULE, request.storage.project, {"service": request.service, "image": image_id})


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
    restart = {}
    if request.bare:
        origin, goal = replace(origin, container=data.container), replace(goal, reference=request.image)
        (container,) = found.findings.stores
        restart = {"name": container.policy, "maximum_retries": container.maximum_retries}
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
        retained=posixpath.join(request.storage.retained_dir, operation, label_of(data.service, data.target)),
        image_id=old.id,
        containers=(data.container,),
        running=data.running,
        subpath=data.subpath,
        inode=data.inode,
        device=data.device,
        size_bytes=data.size_bytes,
        goal_facts={} if stays else {**facts, "version": new.major, "data_path": there},
        restart=restart,
    )


def copy_for(transfer: Transfer, strategy: str, operation: str) -> Transfer:
    """Return the transfer of the copy that the new cluster is made from, to a place beside that one."""
    place = posixpath.join(posixpath.dirname(transfer.staging), "old")
    return replace(
        transfer,
        origin=Location(transfer.origin.kind, transfer.origin.path, transfer.origin.volume),
        goal=Location(BIND, place),
        strategy=strategy,
        staging=partial_of(place, operation),
        goal_facts={},
    )


def steps_for(
    request: ImageRequest, found: ImageFindings, transfer: Transfer, operation: str, backup_dir: str
) -> tuple[Step, ...]:
    """Return the steps of the change."""
    strategy, everything = transfer.strategy, {"transfers": [transfer.as_dict()]}
    theirs, hashes = request.storage.rewrite == "none", dict(found.findings.hashes)
    context = {**everything, "pins": {}, "file_is_theirs": theirs, "hashes": hashes}
    steps = backup_steps(request.storage, found.findings, [transfer], backup_dir)
    steps.append(Step("count_before", "count", PREPARE, everything))
    steps += keeping_steps((transfer.service, transfer.image_id), (transfer.service, transfer.goal.image), operation)
    steps += holding_steps(transfer)
    making: list[Step] = []
    order_back: list[Step] = []
    moving: list[Step] = []
    refreshing: list[Step] = []
    afterwards: list[Step] = []
    identified_by = STOP
    if strategy in ANOTHER_CLUSTER:
        making, moving, afterwards = rebuild_steps(request, found, transfer, operation)
        identified_by = moving[-1].name
    elif found.comparison.reindex or found.comparison.updates:
        order_back, refreshing = refresh_steps(transfer, refresh_args(found))
    steps += making
    remembering, comparing = comparing_steps(found, transfer, identified_by)
    *stopping, stop = stop_steps(found.findings.dependents, found.findings.stores, context)
    versions = (found.subject.image.version, found.candidate.version)
    elsewhere = transfer.goal.target not in ("", transfer.target)
    pre = before_the_stop(request.hooks, transfer, versions, layout_changes=elsewhere, backup_dir=backup_dir)
    steps += [
        looking_step(found, transfer),
        *awaiting_steps(found, transfer),
        *stopping,
        *pre,
        remembering,
        *order_back,
        stop,
        *moving,
    ]
    if found.findings.rewrite.paths:
        steps.append(Step("rewrite", "rewrite the compose file", SWITCH, rewrite_args(request, transfer)))
    *starting, proving = start_steps(context, identified_by)
    post = before_the_proof(request.hooks, transfer, versions, in_place=strategy not in ANOTHER_CLUSTER)
    steps += [*starting, *refreshing, comparing, *post, proving]
    steps += after_steps(found.findings.dependents, everything)
    return (*steps, *afterwards, *releasing_steps(transfer))


def looking_step(found: ImageFindings, transfer: Transfer) -> Step:
    """Return the first step of the downtime, before anything stops: prepared was maybe hours or days ago."""
    args = {
        "transfer": transfer.as_dict(),
        "sides": Sides(found.subject.image, found.candidate).as_dict(),
        "strategy": transfer.strategy,
        "copied_by": found.copying.strategy if transfer.strategy in ANOTHER_CLUSTER else "",
        "refresh": refresh_args(found),
        "applications": _applications(found),
        "superuser": found.subject.cluster.superuser,
    }
    return Step("look_again", LOOK, SWITCH, args)


def awaiting_steps(found: ImageFindings, transfer: Transfer) -> list[Step]:
    """Return what starts, in the last moment before anything stops, what is to work in the downtime."""
    if transfer.strategy != PG_UPGRADE:
        return []
    sides = Sides(found.subject.image, found.candidate).as_dict()
    args = {"transfer": transfer.as_dict(), "sides": sides, "made_by": _making(transfer)}
    return [Step("await_upgrade", _awaiting(transfer), SWITCH, args)]


def _applications(found: ImageFindings) -> list[str]:
    return [container.id for group in found.findings.dependents for container in group]


def comparing_steps(found: ImageFindings, transfer: Transfer, identified_by: str) -> tuple[Step, Step]:
    """Return the last step before the stop, and the last before the proof: what is there is what was there."""
    args = {
        "transfer": transfer.as_dict(),
        "applications": _applications(found),
        # What is loaded from a dump is compared when nobody else reaches it.
        "contents": transfer.strategy != DUMP,
    }
    remembering = Step("remember_service", f"remember what {transfer.service} holds", SWITCH, args)
    more = {"remembered_by": remembering.name, "identified_by": identified_by}
    return remembering, Step("compare_service", f"compare {transfer.service}", SWITCH, {**args, **more})


def rebuild_steps(
    request: ImageRequest, found: ImageFindings, transfer: Transfer, operation: str
) -> tuple[list[Step], list[Step], list[Step]]:
    """Return what makes the new cluster, what fills it in the downtime, and what is left to do after the proof."""
    one = {"transfer": transfer.as_dict()}
    sides = Sides(found.subject.image, found.candidate).as_dict()
    copied = copy_for(transfer, found.copying.strategy, operation)
    making_kind, kind = MADE_BY[transfer.strategy]
    made = Step(making_kind, _making(transfer), PREPARE, {**one, "sides": sides})
    making = [
        made,
        *_copy_steps(copied, transfer, WARM_KINDS, _preparing(transfer), PREPARE),
    ]
    args = {
        **one,
        "sides": sides,
        "made_by": made.name,
        "looked_by": LOOK,
        "copied_by": copied.strategy,
        "refresh": refresh_args(found),
        "verify": request.verify,
        **({"awaited_by": _awaiting(transfer)} if transfer.strategy == PG_UPGRADE else {}),
    }
    moving = [
        *_copy_steps(copied, transfer, MOVE_KINDS, f"copy {transfer.name}", SWITCH),
        Step(kind, f"{kind} {transfer.name}", SWITCH, args),
    ]
    # First of all: what comes after it may take an hour, or fail.
    afterwards = [
        Step(
            "retain" if transfer.origin.is_volume else "keep_in_place",
            f"retain the original of {transfer.name}",
            FINISH,
            {**one, "in_place": True},
        ),
        Step("discard", f"discard the copy of {transfer.name}", FINISH, one),
        Step("analyze", f"analyze {transfer.service}", FINISH, one),
    ]
    if copied.strategy == REPLICA:
        afterwards.insert(1, Step("remove_helpers", f"remove the standby of {transfer.name}", FINISH, one))
    return making, moving, afterwards


def refresh_steps(transfer: Transfer, refresh: Mapping[str, Any]) -> tuple[list[Step], list[Step]]:
    """Return what other libraries ask for: the step right before the stores' stop, and the one before the proof.

    ``refresh`` is as of :func:`refresh_args`. The first is there for its undo, where the order of text changes: it
    comes when the former image serves again, and before the dependents do.
    """
    one = {"transfer": transfer.as_dict()}
    refreshing = Step("refresh_service", f"refresh {transfer.service}", SWITCH, {**one, "refresh": refresh})
    args = {**one, "refreshed_by": refreshing.name, "stopped_by": STOP}
    promise = Step("order_back", f"promise the order of {transfer.service}", SWITCH, args)
    return [promise] if refresh["order_changed"] else [], [refreshing]


def refresh_args(found: ImageFindings) -> dict[str, Any]:
    """Return what has to be done to the cluster for the libraries of the new image."""
    return {
        "order_changed": found.comparison.reindex,
        "updates": [asdict(extension) for extension in found.comparison.updates],
    }


def _copy_steps(copied: Transfer, rebuilt: Transfer, kinds: Mapping[str, str], name: str, phase: str) -> list[Step]:
    if copied.strategy not in kinds:
        return []
    args = {
        "transfer": copied.as_dict(),
        "rebuilt": rebuilt.as_dict(),
        "standby": _preparing(rebuilt),
    }
    return [Step(f"{kinds[copied.strategy]}_to_rebuild", name, phase, args)]


def _making(transfer: Transfer) -> str:
    """Return the name of the step that makes the new cluster."""
    return f"make the new cluster of {transfer.service}"


def _awaiting(transfer: Transfer) -> str:
    """Return the name of the step that starts what is to run pg_upgrade."""
    return f"be ready to upgrade {transfer.service}"


def _preparing(rebuilt: Transfer) -> str:
    """Return the name of the step that prepares the copy while the service runs."""
    return f"prepare the copy of {rebuilt.name}"


def rewrite_args(request: ImageRequest, transfer: Transfer) -> dict[str, Any]:
    """Return what the files are to say: the image, and where it has its data if that is another place."""
    mounts = [
        {"service": mount.service, "target": mount.target, "source": mount.written, "replaces": mount.replaces}
        for mount in request.storage.mounts
        if transfer.strategy != SWAP
    ]
    images = {transfer.service: request.image}
    return {"mounts": mounts, "images": images, "rewrite": request.storage.rewrite}
