# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way back of a storage move that is done: the data as it is now goes to where it came from. Pure.

It is a move like the one before, by the same strategies, so nothing that was
written since is lost. What differs is the file (our own hunks come out of it as
it is now) and the goal (a volume or a layer, and not a bind mount).
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
    LAYER,
    RENAME,
    REPLICA,
    Findings,
    Move,
    Request,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.planner import (
    MOVE_KINDS,
    WARM_KINDS,
    after_steps,
    backup_steps,
    holding_steps,
    releasing_steps,
    start_steps,
    stop_steps,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.strategy import Choice
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import (
    Location,
    Transfer,
    facts_as_dict,
)


def rollback_goal(project: str, operation: str) -> Goal:
    return Goal("operation", project, {"roll_back": operation})


def reverse_transfer(done: Transfer, move: Move, strategy: str, request: Request, operation: str) -> Transfer:
    """Return the transfer from the bind mount of ``done`` back to its origin."""
    parent, name = posixpath.split(done.origin.path.rstrip("/"))
    return Transfer(
        service=done.service,
        target=done.target,
        origin=Location("bind", done.goal.path),
        goal=done.origin,
        strategy=strategy,
        store=done.store,
        facts=facts_as_dict(move.data.facts) if move.data.facts else done.facts,
        staging=posixpath.join(parent, f".{name}.partial-{operation}"),
        retained=posixpath.join(request.retained_dir, operation, done.label),
        image_id=move.image_id,
        containers=(move.data.container,),
        running=move.data.running,
        subpath=move.data.subpath,
        inode=move.data.inode,
        device=move.data.device,
        size_bytes=move.data.size_bytes,
    )


def rollback_steps(
    request: Request,
    findings: Findings,
    transfers: Sequence[Transfer],
    backup_dir: str,
    hunks: Sequence[Mapping[str, Any]],
    pins: Mapping[str, str],
) -> tuple[Step, ...]:
    """Return the steps of the way back. ``hunks`` are those that the done operation journaled."""
    everything = {"transfers": [transfer.as_dict() for transfer in transfers]}
    # A rewrite that left the files alone made reality match them; going back
    # means that they name another place than the one in use.
    context = {**everything, "pins": dict(pins), "file_is_theirs": not hunks, "hashes": dict(findings.hashes)}
    steps = backup_steps(request, findings, transfers, backup_dir)
    steps.append(Step("count_before", "count", PREPARE, everything))
    for transfer in transfers:
        steps += holding_steps(transfer)
        if transfer.strategy in WARM_KINDS and transfer.goal.kind != LAYER:
            one = {"transfer": transfer.as_dict()}
            steps.append(Step(WARM_KINDS[transfer.strategy], f"prepare {transfer.name}", PREPARE, one))
    steps += stop_steps(findings.dependents, findings.stores, context)
    for transfer in transfers:
        if transfer.goal.kind == LAYER:
            continue  # only the engine can write there: creating the container puts the data in
        one = {"transfer": transfer.as_dict()}
        steps.append(Step("vacate", f"set aside what is kept at the origin of {transfer.name}", SWITCH, one))
        args = {**one, "standby": f"prepare {transfer.name}"}
        steps.append(Step(MOVE_KINDS[transfer.strategy], f"move {transfer.name}", SWITCH, args))
    if hunks:
        steps.append(Step("reverse_files", "take our lines out of the compose file", SWITCH, {"hunks": list(hunks)}))
    steps += start_steps(context, "stop the stores")
    steps += after_steps(findings.dependents, everything)
    for transfer in transfers:
        one = {"transfer": transfer.as_dict()}
        if transfer.strategy == REPLICA:
            steps.append(Step("remove_helpers", f"remove the standby of {transfer.name}", FINISH, one))
        if transfer.strategy == RENAME:
            steps.append(Step("free_name", f"free the name that {transfer.name} had", FINISH, one))
        else:
            steps.append(Step("keep_in_place", f"keep the directory of {transfer.name}", FINISH, one))
        steps += releasing_steps(transfer)
    return tuple(steps)


def rollback_plan(
    request: Request,
    choices: Mapping[str, Choice],
    transfers: Sequence[Transfer],
    steps: tuple[Step, ...],
    reverted: str,
) -> Plan:
    lines = [f"Project {request.project}: roll back the operation {reverted}; all data as it is now is carried back"]
    for transfer in transfers:
        choice = choices[transfer.name]
        lines.append(f"  {transfer.name}: from {transfer.origin.path} to {transfer.goal.shown()}")
        lines.append(f"    by    {choice.strategy}: {choice.reason}")
    summary = {
        "moves": [
            {
                "service": transfer.service,
                "target": transfer.target,
                "from": transfer.origin.as_dict(),
                "to": transfer.goal.as_dict(),
                "strategy": transfer.strategy,
                "reason": choices[transfer.name].reason,
            }
            for transfer in transfers
        ],
        "reverts": reverted,
    }
    goal = rollback_goal(request.project, reverted)
    return Plan(
        goal,
        steps,
        facts={"project_dir": request.project_dir},
        summary=summary,
        text="\n".join(lines),
        reverts=reverted,
    )
