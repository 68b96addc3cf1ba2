# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a CES says of its PostgreSQL dogu, and whether an upgrade of it hangs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cloudogu_dogu_info
short_description: What a CES says of its PostgreSQL dogu, and whether an upgrade of it hangs
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Returns the version that is installed and the newest that is offered, the state, the registry keys that an upgrade
    depends on, the dogus with a service account, where the data is on the host, and what the cluster says of itself.
  - Says whether an upgrade was broken off. Such a one leaves a startup that waits for ever, or a key or a file that the
    next upgrade would take for its own.
  - The password is never read out, only whether there is one.
extends_documentation_fragment:
  - selfhost.stateful.dogu
  - selfhost.stateful.project.engine
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  action_group:
    description: Use C(group/selfhost.stateful.cloudogu) in C(module_defaults) to set the same options for several
      modules.
    support: full
    membership: [selfhost.stateful.cloudogu]
seealso:
  - module: selfhost.stateful.cloudogu_dogu
"""

EXAMPLES = r"""
- name: Look at the PostgreSQL dogu
  selfhost.stateful.cloudogu_dogu_info:
  register: dogu

- name: Say so where an upgrade was broken off
  ansible.builtin.debug:
    msg: "{{ dogu.dogu.stuck }}"
  when: dogu.dogu.stuck | length > 0
"""

RETURN = r"""
dogu:
  description:
    - What was found. C(version) and C(available) (empty where nothing newer is offered), C(image), C(status) of the
      container, C(state) as C(doguctl state) has it.
    - C(registry) has C(local_state), C(migration_backup_path), C(user), C(password_rotated),
      C(restricted_stat_visibility) and C(migrated_database_constraints) where they are set, and C(password_set). It is
      empty where nothing runs that could be asked.
    - C(dependents), each with C(name), C(account) and C(running). C(volume) and C(data_directory) on the host,
      C(volume_bytes), C(data_major). C(answers) and C(cluster), what the server says of itself.
    - C(stuck), in words what an upgrade that was broken off has left; empty where it has left nothing.
  returned: success
  type: dict
unfinished:
  description: The id of an operation of this collection that is open on the dogu; empty for none.
  returned: success
  type: str
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

from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.arguments import HOST_ARGUMENTS, host_from
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.survey import see
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import (
    OperationStore,
    default_directory,
)


def main() -> None:
    """Read the options, look, exit."""
    module = AnsibleModule(argument_spec=HOST_ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        require_libraries_of_stores()
        operation = OperationStore(params["operations_dir"] or default_directory()).open_for(params["name"])
        return {
            "changed": False,
            "dogu": see(host_from(params), params["dependents"]).as_dict(),
            "unfinished": operation.id if operation else "",
        }

    answer(module, work)


if __name__ == "__main__":
    main()
