# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the data of a compose project lives."""

from __future__ import annotations

DOCUMENTATION = r"""
module: compose_storage_info
short_description: Where the data of a compose project lives
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Says for every service of a project and every path with data what kind of mount it is, how large, on which file
    system, and whether a C(down) or a prune would lose it.
  - Postgres and Redis are asked where their data is, so that data one level off its declared mount is found.
  - In a container's own layer, only the data directory of a Postgres or Redis is found. What other programs write there
    cannot be told from what their image brought along.
  - Names the volumes that no container refers to any more and that hold a Postgres cluster or Redis files, and the
    images whose tag floats.
extends_documentation_fragment:
  - selfhost.stateful.project
  - selfhost.stateful.project.engine
  - selfhost.stateful.project.login
  - selfhost.stateful.project.redis_login
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
options:
  services:
    description: Only these services.
    type: list
    elements: str
    default: []
  sizes:
    description: Whether to measure sizes, which reads every directory once. Needs root.
    type: bool
    default: true
  orphans:
    description: Whether to look into volumes that no container refers to. Needs root.
    type: bool
    default: true
requirements:
  - docker (SDK for Python)
  - psycopg 3, for Postgres; without it psql in the container is asked, which takes longer
  - PyYAML
  - the compose CLI, version 2 or 1.29
seealso:
  - module: selfhost.stateful.compose_storage
"""

EXAMPLES = r"""
- name: Where is the data of this Mastodon?
  selfhost.stateful.compose_storage_info:
    project_src: /home/mastodon/live
  register: storage

- name: Show it
  ansible.builtin.debug:
    msg: "{{ storage.report_text.split('\n') }}"
"""

RETURN = r"""
project:
  description: The name of the project.
  returned: success
  type: str
services:
  description: One entry a service, with its containers, image and paths.
  returned: success
  type: list
  elements: dict
  contains:
    service:
      description: The service.
      type: str
    containers:
      description: Its containers, with name, status and image id.
      type: list
      elements: dict
    image:
      description:
        - The C(reference) in the file, C(running_id) and C(running_version), what the reference resolves to here and
          now (C(resolves_to), C(resolves_to_version)), whether that is another image than the one that runs
          (C(moved_on)), whether it is C(built_here), and whether its tag follows the newest major (C(floating)).
        - Versions are those of Postgres (its major) and Redis, as their images name them.
      type: dict
    declared_volumes:
      description: The paths that the image declares as volumes; that of the container, or else what the file names.
      type: list
      elements: str
    unanswered:
      description: Why its store could not be asked where its data is; empty where it answered, or there is none.
      type: str
    paths:
      description:
        - The paths with data. C(bytes) and C(files) are null where they were not measured. C(kind) is C(bind),
          C(named), C(anonymous), C(layer), C(tmpfs) or C(other), C(mount) has the engine's own keys, C(ephemeral) and
          C(reason) say whether and why the data would be lost.
      type: list
      elements: dict
ephemeral:
  description: The services with data that a C(down) or a prune would lose.
  returned: success
  type: list
  elements: str
orphans:
  description: Volumes without a container that hold a Postgres cluster or Redis files, with version and last write.
  returned: success
  type: list
  elements: dict
orphans_unknown:
  description:
    - Volumes without a container that were not looked into, each with C(volume) and C(reason). Those are volumes of
      other drivers, local ones with options, and what only root may see.
  returned: success
  type: list
  elements: dict
report_text:
  description: All of it for people.
  returned: success
  type: str
"""

import os
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._host import (
    prefer_libraries_of_stores,
    require_libraries_of_stores,
)

if __name__ == "__main__":
    # Before all else is imported, which takes a second: it is to happen once, where it can be used.
    prefer_libraries_of_stores()

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.arguments import (
    ENGINE_ARGUMENTS,
    LOGIN_ARGUMENTS,
    PROJECT_ARGUMENTS,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import observe_project
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import inventory
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.arguments import connect_world
from ansible_collections.selfhost.stateful.plugins.module_utils._stores import (
    stores_from,
)

ARGUMENTS = {
    **PROJECT_ARGUMENTS,
    **ENGINE_ARGUMENTS,
    **LOGIN_ARGUMENTS,
    "services": {"type": "list", "elements": "str", "default": []},
    "sizes": {"type": "bool", "default": True},
    "orphans": {"type": "bool", "default": True},
}


def main() -> None:
    """Read the options, look, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        require_libraries_of_stores()
        given = {**params, "stop_timeout": 0, "ready_timeout": 0}
        world = connect_world(given, stores_from(params), as_root=False)
        project = observe_project(world.engine, world.compose, params["services"])
        found = inventory.services(world, project, params["services"], sizes=params["sizes"])
        lost, unknown = inventory.orphans(world) if params["orphans"] else ([], [])
        if os.geteuid() != 0:
            module.warn(
                "Without root, sizes and stores that this user may not look into are unknown: set become: true."
            )
        return {
            "changed": False,
            "project": project.name,
            "services": found,
            "ephemeral": [entry["service"] for entry in found if any(path["ephemeral"] for path in entry["paths"])],
            "orphans": lost,
            "orphans_unknown": unknown,
            "report_text": inventory.text(project.name, found, lost, unknown),
        }

    answer(module, work)


if __name__ == "__main__":
    main()
