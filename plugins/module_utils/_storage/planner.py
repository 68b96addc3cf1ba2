# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From findings to steps. Pure: the same findings give the same plan.

The order is the safety: copies before anything stops; restart policies before
the stop; proof of a clean stop before anything moves; the file after the data,
so that a stray ``up`` in between cannot start a service on an empty directory;
mounts proved before the start, so that nothing is written to a wrong place; and
the originals put away only after the proof.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    FINISH,
    PREPARE,
    SWITCH,
    Goal,
    Plan,
    Step,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    BIND,
    CLONE,
    COPY,
    KEPT_IMAGES,
    LAYER,
    RENAME,
    REPLICA,
    Findings,
    Move,
    Request,
    StoppedContainer,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.preflight import name_of
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.strategy import Choice
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import (
    Location,
    Transfer,
    facts_as_dict,
    label_of,
)

MOVE_KINDS = {RENAME: "rename", CLONE: "clone", COPY: "settle", REPLICA: "promote_standby"}
"""The kind of the step that moves the data inside the downtime, by strategy."""

WARM_KINDS = {COPY: "warm_copy", REPLICA: "make_standby"}
"""The kind of the step that prepares a move while the service runs."""


def goal_of(request: Request, moves: tuple[Move, ...]) -> Goal:
    wants = {name_of(move): move.source for move in moves}
    return Goal(module="compose_storage", project=request.project, wants={"mounts": wants})


def transfers_for(
    request: Request, findings: Findings, choices: Mapping[str, Choice], operation: str
) -> tuple[Transfer, ...]:
    return tuple(_transfer(request, move, choices[name_of(move)], operation) for move in findings.moves)


def _transfer(request: Request, move: Move, choice: Choice, operation: str) -> Transfer:
    data = move.data
    return Transfer(
        service=data.service,
        target=data.target,
        origin=Location(data.kind, data.host_path, data.volume),
        goal=Location(BIND, move.source),
        strategy=choice.strategy,
        store=data.store,
        facts=facts_as_dict(data.facts) if data.facts else {},
        staging=partial_of(move.source, operation),
        retained=posixpath.join(
            move.kept_below or request.retained_dir, operation, label_of(data.service, data.target)
        ),
        image_id=move.image_id,
        containers=(data.container,),
        running=data.running,
        subpath=data.subpath,
        inode=data.inode,
        device=data.device,
        size_bytes=data.size_bytes,
        options=dict(data.volume_options),
    )


def partial_of(goal: str, operation: str) -> str:
    """Return where an operation builds ``goal`` up: beside it, so that the last step is a rename."""
    parent, name = posixpath.split(goal.rstrip("/"))
    return posixpath.join(parent, f".{name}.partial-{operation}")


def steps_for(
    request: Request, findings: Findings, transfers: tuple[Transfer, ...], backup_dir: str
) -> tuple[Step, ...]:
    """Return the steps of a move into bind mounts."""
    everything = {"transfers": [transfer.as_dict() for transfer in transfers]}
    theirs = request.rewrite == "none"
    context = {
        **everything,
        "pins": _pins(findings, transfers),
        "file_is_theirs": theirs,
        "hashes": dict(findings.hashes),
    }
    stopped_by = "stop the stores"
    steps = backup_steps(request, findings, transfers, backup_dir)
    if transfers:
        steps.append(Step("count_before", "count", PREPARE, everything))
    for transfer in transfers:
        steps += holding_steps(transfer)
        if transfer.strategy in WARM_KINDS:
            steps.append(Step(WARM_KINDS[transfer.strategy], f"prepare {transfer.name}", PREPARE, _one(transfer)))
    steps += stop_steps(findings.dependents, findings.stores, context)
    for transfer in transfers:
        if transfer.origin.kind == LAYER:
            steps.append(Step("keep_layer", f"keep the layer of {transfer.name}", SWITCH, _one(transfer)))
        args = {**_one(transfer), "standby": f"prepare {transfer.name}"}
        steps.append(Step(MOVE_KINDS[transfer.strategy], f"move {transfer.name}", SWITCH, args))
    if findings.rewrite.paths:
        steps.append(Step("rewrite", "rewrite the compose file", SWITCH, rewrite_args(request, findings)))
    steps += start_steps(context, stopped_by)
    steps += after_steps(findings.dependents, everything)
    for transfer in transfers:
        if transfer.strategy == REPLICA:
            steps.append(Step("remove_helpers", f"remove the standby of {transfer.name}", FINISH, _one(transfer)))
        if transfer.options:
            steps.append(Step("keep_in_place", f"name the original of {transfer.name}", FINISH, _one(transfer)))
        if transfer.strategy != RENAME and transfer.origin.is_volume and not transfer.options:
            steps.append(Step("retain", f"retain the original of {transfer.name}", FINISH, _one(transfer)))
    for transfer in transfers:
        steps += releasing_steps(transfer)  # last: while it is held, its original can be looked at
    return tuple(steps)


