# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A proved backup of a Postgres cluster is in a directory."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_backup
short_description: A proved backup of a Postgres cluster is in a directory
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Takes a backup of a whole cluster while it serves, and proves it. A physical one is taken by C(pg_basebackup) and
    checked file by file by C(pg_verifybackup). A logical one holds the roles, and a C(pg_dump) in the directory format
    of every database, each from one snapshot, by the programs of the service's own image.
  - With O(prove=restore) it is also restored into a scratch container without a network, where every table of every
    database is read. The backup itself is only read for it.
  - The directory gets its name only when the backup is complete, proved and on disk. It belongs to root, with mode
    0700; the files in it keep their numeric owners.
  - M(selfhost.stateful.postgresql_restore) restores it into an empty cluster.
notes:
  - Retention, encryption and other hosts are not the job of this module, but of those who do it well. It makes the
    directory that they can rely on, and knows whether they could restore from it.
  - With restic or borgmatic, take the backup into one fixed O(path) after removing the last one, then back up that
    directory. Unchanged files are deduplicated. A physical backup of a large cluster changes much between two days; a
    logical one is compressed, which deduplicates badly. With C(borgmatic), name O(path) in C(source_directories) and
    leave its own C(postgresql_databases) out. See the last example.
  - pgBackRest archives WAL and restores to any moment, which no backup of this module can. Keep it for that, and use
    this module for what it does not do, such as a copy that is proved by a restore before an upgrade. They do not
    disturb one another, because no setting of the server is changed and no slot lasts.
  - What is not in a backup. A physical one lacks the content of unlogged tables, and what the server's configuration
    includes from outside the data directory. A logical one lacks the configuration, replication slots, and databases
    that allow no connections.
  - C(globals.sql) and C(globals.json) of a logical backup, and all of a physical one, hold password hashes.
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
      - Returns what would be done, how much room it needs and how much there is. What forbids it is in RV(blockers).
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
    details:
      - One O(path) holds one backup. A second run finds it by the record in it, sees that no file was added, lost or
        cut short, and changes nothing, however old the backup is. Put the date into O(path) to have one a day.
      - Where the backup that is there was proved by less than O(prove) asks for, it is proved now.
options:
  path:
    description:
      - The directory that is to hold the backup. It does not exist yet, or holds a finished backup of the same cluster.
        What is missing above it is made with mode 0700.
      - An interrupted attempt leaves O(path) with C(.partial) at its end. The next one with the same O(path) removes
        it, and one with another O(path) beside it warns of it.
      - It has to lie outside of the cluster's own data, and is best on another disk.
    type: path
    required: true
  format:
    description:
      - V(physical) copies the files. It is fast, starts as it is on an image of the same major version, and holds every
        database. It needs Postgres 13 and a replication connection.
      - V(logical) dumps. It can be restored into the same or a newer major version and on another libc.
      - V(auto) takes a physical one where it is possible, else a logical one, and says why.
    type: str
    choices: [auto, physical, logical]
    default: auto
  prove:
    description:
      - V(verify) reads the backup in full, a physical one against its manifest, a dump to the end of each file.
      - V(restore) also restores it into a scratch container and reads every table there. It needs room for a second
        copy beside the backup, and about the time of a restore.
      - A logical backup is then compared with the rows that the dump's own snapshot had. A physical one is of the
        moment at its end, which nobody else saw, so that the live server is read, too, before it is taken. Where
        nothing was written meanwhile, nothing that the live server had may be missing, not a row; else no table may be
        missing, and what differs is told in RV(differences).
    type: str
    choices: [verify, restore]
    default: verify
  jobs:
    description:
      - How many tables are dumped, restored or read at once.
      - With V(1) a logical backup does not fail where somebody waits for an exclusive lock on a table meanwhile, as a
        C(TRUNCATE) does.
    type: int
    default: 2
  operations_dir:
    description:
      - Where the project is locked while the backup is taken, so that no move and no second backup disturbs it. Left
        out, C(/var/lib/selfhost-stateful/operations), or without root the XDG state directory.
    type: path
    default: ""
requirements:
  - root on the Docker host
  - docker (SDK for Python)
  - psycopg 3; without it psql in the container is asked, which rules out a logical backup of Postgres 10 and later
  - PyYAML
  - the compose CLI, version 2 or 1.29, where O(service) is given
seealso:
  - module: selfhost.stateful.postgresql_restore
  - module: selfhost.stateful.postgresql_fingerprint_info
  - module: selfhost.stateful.compose_storage_backup
"""

EXAMPLES = r"""
- name: Back up the database of this Mastodon
  selfhost.stateful.postgresql_backup:
    project_src: /home/mastodon/live
    service: db
    path: /var/backups/mastodon/before-the-upgrade
    prove: restore

- name: One backup a day, however often the timer fires
  selfhost.stateful.postgresql_backup:
    project_src: /home/mastodon/live
    service: db
    path: "/var/backups/mastodon/{{ now(fmt='%Y-%m-%d') }}"

- name: Dump a server that no compose project runs
  selfhost.stateful.postgresql_backup:
    container: dokku.postgres.forum
    format: logical
    path: /var/backups/forum/dump
    jobs: 4

