# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a Postgres cluster holds, in a form that can be compared."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_fingerprint_info
short_description: What a Postgres cluster holds, and what differs from an earlier look
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Says for every database how its objects are defined, how many rows each table has, on demand a digest of what they
    hold, where the sequences are, who owns what and who may do what, and which extensions and which invalid indexes
    there are; for the cluster its roles, their memberships and settings.
  - Two of these are compared, and what differs is named. A fingerprint says the same under every major of Postgres and
    with every libc, so that a cluster can be compared with what became of it.
  - All of one database is read in one snapshot, where psycopg is there to hold it.
  - What a restore may make differ without a loss is told as different, and not as lost, such as the rows of a
    materialized view, and those of the tables of an extension that now has another version.
  - Passwords are not read, only whether there is one and of which method. Of settings of roles and databases only a
    digest is read. Grants on objects of the system and of extensions, comments, and the contents of foreign tables are
    left out. Of views, expressions and defaults only the presence counts, because majors print them differently.
extends_documentation_fragment:
  - selfhost.stateful.fingerprint
  - selfhost.stateful.subject
  - selfhost.stateful.project
  - selfhost.stateful.project.engine
  - selfhost.stateful.project.login
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  action_group:
    description: Use C(group/selfhost.stateful.postgresql) in C(module_defaults) to set the same options for several
      modules.
    support: full
    membership: [selfhost.stateful.postgresql]
options:
  databases:
    description: Only these databases. Left out, all that allow connections.
    type: list
    elements: str
    default: []
  rows:
    description:
      - Whether rows are counted, which reads every table once (V(exact)), or taken from the planner's statistics, which
        reads none (V(estimated)). Estimates are shown and never compared.
      - O(content) counts, whatever is said here.
    type: str
    choices: [exact, estimated]
    default: exact
  content:
    description:
      - Whether to digest what every table and all large objects hold. The order of the rows does not count. Floating
        point numbers inside of arrays and composites print differently before Postgres 12 than later.
    type: bool
    default: false
  jobs:
    description: How many sessions read at the same time.
    type: int
    default: 2
requirements:
  - docker (SDK for Python)
  - psycopg 3; without it psql in the container is asked, which takes longer and knows no common snapshot
  - PyYAML
  - the compose CLI, version 2 or 1.29, for O(service)
seealso:
  - module: selfhost.stateful.compose_storage_info
"""

EXAMPLES = r"""
- name: What does the database of this Mastodon hold?
  selfhost.stateful.postgresql_fingerprint_info:
    project_src: /home/mastodon/live
    service: db
    content: true
  register: before

- name: Is it still the same?
  selfhost.stateful.postgresql_fingerprint_info:
    project_src: /home/mastodon/live
    service: db
    content: true
    against: "{{ before.fingerprint }}"
  register: now
  failed_when: not now.equal

- name: What is there, at a glance, in a server that no compose project runs?
  selfhost.stateful.postgresql_fingerprint_info:
    container: dokku.postgres.blog
    databases: [blog]
    rows: estimated
"""

RETURN = r"""
fingerprint:
  description:
    - What the cluster holds; JSON all the way down, to be kept and given as O(against) later.
    - C(databases) has for each one C(tables) (with C(rows), whether these are C(exact), and C(content)), C(sequences),
      C(large_objects), C(extensions), C(invalid_indexes), C(objects) and C(grants) with a C(schema_digest) and a
      C(grants_digest) over them, and C(one_snapshot), whether all of it was counted in one snapshot.
    - C(roles), C(memberships), C(settings), C(grants) are the cluster's, C(skipped) names the databases that were left
      out with the reason.
  returned: success
  type: dict
differences:
  description: What is not as it was in O(against), for people, with what is lost first.
  returned: success
  type: list
  elements: str
  sample:
    - "mastodon_production: public.accounts has 4710 rows, 4711 before"
lost:
  description: Those of the differences that say that something is not there any more.
  returned: success
  type: list
  elements: str
equal:
  description: Whether there is no difference; null without O(against).
  returned: success
  type: bool
compared:
  description:
    - How much of O(against) an equality speaks of, as the number of C(tables), of those with exact C(rows) on both
      sides, and of those with a digest of their C(contents) on both sides; null without O(against).
  returned: success
  type: dict
"""

from dataclasses import asdict
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._host import (
    prefer_libraries_of_stores,
    require_libraries_of_stores,
)

if __name__ == "__main__":
    # Before all else is imported, which takes a second: it is to happen once, where it can be used.
    prefer_libraries_of_stores()

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhost.stateful.plugins.module_utils._earlier import AGAINST_ARGUMENTS, earlier, told
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import subject
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.compare import compare, coverage
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.model import as_dict, from_dict
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.take import (
    ESTIMATED,
    EXACT,
    take,
)

ARGUMENTS = {
    **subject.SUBJECT_ARGUMENTS,
    "databases": {"type": "list", "elements": "str", "default": []},
    "rows": {"type": "str", "choices": [EXACT, ESTIMATED], "default": EXACT},
    "content": {"type": "bool", "default": False},
    "jobs": {"type": "int", "default": 2},
    **AGAINST_ARGUMENTS,
}


def main() -> None:
    """Read the options, look, compare, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        require_libraries_of_stores()
        if params["jobs"] < 1:
            raise InvalidInput(f"jobs is {params['jobs']}: at least one session has to read.")
        before = earlier(params["against"], from_dict)
        with subject.open_session(subject.reach(params), params) as session:
            found = take(
                session,
                rows=params["rows"],
                content=params["content"],
                jobs=params["jobs"],
                databases=params["databases"],
            )
        return {
            "changed": False,
            "fingerprint": as_dict(found),
            **told(compare(before, found) if before else None),
            "compared": asdict(coverage(before, found)) if before else None,
        }

    answer(module, work)


if __name__ == "__main__":
    main()
