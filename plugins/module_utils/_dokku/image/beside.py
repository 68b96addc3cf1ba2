# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a service's cluster has beside what an export of its database holds. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.model import DUMP
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import World
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.grants import memberships
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import needs
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.candidate import examine, user_given
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import CandidateImage, Subject
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.observe import observe_subject
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session

ROLES, DATABASES, SETTINGS, MEMBERSHIPS = "the roles", "the databases", "settings of", "memberships in roles:"
OTHER_ROLES = "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> current_user ORDER BY 1"
OTHER_DATABASES = (
    "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname NOT IN (%s, 'postgres') ORDER BY 1"
)
# What we set ourselves in the downtime a run that was killed there has left.
OTHER_SETTINGS = """
SELECT DISTINCT coalesce(d.datname, r.rolname, 'all') FROM pg_db_role_setting s
LEFT JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) AS c
WHERE NOT (coalesce(d.datname, '') = %s AND s.setrole = 0 AND c = 'default_transaction_read_only=on') ORDER BY 1
"""


def beside(there: Session, database: str) -> dict[str, list[str]]:
    """Return what an export of one database does not hold: names, by what they are of in words."""
    questions = ((ROLES, OTHER_ROLES, ()), (DATABASES, OTHER_DATABASES, (database,)),
                 (SETTINGS, OTHER_SETTINGS, (database,)))  # fmt: skip
    found = {what: [str(name) for (name,) in there.rows(query, params)] for what, query, params in questions}
    found[MEMBERSHIPS] = sorted(memberships(there))
    return {what: names for what, names in found.items() if names}


def since(world: World, service: str, known: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return what a service has that an export does not hold, and that was not ``known``."""
    database = world.service(service).database
    with world.session(service, database) as there:
        found = beside(there, database)
    new = {what: sorted(set(names) - set(known.get(what, ()))) for what, names in found.items()}
    return {what: names for what, names in new.items() if names}


def lacks(subject: Subject, candidate: CandidateImage, container: str) -> tuple[Blocker, ...]:
    """Return what a cluster needs and an image lacks, where a dump of the one is to go to the other."""
    found = needs.lacks(subject, candidate, container)
    return tuple(Blocker(lack.text, lack.command) for lack in found if DUMP in lack.ways)


def lacks_of(world: World, service: str, image_id: str) -> tuple[Blocker, ...]:
    """Return the same for a service as it is now."""
    container = world.container(service)
    candidate = examine(world.engine, image_id, user=user_given(world.engine, container))
    with world.session(service) as there:
        return lacks(observe_subject(world.engine, there), candidate, container.name)