# For restic, and alike for borgmatic: a fixed path, made anew each night, whose history restic keeps.
- name: Remove what restic has already
  ansible.builtin.file:
    path: /var/backups/mastodon/tonight
    state: absent

- name: Take and prove tonight's
  selfhost.stateful.postgresql_backup:
    project_src: /home/mastodon/live
    service: db
    path: /var/backups/mastodon/tonight
    prove: restore

- name: Hand it to restic
  ansible.builtin.command:
    argv: [restic, --repository-file, /etc/restic/repository, backup, /var/backups/mastodon/tonight]
  changed_when: true
"""

RETURN = r"""
path:
  description: The directory of the backup.
  returned: success
  type: str
format:
  description: V(physical) or V(logical); in check mode the one that would be taken.
  returned: success
  type: str
bytes:
  description: What the files of the backup hold.
  returned: where the backup is there
  type: int
moment:
  description:
    - The moment that it holds, in UTC. For a logical backup the earliest of its databases, each of which has its own
      snapshot.
  returned: where the backup is there
  type: str
server_version:
  description: The version of the server that it was taken from.
  returned: where the backup is there
  type: str
system_identifier:
  description: The identity of the cluster.
  returned: success
  type: str
proof:
  description:
    - In words, what was proved, and no more than that. Names the databases that a logical backup lacks because they
      allowed no connections.
  returned: where the backup is there
  type: str
fingerprint:
  description:
    - The fingerprint of the server in the scratch container, as M(selfhost.stateful.postgresql_fingerprint_info) takes
      it. Empty where the backup was not restored.
  returned: where the backup is there
  type: dict
differences:
  description:
    - How a physical backup that was restored differs from what the live server showed before it was taken. Where
      others write, that is what they wrote.
  returned: where the backup is there
  type: list
  elements: str
plan:
  description:
    - What is done (C(action) is V(take), V(prove) or V(nothing)), the C(format) with its C(reason), and the room in
      bytes (C(needed_bytes), C(free_bytes), C(file_system)).
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
  description: Where the data is now.
  returned: failure
  type: str
copies:
  description: Copies of the data that are left; there are none.
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
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._host import (
    prefer_libraries_of_stores,
    require_libraries_of_stores,
)

if __name__ == "__main__":
    # Before all else is imported, which takes a second: it is to happen once, where it can be used.
    prefer_libraries_of_stores()

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.subject import Reached
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.refusals import require_root
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import (
    OperationStore,
    default_directory,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import subject
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup import run
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup.model import (
    NOTHING,
    Plan,
    Record,
    Wanted,
)

ARGUMENTS = {
    **subject.SUBJECT_ARGUMENTS,
    "path": {"type": "path", "required": True},
    "format": {"type": "str", "choices": ["auto", "physical", "logical"], "default": "auto"},
    "prove": {"type": "str", "choices": ["verify", "restore"], "default": "verify"},
    "jobs": {"type": "int", "default": 2},
    "operations_dir": {"type": "path", "default": ""},
}


def main() -> None:
    """Read the options, back up, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        require_libraries_of_stores()
        require_root()
        wanted = Wanted(os.path.abspath(params["path"]), params["format"], params["prove"], max(1, params["jobs"]))
        reached = subject.reach(params)
        if module.check_mode:
            with opened(reached) as source:
                observed = run.observe(source, wanted)
                return result_of(source, wanted, observed.plan, observed.existing)
        operations = OperationStore(params["operations_dir"] or default_directory())
        # Of two tasks with one path the second has nothing to do when the first has ended. What was before may be over.
        with operations.locked(reached.lock, wait=True), opened(subject.reach(params)) as source:
            observed = run.observe(source, wanted)
            return result_of(source, wanted, observed.plan, run.carry_out(source, wanted, observed))

    @contextmanager
    def opened(reached: Reached) -> Iterator[run.Source]:
        with subject.open_session(reached, params) as session:
            yield run.open_source(reached.engine, session, params["service"] or params["container"])

    answer(module, work)


def result_of(source: run.Source, wanted: Wanted, plan: Plan, made: Record | None) -> dict[str, Any]:
    """Return what the module answers; ``made`` is None where the backup is not there, in check mode."""
    told: dict[str, Any] = {
        "changed": plan.action != NOTHING,
        "path": wanted.path,
        "format": plan.format,
        "system_identifier": str(source.cluster.system_identifier),
        "plan": {
            "action": plan.action,
            "format": plan.format,
            "reason": plan.reason,
            "needed_bytes": plan.needed_bytes,
            "free_bytes": plan.place.free_bytes,
            "file_system": plan.place.mount_point,
        },
        "plan_text": plan.text,
        "blockers": [blocker.text for blocker in plan.blockers],
        "warnings": list(plan.warnings),
    }
    if made is not None:
        told.update(
            bytes=made.bytes,
            moment=made.moment,
            server_version=made.server_version,
            proof=made.proof,
            fingerprint=dict(made.content),
            differences=list(made.differences),
        )
    return told


if __name__ == "__main__":
    main()
