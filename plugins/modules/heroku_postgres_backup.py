# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A backup of a database is captured, and has succeeded."""

from __future__ import annotations

DOCUMENTATION = r"""
module: heroku_postgres_backup
short_description: A backup of a Heroku Postgres database is captured, and has succeeded
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Captures a logical backup, which stays at Heroku, and waits until it has succeeded. Where the answer to the request
    is lost, a new one is looked for in the list of backups, by the names of the database.
notes:
  - It is what is restored from where rows were lost or spoiled. It does not undo a change of plan.
extends_documentation_fragment:
  - selfhost.stateful.heroku
  - selfhost.stateful.heroku.database
  - selfhost.stateful.heroku.wait
  - selfhost.stateful.heroku.local
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  action_group:
    description: Use C(group/selfhost.stateful.heroku) in C(module_defaults) to set the same options for several
      modules.
    support: full
    membership: [selfhost.stateful.heroku]
options:
  newer_than:
    description:
      - A moment such as V(2026-12-06T03:00:00+00:00). A backup that was begun after it and succeeded will do, and one
        that
        is still being made is waited for. Left out, a new one is captured in any case.
    type: str
    default: ""
  other_than:
    description:
      - With O(newer_than), the C(uuid) of backups that will not do, such as those that RV(listed) had before the app
        was stopped. A moment is by the clock of whoever noted it, and Heroku has another.
    type: list
    elements: str
    default: []
  wait_timeout:
    description: Seconds that the backup may take.
    type: float
    default: 7200
"""

EXAMPLES = r"""
- name: Capture a backup
  selfhost.stateful.heroku_postgres_backup:
    app: example
  delegate_to: localhost
"""

RETURN = r"""
backup:
  description:
    - The backup, with C(uuid), C(name) (for C(heroku pg:backups:info)), C(database), C(created_at), C(finished_at),
      C(succeeded), C(warnings), C(source_bytes), C(processed_bytes).
  returned: success
  type: dict
listed:
  description: The C(uuid) of every backup of the database that there was before, oldest first.
  returned: success
  type: list
  elements: str
msg:
  description: What happened.
  returned: failure
  type: str
state:
  description: What is known of the app and of the database now.
  returned: failure
  type: str
safe_to_rerun:
  description: Whether the same task may be run again.
  returned: failure
  type: bool
next_command:
  description: One line for a shell of the controller, or in words what is to be done.
  returned: failure
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.arguments import (
    API_ARGUMENTS,
    DATABASE_ARGUMENTS,
    WAIT_ARGUMENTS,
    connect,
    patience_from,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.backing import capture
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer

ARGUMENTS = {
    **API_ARGUMENTS,
    **DATABASE_ARGUMENTS,
    **WAIT_ARGUMENTS,
    "newer_than": {"type": "str", "default": ""},
    "other_than": {"type": "list", "elements": "str", "default": []},
    "wait_timeout": {"type": "float", "default": 7200},
}


def main() -> None:
    """Read the options, carry them out, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        return capture(
            connect(params, module.no_log_values.add),
            params["app"],
            params["database"],
            patience_from(params),
            newer_than=params["newer_than"],
            other_than=params["other_than"],
            check=module.check_mode,
        )

    answer(module, work)


if __name__ == "__main__":
    main()
