# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a rung that leaves the data where it is: the api adds its columns, a migration fills them."""

from __future__ import annotations

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import counting, said
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import host as hosts
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.common import (
    counted_before,
    ensure_down,
    host_of,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations import files, ledger, perform
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.model import (
    RECOGNISED,
    Migration,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.server import Server
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World

SERIES = "concurrent"


class StartApi(SelfProving):
    """The new api alone runs on the data, has its columns, nothing is lost.

    args: ``folder``, ``data``, ``awaits``, ``version``.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        known = context.evidence.get(step.name)
        if known is None or step.proves:
            return known  # what is down by now, the last step starts
        containers = context.world.containers_of(hosts.API)
        healthy = [each for each in containers if each.pid and said.ask(each, "/health")[0] == 200]
        return known if healthy else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        host = host_of(step, context)
        host.start_api(step.args["version"])
        host.wait_columns(step.args["awaits"])
        after = counting.count_all(host)
        missing = counting.lost(counted_before(context), after)
        if missing:
            raise StatefulError(f"After the api has started, something is not there any more: {'; '.join(missing)}.")
        return {"tables": len(after.rows), "rows": sum(after.rows.values()), "stream_items": after.stream_items}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        ensure_down(host_of(step, context), step.args["data"])
        return {}


class Migrate(SelfProving):
    """A migration has run. args: ``folder``, ``database``, ``migrations`` as ``postgresql_migrations`` takes them."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return context.evidence.get(step.name)

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        server, ran = server_of(step, context), []
        with server.at_work(SERIES) as there:
            known = {row.number: row for row in ledger.read(there, SERIES)}
            for migration in migrations_of(step):
                row = known.get(migration.number)
                if row is not None and row.complete:
                    ran.append({"name": migration.name, "rows": row.rows})
                    continue
                made = perform.run(server, there, SERIES, migration, context.operation.id)
                ran.append({"name": migration.name, "rows": made.rows})
        return {"migrations": ran}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        """Take it back, or at least its note, so that it runs again: what it filled is in nobody's way till then."""
        if step.name in context.operation.history().undone:
            return {}
        host = host_of(step, context)
        host.start_postgresql()
        server = server_of(step, context)
        with server.at_work(SERIES) as there:
            known = {row.number: row for row in ledger.read(there, SERIES)}
            for migration in reversed(migrations_of(step)):
                row = known.get(migration.number)
                if row is None or row.operation != context.operation.id:
                    continue
                if migration.undo and row.state != RECOGNISED:
                    perform.take_back(server, there, SERIES, migration)
                else:
                    ledger.remove(there, SERIES, migration.number)
        return {}


def migrations_of(step: Step) -> tuple[Migration, ...]:
    return files.parse(*files.of_list(step.args["migrations"]))


def server_of(step: Step, context: Context[World]) -> Server:
    host = host_of(step, context)
    container = host.container(hosts.DB)
    engine = context.world.engine
    return Server(engine, container, hosts.DB, lambda: session.connect(engine, container, database=host.database))
