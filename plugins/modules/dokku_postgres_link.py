# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An app of dokku's is linked to a Postgres service, or has nothing of it left."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dokku_postgres_link
short_description: An app of dokku's is linked to a Postgres service, or has nothing of it left
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Links an app to a service of dokku's plugin C(postgres), makes it the app's E(DATABASE_URL) where O(primary) says
    so, and starts the app anew once, after all of it, where anything changed and the app runs.
  - Removes variables such as E(DOKKU_POSTGRES_AQUA_URL) that point at services that the app is not linked to. They are
    found by the host name in them, so that one whose scheme was changed to V(postgis) is found too.
  - V(absent) takes the link, every variable that points at the service, and what is left of it in the app's options.
notes:
  - The plugin has no call that makes a service primary without starting the app anew. Where one is made so, the
    variables are set with C(config:set --no-restart), of which the address with its password is a word for as long as
    it runs, as it is of the call that the plugin itself makes.
  - C(config:set), C(postgres:link) and their like end with 0 also where the app does not come back. This module fails
    then. The old processes go on as long as dokku lets them.
extends_documentation_fragment:
  - selfhost.stateful.dokku
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
  app:
    description: The app.
    type: str
    required: true
  service:
    description: The service.
    type: str
    required: true
  state:
    description: Whether the app is linked to the service.
    type: str
    choices: [present, absent]
    default: present
  primary:
    description:
      - Whether E(DATABASE_URL) is to point at the service. What it pointed at before keeps a variable, as long as it is
        linked. V(false) leaves E(DATABASE_URL) alone.
    type: bool
    default: false
  alias:
    description: The name of the variable, such as V(GEO) or V(GEO_URL). Left out, the plugin chooses.
    type: str
    default: ""
  querystring:
    description: What follows the C(?) in the variable, such as V(pool=5).
    type: str
    default: ""
  scheme:
    description:
      - The scheme of the app's addresses, such as V(postgis), which becomes its E(POSTGRES_DATABASE_SCHEME). The
        service's variables get it. Empty for the plugin's default. Left out, it stays as it is.
    type: str
  restart:
    description: Whether to start the app anew where anything changed. One that does not run stays as it is.
    type: bool
    default: true
seealso:
  - module: selfhost.stateful.dokku_postgres_info
  - module: selfhost.stateful.dokku_postgres_service
"""

EXAMPLES = r"""
- name: The blog uses this service
  selfhost.stateful.dokku_postgres_link:
    app: blog
    service: blog-17
    primary: true

- name: And nothing of that one any more
  selfhost.stateful.dokku_postgres_link:
    app: blog
    service: blog-15
    state: absent
    restart: false
"""

RETURN = r"""
actions:
  description: What was done, or would be as far as it can be foretold.
  returned: success
  type: list
  elements: str
  sample: [link, set DATABASE_URL, unset DOKKU_POSTGRES_AQUA_URL, restart]
variables:
  description: What of the app points at services now, as M(selfhost.stateful.dokku_postgres_info) returns it.
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

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import links, plan_links, survey
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.arguments import (
    DOKKU_ARGUMENTS,
    Reached,
    reach,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.links import Linking
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import Service, pointers_of
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.plan_links import Wish
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer

ARGUMENTS = {
    **DOKKU_ARGUMENTS,
    "app": {"type": "str", "required": True},
    "service": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "primary": {"type": "bool", "default": False},
    "alias": {"type": "str", "default": ""},
    "querystring": {"type": "str", "default": ""},
    "scheme": {"type": "str"},
    "restart": {"type": "bool", "default": True},
}


def present(reached: Reached, there: Linking, wish: Wish, *, check: bool) -> list[str]:
    """Link them; return what was done, or would be."""
    if not check:
        return links.link(reached.dokku, there, wish)
    first = plan_links.before_linking(there.app, there.service, wish)
    rest = plan_links.after_linking(there.app, there.service, there.services, wish)
    return [*first.told(), *rest.told()]


def absent(reached: Reached, params: dict[str, Any], service: Service | None, *, check: bool) -> list[str]:
    """Take what is left of the service; of one that is gone altogether, a name is left, and that is enough."""
    app = survey.app(reached.dokku, params["app"])
    gone = Service(params["service"], "", "", "missing", (), "", "")
    changes = plan_links.for_unlinking(app, service or gone)
    if check or not changes:
        return changes.told()
    if service is not None:
        return links.unlink(reached.dokku, app, service)
    links.carry_out(reached.dokku, app.name, gone, changes)
    return changes.told()


def main() -> None:
    """Read the options, carry them out, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        require("docker")
        reached = reach(params)
        name, check = params["app"], module.check_mode
        app = survey.app(reached.dokku, name)
        known = tuple(survey.services(reached.dokku, reached.engine))
        if params["state"] == "present":
            service = survey.required(reached.dokku, reached.engine, params["service"])
            wish = Wish(params["primary"], params["alias"], params["querystring"], params["scheme"])
            actions = present(reached, Linking(app, service, known), wish, check=check)
        else:
            found = next((each for each in known if each.name == params["service"]), None)
            actions = absent(reached, params, found, check=check)
        if actions and params["restart"] and survey.is_running(reached.dokku, name) in links.UP:
            actions.append("restart")
            if not check:
                links.restart(reached.dokku, name)
        if not check:
            app, known = survey.app(reached.dokku, name), tuple(survey.services(reached.dokku, reached.engine))
        variables = [pointer.as_dict() for pointer in pointers_of(app, known)]
        return {"changed": bool(actions), "actions": actions, "variables": variables}

    answer(module, work)


if __name__ == "__main__":
    main()
