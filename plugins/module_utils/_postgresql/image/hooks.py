# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs what an image's own process asks for: scripts and SQL around the change, and numbered migrations."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence, Handler
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo, SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup.taken import backed_up
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.limits import limit_of, within
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.own_writes import counted_as_ours
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.unchanged import still_true
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations import (
    files,
    ledger,
    perform,
    planner,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.model import Migration, Row
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.server import Server
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.store import postgresql_store
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.beyond import beyond_proof
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.downtime import running_on
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World, the_container, transfer_of

KEPT = 1 << 12
"""Characters that are kept of what a hook says, its end."""


def check_hooks(*lists: list[Mapping[str, Any]], migrations: Sequence[Mapping[str, Any]] = ()) -> None:
    """Raise :class:`InvalidInput` for a hook that is neither a script nor SQL, and for a limit that is none."""
    for hook in (each for found in lists for each in found):
        if not hook["name"].endswith((".sh", ".sql")):
            raise InvalidInput(f"{hook['name']} is neither a script nor SQL: a hook is called by .sh or .sql.")
    for each in (each for found in (*lists, migrations) for each in found):
        if limit_of(each) < 0:
            raise InvalidInput(f"The timeout of {each['name']} is a number of seconds, 0 for none.")


def server_of(step: Step, context: Context[World], public: Mapping[str, str] | None = None) -> Server:
    """Return the service's server that runs now, the old one or the new one."""
    world, transfer = context.world, transfer_of(step)
    store, container = postgresql_store(world), the_container(world, transfer)
    return Server(
        engine=world.engine,
        container=container,
        name=transfer.service,
        connect=lambda: store.session(world.engine, container),
        public=public or {},
    )


def of_the_stopped(step: Step, context: Context[World]) -> Evidence | None:
    """Return what was made of the old server, once it serves no more: while it does, somebody may have written."""
    transfer = transfer_of(step)
    return None if running_on(context.world, transfer, transfer.origin) else context.evidence.get(step.name)


def fresh(path: str) -> str:
    """Return a directory that is not there: what is at ``path`` is older than what was written since."""
    paths = (path if number == 1 else f"{path}-{number}" for number in itertools.count(1))
    return next(each for each in paths if not os.path.lexists(each))


class FullBackup(NothingToUndo):
    """A dump of everything, proved, with nobody who writes any more. args: ``transfer``, ``path``."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        found = of_the_stopped(step, context)
        if found and beyond_proof(context):
            return found
        return found if found and all(os.path.isdir(copy["path"]) for copy in found["copies"]) else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        server = server_of(step, context)
        with server.connect() as there:
            copy = backed_up(server.engine, there, server.name, fresh(step.args["path"]), "logical")
        return {"copies": [copy.as_dict()]}


class RunHooks(SelfProving):
    """Hooks in the container that runs. args: ``transfer``, ``hooks``, ``from``, ``to``, ``full_backup``.

    ``old_server``: whether that is the one that is still to be stopped. A script has both versions as its arguments,
    SQL as settings. Killed in one, all are run again.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return of_the_stopped(step, context) if step.args.get("old_server") else still_true(step, context)

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        args, output = step.args, {}
        versions = {
            "FROM_VERSION": args["from"],
            "TO_VERSION": args["to"],
            "FULL_BACKUP": "true" if args["full_backup"] else "false",
        }
        server = server_of(step, context, versions)
        with counted_as_ours(step, context):
            for hook in args["hooks"]:
                limited = replace(server, limit=limit_of(hook))
                output[hook["name"]] = self._run(limited, hook["name"], hook["content"], args)[-KEPT:]
        return {"hooks": output, "at": time.time()}

    @staticmethod
    def _run(server: Server, name: str, content: str, args: Mapping[str, Any]) -> str:
        try:
            if name.endswith(".sh"):
                return perform.execute(server, name, f"set -- {args['from']} {args['to']}\n{content}")
            # As the application has it, with its own search_path.
            with server.connect() as ours, ours.as_application() as there, within(server, there, server.limit, name):
                for key in ("from", "to"):
                    there.rows("SELECT set_config(%s, %s, false)", (f"selfhost_stateful.{key}_version", args[key]))
                return "\n".join(there.script(content).remarks)
        except StatefulError as error:
            raise StatefulError(f"The hook {name} failed. {error.msg}", next_command=error.next_command) from error

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        """What it did in the new cluster goes with it; what it did in the old one is the hook's own to bear twice."""
        return what_stays(step, "hook", step.args["hooks"])


class RunMigrations(SelfProving):
    """Numbered migrations of the image, each once, on the data that is there.

    args: ``transfer``, ``migrations``, ``series``. They are noted as those of
    ``postgresql_migrations`` are, in the ledger of the database and by their markers.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return still_true(step, context)

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        server, series, ran = server_of(step, context), step.args["series"], []
        migrations = migrations_of(step)
        limits = {each["name"]: limit_of(each) for each in step.args["migrations"]}
        with counted_as_ours(step, context), server.at_work(series) as there:
            refused = against(migrations, ledger.read(there, series))
            if refused:
                raise StatefulError(" ".join(each.text for each in refused))
            for migration in migrations:
                row = next((row for row in ledger.read(there, series) if row.number == migration.number), None)
                if row is not None and row.complete:
                    ran.append({"name": migration.name, "state": row.state, "rows": row.rows})
                else:
                    seconds = limits[migration.name]
                    with within(server, there, seconds, migration.name):
                        limited = replace(server, limit=seconds)
                        made = perform.run(limited, there, series, migration, context.operation.id)
                    ran.append({"name": migration.name, "state": made.state, "rows": made.rows})
                perform.mark(server, migration)
        return {"migrations": ran, "at": time.time()}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        """On the same files they stay done, as what is written stays; a new cluster goes, and they with it."""
        return what_stays(step, "migration", step.args["migrations"])


def against(migrations: Sequence[Migration], rows: Sequence[Row]) -> list[Blocker]:
    """Return what forbids that migrations run on a database whose ledger has ``rows``: as of the module of its own."""
    way_out = (
        " The options accept and retry are those of selfhost.stateful.postgresql_migrations, with the same series."
    )
    return [Blocker(each.text + way_out, each.command) for each in planner.decide(migrations, rows).blockers]


def what_stays(step: Step, kind: str, ran: Sequence[Mapping[str, Any]]) -> Evidence:
    """Return what an undo leaves in the data; each may have run, or a part of it."""
    return {"stays": [f"{kind} {each['name']}" for each in ran]} if step.args.get("stays") else {}


def migrations_of(step: Step) -> tuple[Migration, ...]:
    return parsed(step.args["migrations"])


def parsed(given: Sequence[Mapping[str, Any]]) -> tuple[Migration, ...]:
    """Return the migrations that the module's option holds."""
    return files.parse(*files.of_list(given))


HOOK_HANDLERS: dict[str, Handler[World]] = {
    "full_backup": FullBackup(),
    "image_hooks": RunHooks(),
    "image_migrations": RunMigrations(),
}
