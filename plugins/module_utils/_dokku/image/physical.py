# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of a service go to another one: the steps that are dokku's, around those that every move of files has."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

from ansible_collections.selfhost.stateful.plugins.module_utils._clock import moment
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import services
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image import standstill, vacate
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.exports import exported
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.files_way import against_names
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.pair import world_of_moves
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.plan_physical import VACATE
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.planner import REPOINT
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.vacate import container_at
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import (
    ALWAYS,
    NEVER,
    World,
    end_sessions,
    intended,
    is_primary,
    now,
    stop_server,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import container_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import (
    Bind,
    Helper,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import AGAIN, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import (
    Context,
    Evidence,
    Handler,
    Undecided,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo, SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Copy, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import counts, helpers, sql
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import NEXT_XID, system_identifier
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.bench import give_to
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.steps import IMAGE_HANDLERS
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import world as of_moves
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.barrier import seal
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.recreate import prove_mount
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.moves import (
    forget_published,
    published,
    remove_staging,
    stop_if_in_use,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Location
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import transfer_of

TLS = ("server.crt", "server.key")
"""What the plugin puts into a data directory when it makes a service, and names to the server."""
READING = 12 * 3600.0
COUNT_BUDGET = 1.0
COUNT_EXACT_UP_TO = 500_000
"""Seconds and rows of a table within which rows are counted; this is downtime."""
UNHEARD = {
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_error_statement": "panic",
    "track_activities": "off",
    # Unknown where the extension is not loaded, and without effect there.
    "pg_stat_statements.track_utility": "off",
    "pgaudit.log": "none",
}
"""Settings of a session whose statements hold a password."""


class KeepDump(NothingToUndo):
    """The database as it was before anything is touched, in a file that was read to its end.

    args: ``service``, ``path``, ``image``: the id of one whose programs read it.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        known = context.evidence.get(step.name)
        return known if known is not None and os.path.isfile(step.args["path"]) else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        world, service, as_of = context.world, step.args["service"], moment()
        path = exported(world, service, step.args["path"])
        reading = Helper(
            operation=context.operation.id,
            role="read-dump",
            image_id=step.args["image"],
            argv=("pg_restore", "--file=/dev/null", "/dump"),
            user="0:0",
            binds=(Bind(path, "/dump"),),
            environment=helpers.ENGLISH,
        )
        helpers.must_succeed(helpers.run(world.engine, reading, timeout=READING), f"Reading {path}")
        copy = Copy("backup", service, path, as_of, os.path.getsize(path), proof="pg_restore read it to its end")
        return {"copies": [copy.as_dict()]}


class Inside(SelfProving):
    """A step of a move of files, between two services of dokku's. args: those of the step."""

    def __init__(self, inner: Handler[of_moves.World]) -> None:
        self._inner = inner
        self.others_bring_about = inner.others_bring_about

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return self._inner.is_done(step, _inside(context))

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        return self._inner.apply(step, _inside(context))

    def verify(self, step: Step, context: Context[World], evidence: Evidence) -> None:
        self._inner.verify(step, _inside(context), evidence)

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        return self._inner.undo(step, _inside(context))

    def let_go(self, step: Step, context: Context[World]) -> None:
        self._inner.let_go(step, _inside(context))


class BeforeTheApp(Inside):
    """One that is not done once more where the app has its data in the new service: what is there is the app's."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        known, names = context.evidence.get(step.name), _names(context)
        if known is not None and is_primary(context.world, names["app"], names["new"]):
            return known
        try:
            return super().is_done(step, context)
        except Undecided as error:
            if intended(context, REPOINT):
                raise
            # Nobody was told of the new service: what ran there was ours, and the old one has all writes.
            raise StatefulError(
                f"{names['old']} was started after its data was taken, and may have taken writes. ({error.msg})"
            ) from error


class LookAgain(BeforeTheApp):
    """As in every change of an image; and no database came that is called as the new service's is to be."""

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        names, evidence = _names(context), super().apply(step, context)
        former = context.world.service(names["old"]).database
        databases = [each["name"] for each in evidence["cluster"]["databases"]]
        against = list(against_names(former, names["new"], databases))
        if against:
            raise StatefulError(
                f"{names['old']} is not what it was when this was planned: {'; '.join(against)}.", next_command=AGAIN
            )
        return evidence


class Bring(BeforeTheApp):
    """A step that puts the data at the new service. What was written there since, the undo of the later ones kept."""

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        transfer, inside = transfer_of(step), _inside(context)
        for path in (transfer.staging, transfer.goal.path):
            stop_if_in_use(inside.world, transfer, Location("bind", path))
        ours = published(transfer, inside) is not None
        forget_published(transfer, inside)
        if ours:
            shutil.rmtree(transfer.goal.path)
            seal(transfer.goal)
        remove_staging(transfer)
        return {"removed": transfer.goal.path}


class StopOld(Inside):
    """The old server stops. Where this has not begun it may run on another image by now, and need no bringing back."""

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        known, evidence = context.evidence.get(step.name), super().apply(step, context)
        taken = any(each.kind in TAKING and each.name in context.evidence for each in context.operation.plan.steps)
        if known is None or not taken:
            return evidence
        # Somebody has started it since its files were taken: what was written to it then is not in these.
        return {**evidence, standstill.TAKEN_AS: known.get(standstill.TAKEN_AS, known["identities"])}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        found = context.world.engine.container(container_of(_names(context)["old"]))
        if not intended(context, step.name) and found is not None and found.running:
            return {}
        evidence = super().undo(step, context)
        # One that dokku made anew since is none of those whose policies were noted before the stop, and was stopped
        # once more to be compared.
        if found is not None and found.restart == NEVER:
            context.world.engine.set_restart_policy(found.id, ALWAYS)
        return evidence


class CountRows(NothingToUndo):
    """How many rows there are, with the app stopped and the old server still serving. args: ``old``.

    Where that does not serve any more (a run that was killed goes on), what an earlier run noted counts.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        found = context.world.engine.container(container_of(step.args["old"]))
        serving = found is not None and found.running
        return None if serving else context.evidence.get(step.name, {})

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        with context.world.session(step.args["old"]) as there:
            return {"counts": counts.as_dict(counted(there))}


def counted(session: Session) -> counts.Counts:
    """Count as many rows as the downtime allows; of large tables the statistics tell about how many there are."""
    return counts.count_rows(session, budget_seconds=COUNT_BUDGET, exact_up_to=COUNT_EXACT_UP_TO)


class Serve(SelfProving):
    """The new service runs on the data, with its own certificate.

    args: ``new``, ``transfer``, ``brought_by``, ``identified_by``, ``vacated_by``: names of steps, ``owner``: the user
    and group that the new image's server runs as.
    """

    others_bring_about = True
    """Once the data is there, anybody's ``postgres:start`` does it."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        known = context.evidence.get(step.name)
        if known is None or known["settled_at"] != _settled_at(step, context):
            return None
        container = context.world.engine.container(container_of(step.args["new"]))
        return known if container is not None and container.running else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        world, transfer, name = context.world, transfer_of(step), step.args["new"]
        container, data = container_at(world, name), transfer.data_at(transfer.goal)
        if not container.running:
            self._place_certificate(step, context, data)
            uid, gid = step.args["owner"]
            if os.stat(data).st_uid != uid:
                give_to(transfer.goal.path, (uid, gid))
            world.engine.set_restart_policy(container.id, ALWAYS)
            world.engine.start(container.id)
        prove_mount(_inside(context).world, transfer, transfer.goal)
        identity = context.evidence[step.args["identified_by"]]["identities"][transfer.name]
        services.wait(world.reached, name, world.ready_timeout, identity=int(identity["system_identifier"]))
        return {"settled_at": _settled_at(step, context)}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        world = context.world
        container = world.engine.container(container_of(step.args["new"]))
        if container is not None:
            stop_server(world, container)
        return {}

    @staticmethod
    def _place_certificate(step: Step, context: Context[World], data: str) -> None:
        """Put what the plugin made for the new service in place of what came with the data."""
        transfer = transfer_of(step)
        made = transfer.data_at(transfer.goal, context.evidence[step.args["vacated_by"]]["aside"])
        status = os.stat(data)
        for name in TLS:
            source, target = os.path.join(made, name), os.path.join(data, name)
            if os.path.isfile(source):
                shutil.copyfile(source, target)
                os.chown(target, status.st_uid, status.st_gid)
                os.chmod(target, 0o600)


class Adopt(NothingToUndo):
    """The database is called as the new service's address says, and its user has the password that this holds.

    args: as of :class:`Serve`, and ``app``, ``old``, ``counted_by``: the name of that of :class:`CountRows`.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        known = context.evidence.get(step.name)
        # What is noted here is what an undo tells writes of others by: it is noted once for the data that was brought.
        if known is None or known["stamp"] != _settled_at(step, context):
            return None
        return known

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        world, new = context.world, step.args["new"]
        dsn = world.service(new).dsn
        former = world.service(step.args["old"]).database
        if dsn is None:
            raise StatefulError(f"The service {new} says no address.")
        if is_primary(world, step.args["app"], new):
            raise StatefulError(f"{step.args['app']} has its data in {new} already, and its names are not changed.")
        with world.session(new) as there, there.sibling(settings=UNHEARD) as unheard:
            names = {str(name) for (name,) in there.rows("SELECT datname FROM pg_database")}
            if former != dsn.database and {former, dsn.database} <= names:
                # Only a run that was killed after it had given the name would find it, and would find that alone.
                raise StatefulError(
                    f"The data has a database {dsn.database} beside {former}, which was to be called so, and is not"
                    " the app's.",
                    next_command="give the new service another name with name",
                )
            held = self._compared(step, context, counted(there), {former: dsn.database})
            unheard.run(f"ALTER ROLE {sql.identifier(dsn.user)} PASSWORD {sql.literal(dsn.password)}")
            if dsn.database not in names:
                end_sessions(world, new, former)
                there.run(f"ALTER DATABASE {sql.identifier(former)} RENAME TO {sql.identifier(dsn.database)}")
            there.run("CHECKPOINT")
            identity, xid = str(system_identifier(there)), int(there.scalar(NEXT_XID))
        noted = {"stamp": _settled_at(step, context), "system_identifier": identity, "next_xid": xid, "at": now()}
        return {**noted, **held}

    @staticmethod
    def _compared(
        step: Step, context: Context[World], found: counts.Counts, names: Mapping[str, str]
    ) -> Mapping[str, int]:
        """Return how much there is; raises where a table that was counted has fewer rows now.

        More there may be: what a session writes until the server stops is taken along. ``names``: what a run that was
        killed may have renamed already.
        """
        noted = context.evidence.get(step.args["counted_by"], {}).get("counts")
        before = counts.from_dict(noted) if noted else found
        for name, renamed in names.items():
            if name not in found.databases and renamed in found.databases:
                before = counts.renamed(before, name, renamed)
        other = [each for each in counts.compare_counts(before, found) if each.lost]
        if other:
            raise StatefulError(
                f"{step.args['new']} does not have what {step.args['old']} had: {'; '.join(map(str, other))}."
            )
        return {"tables": sum(len(tables) for tables in found.databases.values()), "rows": found.rows}


def _inside(context: Context[World]) -> Context[of_moves.World]:
    """Return the same for the steps that move files; what they note is noted in the one journal."""
    names = _names(context)
    world = world_of_moves(context.world, names["old"], names["new"])
    return Context(world=world, operation=context.operation, evidence=context.evidence, report=context.report)


def _names(context: Context[World]) -> Mapping[str, str]:
    """Return the names of the ``app``, and of the ``old`` and the ``new`` service."""
    args = next(step.args for step in context.operation.plan.steps if step.name == VACATE)
    return {name: args[name] for name in ("app", "old", "new")}


def _settled_at(step: Step, context: Context[World]) -> float:
    """Return what tells one bringing of the data from another."""
    return float(context.evidence[step.args["brought_by"]]["settled_at"])


BRINGING = ("clone", "settle", "promote_standby", "upgrade")
TO_REBUILD = ("clone_to_rebuild", "settle_to_rebuild", "promote_standby_to_rebuild")
TAKING = (*BRINGING, *TO_REBUILD)
"""Once one of these is done, the files are as they were at the stop before it."""
BEFORE_THE_APP = (*TO_REBUILD, "refresh_service", "compare_service")
KINDS = (
    *("warm_copy", "make_standby", "warm_copy_to_rebuild", "make_standby_to_rebuild"),
    *("make_upgradable_cluster", "arrange_stop", "hold_restarts", "remember_service"),
    *("discard", "analyze", "remove_helpers"),
)
PHYSICAL_HANDLERS: dict[str, Handler[World]] = {
    "dokku_keep_dump": KeepDump(),
    "look_again": LookAgain(IMAGE_HANDLERS["look_again"]),
    "dokku_vacate": vacate.Vacate(),
    "dokku_count": CountRows(),
    "dokku_serve": Serve(),
    "dokku_adopt": Adopt(),
    "dokku_tidy": vacate.Tidy(),
    **{kind: Bring(IMAGE_HANDLERS[kind]) for kind in BRINGING},
    **{kind: BeforeTheApp(IMAGE_HANDLERS[kind]) for kind in BEFORE_THE_APP},
    **{kind: Inside(IMAGE_HANDLERS[kind]) for kind in KINDS},
    "stop_stores": StopOld(IMAGE_HANDLERS["stop_stores"]),
}
"""Every step by which files go from one service to the other."""
