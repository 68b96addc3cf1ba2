# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Postgres service of dokku's is there, or is gone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dokku_postgres_service
short_description: A Postgres service of dokku's is there, or is gone
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Makes a service of dokku's plugin C(postgres) with an image and settings, and proves that its container runs that
    very image, that it has the settings, and that its server answers.
  - A service that is there keeps its image and what the plugin takes only when it makes one. Where those are asked for
    otherwise, the module refuses and changes nothing; M(selfhost.stateful.dokku_postgres_image) then makes a new
    service and moves the data. Networks are changed, and count from the next start on.
  - V(absent) destroys a service with its data. It refuses as long as an app is linked to it, or has a variable that
    points at it, and brings to its end what a call without the plugin's helper image had done half.
notes:
  - Backups of a service that are in a bucket stay there.
extends_documentation_fragment:
  - selfhost.stateful.dokku
  - selfhost.stateful.dokku.settings
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
  action_group:
    description: Use C(group/selfhost.stateful.dokku) in C(module_defaults) to set the same options for several modules.
    support: full
    membership: [selfhost.stateful.dokku]
options:
  name:
    description: The service. It consists of letters, digits, V(-) and V(_).
    type: str
    required: true
  state:
    description: Whether it is there, and runs.
    type: str
    choices: [present, absent]
    default: present
  image:
    description: The repository of the image.
    type: str
    default: postgres
  version:
    description:
      - The tag of the image. It is needed to make a service. Where it is left out, one that is there keeps its own.
    type: str
    default: ""
  ready_timeout:
    description: Seconds that the server gets to answer.
    type: int
    default: 120
seealso:
  - module: selfhost.stateful.dokku_postgres_image
  - module: selfhost.stateful.dokku_postgres_link
"""

EXAMPLES = r"""
- name: A service of Postgres 17
  selfhost.stateful.dokku_postgres_service:
    name: blog-17
    image: postgres
    version: "17.2"
    memory: "512"
    shm_size: 128m
    config_options: -c work_mem=8MB

- name: It is not needed any more
  selfhost.stateful.dokku_postgres_service:
    name: blog-15
    state: absent
"""

RETURN = r"""
service:
  description: The service as M(selfhost.stateful.dokku_postgres_info) returns it; empty where it is gone.
  returned: success
  type: dict
actions:
  description: What was done, or would be.
  returned: success
  type: list
  elements: str
  sample: [make]
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

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import services, survey
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.arguments import (
    DOKKU_ARGUMENTS,
    SETTINGS_ARGUMENTS,
    Reached,
    reach,
    settings_given,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import Settings
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.report import described
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.services import Wanted
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, InvalidInput, refusal
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer

ARGUMENTS = {
    **DOKKU_ARGUMENTS,
    **SETTINGS_ARGUMENTS,
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "image": {"type": "str", "default": "postgres"},
    "version": {"type": "str", "default": ""},
    "ready_timeout": {"type": "int", "default": 120},
}


def present(reached: Reached, wanted: Wanted, *, check: bool, ready_timeout: float) -> dict[str, Any]:
    """Make the service, or let it be as it should."""
    there = survey.service(reached.dokku, reached.engine, wanted.name)
    if there is None:
        if not wanted.tag:
            raise InvalidInput(f"There is no service {wanted.name}: the version of its image is needed to make it.")
        services.refuse_unfit(wanted.name, Settings().with_given(wanted.settings))
        services.image_for(reached, wanted)
        if not check:
            services.make(reached, wanted, ready_timeout=ready_timeout)
        return _answer(reached, wanted.name, ["make"])
    changed = services.settings_to_change(there, wanted)
    actions = [f"set {name}" for name in changed]
    if not check and changed:
        services.set_networks(reached, there, wanted, changed)
    if not services.is_running(there):
        actions.append("start")
        if not check:
            services.start(reached, wanted.name, ready_timeout=ready_timeout)
    return _answer(reached, wanted.name, actions)


def absent(reached: Reached, name: str, *, check: bool) -> dict[str, Any]:
    """Destroy the service, where nobody uses it."""
    there = survey.service(reached.dokku, reached.engine, name)
    if there is None:
        return _answer(reached, name, [])
    users = services.users_of(reached, there)
    if users:
        links = reached.dokku.typed("postgres:links", name)
        raise refusal([Blocker(f"The service {name} is in use: {'; '.join(users)}.", links)])
    if not check:
        services.remove(reached, name)
    return _answer(reached, name, ["destroy"])


def _answer(reached: Reached, name: str, actions: list[str]) -> dict[str, Any]:
    there = survey.service(reached.dokku, reached.engine, name)
    shown = described(survey.with_schedule(reached.dokku, there)) if there else {}
    return {"changed": bool(actions), "actions": actions, "service": shown}


def main() -> None:
    """Read the options, carry them out, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        require("docker", optional=("psycopg",))
        reached = reach(params)
        if params["state"] == "absent":
            return absent(reached, params["name"], check=module.check_mode)
        repository = params["image"] if params["version"] else ""
        wanted = Wanted(params["name"], repository, params["version"], settings_given(params))
        return present(reached, wanted, check=module.check_mode, ready_timeout=params["ready_timeout"])

    answer(module, work)


if __name__ == "__main__":
    main()
