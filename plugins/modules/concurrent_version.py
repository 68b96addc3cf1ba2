# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host of Concurrent runs the next version, with all of its data."""

from __future__ import annotations

DOCUMENTATION = r"""
module: concurrent_version
short_description: A host of Concurrent runs the next version, with all of its data
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Takes a host from the version that runs to O(version) in one step of the ladder, as O(rung) says. Which versions are
    on the way to a later one, M(selfhost.stateful.concurrent_info) tells. The role
    P(selfhost.stateful.concurrent_migration#role) takes them one after the other.
  - By V(columns) the new api is started alone, adds its empty columns, and is let in once it is healthy and no row is
    missing. By V(query) a migration runs before that. By V(reload) everything is dumped to files by the new api's own
    program, the old data is set aside, and the files are loaded into empty stores; each side is counted, per kind
    and in sum, whatever the exit codes say.
  - Anything that fails before that proof is undone. Checkout, images, database and Redis are then as they were, and the
    old version runs.
notes:
  - The images of the new version have to be on the engine. The role pulls them before the downtime.
  - A release is checked out where the tree has no changes of yours in files that it touches, nor files that git does
    not know where it has one, and merged into a branch that has commits of yours. A conflict is found before anything
    stops. What you commit while it runs is kept on a branch C(selfhost-stateful/...), which the result names, where the
    step is undone.
  - A migration that ran before runs again only where its C(expect_rows) or C(done_when) says that something is left to
    do. One that ran in no transaction and was broken off is begun again by nobody unasked.
  - From v1.0 on the compose file is in C(_docs) in place of C(docs). What git does not know in there, the data above
    all, is moved along.
  - The database and Redis stay on the very image that ran. Where the file of the release names another, or one whose
    tag floats, the override file names that one, if need be by a tag of its own on this engine.
  - A tag that says no version comes to mean O(version) within the operation, once all has stopped, and means again what
    it meant where that is undone.
  - The roll back of V(columns) and V(query) keeps all data. That of V(reload) returns to the data that was set
    aside, and is refused once the new database or Redis has taken writes, or another cluster has come in its place
    (see O(selfhost.stateful.operation#module:discard_writes)). Of a key in Redis of more than 1000 items or 1 MiB only
    the length and the ends are looked at. Once a later operation of the project is committed,
    there is no way back to before it.
  - What is proved and does not come up as a whole is finished by another run, or taken back by
    M(selfhost.stateful.operation), under the same conditions.
extends_documentation_fragment:
  - selfhost.stateful.project
  - selfhost.stateful.project.engine
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
    details:
      - Returns plan, steps and blockers. The files of the release are read from git without checking them out.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
options:
  project_src:
    description:
      - The checkout of Concurrent, or the directory of its compose file (C(docs), from v1.0 on C(_docs)), which is
        found in it.
    type: path
    required: true
  version:
    description: The version that is to run.
    type: str
    required: true
  rung:
    description:
      - How it is reached, as C(rung) of M(selfhost.stateful.concurrent_info) has it. Left out, the api only adds
        columns.
    type: dict
    default: {}
  backup:
    description:
      - The backup of the database that is taken and proved while everything runs, as in
        M(selfhost.stateful.postgresql_backup). V(none) takes none, which the result warns of.
    type: str
    choices: [auto, physical, logical, none]
    default: auto
  backup_dir:
    description: Where the backup and the files of a reload go. Left out, C(backups) beside O(operations_dir).
    type: path
    default: ""
  accept_left:
    description:
      - What V(reload) may leave behind in the old data, which a commit removes. The program that dumps knows the kinds
        of data that it counts; everything else stays where it is. It is listed by the plan as C(table:public.acks),
        C(database:other), C(role:reader), C(setting:work_mem) or C(extension:pg_trgm), and blocks it unless it is named
        here.
      - C(orphans:associations) are those of a kind that it counts and does not dump, because what they belong to is
        gone, such as what answers to a message that was deleted.
    type: list
    elements: str
    default: []
  stop_timeout:
    description: Seconds that the database gets to stop. It is not called stopped before it is shut down.
    type: int
    default: 120
  ready_timeout:
    description: Seconds that the api gets to become healthy. After them the change is undone.
    type: int
    default: 300
  operations_dir:
    description:
      - Where operations are journaled. Left out, C(/var/lib/selfhost-stateful/operations), or without root the XDG
        state directory.
    type: path
    default: ""
requirements:
  - root on the Docker host
  - git, where the host runs from a checkout
  - docker (SDK for Python)
  - psycopg 3
  - PyYAML
  - the compose CLI, version 2 or 1.29
seealso:
  - module: selfhost.stateful.concurrent_info
  - module: selfhost.stateful.operation
"""

