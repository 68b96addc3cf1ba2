# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Roll a storage operation back: undo one that is open, carry the data of one that is done back to its origin."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import Mount
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_mounts import has_mount
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Project, observe_project
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.rewrite import Rewrite, plan_reversal
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import mounts_of
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import (
    Blocker,
    InvalidInput,
    StatefulError,
    shell,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    DONE,
    ROLLED_BACK,
    Plan,
    Step,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import preflight, rollback_plan
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    ANONYMOUS,
    CLONE,
    LAYER,
    RENAME,
    DataPath,
    Findings,
    Move,
    Request,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.neighbours import neighbours
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.observe import (
    data_paths,
    measured,
    place,
    with_facts,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.outlying import outlying, with_parts
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.strategy import choose
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.survey import (
    dependents_of,
    floating_images,
    stopped,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Transfer, transfers_of_plan
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import clone, rename
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World, holds


@dataclass(frozen=True)
class WayBack:
    """A planned roll back, and what forbids it."""

    plan: Plan
    blockers: tuple[Blocker, ...]


def hunks_of(operation: Operation) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for evidence in operation.history().evidence.values():
        found += evidence.get("hunks", ())
    return found


def plan_way_back(world: World, operation: Operation, request: Request, new_id: str) -> WayBack:
    """Plan the way back of a done operation from what is there now."""
    done = transfers_of_plan(operation.plan)
    services = list(dict.fromkeys(transfer.service for transfer in done))
    project = observe_project(world.engine, world.compose, services)
    moves = with_parts([_move_back(world, project, transfer) for transfer in done])
    choices = {preflight.name_of(move): choose(move, request.strategy) for move in moves}
    floating, _images = floating_images(world, project, services)
    hunks = hunks_of(operation)
    plan_reversal(hunks)  # a file in which our lines were changed since is told of now, and not in the downtime
    findings = Findings(
        moves=moves,
        hashes=world.compose.service_hashes(services),
        blockers=(*neighbours(world, project, services).blockers, *in_use_by_the_file_alone(operation)),
        dependents=dependents_of(project, services),
        stores=tuple(stopped(c) for name in services for c in project.containers[name]),
        floating=floating,
        backup_place=place(world, request.backup_dir, shared=True),
        outlying=outlying(world, project, moves),
    )
    blockers = preflight.blockers(request, findings, choices)
    if world.compose.is_v1:
        blockers += [_v1_refusal(transfer) for transfer in done if transfer.origin.kind == ANONYMOUS]
    blockers += [_options_refusal(transfer) for transfer in done if transfer.options]
    transfers = [
        rollback_plan.reverse_transfer(transfer, move, choices[preflight.name_of(move)].strategy, request, new_id)
        for transfer, move in zip(done, moves)
    ]
    steps: tuple[Step, ...] = ()
    if not blockers:
        pins = {t.service: t.image_id for t in transfers if t.service in floating}
        backup_dir = os.path.join(request.backup_dir, new_id)
        steps = rollback_plan.rollback_steps(request, findings, transfers, backup_dir, hunks, pins)
    return WayBack(rollback_plan.rollback_plan(request, choices, transfers, steps, operation.id), tuple(blockers))


def in_use_by_the_file_alone(operation: Operation) -> list[Blocker]:
    """Say which mounts were only written into the file, and have data by now: taken out, the data would stay behind.

    They are those of services that had no container when the file was written, or that stood on them already. What
    the file said before the operation, the way back leaves in it.
    """
    carried = {(transfer.service, transfer.target) for transfer in transfers_of_plan(operation.plan)}
    written = [
        entry for step in operation.plan.steps if step.kind == "rewrite" for entry in step.args.get("mounts", ())
    ]
    reversal, project_dir = plan_reversal(hunks_of(operation)), operation.plan.facts.get("project_dir", "")
    found = []
    for entry in written:
        if (entry["service"], entry["target"]) in carried or not _takes_out(reversal, entry, project_dir):
            continue
        directory = os.path.normpath(os.path.join(project_dir, entry["source"]))
        if not os.path.isabs(directory) or not os.path.isdir(directory) or not os.listdir(directory):
            continue
        found.append(
            Blocker(
                f"{entry['source']} was only written into the file, as {entry['target']} of {entry['service']}, and has"
                f" data by now, which {operation.id} did not move and cannot carry back: the next 'up' would start"
                f" {entry['service']} without it. Keep the mount; or stop {entry['service']}, carry {directory} away,"
                " and run the same task again.",
                shell("ls", "-la", directory),
            )
        )
    return found


def _takes_out(reversal: Rewrite, entry: Mapping[str, str], project_dir: str) -> bool:
    mount = Mount(entry["service"], entry["target"], entry["source"])
    return any(
        has_mount(edit.before or "", mount, project_dir) and not _keeps(edit.after, mount, project_dir)
        for edit in reversal.edits
    )


def _keeps(text: str, mount: Mount, project_dir: str) -> bool:
    try:
        return has_mount(text, mount, project_dir)
    except InvalidInput:
        return False  # nothing is left of a file that we made, or nothing but comments


def _options_refusal(done: Transfer) -> Blocker:
    """Say why data cannot come back to a volume that is a mount of something else."""
    return Blocker(
        f"The volume {done.origin.volume} of {done.service} has options ({', '.join(sorted(done.options))}): its"
        " directory is a mount of something else only while a container uses it, so current data cannot be carried back"
        f" into it. It still holds the data as of the move. Stay on {done.goal.path}, or copy from there by hand."
    )


def _v1_refusal(done: Transfer) -> Blocker:
    """Say why compose v1 cannot come back to an anonymous volume.

    It needs a run with an extra file, after which v1's next plain ``up``
    recreates the container, dies while doing so on newer engines
    (docker/compose 11693) and leaves the service stopped.
    """
    return Blocker(
        f"Compose v1 cannot bring {done.service} back to an anonymous volume: its next plain 'up' would fail and leave"
        " the service stopped. Install compose v2 and run the same task again, or stay on the bind mount."
    )


def _move_back(world: World, project: Project, done: Transfer) -> Move:
    containers = project.containers.get(done.service, ())
    if not containers:
        raise StatefulError(
            f"The service {done.service} has no container now, so its data cannot be carried back.",
            next_command=project.compose.typed("up", "-d", "--no-deps", done.service),
        )
    if len(containers) != 1 or not holds(containers[0], done, done.goal):
        raise StatefulError(
            f"The service {done.service} does not have {done.goal.path} at {done.target} any more, so there is nothing"
            " that this operation could carry back.",
            next_command=mounts_of(containers[0].name),
        )
    found = next(path for path in data_paths(world, project, done.service) if path.target == done.target)
    data = with_facts(world, measured(found), containers[0])
    return Move(
        data=data,
        source=done.goal.path,
        written=done.goal.path,
        # What lies at the origin is ours: the emptied directory of the volume,
        # or the original itself, which is set aside before the data comes back.
        place=replace(place(world, done.origin.path), empty=True, volatile=False),
        cannot=_obstacles(data, done),
        image_id=containers[0].image_id,
    )


def _obstacles(data: DataPath, done: Transfer) -> dict[str, str]:
    parent = os.path.dirname(done.origin.path)
    if done.origin.kind == LAYER:
        reason = "the data goes back into a container's own layer"
        return {RENAME: reason, CLONE: reason, "replica": reason}
    found = {}
    renaming = rename.can_rename(data.host_path, parent)
    if not renaming.yes:
        found[RENAME] = renaming.reason
    cloning = clone.can_clone(data.host_path, parent)
    if not cloning.yes:
        found[CLONE] = cloning.reason
    return found


def mark_rolled_back(operation: Operation) -> None:
    if operation.history().state == DONE:
        operation.journal.state(ROLLED_BACK)
