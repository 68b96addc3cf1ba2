# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a reload leaves behind: whatever of the old cluster is in no dump. Changes nothing.

A dump by the program of Concurrent itself has the kinds of data that it knows. Tables beside them, other databases,
roles, settings and extensions stay in the cluster that is set aside, and go with it once it is committed; so does what
answers to a message that was deleted, because a dump goes from who wrote to what was written to what answers to it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import counting
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.host import Host
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.model import Kind, Rung
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session

_TABLE = re.compile(r"\b(?:from|join)\s+([a-z_][a-z_0-9.]*)", re.IGNORECASE)

OTHER_DATABASES = """
SELECT datname, datallowconn FROM pg_database WHERE NOT datistemplate AND datname <> current_database() ORDER BY 1
"""
RELATIONS = """
SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('information_schema', 'selfhost_stateful') AND n.nspname NOT LIKE 'pg\\_%'
"""
# The role that initdb made has this oid, whatever its name.
ROLES = "SELECT rolname FROM pg_roles WHERE oid <> 10 AND rolname NOT LIKE 'pg\\_%' ORDER BY 1"
EXTENSIONS = "SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1"
# By ALTER SYSTEM, by ALTER ROLE or ALTER DATABASE, and by hand in postgresql.conf beyond what initdb writes there.
SETTINGS = """
SELECT DISTINCT name FROM (
  SELECT name FROM pg_settings WHERE source = 'configuration file' AND CASE lower(name)
    WHEN 'max_connections' THEN setting <> '100'
    WHEN 'shared_buffers' THEN setting <> '16384'
    WHEN 'max_wal_size' THEN setting <> '1024'
    WHEN 'min_wal_size' THEN setting <> '80'
    ELSE lower(name) NOT IN ('listen_addresses', 'dynamic_shared_memory_type', 'log_timezone', 'timezone', 'datestyle',
      'lc_messages', 'lc_monetary', 'lc_numeric', 'lc_time', 'default_text_search_config') END
  UNION ALL SELECT split_part(one, '=', 1) FROM pg_db_role_setting, unnest(setconfig) one
) changed (name) ORDER BY 1
"""


@dataclass(frozen=True)
class Left:
    """One thing that stays behind; ``name`` is what ``accept_left`` calls it: ``table:public.acks``."""

    name: str
    much: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.much})" if self.much else self.name


def orphans_of(host: Host, kinds: Sequence[Kind]) -> tuple[Left, ...]:
    """Return what is counted and in no dump, because what it belongs to is gone."""
    found = ((each.what, counting.count_orphans(host, each)) for kind in kinds for each in kind.counts)
    return tuple(Left(orphans(what), f"{count} that belong to nothing that is there") for what, count in found if count)


def orphans(what: str) -> str:
    """Return the name of :class:`Left` for those of one thing that is counted."""
    return f"orphans:{what}"


def left_behind(there: Session, kinds: Sequence[Kind]) -> tuple[Left, ...]:
    """Return what the cluster has and these kinds do not."""
    found, named = [], tables_of(kinds)
    for name, quoted in there.rows(counting.TABLES):
        rows = 0 if name in named else int(there.scalar(f"SELECT count(*) FROM {quoted}"))
        if rows:
            found.append(Left(f"table:{name}", f"{rows} rows"))
    for (name,) in there.rows(EXTENSIONS):
        found.append(Left(f"extension:{name}"))
    for name, open_to in there.rows(OTHER_DATABASES):
        relations = -1
        if open_to:
            with there.sibling(database=name) as other:
                relations = int(other.scalar(RELATIONS))
        if relations:
            found.append(Left(f"database:{name}", f"{relations} relations" if open_to else "it lets nobody in"))
    found += [Left(f"role:{name}") for (name,) in there.rows(ROLES)]
    found += [Left(f"setting:{name}") for (name,) in there.rows(SETTINGS)]
    return tuple(found)


def tables_of(kinds: Sequence[Kind]) -> frozenset[str]:
    """Return the tables that are counted before a reload, each with its schema."""
    queries = [counted.before for kind in kinds for counted in kind.counts]
    names = [name.lower() for query in queries for name in _TABLE.findall(query)]
    return frozenset(name if "." in name else f"public.{name}" for name in names)


def refuse_unaccepted(found: Sequence[Left], rung: Rung, accepted: Collection[str]) -> list[Blocker]:
    """Return what forbids to leave something behind that nobody has said may be."""
    unaccepted = [each for each in found if each.name not in accepted]
    if not unaccepted:
        return []
    return [
        Blocker(
            f"The reload of {rung.at} leaves behind what no count of it names, and a commit removes the last copy of"
            f" that: {', '.join(map(str, unaccepted))}. What is to be kept, carry over by yourself afterwards, from"
            " the backup or from the data that is set aside; what may stay behind, name in accept_left, as it is"
            " written here."
        )
    ]
