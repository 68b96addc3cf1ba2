# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Visitors of an app of dokku's see a page in place of it, or do not."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dokku_app_maintenance
short_description: Visitors of an app of dokku's see a page in place of it, or do not
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Shows the page of dokku's plugin C(maintenance) in front of an app, or takes it away.
  - Believes the report, and not the exit code. C(maintenance:enable) has been seen to end with 1 after its work was
    done.
notes:
  - The page keeps visitors away and nobody else. Workers and cron jobs of the app go on and write to its database.
extends_documentation_fragment:
  - selfhost.stateful.dokku
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: full
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
  action_group:
    description: Use C(group/selfhost.stateful.dokku) in C(module_defaults) to set the same options for several modules.
    support: full
    membership: [selfhost.stateful.dokku]
options:
  app:
    description: The app.
    type: str
    required: true
  enabled:
    description: Whether the page is shown.
    type: bool
    required: true
requirements:
  - dokku's plugin maintenance 0.5 or later
seealso:
  - module: selfhost.stateful.dokku_postgres_image
"""

EXAMPLES = r"""
- name: Show the page
  selfhost.stateful.dokku_app_maintenance:
    app: blog
    enabled: true
"""

RETURN = r"""
enabled:
  description: Whether the page is shown now, by the plugin's report.
  returned: success
  type: bool
msg:
  description: What happened.
  returned: failure
  type: str
state:
  description: Where the data is now and what runs.
  returned: failure
  type: str
copies:
  description: Every other copy of the data that is left.
  returned: failure
  type: list
  elements: dict
safe_to_rerun:
  description: Whether the same task may be run again.
  returned: failure
  type: bool
next_command:
  description:
    - One line that can be pasted into a shell of the managed host; or in words what is to be done, where the way out is
      a choice.
  returned: failure
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import maintenance, survey
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.arguments import DOKKU_ARGUMENTS, command_of
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer

ARGUMENTS = {
    **DOKKU_ARGUMENTS,
    "app": {"type": "str", "required": True},
    "enabled": {"type": "bool", "required": True},
}


def main() -> None:
    """Read the options, ask the report, change what differs, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        dokku = command_of(params)
        maintenance.refuse_silent(survey.versions(dokku))
        survey.app(dokku, params["app"])
        before, wanted = maintenance.is_enabled(dokku, params["app"]), params["enabled"]
        if before != wanted and not module.check_mode:
            maintenance.set_enabled(dokku, params["app"], wanted)
        now = wanted if not module.check_mode else before
        diff = {"before": f"enabled: {before}\n", "after": f"enabled: {wanted}\n"}
        return {"changed": before != wanted, "enabled": now, "diff": diff}

    answer(module, work)


if __name__ == "__main__":
    main()
