# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A CES runs another version of its PostgreSQL dogu, with all of its data."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cloudogu_dogu
short_description: A CES runs another version of its PostgreSQL dogu, with all of its data
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Has C(cesapp) upgrade the dogu to O(version), between copies and proofs that the dogu's own process does not have.
    Of a major upgrade it keeps one dump, on the volume that it empties or in the container that it removes; restores
    it without looking for errors, in some versions; and waits for ever where its C(post-upgrade.sh) has died.
  - While everything runs, a backup is taken outside of the volume, and proved by restoring it. Then the dogus with a
    service account are stopped, the server is shut down, and the whole volume is copied as it is then.
  - C(cesapp upgrade dogu) is watched, with a limit. A post-upgrade that died is run again, so that the startup that
    waits for it goes on.
  - The new version is called good once it has all roles, databases, tables and rows that were there before, and all
    marks of the dogu's migrations that were set. One that its migration has not set is told as a warning. Then the
    dependents are started, and have to go on running.
  - Anything that fails before that proof is undone. The old version runs on the old data then, brought back by
    C(cesapp), so that the registry of the CES says the same.
notes:
  - The roll back returns to the data as it was when the server was shut down, and is refused once the new version has
    taken writes (see O(selfhost.stateful.operation#module:discard_writes)).
  - Whatever the new version had by then is kept all the same, beside the original and under its name with
    C(.discarded) behind it, also where an upgrade is undone by itself, since C(cesapp) starts the dependents, which may
    have written. It is listed among the copies, and removed when the operation is committed.
  - Beside the volume, the copies may need three times its size in O(backup_dir), and twice the size of the databases
    more, which is for the way back. The dump and the new cluster need about twice the size of the databases in the
    volume itself. In some versions the dogu moves its dump into the container, where it needs room too.
  - The image of the new version is pulled by C(cesapp), in the downtime; C(docker pull) beforehand shortens it.
extends_documentation_fragment:
  - selfhost.stateful.dogu
  - selfhost.stateful.project.engine
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
    details:
      - Returns plan, steps and blockers.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  action_group:
    description: Use C(group/selfhost.stateful.cloudogu) in C(module_defaults) to set the same options for several
      modules.
    support: full
    membership: [selfhost.stateful.cloudogu]
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
options:
  version:
    description: The version that is to run. Left out, the newest that C(cesapp list-upgrades) has.
    type: str
    default: ""
  backup:
    description: The backup that is taken and proved first, as in M(selfhost.stateful.postgresql_backup).
    type: str
    choices: [auto, physical, logical]
    default: auto
  backup_dir:
    description:
      - Where the backup and the copy of the volume go, on any file system but below the volume. Left out, C(backups)
        beside O(operations_dir).
    type: path
    default: ""
  stop_before:
    description: Halt before the downtime (V(switch)), with the backup taken. The same task without it goes on there.
    type: str
    choices: ["", switch]
    default: ""
  stop_timeout:
    description: Seconds that the server gets to stop. It is never killed on its own data; dependents are, after 30.
    type: int
    default: 120
  ready_timeout:
    description:
      - Seconds that the new version gets to serve, and each dependent to come up. While a restore is at work, it is
        O(upgrade_timeout) that counts.
    type: int
    default: 300
  upgrade_timeout:
    description:
      - Seconds that C(cesapp) gets. It dumps the database in that time, restores it in some versions, and may pull the
        image. Afterwards it is ended, and what it left is resolved or undone. A restore that begins only then, and a
        post-upgrade that is run again, get as long once more.
    type: int
    default: 3600
seealso:
  - module: selfhost.stateful.cloudogu_dogu_info
  - module: selfhost.stateful.operation
"""

EXAMPLES = r"""
- name: Say what would be done
  selfhost.stateful.cloudogu_dogu:
    version: 17.6-1
  check_mode: true

- name: Run 17.6-1
  selfhost.stateful.cloudogu_dogu:
    version: 17.6-1
    backup_dir: /srv/backups

- name: Back up now, and stop before the downtime
  selfhost.stateful.cloudogu_dogu:
    version: 17.6-1
    backup_dir: /srv/backups
    stop_before: switch
"""

RETURN = r"""
operation:
  description: The id of the operation, for M(selfhost.stateful.operation).
  returned: success
  type: str
operation_state:
  description: V(done), or V(running) where O(stop_before) halted it.
  returned: changed
  type: str
stopped_before:
  description: As O(stop_before), where it halted there.
  returned: changed
  type: str
version:
  description: The version that runs.
  returned: when nothing is to be done, or something was done
  type: str
plan:
  description: C(from), C(to), C(kind) (V(minor), V(major) or V(equal)), C(volume), C(dependents), and C(steps).
  returned: always
  type: dict
plan_text:
  description: The same for people.
  returned: always
  type: str
plan_complete:
  description: Whether everything could be looked at. It is false in check mode on a host that still lacks libraries.
  returned: always
  type: bool
missing:
  description: The libraries that the host lacks.
  returned: when C(plan_complete) is false
  type: list
  elements: str
blockers:
  description: Everything that forbids the plan, each with a way out.
  returned: when there are any
  type: list
  elements: str
resolved:
  description: What the dogu's own process left hanging, and how that was resolved.
  returned: changed
  type: list
  elements: str
verification:
  description: What was compared, C(databases), C(tables), C(rows), C(roles), and the C(markers) of the migrations.
  returned: changed
  type: dict
downtime_seconds:
  description: From the stop of the first dependent to the moment in which all ran again.
  returned: changed
  type: float
phases:
  description: Seconds by step.
  returned: changed
  type: dict
copies:
  description: The backup and the original, with C(role), C(path), C(moment), C(size_bytes).
  returned: changed
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

from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._host import (
    LibraryMissing,
    prefer_libraries_of_stores,
    require_libraries_of_stores,
    unplanned,
)

if __name__ == "__main__":
    # Before all else is imported, which takes a second: it is to happen once, where it can be used.
    prefer_libraries_of_stores()

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.arguments import (
    HOST_ARGUMENTS,
    host_from,
    subject_of,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.model import version_of
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.run import Request, carry_out
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import (
    OperationStore,
    default_directory,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.arguments import (
    backups_directory,
)

ARGUMENTS = {
    **HOST_ARGUMENTS,
    "version": {"type": "str", "default": ""},
    "backup": {"type": "str", "choices": ["auto", "physical", "logical"], "default": "auto"},
    "backup_dir": {"type": "path", "default": ""},
    "stop_before": {"type": "str", "choices": ["", "switch"], "default": ""},
    "stop_timeout": {"type": "int", "default": 120},
    "ready_timeout": {"type": "int", "default": 300},
    "upgrade_timeout": {"type": "int", "default": 3600},
}


def main() -> None:
    """Read the options, carry them out, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        try:
            require_libraries_of_stores()
        except LibraryMissing as lacking:
            if not module.check_mode:
                raise
            rest = f"which version of {params['name']} runs, what its upgrade would do, and what stands in the way"
            return unplanned(lacking, {"steps": []}, rest)
        version = version_of(params["version"])
        if version is None and params["version"]:
            raise InvalidInput(f"{params['version']!r} is no version of a dogu: one is written as 14.17-5.")
        operations = OperationStore(params["operations_dir"] or default_directory())
        request = Request(
            name=params["name"],
            version=version,
            connect=lambda: host_from(params),
            subject=subject_of(params),
            dependents=params["dependents"],
            backup=params["backup"],
            backup_dir=backups_directory(params, operations),
            stop_before=params["stop_before"],
        )
        return carry_out(request, operations, check_mode=module.check_mode)

    answer(module, work)


if __name__ == "__main__":
    main()