def holding_steps(transfer: Transfer) -> list[Step]:
    """Return what keeps the volume that data comes from, or goes to, from every prune while it is on its way."""
    hold = Step("hold_volume", f"hold the volume of {transfer.name}", PREPARE, _one(transfer))
    return [hold] if transfer.volume_end else []


def releasing_steps(transfer: Transfer) -> list[Step]:
    """Return the end of :func:`holding_steps`."""
    release = Step("release_volume", f"release the volume of {transfer.name}", FINISH, _one(transfer))
    return [release] if transfer.volume_end else []


def backup_steps(request: Request, findings: Findings, transfers: Sequence[Transfer], backup_dir: str) -> list[Step]:
    """Return a backup of each transfer whose data is not in the backup of another one."""
    parts = {name_of(move) for move in findings.moves if move.backed_up_with}
    return [
        Step(
            "backup",
            f"back up {transfer.name}",
            PREPARE,
            {
                "transfer": transfer.as_dict(),
                "destination": posixpath.join(backup_dir, transfer.name.replace("/", "_").replace(":", "")),
                "mode": request.backup,
            },
        )
        for transfer in transfers
        if request.backup != "none" and transfer.name not in parts
    ]


def keeping_steps(running: tuple[str, str], wanted: tuple[str, str], operation: str) -> list[Step]:
    """Return what holds both images while the operation needs them: their tags may be given to newer builds.

    ``running`` and ``wanted``: a service and the id of the image that it runs, or is to run.
    """
    name = f"{KEPT_IMAGES}:{operation.lower()}"
    held = (("of", running, name), ("for", wanted, f"{name}-new"))
    return [
        Step("keep_image", f"keep the image {word} {service}", PREPARE, {"image": image, "name": kept})
        for word, (service, image), kept in held
    ]


def rewrite_args(request: Request, findings: Findings) -> dict[str, Any]:
    """Return what the files are to say; the texts themselves may hold secrets and stay out of the journal."""
    # All that are asked for, also those that are reached: the file is to say them, whatever has to move.
    mounts = [{"service": mount.service, "target": mount.target, "source": mount.written} for mount in request.mounts]
    images = dict(findings.images_to_write) if request.pin_images else {}
    return {"mounts": mounts, "images": images, "rewrite": request.rewrite}


def stop_steps(
    dependents: tuple[tuple[StoppedContainer, ...], ...],
    stores: tuple[StoppedContainer, ...],
    context: Mapping[str, Any],
) -> list[Step]:
    """Return the steps from running to cleanly stopped, dependents first."""
    affected = [*stores, *(container for group in dependents for container in group)]
    policies = {
        container.id: {"name": container.policy, "maximum_retries": container.maximum_retries} for container in affected
    }
    arranging = {"transfers": context["transfers"], "hashes": context.get("hashes", {})}
    steps = [
        Step("arrange_stop", "arrange the stop", SWITCH, arranging),
        Step("hold_restarts", "hold restarts", SWITCH, {"containers": policies}),
    ]
    if dependents:
        steps.append(Step("stop_dependents", "stop the dependents", SWITCH, _in_order(dependents)))
    return [*steps, Step("stop_stores", "stop the stores", SWITCH, context)]


def start_steps(context: Mapping[str, Any], stopped_by: str) -> list[Step]:
    """Return the steps from moved data to a proved service."""
    judged = {"transfers": context["transfers"], "stopped_by": stopped_by}
    return [
        Step("create_containers", "create the containers", SWITCH, {**context, "stopped_by": stopped_by}),
        Step("start_stores", "start the stores", SWITCH, judged),
        Step("prove_goal", "prove", SWITCH, judged, proves=True),
    ]


def after_steps(dependents: tuple[tuple[StoppedContainer, ...], ...], everything: Mapping[str, Any]) -> list[Step]:
    """Return the steps after the proof that every change ends with."""
    steps = []
    if dependents:
        policies = {
            container.id: {"name": container.policy, "maximum_retries": container.maximum_retries}
            for group in dependents
            for container in group
        }
        # Policies first: one that does not start must not leave the others without theirs.
        steps.append(Step("restore_restarts", "restore restart policies", FINISH, {"containers": policies}))
        steps.append(Step("start_dependents", "start the dependents", FINISH, _in_order(dependents)))
    steps.append(Step("compare_counts", "count again", FINISH, {**everything, "before": "count"}))
    return steps


def _in_order(dependents: tuple[tuple[StoppedContainer, ...], ...]) -> dict[str, Any]:
    return {
        "order": [[container.id for container in group] for group in dependents],
        "services": {each.id: each.service or each.name for group in dependents for each in group},
        "names": {each.id: each.name for group in dependents for each in group},
    }


def _one(transfer: Transfer) -> dict[str, Any]:
    return {"transfer": transfer.as_dict()}


def _pins(findings: Findings, transfers: tuple[Transfer, ...]) -> dict[str, str]:
    return {t.service: t.image_id for t in transfers if t.service in findings.floating}


def plan_of(goal: Goal, steps: tuple[Step, ...], *, summary: Mapping[str, Any], text: str, **facts: Any) -> Plan:
    return Plan(goal=goal, steps=steps, facts=facts, summary=summary, text=text)
