# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A proved copy of a service's data is in a directory."""

from __future__ import annotations

DOCUMENTATION = r"""
module: compose_storage_backup
short_description: A proved copy of a service's data is in a directory
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Takes a consistent copy of the data of a service while it runs, and proves it. Postgres is copied by
    C(pg_basebackup) and checked against its manifest, or dumped and restored into a scratch container. Redis writes a
    snapshot, which is read back by its own tool. Any other path is copied as files and compared; the copy is of one
    moment, so a running service has to leave them alone for some seconds, or be stopped for them (see O(allow_stop)).
  - The copy gets its name only when it is proved. A directory that exists already is left as it is.
  - What an interrupted attempt left behind is removed by the next one with the same O(dest), or gone on with.
  - It is no substitute for a backup off the host; it is what a restic, borgmatic or pgBackRest can pick up.
extends_documentation_fragment:
  - selfhost.stateful.project
  - selfhost.stateful.project.engine
  - selfhost.stateful.project.login
  - selfhost.stateful.project.redis_login
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
    details:
      - The copy is made once for each O(dest). Put the date into its name to make one a day.
options:
  service:
    description: The service.
    type: str
    required: true
  path:
    description: The path in the container. Left out, the data of the store is found by asking it.
    type: str
    default: ""
  dest:
    description:
      - The directory that is to hold the copy. Its parent is made where it is missing, with mode 0700.
      - It has to lie outside of the data that is copied.
    type: path
    required: true
  backup:
    description: How Postgres is copied. V(auto) is physical where it can be proved, else logical.
    type: str
    choices: [auto, physical, logical]
    default: auto
  allow_stop:
    description:
      - Whether the containers that write to a path of plain files may be stopped for a moment, so that the copy is of
        one moment also where files change all the time. Most is copied before; they stop only for what changed since.
      - They are started again whatever happens, by the next run of this module on the project if this one is killed.
      - Postgres and Redis are copied while they run in any case.
    type: bool
    default: false
  stop_timeout:
    description:
      - Seconds that a container gets to stop with O(allow_stop=true). One that takes longer is not killed; the copy is
        not made then.
    type: int
    default: 120
  operations_dir:
    description:
      - Where the project is locked while the copy is made, so that no move and no second copy disturbs it. Left out,
        C(/var/lib/selfhost-stateful/operations), or without root the XDG state directory.
    type: path
    default: ""
requirements:
  - root on the Docker host
  - docker (SDK for Python)
  - psycopg 3, for Postgres; without it psql in the container is asked, which rules out a logical backup of Postgres 10
    and later
  - PyYAML
  - the compose CLI, version 2 or 1.29
seealso:
  - module: selfhost.stateful.compose_storage
"""

EXAMPLES = r"""
- name: Copy the database of this Mastodon
  selfhost.stateful.compose_storage_backup:
    project_src: /home/mastodon/live
    service: db
    dest: /var/backups/mastodon/db-today

- name: Copy its uploads too
  selfhost.stateful.compose_storage_backup:
    project_src: /home/mastodon/live
    service: web
    path: /mastodon/public/system
    dest: /var/backups/mastodon/system-today
    allow_stop: true
"""

RETURN = r"""
copies:
  description: The copy, with C(path), the C(moment) that it holds, C(size_bytes) and what proves it.
  returned: always
  type: list
  elements: dict
size_bytes:
  description: What the data takes now.
  returned: success
  type: int
bytes_copied:
  description: What the copy takes.
  returned: success
  type: int
downtime_seconds:
  description: How long the containers were stopped, V(0) where they ran all the time.
  returned: success
  type: float
verification:
  description: By path of the copy, what proves it, and who was stopped for it.
  returned: success
  type: dict
plan:
  description: The service, the C(target), C(store) and C(source) of its data, C(dest), C(needed) and who C(stops).
  returned: success
  type: dict
plan_text:
  description: What is copied from where to where, for people.
  returned: success
  type: str
msg:
  description: What happened.
  returned: failure
  type: str
state:
  description: Where the data is now.
  returned: failure
  type: str
safe_to_rerun:
  description: Whether the same task may be run again.
  returned: failure
  type: bool
next_command:
  description:
    - One line that can be pasted into a shell, on the managed host unless it begins with C(ansible-playbook); or in
      words what is to be done, where the way out is a choice.
  returned: failure
  type: str
"""

import os
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._host import (
    prefer_libraries_of_stores,
    require_libraries_of_stores,
)

if __name__ == "__main__":
    # Before all else is imported, which takes a second: it is to happen once, where it can be used.
    prefer_libraries_of_stores()

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.arguments import (
    ENGINE_ARGUMENTS,
    LOGIN_ARGUMENTS,
    PROJECT_ARGUMENTS,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.arguments import (
    connect_world,
    operations_directory,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.backup import (
    TakenBackup,
    Wanted,
    carry_out,
    plan_backup,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._stores import (
    stores_from,
)

ARGUMENTS = {
    **PROJECT_ARGUMENTS,
    **ENGINE_ARGUMENTS,
    **LOGIN_ARGUMENTS,
    "service": {"type": "str", "required": True},
    "path": {"type": "str", "default": ""},
    "dest": {"type": "path", "required": True},
    "backup": {"type": "str", "choices": ["auto", "physical", "logical"], "default": "auto"},
    "allow_stop": {"type": "bool", "default": False},
    "stop_timeout": {"type": "int", "default": 120},
    "operations_dir": {"type": "path", "default": ""},
}


def main() -> None:
    """Read the options, copy, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        require_libraries_of_stores()
        world = connect_world({**params, "ready_timeout": 0}, stores_from(params))
        dest = os.path.abspath(params["dest"])
        wanted = Wanted(params["service"], params["path"], dest, params["backup"], params["allow_stop"])
        if module.check_mode:
            taken = TakenBackup(plan_backup(world, wanted))
        else:
            taken = carry_out(world, OperationStore(operations_directory(params)), wanted)
        for name in taken.started_again:
            module.warn(f"{name} was found stopped by a run of this task that was killed, and was started again.")
        return result_of(taken)

    answer(module, work)


def result_of(taken: TakenBackup) -> dict[str, Any]:
    """Return what the module answers."""
    planned = taken.planned
    return {
        "changed": planned.needed,
        "copies": [taken.copy.as_dict()] if taken.copy else [],
        "size_bytes": planned.data.size_bytes,
        "bytes_copied": taken.copy.size_bytes if taken.copy else 0,
        "downtime_seconds": round(taken.downtime_seconds, 3),
        "verification": {taken.copy.path: taken.copy.proof} if taken.copy else {},
        "plan": {
            "service": planned.data.service,
            "target": planned.data.target,
            "store": planned.data.store,
            "source": planned.data.host_path,
            "dest": planned.destination,
            "needed": planned.needed,
            "stops": [container.name for container in planned.stops],
        },
        "plan_text": planned.text,
    }


if __name__ == "__main__":
    main()
