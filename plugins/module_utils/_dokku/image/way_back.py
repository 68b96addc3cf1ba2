# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an app's way back to its old service would lose, and where that is kept."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ansible_collections.selfhost.stateful.plugins.module_utils._clock import moment
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import archive, services, survey
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image import standstill
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.content import at_once, beyond, cluster_of
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.exports import (
    SCRIPT_ENDS,
    dumped,
    exported,
    read_back,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import (
    World,
    end_sessions,
    end_sessions_once,
    set_read_only,
    stop_server,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import container_of
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Copy
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation

LIKE_US = ("-U", "postgres", "-w")
OTHERS = """
SELECT datname FROM pg_database AS d
WHERE datallowconn AND NOT datistemplate AND NOT EXISTS (
    SELECT FROM pg_db_role_setting AS s, unnest(s.setconfig) AS c
    WHERE s.setdatabase = d.oid AND s.setrole = 0 AND split_part(c, '=', 1) = 'default_transaction_read_only'
) ORDER BY datname
"""
THERE = "SELECT datname FROM pg_database WHERE datallowconn"


@dataclass(frozen=True)
class Lost:
    """What the new service alone has: databases with more in them than the old one's, and roles."""

    databases: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()

    def told(self) -> str:
        """Return it in words."""
        what = (("database", self.databases), ("role", self.roles))
        return "; ".join(f"{kind}{'s' * (len(names) > 1)} {', '.join(names)}" for kind, names in what if names)


def refuse_others(world: World, sides: Mapping[str, Any], error: type[StatefulError]) -> None:
    """Raise where others than the ``app`` use the ``new`` service, whose data a way back removes."""
    app, new = sides["app"], sides["new"]
    there = survey.service(world.dokku, world.engine, new)
    users = services.others_of(world.reached, there, app) if there is not None else []
    if users:
        raise error(
            f"Others than {app} use {new}, and going back to {sides['old']} would take it from them:"
            f" {'; '.join(users)}. Give them a service of their own first.",
            state=f"{new} is as it is, with what {app} and these have in it",
            next_command=world.dokku.typed("postgres:links", new),
        )


def others(world: World, service: str) -> list[str]:
    """Return the databases beside the app's for which nobody has said whether their sessions begin read-only."""
    own = world.service(service).database
    with world.session(service) as there:
        return [name for name in (str(name) for (name,) in there.rows(OTHERS)) if name != own]


def shut(world: World, service: str, names: Sequence[str]) -> int:
    """Let nobody write to the app's database and to these; return how many transactions that took.

    Whoever comes while all is compared or exported would lose unseen what they write.
    """
    own, others_there = world.service(service).database, _there(world, service, names)
    for name in (own, *others_there):
        set_read_only(world, service, name, wanted=True)
    for name in others_there:
        # Some exporter of metrics may come back there for ever, and reads only.
        end_sessions_once(world, service, name)
    end_sessions(world, service, own)
    return 1 + len(others_there)


def reopen(world: World, service: str, names: Sequence[str]) -> None:
    """Take back what :func:`shut` did, also for the sessions that began meanwhile."""
    set_read_only(world, service, world.service(service).database, wanted=False)
    for name in _there(world, service, names):
        set_read_only(world, service, name, wanted=False)
        end_sessions_once(world, service, name)


def _there(world: World, service: str, names: Sequence[str]) -> list[str]:
    """Return those of the databases that have not been dropped since."""
    with world.session(service) as session:
        found = {str(name) for (name,) in session.rows(THERE)}
    return [name for name in names if name in found]


def lost(world: World, operation: Operation, old: str, new: str) -> Lost | None:
    """Return what the old of two services lacks, every database compared row by row; None where it has all.

    Where the files went, the old one stands still. It is started to be asked, and stays so only if the app can go back.
    """
    found = world.engine.container(container_of(old))
    ours = found is not None and (not found.running or standstill.is_asked(operation))
    if found is not None and not found.running:
        standstill.begin_asking(world, operation)
        world.engine.start(found.id)
    goes_back = False
    try:
        if ours:
            services.wait(world.reached, old, world.ready_timeout)
        before, after = at_once(lambda: cluster_of(world, old), lambda: cluster_of(world, new))
        names, roles = beyond(before, after, {world.service(old).database: world.service(new).database})
        goes_back = not names and not roles
    finally:
        there = world.engine.container(container_of(old))
        if ours and there is not None and not goes_back:
            stop_server(world, there)
            standstill.end_asking(world, operation)
    return None if goes_back else Lost(tuple(names), tuple(roles))


def kept(world: World, new: str, path: str, given_up: Lost) -> list[Copy]:
    """Export what is given up: the app's database as dokku does, each further one to an archive, roles to a script.

    An archive holds no settings of its database, so that it can be restored although nobody may write there now.
    """
    own = world.service(new).database
    made = [(path, read_back(exported(world, new, path)))]
    for name in given_up.databases:
        if name != own:
            place = f"{path}.{quote(name, safe='')}"
            dumped(world, new, ("pg_dump", *LIKE_US, "-Fc", name), place, begins=archive.BEGINS)
            made.append((place, read_back(place)))
    if given_up.roles:
        place = f"{path}.roles.sql"
        dumped(world, new, ("pg_dumpall", *LIKE_US, "--globals-only"), place, ends=SCRIPT_ENDS)
        made.append((place, "pg_dumpall told all to its last line"))
    return [Copy("backup", new, place, moment(), os.path.getsize(place), proof=proof) for place, proof in made]
