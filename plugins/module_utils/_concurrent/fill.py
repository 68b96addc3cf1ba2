# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a rung that leaves the data where it is: the api adds its columns, a migration fills them."""

from __future__ import annotations

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import counting, said
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import host as hosts
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.common import (
    ask_again,
    counted_before,
    ensure_down,
    host_of,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.migrations import (
    forbidden,
    is_settled,
    migrations_of,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.model import FIRST_SERIES
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, refusal
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations import ledger, perform
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.model import (
    RECOGNISED,
    UNDOING,
    Migration,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.server import Server
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World


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
        host = host_of(step, context)
        ask_again(host, context)
        ensure_down(host, step.args["data"])
        return {}


class Migrate(SelfProving):
    """A migration has run.

    args: ``folder``, ``database``, ``migrations`` as ``postgresql_migrations`` takes them, ``series`` in its ledger.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return context.evidence.get(step.name)

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        server, series, ran = server_of(step, context), series_of(step), []
        migrations = migrations_of(step.args["migrations"])
        with server.at_work(series) as there:
            known = {row.number: row for row in ledger.read(there, series)}
            found = forbidden(migrations, known.values(), series)
            if found:
                raise refusal(found)
            for migration in migrations:
                row = known.get(migration.number)
                if row is not None and row.complete and is_settled(there, migration, row):
                    ours = row.operation == context.operation.id
                    ran.append({"name": migration.name, "rows": row.rows if ours else 0})
                    continue
                made = _run(server, there, series, migration, context.operation.id)
                ran.append({"name": migration.name, "rows": made.rows})
        return {"migrations": ran}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        """Take it back, or at least its note, so that it runs again: what it filled is in nobody's way till then."""
        if step.name in context.operation.history().undone:
            return {}
        host, series = host_of(step, context), series_of(step)
        host.start_postgresql()
        server = server_of(step, context)
        stays: list[str] = []
        with server.at_work(series) as there:
            known = {row.number: row for row in ledger.read(there, series)}
            for migration in reversed(migrations_of(step.args["migrations"])):
                row = known.get(migration.number)
                if row is None or row.operation != context.operation.id:
                    continue
                if not row.complete and row.state != UNDOING:
                    stays.append(migration.name)  # what the ledger says is all that is known of it
                elif migration.undo and row.state != RECOGNISED:
                    perform.take_back(server, there, series, migration)
                else:
                    stays += [migration.name] if row.state != RECOGNISED else []
                    ledger.remove(there, series, migration.number)
        return {"stays": stays[::-1]}


def _run(server: Server, there: Session, series: str, migration: Migration, operation: str) -> perform.Ran:
    try:
        return perform.run(server, there, series, migration, operation)
    except perform.PartlyDone as error:
        # What comes next is said by the next run, which looks into the ledger before anything stops.
        error.msg = f"{error.msg.rstrip('.')}: {error.state}."
        error.facts.clear()
        raise


def series_of(step: Step) -> str:
    """Return the series in the ledger; what was planned before there was one for each rung has the first."""
    return str(step.args.get("series", FIRST_SERIES))


def server_of(step: Step, context: Context[World]) -> Server:
    host = host_of(step, context)
    container = host.container(hosts.DB)
    engine = context.world.engine
    return Server(engine, container, hosts.DB, lambda: session.connect(engine, container, database=host.database))
