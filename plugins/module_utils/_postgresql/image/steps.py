# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of an image change that are its own; stopping, starting and proving are those of every move."""

from __future__ import annotations

import os
import shutil
import time

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence, Handler
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import observe_cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import statistics, upgrade
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.foreign_options import (
    foreign_options,
    take_out,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import Extension, Sides
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.programs import (
    Programs,
    copy_programs,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.refresh import refresh
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.way_back import ReturnToOriginal
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.paths import owner_of
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.standby_steps import STANDBY_HANDLERS
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.store import postgresql_store
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.handlers import STORAGE_HANDLERS
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import let_image_go
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import REPLICA
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.base import NothingToUndo, SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.moves import (
    StagedMove,
    forget_published,
    published,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import Identity
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Transfer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import durable
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import (
    World,
    the_container,
    transfer_of,
)

BEGUN = "begun"
"""A file in the work directory: from then on neither the copy nor the new cluster is what it was."""


class KeepImage(SelfProving):
    """The image that runs gets a name of ours, so that no prune takes the way back. args: ``image``, ``name``."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        found = context.world.engine.image(step.args["name"])
        return {"kept_image": step.args["name"]} if found and found.id == step.args["image"] else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        repository, _colon, tag = step.args["name"].rpartition(":")
        context.world.engine.tag(step.args["image"], repository, tag)
        return {"kept_image": step.args["name"]}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        let_image_go(context.world.engine, step.args["name"])
        return {}


class MakeCluster(SelfProving):
    """The new cluster beside the running one, with its configuration, and what pg_upgrade says of the two.

    args: ``transfer``, ``sides``.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        transfer, known = transfer_of(step), context.evidence.get(step.name)
        if known is None:
            return None
        there = os.path.isdir(transfer.staging) and os.path.isdir(known["programs"]["root"])
        return known if there or published(transfer, context) is not None else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        self.undo(step, context)
        transfer, world = transfer_of(step), context.world
        container, sides = the_container(world, transfer), Sides.from_dict(step.args["sides"])
        source = transfer.data_at(transfer.origin)
        bench = bench_of(transfer, sides, context, owner_of(source))
        os.makedirs(os.path.dirname(bench.work), exist_ok=True)
        durable.make_private(bench.work)
        os.chown(bench.work, *bench.owner)
        upgrade.write_passwd(bench.passwd, bench.owner)
        programs = copy_programs(container, sides.old, _programs_directory(context, transfer))
        with postgresql_store(world).session(world.engine, container) as session:
            cluster, login = observe_cluster(session), session.login
            foreign = foreign_options(session, cluster)
        upgrade.make_cluster(bench, cluster, sides.new.server_version_num)
        left_out = upgrade.carry_configuration(bench, cluster, source)
        upgrade.check(bench, container, cluster, programs, login, source)
        return {
            "programs": {"root": programs.root, "bin_directory": programs.bin_directory},
            "owner": list(bench.owner),
            "cluster": cluster.as_dict(),
            "left_out": [str(each) for each in left_out],
            "foreign_options": foreign,
        }

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        remove_work(transfer_of(step), context)
        return {}


class Upgrade(StagedMove):
    """pg_upgrade from the copy to the new cluster, which becomes the goal.

    args: ``transfer``, ``sides``, ``made_by``: name of the step that made the cluster, ``copied_by``: the strategy
    of the copy, ``refresh``: as for :class:`RefreshService`.
    """

    def fill(self, transfer: Transfer, step: Step, context: Context[World]) -> Evidence:
        known, sides = context.evidence[step.args["made_by"]], Sides.from_dict(step.args["sides"])
        cluster, programs = Cluster.from_dict(known["cluster"]), Programs(**known["programs"])
        bench = bench_of(transfer, sides, context, (known["owner"][0], known["owner"][1]))
        begun = os.path.join(bench.work, BEGUN)
        if os.path.exists(begun):
            raise StatefulError(
                "pg_upgrade was interrupted, and what it has begun cannot be gone on with.",
                state=f"the data is complete in {transfer.origin.shown()}",
            )
        with open(begun, "x", encoding="ascii"):
            durable.fsync_directory(bench.work)
        # A standby's first: it ends its recovery by the configuration that it followed with.
        upgrade.make_bare(bench, cluster)
        if known["foreign_options"]:
            with upgrade.served(bench, cluster, bench.old_image_id, bench.old) as session:
                take_out(session, cluster)
        elif step.args["copied_by"] == REPLICA:
            upgrade.recover(bench)
        upgrade.upgrade(bench, cluster, programs)
        refreshed: Evidence = {}
        if step.args["refresh"]["order_changed"] or step.args["refresh"]["updates"]:
            with upgrade.served(bench, cluster, bench.image_id, bench.new) as session:
                refreshed = _refresh(session, step)
        upgrade.place_configuration(bench)
        upgrade.give_to(transfer.staging, sides.new.user)
        durable.sync_file_system(transfer.staging)
        return {**refreshed, "identities": {transfer.name: dict(self.prove(transfer, context))}}

    def prove(self, transfer: Transfer, context: Context[World]) -> Identity:
        return context.world.store(transfer).prove_stopped(transfer.staged_data, transfer.store_facts)


class RefreshService(SelfProving):
    """Indexes and extensions of a service that runs on other libraries, before anybody uses it.

    args: ``transfer``, ``refresh``: ``order_changed`` and ``updates`` (each extension with database and version now).
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return context.evidence.get(step.name)

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        transfer, world = transfer_of(step), context.world
        container = the_container(world, transfer)
        world.store(transfer).wait_ready(world.engine, container.id, transfer.store_facts, world.ready_timeout)
        with postgresql_store(world).session(world.engine, container) as session:
            return _refresh(session, step)

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        return {}  # what the old libraries need is done when the old image runs: see OrderBack


class OrderBack(SelfProving):
    """Where the change is undone after indexes were built in the new order, they are built in the old one again.

    It comes first in the downtime and does nothing, so that its undo comes last, when the old image serves. args:
    ``transfer``, ``refreshed_by``: name of the step that may have built them.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return context.evidence.get(step.name)

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        return {}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        transfer, world, history = transfer_of(step), context.world, context.operation.history()
        if step.args["refreshed_by"] not in history.intents:
            return {}
        with postgresql_store(world).session(world.engine, the_container(world, transfer)) as session:
            return refresh(session, order_changed=True, updates=())


def _refresh(session: Session, step: Step) -> Evidence:
    wanted = step.args["refresh"]
    updates = [Extension(**extension) for extension in wanted["updates"]]
    return refresh(session, order_changed=bool(wanted["order_changed"]), updates=updates)


class UntilUpgraded(SelfProving):
    """A step that makes the copy to upgrade from: done with, once the upgrade has its result.

    args: those of the step, ``transfer`` being the copy's, and ``upgrade``: the transfer that it is made for.
    """

    def __init__(self, inner: Handler[World]) -> None:
        self._inner = inner

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        if published(Transfer.from_dict(step.args["upgrade"]), context) is not None:
            return context.evidence.get(step.name, {})
        return self._inner.is_done(step, context)

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        return self._inner.apply(step, context)

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        """Forget a copy that has its name, without a question: nobody but pg_upgrade ever served it, or can any more.

        It is removed with the directory that it lies in.
        """
        if isinstance(self._inner, StagedMove):
            forget_published(transfer_of(step), context)
            return {}
        return self._inner.undo(step, context)


class Discard(NothingToUndo):
    """Remove what the upgrade was worked on with: the linked copy, the old programs. args: ``transfer``."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return None if os.path.lexists(work_of(transfer_of(step))) else {}

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        remove_work(transfer_of(step), context)
        return {}


class Analyze(NothingToUndo):
    """Statistics in three stages, the first within seconds, while the service works. args: ``transfer``."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return context.evidence.get(step.name)

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        transfer, world = transfer_of(step), context.world
        if not transfer.running:
            return {"transactions": 0}
        with postgresql_store(world).session(world.engine, the_container(world, transfer)) as session:
            return {"transactions": statistics.analyze_in_stages(session), "analyzed_at": time.time()}


def work_of(transfer: Transfer) -> str:
    """Return the directory beside the goal in which an upgrade is worked on."""
    return os.path.dirname(transfer.staging)


def bench_of(transfer: Transfer, sides: Sides, context: Context[World], owner: tuple[int, int]) -> upgrade.Bench:
    directory = context.operation.directory
    return upgrade.Bench(
        engine=context.world.engine,
        operation=context.operation.id,
        image_id=sides.new.id,
        old_image_id=sides.old.id,
        owner=owner,
        work=work_of(transfer),
        passwd=os.path.join(directory, f"{transfer.label}.passwd"),
        old_subpath=transfer.subpath,
        new_subpath=transfer.goal.subpath or "",
    )


def _programs_directory(context: Context[World], transfer: Transfer) -> str:
    return os.path.join(context.operation.directory, f"{transfer.label}.programs")


def remove_work(transfer: Transfer, context: Context[World]) -> None:
    work = work_of(transfer)
    if not durable.is_staging_path(work):
        raise StatefulError(f"{work} is no directory of ours; it is not removed.")
    # The one that tells whether there is anything to remove goes last.
    for path in (_programs_directory(context, transfer), work):
        if os.path.isdir(path):
            shutil.rmtree(path)


IMAGE_HANDLERS: dict[str, Handler[World]] = {
    "return_to_original": ReturnToOriginal(),
    "keep_image": KeepImage(),
    "make_cluster": MakeCluster(),
    "upgrade": Upgrade(),
    "refresh_service": RefreshService(),
    "order_back": OrderBack(),
    "discard": Discard(),
    "analyze": Analyze(),
    **{
        f"{kind}_to_upgrade": UntilUpgraded({**STORAGE_HANDLERS, **STANDBY_HANDLERS}[kind])
        for kind in ("warm_copy", "make_standby", "clone", "settle", "promote_standby")
    },
}
