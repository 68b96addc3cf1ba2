# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Postgres services of a dokku host, and which variables of which app point at them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dokku_postgres_info
short_description: The Postgres services of a dokku host, and which variables of which app point at them
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Returns each service of dokku's plugin C(postgres), with the image that its container really runs, its size, its
    settings and the schedule of its backups.
  - Returns for each app the variables that hold the address of a service, and says which of them are stale, that is,
    point at a service that the app is not linked to or that is not there any more. The plugin leaves such behind, for
    example where E(POSTGRES_DATABASE_SCHEME) was set after a service was linked.
  - Returns no password.
extends_documentation_fragment:
  - selfhost.stateful.dokku
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  action_group:
    description: Use C(group/selfhost.stateful.dokku) in C(module_defaults) to set the same options for several modules.
    support: full
    membership: [selfhost.stateful.dokku]
options:
  services:
    description: Only these services. Left out, all of them. Apps are returned whatever is said here.
    type: list
    elements: str
    default: []
seealso:
  - module: selfhost.stateful.dokku_postgres_service
  - module: selfhost.stateful.dokku_postgres_link
"""

EXAMPLES = r"""
- name: Which services are there, and who uses them?
  selfhost.stateful.dokku_postgres_info:
  register: dokku

- name: Name the variables that point at nothing
  ansible.builtin.debug:
    msg: "{{ item.key }}: {{ item.value.variables | selectattr('stale') | map(attribute='variable') | join(', ') }}"
  loop: "{{ dokku.apps | dict2items }}"
"""

RETURN = r"""
versions:
  description: The versions of dokku and of its plugins C(postgres) and C(maintenance), as far as they are there.
  returned: success
  type: dict
  sample: {dokku: 0.38.22, postgres: 1.48.0, maintenance: 0.6.0}
services:
  description:
    - The services by name, each with C(image), C(image_id), C(version), C(status) (the engine's word, V(missing)
      without a container), C(links), C(dsn_host), C(database), C(size_bytes), C(data_dir), C(settings) (of
      C(custom_env) the names), C(schedule) (C(cron), C(bucket), C(use_iam), or null) and C(backup_auth).
  returned: success
  type: dict
apps:
  description:
    - The apps by name, each with C(variables), the list of what points at services (C(variable), C(service), C(scheme),
      C(primary), C(stale)), C(leftover_links), the containers that its C(--link) options name although it is not
      linked, and C(scheme), its E(POSTGRES_DATABASE_SCHEME).
  returned: success
  type: dict
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

from ansible_collections.selfhost.stateful.plugins.module_utils._host import (
    prefer_libraries_of_stores,
    require,
)

if __name__ == "__main__":
    # Before all else is imported, which takes a second: it is to happen once, where it can be used.
    prefer_libraries_of_stores()

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import survey
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.arguments import DOKKU_ARGUMENTS, reach
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import leftover_options, pointers_of
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.report import described, told_versions
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer

ARGUMENTS = {**DOKKU_ARGUMENTS, "services": {"type": "list", "elements": "str", "default": []}}


def main() -> None:
    """Read the options, look, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        require("docker")
        reached = reach(params)
        wanted = params["services"]
        for name in wanted:
            survey.required(reached.dokku, reached.engine, name)
        services = survey.services(reached.dokku, reached.engine)
        described_ones = [each for each in services if not wanted or each.name in wanted]
        apps = [survey.app(reached.dokku, name) for name in survey.names_of_apps(reached.dokku)]
        return {
            "changed": False,
            "versions": told_versions(survey.versions(reached.dokku)),
            "services": {each.name: described(survey.with_schedule(reached.dokku, each)) for each in described_ones},
            "apps": {
                app.name: {
                    "variables": [pointer.as_dict() for pointer in pointers_of(app, services)],
                    "leftover_links": leftover_options(app, services),
                    "scheme": app.scheme,
                }
                for app in apps
            },
        }

    answer(module, work)


if __name__ == "__main__":
    main()
