# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Heroku says of the databases of an app, as data."""

from __future__ import annotations

DOCUMENTATION = r"""
module: heroku_postgres_info
short_description: What Heroku says of the Postgres databases of an app, as data
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Returns what C(heroku pg:info) prints, of all databases that an app sees or of one, with numbers as numbers, its
    newest maintenance, and every app that it is attached to.
  - Returns of the app what a change of its database touches, the formation, Heroku Scheduler, a release phase, and
    config vars that hold a copy of the database's address. Addresses themselves are never returned.
  - A database that the app sees and the key may not see is left out with a warning, unless it is the one that was asked
    for, or there is no other.
extends_documentation_fragment:
  - selfhost.stateful.heroku
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
  database:
    description:
      - Only this database, by an attachment, a config var of one, or the name of the add-on. Left out, all of the app.
    type: str
    default: ""
seealso:
  - module: selfhost.stateful.heroku_postgres_plan
"""

EXAMPLES = r"""
- name: Look at the databases of an app
  selfhost.stateful.heroku_postgres_info:
    app: example
  register: heroku
  delegate_to: localhost

- name: Look at one
  selfhost.stateful.heroku_postgres_info:
    app: example
    database: HEROKU_POSTGRESQL_GRAY
  delegate_to: localhost
"""

RETURN = r"""
databases:
  description: One entry a database.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name of the add-on.
      type: str
    id:
      description: Its id.
      type: str
    app:
      description: The app that owns it and is billed for it.
      type: str
    attachments:
      description: Where apps see it, each with C(app), C(name) and C(config_vars).
      type: list
      elements: dict
    apps:
      description: The apps that it is attached to.
      type: list
      elements: str
    plan:
      description: The plan that it runs on, such as V(standard-2).
      type: str
    requested_plan:
      description: The plan that was asked for last. It differs from C(plan) until a change has been made.
      type: str
    status:
      description: The status in Heroku's words.
      type: str
    available:
      description: Whether applications can work on it now.
      type: bool
    version:
      description: The version of Postgres.
      type: str
    size_bytes:
      description: The size of the data.
      type: int
    size_limit_bytes:
      description: How much the plan holds; 0 where that is not known.
      type: int
    tables:
      description: The number of tables.
      type: int
    connections:
      description: The connections that are open.
      type: int
    connection_limit:
      description: How many the plan allows; 0 where that is not known.
      type: int
    region:
      description: Where it is.
      type: str
    followers:
      description: The names of its followers; an empty one is not attached to this app.
      type: list
      elements: str
    following:
      description:
        - The name of the database that it follows; empty where this app does not see that one. Null of a leader.
      type: str
    behind_by:
      description: By how many commits a follower is behind.
      type: int
    fork_follow:
      description: Whether it can be forked and followed, in Heroku's words.
      type: str
    continuous_protection:
      description: Whether continuous protection is on, in Heroku's words.
      type: str
    window:
      description: The maintenance window, in Heroku's words.
      type: str
    maintenance:
      description:
        - The newest maintenance, with C(status), C(scheduled_for), C(required_by), C(started_at), C(completed_at),
          C(duration_seconds), C(reason), C(method), C(window).
      type: dict
app:
  description: The app.
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    maintenance:
      description: Whether it is in maintenance mode.
      type: bool
    formation:
      description: Quantity and size of the dynos, by process type.
      type: dict
    scheduler:
      description: Whether it has Heroku Scheduler, whose jobs start dynos of their own.
      type: bool
    release_phase:
      description: Whether it has a release phase, which runs whatever the formation says.
      type: bool
    copies:
      description:
        - Config vars that hold the address of a database as a copy of their own, with C(config_var) and C(database).
          Heroku does not keep those up to date.
      type: list
      elements: dict
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

from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.arguments import API_ARGUMENTS, connect
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.look import app_facts, databases_of
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer

ARGUMENTS = {**API_ARGUMENTS, "database": {"type": "str", "default": ""}}


def main() -> None:
    """Read the options, look, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        heroku = connect(params, module.no_log_values.add)
        seen = databases_of(heroku, params["app"], params["database"])
        return {
            "changed": False,
            "databases": [each.as_dict() for each in seen.databases],
            "app": app_facts(heroku, params["app"], seen.databases),
            "warnings": seen.warnings,
        }

    answer(module, work)


if __name__ == "__main__":
    main()
