# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A maintenance of a database is run to its end, or put where it suits."""

from __future__ import annotations

DOCUMENTATION = r"""
module: heroku_postgres_maintenance
short_description: A maintenance of a Heroku Postgres database is completed, or scheduled
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - With V(completed) a maintenance that is ready is run, and one that runs is waited for, until it is completed with
    a new moment of completion and the database is available. Where there is none to run, nothing is done.
  - Where Heroku took the request to run it, or its answer was lost, and the maintenance is not seen to begin within
    O(wait_timeout), it may still begin. The failure says so, and the app has to stay closed until it is known.
  - With V(scheduled) it is put into a window, or a week, or both.
notes:
  - While a maintenance runs, about a minute for a change of plan, the database is away.
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
  state:
    description: What is to be reached.
    type: str
    choices: [completed, scheduled]
    default: completed
  day_of_week:
    description:
      - With V(scheduled), the day of the maintenance window in UTC, by its English name, such as V(sunday). Together
        with O(time_of_day).
    type: str
  time_of_day:
    description:
      - With V(scheduled), when the window begins in UTC, from V(00:00) to V(23:59), two digits each, in quotes.
        C(5:30PM), which the Heroku CLI takes too, is refused.
    type: str
  week:
    description:
      - With V(scheduled), a day of the week in which the maintenance is to run, such as V(2026-12-06). Left out, only
        the window is set.
    type: str
    default: ""
  allow_open_app:
    description: Whether V(completed) runs a maintenance although the app is not in maintenance mode.
    type: bool
    default: false
  wait_timeout:
    description: Seconds that the maintenance may take to begin once it was asked for, and as many that it may run.
    type: float
    default: 1800
seealso:
  - module: selfhost.stateful.heroku_postgres_plan
  - module: selfhost.stateful.heroku_app_formation
"""

EXAMPLES = r"""
- name: Run what is ready
  selfhost.stateful.heroku_postgres_maintenance:
    app: example
    state: completed
  delegate_to: localhost

- name: Leave it to the night from Saturday to Sunday
  selfhost.stateful.heroku_postgres_maintenance:
    app: example
    state: scheduled
    day_of_week: sunday
    time_of_day: "02:00"
  delegate_to: localhost
"""

RETURN = r"""
name:
  description: The name of the add-on.
  returned: success
  type: str
status:
  description:
    - The status of the maintenance now. With V(completed) it is that of the next one where Heroku shows that already,
      which the result warns of.
  returned: success
  type: str
completed_at:
  description: When it was completed.
  returned: success
  type: str
duration_seconds:
  description: How long it took, by Heroku's clock.
  returned: success
  type: float
maintenance:
  description: All of it, as in RV(selfhost.stateful.heroku_postgres_info#module:databases).
  returned: success
  type: dict
available:
  description: Whether applications can work on the database although the maintenance did not end.
  returned: failure, where a maintenance was watched
  type: bool
may_begin:
  description: Whether a maintenance that was not seen to begin may still do so, also with the app open.
  returned: failure, where a maintenance was asked for and did not begin
  type: bool
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

from ansible_collections.selfhost.stateful.plugins.module_utils._heroku import maintaining
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.arguments import (
    API_ARGUMENTS,
    DATABASE_ARGUMENTS,
    WAIT_ARGUMENTS,
    connect,
    patience_from,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.window import window_from
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer

ARGUMENTS = {
    **API_ARGUMENTS,
    **DATABASE_ARGUMENTS,
    **WAIT_ARGUMENTS,
    "state": {"type": "str", "choices": ["completed", "scheduled"], "default": "completed"},
    "day_of_week": {"type": "str"},
    "time_of_day": {"type": "str"},
    "week": {"type": "str", "default": ""},
    "allow_open_app": {"type": "bool", "default": False},
    "wait_timeout": {"type": "float", "default": 1800},
}


def main() -> None:
    """Read the options, carry them out, exit."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS, required_together=[("day_of_week", "time_of_day")], supports_check_mode=True
    )
    params = module.params

    def work() -> dict[str, Any]:
        heroku, app, name, check = (
            connect(params, module.no_log_values.add),
            params["app"],
            params["database"],
            module.check_mode,
        )
        patience = patience_from(params)
        if params["state"] == "completed":
            open_app = params["allow_open_app"]
            return maintaining.complete(heroku, app, name, patience, open_app=open_app, check=check)
        window = window_from(params["day_of_week"], params["time_of_day"])
        return maintaining.schedule(heroku, app, name, patience, window=window, week=params["week"], check=check)

    answer(module, work)


if __name__ == "__main__":
    main()
