# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An app is in maintenance mode, or is not."""

from __future__ import annotations

DOCUMENTATION = r"""
module: heroku_app_maintenance
short_description: An app on Heroku is in maintenance mode, or is not
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Switches the maintenance mode of an app, in which Heroku's routers answer with a page and let nothing through to web
    dynos. Other dynos go on. M(selfhost.stateful.heroku_app_formation) stops those, and remembers them.
extends_documentation_fragment:
  - selfhost.stateful.heroku
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
  enabled:
    description: Whether it is to be on.
    type: bool
    required: true
seealso:
  - module: selfhost.stateful.heroku_app_formation
"""

EXAMPLES = r"""
- name: Let nobody in
  selfhost.stateful.heroku_app_maintenance:
    app: example
    enabled: true
  delegate_to: localhost
"""

RETURN = r"""
enabled:
  description: Whether maintenance mode is on now, as it was read back.
  returned: success
  type: bool
former:
  description: Whether it was on before.
  returned: success
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

from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.arguments import (
    API_ARGUMENTS,
    WAIT_ARGUMENTS,
    connect,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.patience import Patience
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.steps import SETTLES, World, set_maintenance
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer

ARGUMENTS = {
    **API_ARGUMENTS,
    "poll_interval": WAIT_ARGUMENTS["poll_interval"],
    "enabled": {"type": "bool", "required": True},
}


def main() -> None:
    """Read the options, carry them out, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        world = World(connect(params, module.no_log_values.add), Patience(SETTLES, params["poll_interval"]))
        former, wanted = world.heroku.in_maintenance(params["app"]), params["enabled"]
        if former is not wanted and not module.check_mode:
            set_maintenance(world, params["app"], wanted)
        return {"changed": former is not wanted, "enabled": former if module.check_mode else wanted, "former": former}

    answer(module, work)


if __name__ == "__main__":
    main()
