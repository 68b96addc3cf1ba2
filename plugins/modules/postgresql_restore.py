# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A backup is restored into an empty Postgres cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_restore
short_description: A backup is restored into an empty Postgres cluster
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Restores a backup of M(selfhost.stateful.postgresql_backup), and tells a physical from a logical one by itself.
  - A logical one goes into a server that runs and holds nothing, as its image made it, of the same or a newer major
    version. Every database is restored under a temporary name, and its rows are compared with those of the dump's own
    snapshot. Then all get their own names in one transaction. Until then no application can find them.
  - A physical one goes into the data directory, empty or absent, of a service that is stopped, on an image of the same
    major version. The copy belongs to the user of that image, and is checked file by file against the manifest. The
    service is left stopped, to be started when you are ready.
  - Nothing is ever overwritten. What is not empty is refused, with the names of what is in it.
notes:
  - Roles, memberships, settings of roles and databases, tablespaces, and privileges on databases are compared with what
    is there. A role that exists is kept as it is, with its password; so the superuser that the new cluster was made
    with has the password of the new cluster.
  - A setting that the server does not know any more is left out and named in RV(left_out).
  - A table that somebody emptied or rewrote while a backup was taken could not be counted. It is restored with the rows
    that the dump has, and RV(proof) names it where its count was noted as 0 or the dump has no row of it.
  - A database that the image made for C(POSTGRES_DB) may be there, as long as it is empty.
  - A restored physical backup is the same cluster for every tool. Do not let it archive to where the original does.
  - A backup that restic, borgmatic or another tool keeps is brought back to a directory by that tool first, as root and
    with its numeric owners. See M(selfhost.stateful.postgresql_backup).
extends_documentation_fragment:
  - selfhost.stateful.subject
  - selfhost.stateful.project
  - selfhost.stateful.project.engine
  - selfhost.stateful.project.login
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
    details:
      - Returns what would be restored where. What forbids it is in RV(blockers). The backup is not read in full.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
    details:
      - A note in the data directory, C(selfhost-stateful-restore.json), says which backup was restored there. A second
        run finds it and changes nothing, whatever was written to the cluster since.
      - A run that was interrupted is taken back by the next one, which begins anew, or is finished where all databases
        have their names already.
options:
  service:
    description:
      - The service of the project that runs Postgres. It has to have one container, which runs for a logical backup and
        is stopped for a physical one. C(docker compose create) makes one without starting it.
    type: str
    default: ""
  login_db:
    description: Not used here. The session is with C(template1), the one database that is not replaced.
    type: str
    default: ""
  path:
    description: The directory of the backup. It is only read.
    type: path
    required: true
  jobs:
    description: How many tables a logical backup restores at once.
    type: int
    default: 2
  operations_dir:
    description:
      - Where the project is locked while the backup is restored. Left out,
        C(/var/lib/selfhost-stateful/operations), or without root the XDG state directory.
    type: path
    default: ""
requirements:
  - root on the Docker host
  - docker (SDK for Python)
  - psycopg 3, for a logical backup
  - PyYAML
  - the compose CLI, version 2 or 1.29, where O(service) is given
seealso:
  - module: selfhost.stateful.postgresql_backup
"""

EXAMPLES = r"""
- name: Say what would be restored, and what is in the way
  selfhost.stateful.postgresql_restore:
    project_src: /srv/mastodon-new
    service: db
    path: /var/backups/mastodon/before-the-upgrade
  check_mode: true

- name: Restore a dump into the server that compose has just made
  selfhost.stateful.postgresql_restore:
    project_src: /srv/mastodon-new
    service: db
    path: /var/backups/mastodon/dump
    jobs: 4

- name: Make the container without starting it, for a physical backup
  ansible.builtin.command:
    argv: [docker, compose, create, db]
    chdir: /srv/mastodon-new
  changed_when: true

- name: Restore the files
  selfhost.stateful.postgresql_restore:
    project_src: /srv/mastodon-new
    service: db
    path: /var/backups/mastodon/before-the-upgrade

