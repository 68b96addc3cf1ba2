# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of columns that a distribution's build writes into the catalog, and that no other server takes.

Debian's 17.12 stamps each column of a new table with an option of its own. The
pg_dump of a newer major writes it down like any other, and the new server then
refuses the table (ran: 17.12 to 18.6, ``unrecognized parameter "pg_attver"``).
They are taken out of the copy that is upgraded; the original keeps them.
"""

from __future__ import annotations

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import each_database
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import FIRST_OF_USERS, Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session

KNOWN = "('n_distinct', 'n_distinct_inherited')"
"""Every option that a column can have (https://www.postgresql.org/docs/current/sql-altertable.html)."""
FOREIGN = (
    f"FROM pg_attribute a, unnest(a.attoptions) o WHERE a.attrelid >= {FIRST_OF_USERS}"
    f" AND split_part(o, '=', 1) NOT IN {KNOWN}"
)


def foreign_options(session: Session, cluster: Cluster) -> list[str]:
    """Return the names of such options in all databases, each once. Changes nothing."""
    names = tuple(database.name for database in cluster.databases if database.allows_connections)
    found = each_database(session, names, lambda there: there.rows(f"SELECT DISTINCT split_part(o, '=', 1) {FOREIGN}"))
    return sorted({name for rows in found.values() for (name,) in rows})


def take_out(session: Session, cluster: Cluster) -> None:
    """Take them out of the catalog of a copy, to which nobody but us connects; the login is a superuser."""
    names = tuple(database.name for database in cluster.databases if database.allows_connections)
    each_database(
        session,
        names,
        lambda there: there.run(
            "UPDATE pg_attribute SET attoptions = (SELECT array_agg(o) FROM unnest(attoptions) o"
            f" WHERE split_part(o, '=', 1) IN {KNOWN}) WHERE attrelid IN (SELECT a.attrelid {FOREIGN})"
        ),
    )
