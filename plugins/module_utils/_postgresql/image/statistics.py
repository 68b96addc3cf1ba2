# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Statistics for the planner after an upgrade, in the three stages of ``vacuumdb --analyze-in-stages``.

By our own session and not by that program, because whoever rolls back has to be
told what others wrote since: each transaction of ours is counted here.
"""

from __future__ import annotations

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import SqlError

STAGES = ("SET default_statistics_target = 1", "SET default_statistics_target = 10", "RESET default_statistics_target")
GONE = ("42P01", "3F000")
TABLES = (
    "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' ORDER BY c.relpages DESC, 1"
)
ASSIGNED = "SELECT txid_current_if_assigned() IS NOT NULL"


def analyze_in_stages(session: Session) -> int:
    """Analyze every table of every database; return how many transactions that took, 0 where nobody can count them."""
    names = [
        row[0] for row in session.rows("SELECT datname FROM pg_database WHERE datallowconn AND datname <> 'template0'")
    ]
    taken = 0
    # Stage by stage over all of them: no database waits for the last stage of another.
    for stage in STAGES:
        for name in names:
            with session.sibling(name) as there:
                there.without_timeouts().run(stage)
                taken += _analyze(there)
    return taken


def _analyze(session: Session) -> int:
    if not session.holds_transactions:
        session.run("ANALYZE")
        return 0
    taken = 0
    for (table,) in session.rows(TABLES):
        session.run("BEGIN")
        try:
            session.run(f"ANALYZE {table}")
            taken += bool(session.scalar(ASSIGNED))
            session.run("COMMIT")
        except SqlError as error:
            session.run("ROLLBACK")
            if error.sqlstate not in GONE:  # dropped meanwhile: the service works
                raise
    return taken
