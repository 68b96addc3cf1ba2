# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The downtime once the writers are out: export, import, and the app's variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from ansible_collections.selfhost.stateful.plugins.module_utils._clock import moment
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import (
    links,
    plan_links,
    survey,
    words,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.content import at_once, content_of, renamed
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.exports import exported, stamp_of
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.planner import EXPORT
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import (
    World,
    has_gone_over,
    is_primary,
    now,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.writes import (
    refuse_late,
    refuse_newer,
    writes_since,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import (
    DEFAULT_SCHEME,
    PRIMARY,
    SCHEME,
    Service,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.plan_links import Wish
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo, SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Copy, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import NEXT_XID, system_identifier
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.compare import (
    refuse_losses,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.model import (
    as_dict,
    from_dict,
)


class Export(NothingToUndo):
    """The database is in a file, and what it held is known. args: ``app``, ``old``, ``new``, ``path``. It is kept."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        known, world = context.evidence.get(step.name), context.world
        if known is None:
            return None
        if is_primary(world, step.args["app"], step.args["new"]):
            return known
        if not os.path.isfile(step.args["path"]):
            return None
        with world.session(step.args["old"]) as there:
            return known if int(there.scalar(NEXT_XID)) == known["next_xid"] else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        world, old = context.world, step.args["old"]
        database = world.service(old).database
        with world.session(old) as there:
            xid = int(there.scalar(NEXT_XID))
        # Nobody writes, so that both see the same without a common snapshot.
        before, path = at_once(
            lambda: content_of(world, old, database), lambda: exported(world, old, step.args["path"])
        )
        copy = Copy(
            role="backup",
            service=old,
            path=path,
            moment=moment(),
            size_bytes=os.path.getsize(path),
            proof="begins as an archive of pg_dump's; whether all is in it, the import proves",
        )
        found = {"copies": [copy.as_dict()], "next_xid": xid, "stamp": stamp_of(path)}
        return {**found, "content": as_dict(before), "at": now()}


class Import(NothingToUndo):
    """The new service has every table, row, sequence and extension that the old one had.

    args: ``app``, ``old``, ``new``, ``path``.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        known, world, new = context.evidence.get(step.name), context.world, step.args["new"]
        exported_ones = context.evidence.get(EXPORT, {})
        if known is None or known["stamp"] != exported_ones.get("stamp"):
            return None
        if is_primary(world, step.args["app"], new):
            return known
        return known if writes_since(world, new, known) == 0 else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        world, new, path = context.world, step.args["new"], step.args["path"]
        known = context.evidence[EXPORT]
        if stamp_of(path) != known["stamp"]:
            raise StatefulError(f"{path} is not as it was when it was exported; it is not imported.")
        refuse_newer(world, context.operation)
        database = world.service(new).database
        call = ("postgres:import", new)
        answer = world.dokku.imported(path, *call)
        if answer.rc != 0:
            raise world.dokku.failed(call, answer)
        after, _done = at_once(lambda: content_of(world, new, database), lambda: analyze(world, new, database))
        before = renamed(from_dict(known["content"]), database)
        refuse_losses(before, after, f"{new} lacks what {step.args['old']} has")
        refuse_late(world, step.args["old"], known)
        with world.session(new) as there:
            there.run("CHECKPOINT")
            identity, xid = str(system_identifier(there)), int(there.scalar(NEXT_XID))
        tables = after.databases[database].tables
        counted = {"tables": len(tables), "rows": sum(table.rows for table in tables.values())}
        return {"stamp": known["stamp"], "system_identifier": identity, "next_xid": xid, **counted}


class Repoint(SelfProving):
    """The app is linked to the new service, which is its primary one, and to the old one no more.

    A link to the old one would have dokku start that with the app, and would keep the app's containers from starting
    once it is stopped.

    args: ``app``, ``old``, ``new``, ``addresses`` and ``colours``: scheme, database and query of each variable that
    named the old one, ``scheme``: the app's that is asked for, or None, ``former_scheme``.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        world, args = context.world, step.args
        known = context.evidence.get(step.name)
        if known is None:
            return None  # to do it once more costs as little as to look whether it is done
        app, new = survey.app(world.dokku, args["app"]), world.service(args["new"])
        wanted = args["scheme"] if args["scheme"] is not None else args["former_scheme"]
        there = set(args["addresses"]) <= set(app.pointing_at(new))
        rid = args["app"] not in survey.links(world.dokku, args["old"])
        return known if there and rid and app.scheme == wanted and args["app"] in new.links else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        world, args = context.world, step.args
        new, app = world.service(args["new"]), survey.app(world.dokku, args["app"])
        first = plan_links.before_linking(app, new, Wish(scheme=args["scheme"]))
        links.carry_out(world.dokku, app.name, new, first)
        answer = world.dokku.tried(*words.link(new.name, app.name)) if first.link else None
        former = world.service(args["old"]).database
        links.set_values(world.dokku, app.name, self._values(args["addresses"], new, former, scheme=args["scheme"]))
        new, seen = world.service(args["new"]), survey.app(world.dokku, app.name)
        if app.name not in new.links and answer is not None:
            raise world.dokku.failed(words.link(new.name, app.name), answer)
        if not set(args["addresses"]) <= set(seen.pointing_at(new)) or PRIMARY not in seen.pointing_at(new):
            raise StatefulError(f"{PRIMARY} of {app.name} does not point at {new.name}, although it was set.")
        links.unlink(world.dokku, seen, world.service(args["old"]))
        return {"variables": sorted(args["addresses"])}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        world, args = context.world, step.args
        has_gone_over(world, args["app"], args["old"], args["new"])
        old = world.service(args["old"])
        app = survey.app(world.dokku, args["app"])
        if args["app"] not in old.links:
            answer = world.dokku.tried(*words.link(old.name, args["app"]))
            if args["app"] not in survey.links(world.dokku, old.name):
                raise world.dokku.failed(words.link(old.name, args["app"]), answer)
        names = {**args["addresses"], **args["colours"]}
        values = self._values(names, old, old.database, scheme=None)
        if app.scheme != args["former_scheme"] and args["former_scheme"]:
            values[SCHEME] = args["former_scheme"]
        links.set_values(world.dokku, app.name, values)
        if survey.exists(world.dokku, args["new"]):
            links.unlink(world.dokku, survey.app(world.dokku, app.name), world.service(args["new"]))
        app = survey.app(world.dokku, app.name)
        excess = tuple(name for name in app.pointing_at(old) if name not in names)
        if app.scheme and not args["former_scheme"]:
            excess += (SCHEME,)
        if excess:
            world.dokku.asked(*words.unset_variables(app.name, excess))
        seen = survey.app(world.dokku, app.name)
        if sorted(names) != sorted(seen.pointing_at(old)) or seen.scheme != args["former_scheme"]:
            raise StatefulError(f"The variables of {app.name} are not as they were before the swap.")
        return {"variables": sorted(names)}

    @staticmethod
    def _values(
        names: Mapping[str, Mapping[str, str]], service: Service, former: str, *, scheme: str | None
    ) -> dict[str, str]:
        """Return the variables as they name a service; each keeps its query, and where none is given its scheme.

        ``former``: the database that is the service's own one now; each other keeps its name.
        """
        if service.dsn is None:
            raise StatefulError(f"The service {service.name} says no address.")
        own = service.dsn.database
        # An earlier version noted no database.
        databases = {name: parts.get("database", former) for name, parts in names.items()}
        return {
            name: replace(
                service.dsn,
                scheme=parts["scheme"] if scheme is None else scheme or DEFAULT_SCHEME,
                database=own if databases[name] == former else databases[name],
                query=parts["query"],
            ).text()
            for name, parts in names.items()
        }


def analyze(world: World, service: str, database: str) -> None:
    """Take statistics: without them the first questions of the app would take their time.

    And there is less left for the server itself to do later, of which each counts as a transaction too.
    """
    with world.session(service, database) as there:
        there.without_timeouts().run("ANALYZE")
