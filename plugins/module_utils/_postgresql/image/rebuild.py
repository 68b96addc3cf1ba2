# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps that make another cluster beside the one that serves: by pg_upgrade of a copy, or by a dump of one."""

from __future__ import annotations

import os
import shutil
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from ansible_collections.selfhost.stateful.plugins.module_utils._durable import fsync_directory
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence, Handler
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo, SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import observe_cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import bench as working
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import upgrade
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.bench import Bench
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.configuration import digests_of
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.foreign_options import (
    foreign_options,
    take_out,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.look_again import (
    Seen,
    last_seen,
    named_files,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import FULL, Sides
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.programs import (
    Programs,
    copy_programs,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.refresh import refresh_as_planned
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.reload import reload
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.waiting import Waiting
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.paths import owner_of
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.standby_steps import MOVE_HANDLERS
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.store import postgresql_store
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import REPLICA
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.moves import (
    StagedMove,
    forget_published,
    published,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import Identity
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Transfer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import durable, mounts
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World, the_container, transfer_of

SCARCE = 32 << 20
"""Bytes free below which a failure is told with them."""
BEGUN = "begun"
"""A file in the work directory: from then on neither the copy nor the new cluster is what it was."""


class MakeCluster(SelfProving):
    """The new cluster beside the running one, empty, with its configuration. args: ``transfer``, ``sides``."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        transfer, known = transfer_of(step), context.evidence.get(step.name)
        if known is None:
            return None
        there = os.path.isdir(transfer.staging) and self.is_equipped(known)
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
        working.write_passwd(bench.passwd, bench.owner)
        with postgresql_store(world).session(world.engine, container) as session:
            cluster = observe_cluster(session)
            foreign, named = foreign_options(session, cluster), named_files(session)
        with telling_of_space(bench.work):
            working.make_cluster(bench, cluster, sides.new.server_version_num)
            carried = digests_of(source, cluster.data_directory, named)
            left_out = working.carry_configuration(bench, cluster, source, sides.new.server_version_num, named)
            equipped = self.equip(bench, cluster, step, context)
        return {
            **equipped,
            "foreign_options": foreign,
            "owner": list(bench.owner),
            "cluster": cluster.as_dict(),
            "named_files": named,
            "carried": carried,
            "left_out": [str(each) for each in left_out],
        }

    def is_equipped(self, known: Evidence) -> bool:
        """Tell whether what :meth:`equip` brought is there."""
        return True

    def equip(self, bench: Bench, cluster: Cluster, step: Step, context: Context[World]) -> Evidence:
        """Bring what only one way needs, and look whether it can be gone."""
        return {}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        remove_work(transfer_of(step), context)
        return {}


class MakeUpgradableCluster(MakeCluster):
    """As :class:`MakeCluster`, with the programs of the old image, and with what pg_upgrade says of the two."""

    def is_equipped(self, known: Evidence) -> bool:
        return os.path.isdir(known["programs"]["root"])

    def equip(self, bench: Bench, cluster: Cluster, step: Step, context: Context[World]) -> Evidence:
        transfer, world = transfer_of(step), context.world
        container, sides = the_container(world, transfer), Sides.from_dict(step.args["sides"])
        programs = copy_programs(container, sides.old, _programs_directory(context, transfer))
        with postgresql_store(world).session(world.engine, container) as session:
            login = session.login
        source = transfer.data_at(transfer.origin)
        upgrade.check(bench, container, cluster, programs, sides.new, login=login, source=source)
        return {"programs": {"root": programs.root, "bin_directory": programs.bin_directory}}


class Rebuild(StagedMove):
    """From the copy to the new cluster, which becomes the goal.

    args: ``transfer``, ``sides``, ``made_by``: name of the step that made the cluster, ``copied_by``: the strategy
    of the copy, ``looked_by``: name of the step that saw the cluster last, ``refresh``: as for the step
    refresh_service, ``verify``: ``fast`` or ``full``.
    """

    program = ""

    def fill(self, transfer: Transfer, step: Step, context: Context[World]) -> Evidence:
        known, sides = context.evidence[step.args["made_by"]], Sides.from_dict(step.args["sides"])
        seen = last_seen(step, context)
        cluster = seen.cluster
        bench = bench_made(step, context)
        begun = os.path.join(bench.work, BEGUN)
        if os.path.exists(begun):
            raise StatefulError(
                f"{self.program} was interrupted, and what it has begun cannot be gone on with.",
                state=f"the data is complete in {transfer.origin.shown()}",
            )
        with open(begun, "x", encoding="ascii"):
            fsync_directory(bench.work)
        # A standby's first: it ends its recovery by the configuration that it followed with.
        with telling_of_space(bench.work):
            working.make_bare(bench, cluster)
            rebuilt = self.rebuild(bench, cluster, step, context)
            carried = self._carry_what_changed(transfer, bench, seen, known, sides.new.server_version_num)
            working.place_configuration(bench)
            working.give_to(transfer.staging, sides.new.user)
            durable.sync_file_system(transfer.staging)
        return {**rebuilt, **carried, "identities": {transfer.name: dict(self.prove(transfer, context))}}

    @staticmethod
    def _carry_what_changed(transfer: Transfer, bench: Bench, seen: Seen, known: Evidence, version: int) -> Evidence:
        """Take the configuration of the original as it was stopped, where that is not what was carried before."""
        source = transfer.data_at(transfer.origin)
        now = digests_of(source, seen.cluster.data_directory, seen.named_files)
        if now == known.get("carried"):
            return {}
        left_out = working.carry_configuration(bench, seen.cluster, source, version, seen.named_files)
        return {"carried": now, "left_out": [str(each) for each in left_out]}

    @abstractmethod
    def rebuild(self, bench: Bench, cluster: Cluster, step: Step, context: Context[World]) -> Evidence:
        """Fill the new cluster from the copy, to its end."""

    def prove(self, transfer: Transfer, context: Context[World]) -> Identity:
        return context.world.store(transfer).prove_stopped(transfer.staged_data, transfer.store_facts)


class AwaitUpgrade(SelfProving):
    """The container that is to run pg_upgrade, started right before the stop.

    args: ``transfer``, ``sides``, ``made_by``: name of the step that made the cluster.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return context.evidence.get(step.name)

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        known = context.evidence[step.args["made_by"]]
        return asdict(upgrade.wait_for_it(bench_made(step, context), Programs(**known["programs"])))

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        known = context.evidence.get(step.name)
        if known:
            context.world.engine.remove_container(known["container_id"], force=True)
        return {}


class Upgrade(Rebuild):
    """By pg_upgrade, with hard links to the copy. args: also ``awaited_by``: name of the step :class:`AwaitUpgrade`."""

    program = "pg_upgrade"

    def rebuild(self, bench: Bench, cluster: Cluster, step: Step, context: Context[World]) -> Evidence:
        known, foreign = context.evidence[step.args["made_by"]], last_seen(step, context).foreign_options
        if foreign:
            with working.served(bench, cluster, bench.old_image_id, bench.old) as session:
                take_out(session, cluster)
        # What was served was recovered by that.
        recover = step.args["copied_by"] == REPLICA and not foreign
        programs, new = Programs(**known["programs"]), Sides.from_dict(step.args["sides"]).new
        # A plan of an earlier version has no such step.
        awaited = context.evidence.get(step.args.get("awaited_by", ""))
        waiting = Waiting(awaited["container_id"], awaited["pipe"]) if awaited else None
        planned, settings = step.args["refresh"], working.UNTIL_WRITTEN_DOWN
        if not planned["order_changed"] and not planned["updates"]:
            upgrade.upgrade(bench, cluster, programs, new, recover=recover, waiting=waiting)
            return {}
        with upgrade.upgraded(
            bench, cluster, programs, new, recover=recover, settings=settings, waiting=waiting
        ) as session:
            return refresh_as_planned(session, planned)


class Reload(Rebuild):
    """By a dump of the copy."""

    program = "the loading of the dump"

    def rebuild(self, bench: Bench, cluster: Cluster, step: Step, context: Context[World]) -> Evidence:
        sides = Sides.from_dict(step.args["sides"])
        foreign = last_seen(step, context).foreign_options
        loaded = reload(
            bench,
            cluster,
            sides,
            prepare=lambda session: take_out(session, cluster) if foreign else None,
            content=step.args["verify"] == FULL,
            progress=context.report,
        )
        return {
            "settings_left_out": list(loaded.left_out),
            "tables_compared": loaded.tables,
            "rows_compared": loaded.rows,
            "contents_compared": loaded.contents,
            "tables_streamed": loaded.streamed,
        }


class UntilRebuilt(SelfProving):
    """A step that makes the copy that another cluster is made from: done with, once that is there.

    args: those of the step, ``transfer`` being the copy's, and ``rebuilt``: the transfer that it is made for.
    """

    def __init__(self, inner: Handler[World]) -> None:
        self._inner = inner

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        if published(Transfer.from_dict(step.args["rebuilt"]), context) is not None:
            return context.evidence.get(step.name, {})
        return self._inner.is_done(step, context)

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        return self._inner.apply(step, context)

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        """Forget a copy that has its name, without a question: nobody but ourselves ever served it, or can any more.

        It is removed with the directory that it lies in.
        """
        if isinstance(self._inner, StagedMove):
            forget_published(transfer_of(step), context)
            return {}
        return self._inner.undo(step, context)


class Discard(NothingToUndo):
    """Remove what the new cluster was made with: the copy, the dump, the old programs. args: ``transfer``."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return None if os.path.lexists(work_of(transfer_of(step))) else {}

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        remove_work(transfer_of(step), context)
        return {}


@contextmanager
def telling_of_space(place: str) -> Iterator[None]:
    """Let a failure say so where there is no room left: programs tell of a file that they cannot write."""
    try:
        yield
    except StatefulError as error:
        system = mounts.filesystem_of(place)
        if system.bytes_free < SCARCE:
            error.msg = f"{error.msg} {system.mount_point} has {system.bytes_free:,} bytes free."
            error.next_command = shell("df", "-h", system.mount_point)
        raise


def work_of(transfer: Transfer) -> str:
    """Return the directory beside the goal in which the new cluster is made."""
    return os.path.dirname(transfer.staging)


def bench_of(transfer: Transfer, sides: Sides, context: Context[World], owner: tuple[int, int]) -> Bench:
    directory = context.operation.directory
    return Bench(
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


def bench_made(step: Step, context: Context[World]) -> Bench:
    """Return the bench of the step that made the new cluster; args: ``transfer``, ``sides``, ``made_by``."""
    uid, gid = context.evidence[step.args["made_by"]]["owner"]
    return bench_of(transfer_of(step), Sides.from_dict(step.args["sides"]), context, (uid, gid))


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


REBUILD_HANDLERS: dict[str, Handler[World]] = {
    "make_cluster": MakeCluster(),
    "make_upgradable_cluster": MakeUpgradableCluster(),
    "await_upgrade": AwaitUpgrade(),
    "upgrade": Upgrade(),
    "reload": Reload(),
    "discard": Discard(),
    **{
        f"{kind}_to_rebuild": UntilRebuilt(MOVE_HANDLERS[kind])
        for kind in ("warm_copy", "make_standby", "clone", "settle", "promote_standby")
    },
}
