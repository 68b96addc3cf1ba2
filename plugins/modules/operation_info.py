# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""List the operations of a host: what is open, what is done, what is retained."""

from __future__ import annotations

DOCUMENTATION = r"""
module: operation_info
short_description: What is open, done and retained on this host
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Reads the journals of the operations on this host. Needs neither an engine nor a library.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
options:
  operations_dir:
    description:
      - Where the journals are. Left out, C(/var/lib/selfhost-stateful/operations), or without root the XDG state
        directory.
    type: path
    default: ""
  project:
    description: Only the operations of this project; V(container:NAME) is a container that no compose project runs.
    type: str
    default: ""
  project_src:
    description: Only the operations of the compose project in this directory.
    type: path
    default: ""
  id:
    description: Only this operation.
    type: str
    default: ""
seealso:
  - module: selfhost.stateful.operation
"""

EXAMPLES = r"""
- name: What is there to finish, to commit, to roll back?
  selfhost.stateful.operation_info:
  register: known

- name: Show it
  ansible.builtin.debug:
    msg: "{{ item.id }}: {{ item.state }}, {{ item.copies | length }} copies"
  loop: "{{ known.operations }}"
  loop_control:
    label: "{{ item.id }}"
"""

RETURN = r"""
operations:
  description: One entry an operation, oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The id, for M(selfhost.stateful.operation).
      type: str
    module:
      description: The module that it belongs to.
      type: str
    project:
      description: The compose project.
      type: str
    state:
      description: C(planned), C(running), C(done), C(committed) or C(rolled_back).
      type: str
    open:
      description: Whether it is unfinished, so that nothing else can begin on the project.
      type: bool
    proved:
      description: Whether the change was made and proved.
      type: bool
    undoing:
      description: Whether a run was stopped while it undid the change.
      type: bool
    working:
      description: Whether a process works on the project now.
      type: bool
    step:
      description: The step that it stands at, or the last one.
      type: str
    failure:
      description: The last failure, if there was one.
      type: str
    age_days:
      description: Days since its last record.
      type: float
    started_at:
      description: When it began, UTC, ISO 8601.
      type: str
    copies:
      description: The copies that it made or retained, with their place, size and age, and whether each exists.
      type: list
      elements: dict
    evidence:
      description: Per step what was observed.
      type: dict
    progress:
      description: Phase, step, bytes done and in all, of the last thing that took long.
      type: dict
    plan_text:
      description: The plan for people.
      type: str
    reverts:
      description: The operation that this one rolled back.
      type: str
operations_dir:
  description: The directory that was looked in.
  returned: success
  type: str
retained_bytes:
  description: What all retained originals take together.
  returned: success
  type: int
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.report import describe
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import (
    OperationStore,
    default_directory,
)


def main() -> None:
    """Read the options, look, exit."""
    module = AnsibleModule(
        argument_spec={
            "operations_dir": {"type": "path", "default": ""},
            "project": {"type": "str", "default": ""},
            "project_src": {"type": "path", "default": ""},
            "id": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    params = module.params

    def work() -> dict[str, Any]:
        directory = params["operations_dir"] or default_directory()
        store = OperationStore(directory)
        found = [store.get(params["id"])] if params["id"] else store.all()
        wanted = [o for o in found if params["project"] in ("", o.plan.goal.project)]
        if params["project_src"]:
            place = os.path.realpath(params["project_src"])
            wanted = [o for o in wanted if os.path.realpath(o.plan.facts.get("project_dir") or os.sep) == place]
        operations = [describe(operation, working=store.busy(operation.plan.goal.project)) for operation in wanted]
        retained = sum(
            copy["size_bytes"]
            for operation in operations
            for copy in operation["copies"]
            if copy["role"] == "original" and copy["exists"]
        )
        return {
            "changed": False,
            "operations": operations,
            "operations_dir": directory,
            "retained_bytes": retained,
        }

    answer(module, work)


if __name__ == "__main__":
    main()
