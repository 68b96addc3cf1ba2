# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The last look before the downtime: a plan may be hours old by then, and what it was made from another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.candidate import (
    examine,
    user_given,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.compatibility import compare
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.configuration_files import (
    AUTHENTICATION,
    PLAIN,
    PLAIN_FILES,
    RULES,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.foreign_options import foreign_options
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    SWAP,
    Comparison,
    Sides,
    Subject,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.observe import observe_subject
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.planner import STOP
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.store import postgresql_store
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.beyond import beyond_proof
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import AUTO, REPLICA, StoppedContainer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.downtime import running_on
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.survey import dependents_of
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Transfer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import (
    World,
    holds,
    of_any_image,
    the_container,
    transfer_of,
)


class LookAgain(NothingToUndo):
    """What was planned still holds, as far as it can be seen while the service serves; else nothing is stopped.

    args: ``transfer``, ``sides``, ``strategy``, ``copied_by``: the strategy of the copy that is upgraded, or is served
    itself, empty without one, ``refresh``: as for the step refresh_service, ``applications``: ids of the containers
    that are to be stopped, ``superuser``: the bootstrap superuser's name. Its evidence has the ``cluster``, its
    ``foreign_options`` and the ``named_files`` as they are now.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        transfer = transfer_of(step)
        serving = running_on(context.world, transfer, transfer.origin) or self._not_ours(transfer, context)
        return None if serving else context.evidence.get(step.name, {})

    @staticmethod
    def _not_ours(transfer: Transfer, context: Context[World]) -> list[Container]:
        """Return what runs of the service, and neither the plan nor what was done since knows of."""
        if beyond_proof(context):
            return []
        running = [each for each in context.world.containers_of(transfer.service) if each.running]
        if transfer.strategy != SWAP:
            return [each for each in running if not holds(each, transfer, of_any_image(transfer.goal))]
        # On the same data: what runs on the goal is ours once the former server was stopped.
        return [each for each in running if STOP not in context.evidence or not holds(each, transfer, transfer.goal)]

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        transfer, world = transfer_of(step), context.world
        sides, asked = Sides.from_dict(step.args["sides"]), context.operation.plan.facts.get("dependents", (AUTO,))
        container = the_container(world, transfer)
        if not holds(container, transfer, transfer.origin):
            there = holds(container, transfer, transfer.goal)
            raise StatefulError(
                f"The service {transfer.service} {'already runs the other image' if there else 'was recreated'}:"
                f" {container.name} is not what this was planned for any more, the image {transfer.image_id[:19]} on"
                f" {transfer.origin.shown()}; it has {container.image_ref} ({container.image_id[:19]}).",
                next_command="run the same task again: it plans anew",
            )
        project = world.maker.observe(world.engine, [transfer.service, *(name for name in asked if name != AUTO)])
        groups = dependents_of(project, [transfer.service], asked)
        examined = examine(world.engine, sides.new.id, user=user_given(world.engine, container))
        candidate = replace(examined, reference=sides.new.reference)
        with postgresql_store(world).session(world.engine, container) as session:
            subject = observe_subject(world.engine, session)
            foreign, named = foreign_options(session, subject.cluster), named_files(session)
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
        return {"cluster": subject.cluster.as_dict(), "foreign_options": foreign, "named_files": named}


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
    if planned["copied_by"] == REPLICA and cluster.unlogged_tables:
        found.append(f"It has {cluster.unlogged_tables} unlogged tables now, which a standby has empty.")
    if strategy == SWAP and planned["copied_by"] and cluster.tablespaces:
        found.append("It has tablespaces now, which are in no copy of its files.")
    if bool(comparison.reindex) != bool(planned["refresh"]["order_changed"]):
        found.append(f"The order of its text {'changes' if comparison.reindex else 'does not change any more'}.")
    updates = [asdict(extension) for extension in comparison.updates]
    if sorted(updates, key=repr) != sorted((dict(one) for one in planned["refresh"]["updates"]), key=repr):
        names = ", ".join(dict.fromkeys(f"{one['name']} in {one['database']}" for one in updates)) or "none"
        found.append(f"The extensions that are to be updated are others: {names}.")
    return found


@dataclass(frozen=True)
class Seen:
    """The cluster as it was seen last before the stop; ``named_files`` as of :func:`named_files`."""

    cluster: Cluster
    foreign_options: list[str]
    named_files: dict[str, str]


def last_seen(step: Step, context: Context[World]) -> Seen:
    """Return what is known of the cluster; args of the step: ``looked_by``, ``made_by``: the steps that saw it."""
    known = context.evidence.get(step.args.get("looked_by", ""), {})
    known = known if "cluster" in known else context.evidence[step.args["made_by"]]
    return Seen(Cluster.from_dict(known["cluster"]), list(known["foreign_options"]), dict(known.get("named_files", {})))


def named_files(session: Session) -> dict[str, str]:
    """Return the files that the running server reads, wherever they were named, with what each holds."""
    kinds = {**dict.fromkeys(PLAIN_FILES, PLAIN), **dict.fromkeys(AUTHENTICATION, RULES)}
    names = ", ".join(f"'{name}'" for name in kinds)
    found = session.rows(f"SELECT name, setting FROM pg_settings WHERE name IN ({names}) AND setting <> ''")
    return {str(path): kinds[str(name)] for name, path in found}