EXAMPLES = r"""
- name: Say what would be done
  selfhost.stateful.concurrent_version:
    project_src: /srv/concurrent
    version: v1.3.0
  check_mode: true

- name: Run v1.3.0
  selfhost.stateful.concurrent_version:
    project_src: /srv/concurrent
    version: v1.3.0

- name: Run v0.4.0, which fills a column
  selfhost.stateful.concurrent_version:
    project_src: /srv/concurrent
    version: v0.4.0
    rung:
      at: v0.4
      kind: query
      notes: https://github.com/totegamma/concurrent/releases/tag/v0.4.0
      awaits: [associations.variant]
      migrations:
        - name: 04-fill-variant.sql
          content: UPDATE associations SET variant = payload->'body'->>'imageUrl' WHERE variant IS NULL
"""

RETURN = r"""
operation:
  description: The id of the operation, for M(selfhost.stateful.operation).
  returned: success
  type: str
version:
  description: The version that runs.
  returned: success
  type: str
plan:
  description: From which version to which, by which kind, with C(notes), C(images), C(folder),
    C(steps), and C(left), what stays behind in the old data.
  returned: always
  type: dict
plan_text:
  description: The same for people.
  returned: always
  type: str
blockers:
  description: Everything that forbids the plan, each with a way out.
  returned: when there are any
  type: list
  elements: str
downtime_seconds:
  description: From the first stop to the moment in which the api was healthy again and everything ran.
  returned: changed
  type: float
phases:
  description: Seconds by step.
  returned: changed
  type: dict
verification:
  description:
    - What was counted. C(before), the rows of each table and the items of streams; C(dumped) and C(loaded), by kind;
      C(migrations), with the rows of each, none where it had run before.
  returned: changed
  type: dict
left:
  description: What a reload left behind in the old data alone, with how much of it.
  returned: changed
  type: list
  elements: str
copies:
  description: Backup, dump, and the data that is set aside, with C(role), C(path), C(moment), C(size_bytes).
  returned: always
  type: list
  elements: dict
msg:
  description: What happened.
  returned: failure
  type: str
state:
  description: Where the data is now and what runs.
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
    PROJECT_ARGUMENTS,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.handlers import CONCURRENT_HANDLERS
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.journey import (
    ConcurrentJourney,
    folder_of,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.model import (
    COLUMNS,
    RELEASES,
    rung_from,
    version_of,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import (
    OperationStore,
    beside,
    default_directory,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.arguments import connect_world
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.run import Task, carry_out

ARGUMENTS = {
    **PROJECT_ARGUMENTS,
    **ENGINE_ARGUMENTS,
    "version": {"type": "str", "required": True},
    "rung": {"type": "dict", "default": {}},
    "backup": {"type": "str", "choices": ["auto", "physical", "logical", "none"], "default": "auto"},
    "backup_dir": {"type": "path", "default": ""},
    "accept_left": {"type": "list", "elements": "str", "default": []},
    "stop_timeout": {"type": "int", "default": 120},
    "ready_timeout": {"type": "int", "default": 300},
    "operations_dir": {"type": "path", "default": ""},
}


def main() -> None:
    """Read the options, carry them out, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        require_libraries_of_stores()
        version = version_of(params["version"])
        if version is None:
            raise InvalidInput(f"{params['version']!r} is no version: one is written as v1.3.0.")
        plain = {"at": str(version), "kind": COLUMNS, "notes": f"{RELEASES}/{version}"}
        rung = rung_from(params["rung"] or plain)
        directory = params["operations_dir"] or default_directory()
        operations = OperationStore(directory)
        folder = folder_of(params["project_src"], operations)
        backups = os.path.abspath(params["backup_dir"] or beside(directory, "backups"))
        return carry_out(
            Task(
                connect=lambda: connect_world({**params, "project_src": folder}, {}),
                operations=operations,
                handlers=CONCURRENT_HANDLERS,
                journey=ConcurrentJourney(version, rung, params["backup"], backups, tuple(params["accept_left"])),
                check_mode=module.check_mode,
            )
        )

    answer(module, work)


if __name__ == "__main__":
    main()
