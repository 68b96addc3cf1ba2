# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commit an operation, or roll it back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: operation
short_description: Commit an operation, or roll it back
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - An operation that is done keeps what it replaced until it is committed, and can be rolled back until then.
  - Rolling a storage move back carries the data as it is now back to where it came from, by the same strategies as
    the move, with a backup before and the same proofs. Nothing that was written since is lost. Our own lines are taken
    out of the compose file as it is now; a conflict is shown and nothing is changed. A mount that was only written into
    the file, and has data by now, is not taken out of it, because that data came later and would be left behind.
  - Rolling a swap on dokku back returns to the old service as it was. Committing one destroys that.
  - Rolling back an operation that is still open, for example one that was halted before its downtime, undoes it.
  - Only the newest operation of a project can be rolled back.
  - To go on with an operation that was interrupted, run its own task again.
extends_documentation_fragment:
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
options:
  id:
    description:
      - The operation. Left out, the newest one of O(project) that is open or done.
    type: str
    default: ""
  project:
    description:
      - The compose project, the app on dokku, or the dogu, where O(id) is not given; C(container:NAME) for a container
        that no compose project runs.
    type: str
    default: ""
  state:
    description:
      - V(committed) removes the retained originals. Each is compared with the journal first, and none is removed that
        a container mounts. What the options of a volume point to (a directory, a share) is listed and never removed.
        Afterwards there is no way back.
      - V(rolled_back) goes back.
    type: str
    choices: [committed, rolled_back]
    required: true
  min_age_days:
    description: Refuse to commit an operation that ended less than so many days ago.
    type: float
    default: 0
  remove_backups:
    description: Whether V(committed) removes the backups too.
    type: bool
    default: false
  strategy:
    description: How data is carried back, as in M(selfhost.stateful.compose_storage).
    type: str
    choices: [auto, rename, clone, replica, copy]
    default: auto
  backup:
    description: The backup before a roll back, as in M(selfhost.stateful.compose_storage).
    type: str
    choices: [auto, physical, logical, none]
    default: auto
  backup_dir:
    description: Where that backup is put.
    type: path
    default: ""
  discard_writes:
    description:
      - Return from an upgrade of Postgres to the original although the new cluster has taken writes since, and lose
        those. Without it such a roll back is refused, and says about how many transactions it is about.
      - The same holds for an operation that is not finished, whose undo was refused because its new place has taken
        writes.
      - The new cluster's directory is kept, and named in the result, until the roll back is committed. On dokku the
        app's database is exported to a file before the new service is destroyed, and so is each other database that has
        taken writes; all are named in the result.
    type: bool
    default: false
  environment:
    description:
      - The variables that scripts and commands of a migration were given (M(selfhost.stateful.postgresql_migrations)).
        Their values are not journaled; a roll back that needs them names those that it lacks.
    type: dict
    default: {}
  stop_timeout:
    description: Seconds that a store gets to stop.
    type: int
    default: 120
  ready_timeout:
    description: Seconds that a store gets to answer again.
    type: int
    default: 120
  operations_dir:
    description:
      - Where the journals are. Left out, C(/var/lib/selfhost-stateful/operations), or without root the XDG state
        directory.
    type: path
    default: ""
seealso:
  - module: selfhost.stateful.operation_info
"""

EXAMPLES = r"""
- name: Go back to where the data of this project was
  selfhost.stateful.operation:
    project: live
    state: rolled_back

- name: Free what has not been needed for two weeks
  selfhost.stateful.operation:
    project: live
    state: committed
    min_age_days: 14
"""

RETURN = r"""
operation:
  description: The id of the operation that was committed or rolled back.
  returned: success
  type: str
rollback:
  description: The id of the operation that carried the data back.
  returned: when data was carried back
  type: str
plan_text:
  description: What is done, for people.
  returned: success
  type: str
removed:
  description: The copies that a commit removed.
  returned: when committed
  type: list
  elements: dict
removed_containers:
  description: The containers that were kept for a way back, and that a commit removed, each with C(id) and C(name).
  returned: when an operation on services or on a container was committed
  type: list
  elements: dict
downtime_seconds:
  description: From the first stop of a store to the moment in which all answered again.
  returned: when data was carried back
  type: float
mounts:
  description: The mounts as the engine reports them, in its own keys.
  returned: when data was carried back
  type: dict
copies:
  description: Every other copy of the data that is left.
  returned: success
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
)
from ansible_collections.selfhost.stateful.plugins.module_utils._endings import ending_of
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.ending import find, find_ended
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.arguments import operations_directory

ARGUMENTS = {
    **ENGINE_ARGUMENTS,
    **LOGIN_ARGUMENTS,
    "id": {"type": "str", "default": ""},
    "project": {"type": "str", "default": ""},
    "state": {"type": "str", "choices": ["committed", "rolled_back"], "required": True},
    "min_age_days": {"type": "float", "default": 0},
    "remove_backups": {"type": "bool", "default": False},
    "strategy": {"type": "str", "choices": ["auto", "rename", "clone", "replica", "copy"], "default": "auto"},
    "backup": {"type": "str", "choices": ["auto", "physical", "logical", "none"], "default": "auto"},
    "backup_dir": {"type": "path", "default": ""},
    "discard_writes": {"type": "bool", "default": False},
    "environment": {"type": "dict", "default": {}, "no_log": True},
    "stop_timeout": {"type": "int", "default": 120},
    "ready_timeout": {"type": "int", "default": 120},
    "operations_dir": {"type": "path", "default": ""},
}


def main() -> None:
    """Read the options, carry them out, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, required_one_of=[("id", "project")], supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        require_libraries_of_stores()
        operations = OperationStore(operations_directory(params))
        choose = find if params["state"] == "rolled_back" else find_ended
        operation = choose(operations, params["id"], params["project"])
        ending = ending_of(operation, params, operations, check_mode=module.check_mode)
        if params["state"] == "rolled_back":
            return ending.roll_back(operation)
        return ending.commit(operation, min_age_days=params["min_age_days"], remove_backups=params["remove_backups"])

    answer(module, work)


if __name__ == "__main__":
    main()
