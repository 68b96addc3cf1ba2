# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Back from an image change that is done.

After a swap the data is where it was, and the former image serves it as it is
now: nothing is lost. After an upgrade the way back leads to the original, which
is as it was at the stop: what the new cluster took since would be lost, so that
is told beforehand, and once more from the files when it is stopped.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.rewrite import plan_reversal
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import mounts_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    FINISH,
    PREPARE,
    SWITCH,
    Plan,
    Step,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import NEXT_XID
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import needs
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.candidate import (
    examine,
    user_given,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import AUTO, SWAP
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.observe import observe_subject
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.planner import STOP, refresh_steps
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.store import postgresql_store
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import baseline
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import Request
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.observe import data_paths, measured, with_facts
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.planner import (
    after_steps,
    holding_steps,
    releasing_steps,
    start_steps,
    stop_steps,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.rollback import WayBack, hunks_of
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.rollback_plan import rollback_goal
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.survey import dependents_of, stopped
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import (
    Transfer,
    facts_as_dict,
    transfers_of_plan,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World, holds, transfer_of

RETURN = "return to the original"


class ReturnToOriginal(NothingToUndo):
    """The new cluster is stopped: whether it took writes is read from its files, before anything is given up.

    args: ``transfer`` (from the new cluster to the original), ``since``: the new cluster's identity when it was
    nothing but the upgraded copy, ``ours``: transactions of our own since, ``discard_writes``, ``identity``: the
    original's.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        # Killed before that, the new cluster may have been started once more, and be written to.
        transfer = transfer_of(step)
        back = any(holds(c, transfer, transfer.goal) for c in context.world.containers_of(transfer.service))
        return context.evidence.get(step.name) if back else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        transfer = transfer_of(step)
        store = context.world.store(transfer)
        found = store.identity(transfer.data_at(transfer.origin))
        taken = int(found["next_xid"]) - int(step.args["since"]["next_xid"]) - int(step.args["ours"])
        if taken > 0 and not step.args["discard_writes"]:
            raise StatefulError(lossy(transfer, taken), next_command=WAYS_OUT)
        original = store.prove_stopped(transfer.data_at(transfer.goal), transfer.store_facts)
        differences = store.differences(step.args["identity"], original)
        if differences:
            raise StatefulError(
                f"The original in {transfer.goal.shown()} is not what was left there: {'; '.join(differences)}.",
                state=f"all data is in {transfer.origin.shown()}",
            )
        return {"identities": {transfer.name: dict(original)}, "transactions_discarded": max(0, taken)}


WAYS_OUT = "keep the new image, or set discard_writes: true to return to the original as it was and lose them"


def lossy(transfer: Transfer, taken: int) -> str:
    return (
        f"The new cluster of {transfer.service} has taken about {taken} transactions since the change, which the"
        " original does not have."
    )


def plan_image_way_back(
    world: World, operation: Operation, request: Request, new_id: str, *, discard_writes: bool = False
) -> WayBack:
    """Plan the way back of an image change that is done."""
    (done,) = transfers_of_plan(operation.plan)
    project = world.maker.observe(world.engine, [done.service])
    containers = project.containers.get(done.service, ())
    if len(containers) != 1 or not holds(containers[0], done, done.goal):
        raise StatefulError(
            f"The service {done.service} does not run the image of this operation on {done.goal.shown()} any more, so"
            " this is no way back from it.",
            next_command=mounts_of(containers[0].name) if containers else project.compose.typed("ps", "-a"),
        )
    (container,) = containers
    target = done.target_at(done.goal)
    path = next(each for each in data_paths(world, project, done.service) if each.target == target)
    data = with_facts(world, measured(path), container)
    back = replace(
        done,
        # Where we made the container, the way back leads to the very one that was replaced, and from there to this one.
        origin=replace(done.goal, container=container.id if done.origin.container else ""),
        goal=done.origin,
        facts=facts_as_dict(data.facts) if data.facts else done.goal_facts,
        goal_facts=done.facts if done.strategy != SWAP else {},
        image_id=container.image_id,
        containers=(container.id,),
        running=container.running,
        inode=data.inode,
        device=data.device,
    )
    history = operation.history()
    since = baseline(operation.directory, done)
    ours = sum(int(evidence.get("transactions", 0)) for evidence in history.evidence.values())
    blockers = []
    if done.strategy != SWAP and since is not None and container.running and not discard_writes:
        with postgresql_store(world).session(world.engine, container) as session:
            taken = int(session.scalar(NEXT_XID)) - int(since["next_xid"]) - ours
        if taken > 0:
            blockers.append(Blocker(f"{lossy(back, taken)} {WAYS_OUT[0].upper()}{WAYS_OUT[1:]}."))
    former = world.engine.image(done.image_id)
    if done.strategy == SWAP and container.running and former is not None:
        blockers += _against_the_former(world, container, former.id)
    if done.origin.container and world.engine.container(done.origin.container) is None:
        blockers.append(
            Blocker(
                f"The container that was replaced ({done.origin.container[:12]}) is gone, and nothing else knows how it"
                " was made: run postgresql_image with the former image (strategy: dump where it is of an older major),"
                f" or make a container of {done.image_id[:19]} on {done.origin.shown()} by hand."
            )
        )
    if former is None:
        blockers.append(Blocker(f"The image that {done.service} ran before ({done.image_id}) is gone."))
    everything = {"transfers": [back.as_dict()]}
    context = {**everything, "pins": {}, "file_is_theirs": not hunks_of(operation)}
    dependents = dependents_of(project, [done.service], operation.plan.facts.get("dependents", (AUTO,)))
    *stopping, stop = stop_steps(dependents, (stopped(container),), context)
    *starting, proving = start_steps(context, STOP if done.strategy == SWAP else RETURN)
    hunks = hunks_of(operation)
    plan_reversal(hunks)  # lines of ours that were changed since are told of now, and not in the downtime
    reversing = (
        [Step("reverse_files", "take our lines out of the compose file", SWITCH, {"hunks": hunks})] if hunks else []
    )
    finishing = after_steps(dependents, everything)
    if done.strategy == SWAP:
        order_back: list[Step] = []
        refreshing: list[Step] = []
        if any(step.kind == "order_back" for step in operation.plan.steps):
            # What was built in the order of the new libraries is built in that of the old ones again.
            order_back, refreshing = refresh_steps(back, {"order_changed": "the way back", "updates": []})
        counting = Step("count_before", "count", PREPARE, everything)
        steps = [counting, *holding_steps(back), *stopping, *order_back, stop, *reversing]
        steps += [*starting, *refreshing, proving, *finishing, *releasing_steps(back)]
    else:
        one = {"transfer": back.as_dict()}
        args: dict[str, Any] = {
            **one,
            "since": dict(since or {}),
            "ours": ours,
            "discard_writes": discard_writes,
            "identity": dict(history.evidence[STOP]["identities"][done.name]),
        }
        returning = Step("return_to_original", RETURN, SWITCH, args)
        keeping = Step("keep_in_place", f"keep the directory of {back.name}", FINISH, one)
        # What the original lacks was told by transactions: it is not counted again.
        steps = [*stopping, stop, returning, *reversing, *starting, proving, *finishing[:-1], keeping]
    if done.origin.container:
        steps.append(
            Step("remove_replaced", f"remove what served {done.service}", FINISH, {"transfer": back.as_dict()})
        )
    what = f"Container {done.service}" if done.origin.container else f"Project {request.project}"
    lines = [
        f"{what}: roll back the operation {operation.id}",
        f"  {done.service}: from {container.image_ref} ({container.image_id[7:19]}) to {done.image_id[7:19]}",
        f"    on    {done.origin.shown()}",
        *(f"  BLOCKER: {blocker.text}" for blocker in blockers),
    ]
    plan = Plan(
        rollback_goal(request.project, operation.id),
        () if blockers else tuple(steps),
        facts={"project_dir": request.project_dir},
        summary={"service": done.service, "to": done.image_id, "reverts": operation.id, "strategy": done.strategy},
        text="\n".join(lines),
        reverts=operation.id,
    )
    return WayBack(plan, tuple(blockers))


def _against_the_former(world: World, container: Container, image_id: str) -> list[Blocker]:
    """Say what the cluster has by now that the former image cannot serve: an extension that was updated, say."""
    engine = world.engine
    with postgresql_store(world).session(engine, container) as session:
        subject = observe_subject(engine, session)
    examined = examine(engine, image_id, user=user_given(engine, container))
    candidate = replace(examined, reference=f"the former image ({image_id[7:19]})")
    found = [lack for lack in needs.lacks(subject, candidate, container.name) if SWAP in lack.ways]
    way_out = " Keep the new image, or run postgresql_image with the former one and strategy: dump."
    return [Blocker(lack.text + way_out, lack.command) for lack in found]
