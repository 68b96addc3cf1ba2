# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The last look before the downtime: a plan may be hours old by then, and what it was made from another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.candidate import examine
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.compatibility import compare
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.foreign_options import foreign_options
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    ANOTHER_CLUSTER,
    Comparison,
    Sides,
    Subject,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.observe import observe_subject
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.store import postgresql_store
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import AUTO, REPLICA, StoppedContainer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.downtime import running_on
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.survey import dependents_of
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World, the_container, transfer_of


class LookAgain(NothingToUndo):
    """What was planned still holds, as far as it can be seen while the service serves; else nothing is stopped.

    args: ``transfer``, ``sides``, ``strategy``, ``copied_by``: the strategy of the copy, empty without one,
    ``refresh``: as for the step refresh_service, ``applications``: ids of the containers that are to be stopped,
    ``superuser``: the bootstrap superuser's name. Its evidence has the ``cluster`` and its ``foreign_options`` as they
    are now.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        transfer = transfer_of(step)
        serving = running_on(context.world, transfer, transfer.origin)
        return None if serving else context.evidence.get(step.name, {})

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        transfer, world = transfer_of(step), context.world
        sides, named = Sides.from_dict(step.args["sides"]), context.operation.plan.facts.get("dependents", (AUTO,))
        container = the_container(world, transfer)
        project = world.maker.observe(world.engine, [transfer.service, *(name for name in named if name != AUTO)])
        groups = dependents_of(project, [transfer.service], named)
        candidate = replace(examine(world.engine, sides.new.id), reference=sides.new.reference)
        with postgresql_store(world).session(world.engine, container) as session:
            subject = observe_subject(world.engine, session)
            foreign = foreign_options(session, subject.cluster)
        comparison = compare(
            subject, candidate, standby_possible=False, reflinks=False, same_filesystem=False, container=container.name
        )
        found = [
            *_other_dependents(step.args["applications"], (one for group in groups for one in group)),
            *_otherwise(step.args, subject, comparison),
        ]
        if found:
            raise StatefulError(
                f"{transfer.service} is not what it was when this was planned: {' '.join(found)}",
                next_command="run the same task again: it plans anew",
            )
        return {"cluster": subject.cluster.as_dict(), "foreign_options": foreign}


def _other_dependents(known: Iterable[str], running: Iterable[StoppedContainer]) -> list[str]:
    """Say which containers would go on writing while the service is changed, because nobody knew of them."""
    others = [one.name for one in running if one.id not in known]
    return [f"These were made or started since, and use it: {', '.join(others)}."] if others else []


def _otherwise(planned: Mapping[str, Any], subject: Subject, comparison: Comparison) -> list[str]:
    """Say what the cluster holds now that the plan does not know of."""
    strategy, cluster = planned["strategy"], subject.cluster
    found = [blocker.text for blocker in comparison.blockers]
    found += [f"{strategy} is not possible any more: {why}." for why in comparison.way(strategy).impediments]
    if cluster.superuser != planned["superuser"]:
        found.append(f"Its bootstrap superuser is {cluster.superuser} now.")
    if strategy in ANOTHER_CLUSTER and cluster.tablespaces:
        found.append(f"It has tablespaces now: {', '.join(space.name for space in cluster.tablespaces)}.")
    if planned["copied_by"] == REPLICA and cluster.unlogged_tables:
        found.append(f"It has {cluster.unlogged_tables} unlogged tables now, which a standby has empty.")
    if bool(comparison.reindex) != bool(planned["refresh"]["order_changed"]):
        found.append(f"The order of its text {'changes' if comparison.reindex else 'does not change any more'}.")
    updates = [asdict(extension) for extension in comparison.updates]
    if sorted(updates, key=repr) != sorted((dict(one) for one in planned["refresh"]["updates"]), key=repr):
        names = ", ".join(dict.fromkeys(f"{one['name']} in {one['database']}" for one in updates)) or "none"
        found.append(f"The extensions that are to be updated are others: {names}.")
    return found


def cluster_known(step: Step, context: Context[World]) -> tuple[Cluster, list[str]]:
    """Return the cluster and its foreign options as they were seen last before the stop.

    args of the step: ``looked_by``, ``made_by``: names of the steps that saw them.
    """
    known = context.evidence.get(step.args.get("looked_by", ""), {})
    known = known if "cluster" in known else context.evidence[step.args["made_by"]]
    return Cluster.from_dict(known["cluster"]), list(known["foreign_options"])
