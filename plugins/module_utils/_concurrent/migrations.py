# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the ledger says of a rung's migrations: what forbids to run them, and what is left to do. Changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations import files
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.model import Migration, Row
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.planner import (
    ACCEPT,
    RUN,
    decide,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.server import (
    answer_of_done_when,
    still_to_do,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session


def migrations_of(given: Sequence[Mapping[str, Any]]) -> tuple[Migration, ...]:
    """Read what a rung gives; raises :class:`InvalidInput` for what is no migration."""
    return files.parse(*files.of_list(given))


def forbidden(migrations: Sequence[Migration], ledger: Collection[Row], series: str) -> list[Blocker]:
    """Return what forbids to run them, asked before anything stops and again before the first one runs."""
    numbers = {migration.number for migration in migrations}
    # The ways out that the planner names are options of the other module.
    decided = decide(migrations, ledger, accept=numbers, retry=numbers)
    found = list(decided.blockers)
    for migration, row in ((each.migration, each.row) for each in decided.of(ACCEPT)):
        if row is not None:
            found.append(
                Blocker(
                    f"{migration.name} is not what ran as number {row.number} ({row.name}, on {row.at}): it had sha256"
                    f" {row.sha256[:12]} and has {migration.sha256[:12]} now. Put the old text back, or have the new"
                    " one, which is not run then, accepted by selfhost.stateful.postgresql_migrations (series:"
                    f" {series}, accept: [{row.number}])."
                )
            )
    for migration, row in ((each.migration, each.row) for each in decided.of(RUN)):
        if row is not None and not migration.guards.repeatable:
            found.append(
                Blocker(
                    f"{migration.name} was begun on {row.at} and broken off ({row.state}); it ran in no transaction, so"
                    " that a part may be done. Look at what it did and put it right; then run it to its end by"
                    f" selfhost.stateful.postgresql_migrations (series: {series}, retry: [{row.number}])."
                )
            )
    return found


def is_settled(there: Session, migration: Migration, row: Row) -> bool:
    """Tell whether nothing is left to do since it ran: the older version may have written since, without it.

    Raises where something is, and the migration may not be run twice.
    """
    guards = migration.guards
    left = still_to_do(there, migration)
    if not left and (not guards.done_when or answer_of_done_when(there, migration)):
        return True
    if migration.in_transaction or guards.repeatable:
        return False
    told = f"expect_rows says that {left} rows are still to do" if left else "done_when answers false"
    raise StatefulError(
        f"{migration.name} ran on {row.at}, and the query of {told} now. It runs in no transaction and is not"
        " repeatable, so that it is not run a second time."
    )
