# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A database is on another plan, or on its way to it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: heroku_postgres_plan
short_description: A Heroku Postgres database is on another plan, or on its way to it
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Asks for the change once, reads back that it was taken down, and waits for what O(wait_for) names. Heroku prepares
    the
    change for minutes to hours, without downtime, and then either waits for
    M(selfhost.stateful.heroku_postgres_maintenance)
    or runs it in the maintenance window.
  - A change that is under way already is gone on with. A maintenance that was there before is not taken for the new
    one.
  - Refused are plans of the Essential tier, with the way that does work; plans that are too small for the data; a
    follower
    whose leader is still on a smaller plan; and another change while one is under way.
notes:
  - A change of plan has no roll back. Another change, back to the former plan, is a maintenance of its own.
  - The caches of the new server are empty. Queries are slower at first.
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
  plan:
    description: The plan, such as V(standard-2), with or without C(heroku-postgresql:).
    type: str
    required: true
  wait_for:
    description:
      - V(requested) waits until Heroku has taken the change down, V(ready) until it is prepared and can be run,
        V(completed) until the database runs on the plan and is available, which without a maintenance that is run takes
        until the window.
    type: str
    choices: [requested, ready, completed]
    default: ready
  before_leader:
    description: Whether a follower may be changed although its leader is on a smaller plan, or cannot be seen.
    type: bool
    default: false
  wait_timeout:
    description: Seconds to wait for O(wait_for). The change goes on at Heroku whether anybody waits or not.
    type: float
    default: 14400
seealso:
  - module: selfhost.stateful.heroku_postgres_maintenance
  - module: selfhost.stateful.heroku_postgres_info
"""

EXAMPLES = r"""
- name: Prepare the change
  selfhost.stateful.heroku_postgres_plan:
    app: example
    plan: standard-2
    wait_for: ready
  delegate_to: localhost
"""

RETURN = r"""
plan:
  description: The plan that the database runs on now.
  returned: success
  type: str
reached:
  description: How far it is, in the words of O(wait_for).
  returned: success
  type: str
progress:
  description:
    - Every status that was seen, with C(at), C(status) of the maintenance and C(plan). Each is also written to the
      system log of the controller as it is seen.
  returned: success
  type: list
  elements: dict
database:
  description: As an entry of RV(selfhost.stateful.heroku_postgres_info#module:databases).
  returned: success
  type: dict
plan_text:
  description: What is done, for people.
  returned: success
  type: str
blockers:
  description: What stands in the way, each with a way out.
  returned: when there is any
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
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.changing import Change, change_plan
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer

ARGUMENTS = {
    **API_ARGUMENTS,
    **DATABASE_ARGUMENTS,
    **WAIT_ARGUMENTS,
    "plan": {"type": "str", "required": True},
    "wait_for": {"type": "str", "choices": ["requested", "ready", "completed"], "default": "ready"},
    "before_leader": {"type": "bool", "default": False},
    "wait_timeout": {"type": "float", "default": 14400},
}


def main() -> None:
    """Read the options, carry them out, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        change = Change(
            params["app"],
            params["database"],
            params["plan"],
            params["wait_for"],
            params["before_leader"],
            patience_from(params),
            say=module.log,
        )
        return change_plan(connect(params, module.no_log_values.add), change, check=module.check_mode)

    answer(module, work)


if __name__ == "__main__":
    main()
