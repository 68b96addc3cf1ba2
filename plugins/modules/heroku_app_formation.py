# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An app runs these dynos, or none, and what it ran is remembered."""

from __future__ import annotations

DOCUMENTATION = r"""
module: heroku_app_formation
short_description: An app on Heroku runs these dynos, or none, and what it ran is remembered
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - With V(stopped) all process types are scaled to zero, and the module waits until their dynos are gone. Before
    anything
    is scaled, the formation is written to a journal, so that neither a kill nor a lost connection forgets it.
  - Where an earlier V(stopped) was never followed by V(restored), because somebody opened the app by hand, V(stopped)
    ends that journal with a warning, and remembers what runs now. An app that was put into maintenance mode counts as
    opened once that is off and any process type runs dynos; any other, once all process types do that did before.
    Where a process type alone was scaled up since, V(stopped) stops it, remembers it as it was scaled, and warns of it.
  - With V(restored) what ran before is scaled back from that journal, and nothing is done where nothing was stopped; if
    the app is closed all the same, the result warns of it. A process type that somebody scaled up meanwhile stays as it
    is, which the result warns of, as of an app that was in maintenance mode or ran nothing before it was stopped, and
    is so again.
  - With V(present) the formation is set.
  - With V(noted) nothing is changed at Heroku. O(note) is added to the journal of what was stopped last, which may have
    been started since. A journal of an app that somebody opened by hand is ended, as by V(stopped).
notes:
  - The journal is on the machine that the module runs on. In a container whose operations directory is no mount,
    V(stopped)
    is refused before anything is scaled.
  - Dynos that no formation speaks of, those of C(heroku run) and of Heroku Scheduler, are not stopped but returned.
extends_documentation_fragment:
  - selfhost.stateful.heroku
  - selfhost.stateful.heroku.wait
  - selfhost.stateful.heroku.journal
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
    choices: [present, stopped, restored, noted]
    default: present
  processes:
    description:
      - The exact formation for V(present). Process types that are not named run no dynos then.
    type: list
    elements: dict
    suboptions:
      type:
        description: The process type.
        type: str
        required: true
      quantity:
        description: How many dynos.
        type: int
        required: true
      size:
        description: Their size, such as V(Standard-1X). Left out, it stays.
        type: str
        default: ""
  maintenance:
    description:
      - With V(stopped), whether the app is put into maintenance mode first. V(restored) then ends it last, unless it
        was
        on before.
    type: bool
    default: false
  note:
    description:
      - With V(stopped) and V(noted), facts to keep in the journal, for whoever goes on after a crash. No secrets.
      - Where it names a C(database) with its C(name), or a C(plan), V(stopped) refuses an app that is stopped for
        anything else already, because whoever did that may start it at any moment, and V(restored) one that was
        stopped for anything else, because whoever did that needs it so. One that names neither takes any stop for good.
    type: dict
    default: {}
  wait_timeout:
    description: Seconds that dynos get to end, and to be up again.
    type: float
    default: 120
  allow_ephemeral_journal:
    description: Whether V(stopped) goes on although the journal would be gone with a container or the next start.
    type: bool
    default: false
seealso:
  - module: selfhost.stateful.heroku_app_maintenance
  - module: selfhost.stateful.operation_info
"""

EXAMPLES = r"""
- name: Stop everything
  selfhost.stateful.heroku_app_formation:
    app: example
    state: stopped
    maintenance: true
  delegate_to: localhost

- name: Start what ran before
  selfhost.stateful.heroku_app_formation:
    app: example
    state: restored
  delegate_to: localhost

- name: Run two web dynos, one worker, and nothing else
  selfhost.stateful.heroku_app_formation:
    app: example
    processes:
      - {type: web, quantity: 2, size: Standard-1X}
      - {type: worker, quantity: 1}
  delegate_to: localhost
"""

RETURN = r"""
operation:
  description: The id of the operation that remembers what ran, for M(selfhost.stateful.operation_info).
  returned: success
  type: str
formation:
  description: Quantity and size by process type, as read back.
  returned: success
  type: dict
maintenance:
  description: Whether maintenance mode is on, as read back.
  returned: when O(state) is V(restored)
  type: bool
former:
  description: What was before, C(formation) and C(maintenance). Empty where nothing is noted.
  returned: success
  type: dict
note:
  description: What was noted when the app was stopped.
  returned: when O(state) is V(stopped), V(restored) or V(noted)
  type: dict
stopped_at:
  description: When the last dyno had ended, by the clock of the controller.
  returned: when O(state) is V(stopped)
  type: str
one_off_dynos:
  description: Dynos that run beside the formation.
  returned: when O(state) is V(stopped) or V(restored)
  type: list
  elements: str
plan_text:
  description: What is done, for people.
  returned: success
  type: str
msg:
  description: What happened.
  returned: failure
  type: str
state:
  description: What is known of the app and of the database now.
  returned: failure
  type: str
holder:
  description: The id of the operation that keeps the app stopped for something else than O(note) names.
  returned: failure, when that is so and O(state) is V(stopped) or V(restored)
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

from contextlib import nullcontext
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhost.stateful.plugins.module_utils._heroku import stopping
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.arguments import (
    API_ARGUMENTS,
    WAIT_ARGUMENTS,
    connect,
    patience_from,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.kept import require_kept
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.model import Process
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.steps import World
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import (
    OperationStore,
    default_directory,
)

PROCESS = {
    "type": {"type": "str", "required": True},
    "quantity": {"type": "int", "required": True},
    "size": {"type": "str", "default": ""},
}
ARGUMENTS = {
    **API_ARGUMENTS,
    **WAIT_ARGUMENTS,
    "state": {"type": "str", "choices": ["present", "stopped", "restored", "noted"], "default": "present"},
    "processes": {"type": "list", "elements": "dict", "options": PROCESS},
    "maintenance": {"type": "bool", "default": False},
    "note": {"type": "dict", "default": {}},
    "wait_timeout": {"type": "float", "default": 120},
    "allow_ephemeral_journal": {"type": "bool", "default": False},
    "operations_dir": {"type": "path", "default": ""},
}


def main() -> None:
    """Read the options, carry them out, exit."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS, required_if=[("state", "present", ["processes"])], supports_check_mode=True
    )
    params = module.params

    def work() -> dict[str, Any]:
        world = World(connect(params, module.no_log_values.add), patience_from(params))
        directory = params["operations_dir"] or default_directory()
        operations, app, check = OperationStore(directory), params["app"], module.check_mode

        def keep() -> None:
            if not params["allow_ephemeral_journal"]:
                require_kept(directory)

        with nullcontext() if check else stopping.alone(operations, app):
            if params["state"] == "stopped":
                asked = {"maintenance": params["maintenance"], "note": params["note"]}
                return stopping.stop(world, operations, app, check=check, keep=keep, **asked)
            if params["state"] == "restored":
                return stopping.restore(world, operations, app, check=check, note=params["note"])
            if params["state"] == "noted":
                return stopping.note(world, operations, app, params["note"], check=check)
            wanted = {each["type"]: Process(each["quantity"], each["size"]) for each in params["processes"]}
            return stopping.set_exact(world, operations, app, wanted, check=check)

    answer(module, work)


if __name__ == "__main__":
    main()