- name: Start it
  ansible.builtin.command:
    argv: [docker, compose, start, db]
    chdir: /srv/mastodon-new
  changed_when: true
"""

RETURN = r"""
path:
  description: The directory of the backup.
  returned: success
  type: str
format:
  description: V(physical) or V(logical).
  returned: success
  type: str
moment:
  description: The moment that the backup holds, in UTC.
  returned: success
  type: str
system_identifier:
  description: The identity of the cluster that was backed up; a logical restore does not carry it over.
  returned: success
  type: str
target:
  description: Where it is restored, in words.
  returned: success
  type: str
proof:
  description: In words, what was compared.
  returned: where it was restored
  type: str
kept:
  description: What was there before and is as it was.
  returned: success
  type: list
  elements: str
left_out:
  description: The settings that the server does not know.
  returned: success
  type: list
  elements: str
plan:
  description: What is done (C(action) is V(restore) or V(nothing)), with C(needed_bytes) and C(free_bytes).
  returned: success
  type: dict
plan_text:
  description: The plan for people.
  returned: success
  type: str
blockers:
  description: What forbids it, in check mode. Without check mode the task fails with the same words.
  returned: success
  type: list
  elements: str
msg:
  description: What happened.
  returned: failure
  type: str
state:
  description: Where the data is now, and what is in the target.
  returned: failure
  type: str
copies:
  description: Copies of the data; the backup itself is named in C(state).
  returned: failure
  type: list
  elements: dict
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
from collections.abc import Callable
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._host import (
    prefer_libraries_of_stores,
    require_libraries_of_stores,
)

if __name__ == "__main__":
    # Before all else is imported, which takes a second: it is to happen once, where it can be used.
    prefer_libraries_of_stores()

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.subject import Reached, find
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.refusals import require_root
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import (
    OperationStore,
    default_directory,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import subject
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.logical_restore import TEMPLATE
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.restore import run
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.restore.model import (
    NOTHING,
    Plan,
    Restored,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session

ARGUMENTS = {
    **subject.SUBJECT_ARGUMENTS,
    "path": {"type": "path", "required": True},
    "jobs": {"type": "int", "default": 2},
    "operations_dir": {"type": "path", "default": ""},
}


def main() -> None:
    """Read the options, restore, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        require_libraries_of_stores()
        require_root()
        path = os.path.abspath(params["path"])
        record = run.read(path)
        reached = find(params)
        if module.check_mode:
            target = run.Target(reached.engine, reached.container, opener(reached))
            return result_of(path, run.plan(target, record, path), Restored(""))
        operations = OperationStore(params["operations_dir"] or default_directory())
        with operations.locked(reached.lock, wait=True):
            # What it was before the wait may be over.
            reached = find(params)
            target = run.Target(reached.engine, reached.container, opener(reached))
            return result_of(path, *run.carry_out(target, record, path, jobs=max(1, params["jobs"])))

    def opener(reached: Reached) -> Callable[[], Session]:
        def connect() -> Session:
            subject.serving(reached, params["service"])
            return subject.open_session(reached, {**params, "login_db": TEMPLATE})

        return connect

    answer(module, work)


def result_of(path: str, planned: Plan, restored: Restored) -> dict[str, Any]:
    """Return what the module answers; what was restored says nothing in check mode."""
    return {
        "changed": planned.action != NOTHING,
        "path": path,
        "format": planned.record.format,
        "moment": planned.record.moment,
        "system_identifier": planned.record.system_identifier,
        "target": planned.target,
        "proof": restored.proof,
        "kept": list(restored.kept),
        "left_out": list(restored.left_out),
        "plan": {
            "action": planned.action,
            "needed_bytes": planned.needed_bytes,
            "free_bytes": planned.free_bytes,
        },
        "plan_text": planned.text,
        "blockers": [blocker.text for blocker in planned.blockers],
        "warnings": list(planned.warnings),
    }


if __name__ == "__main__":
    main()
