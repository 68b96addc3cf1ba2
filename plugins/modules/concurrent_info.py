# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which version of Concurrent runs on a host, and which it has to pass through on its way to another."""

from __future__ import annotations

DOCUMENTATION = r"""
module: concurrent_info
short_description: Which version of Concurrent runs on a host, and the way to another
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Finds the version that runs, from what the api says of itself, the label and the tag of its image, and the tag that
    is checked out.
  - Returns every version that has to be passed through on the way to O(version), each with how it is reached, by the
    ladder that O(ladder) gives. The role P(selfhost.stateful.concurrent_migration#role) has one.
extends_documentation_fragment:
  - selfhost.stateful.project
  - selfhost.stateful.project.engine
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
options:
  project_src:
    description:
      - The checkout of Concurrent, or the directory of its compose file (C(docs), from v1.0 on C(_docs)), which is
        found in it.
    type: path
    required: true
  version:
    description: The version that is wanted. Left out, the newest that is released.
    type: str
    default: ""
  ladder:
    description:
      - The versions that must not be skipped, each with C(at) (V(v1.3.0), or V(v0.3) for any of a series), C(kind)
        (V(columns), V(query) or V(reload)), C(notes) (the address of its release notes), and what that kind needs.
    type: list
    elements: dict
    default: []
  ceiling:
    description:
      - The first version that the ladder does not lead to. None from there on is taken for the newest that is released,
        and one that is wanted is refused.
    type: str
    default: ""
  fetch:
    description: Whether to fetch tags and branches from C(origin) first. Nothing that is checked out changes.
    type: bool
    default: false
  operations_dir:
    description:
      - Where operations are journaled. Left out, C(/var/lib/selfhost-stateful/operations), or without root the XDG
        state directory.
    type: path
    default: ""
requirements:
  - root on the Docker host
  - git, where the host runs from a checkout
  - docker (SDK for Python)
  - psycopg 3
  - PyYAML
  - the compose CLI, version 2 or 1.29
seealso:
  - module: selfhost.stateful.concurrent_version
"""

EXAMPLES = r"""
- name: See which version runs, and which are on the way to the newest
  selfhost.stateful.concurrent_info:
    project_src: /srv/concurrent
    fetch: true
    ladder:
      - at: v1.3.0
        kind: columns
        notes: https://github.com/totegamma/concurrent/releases/tag/v1.3.0
  register: host
"""

RETURN = r"""
host:
  description:
    - What is there. C(version), and C(versions) by where they were read (C(said), C(label), C(tag), C(git), and
      C(schema), what its tables say of the versions that have run); C(folder) of the compose file, C(checkout) and its
      C(branch); C(data) and C(redis), the directories; C(postgresql) with C(major) of the data and C(image);
      C(released), the versions that the checkout knows.
  returned: success
  type: dict
unfinished:
  description: The operation that is open on this host, if there is one. RV(way) is then its one version, to go on with.
  returned: success
  type: str
wanted:
  description: The version at the end of the way.
  returned: success
  type: str
way:
  description:
    - The versions to pass through, each with C(version), C(kind), C(notes) and C(rung), and with C(images), what has to
      be on the engine for it. Each of those is to be pulled as C(pull). C(tag) is the name that the file says, which
      differs where that floats; M(selfhost.stateful.concurrent_version) lets it mean that image once all has stopped.
      C(fetched) is false for a release that only origin has, in check mode.
  returned: success
  type: list
  elements: dict
plan_complete:
  description: V(false) in check mode where the host lacked a library, so that nothing could be looked at.
  returned: always
  type: bool
missing:
  description: The libraries that the host lacks, by the names that Python imports them by.
  returned: when the host lacks one that is needed
  type: list
  elements: str
plan_text:
  description: What could not be looked at, for people.
  returned: when the host lacks a library that is needed
  type: str
blockers:
  description: What would forbid the first of them, as far as it can be told without its files.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._host import (
    LibraryMissing,
    prefer_libraries_of_stores,
    require_libraries_of_stores,
)

if __name__ == "__main__":
    # Before all else is imported, which takes a second: it is to happen once, where it can be used.
    prefer_libraries_of_stores()

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.arguments import (
    ENGINE_ARGUMENTS,
    PROJECT_ARGUMENTS,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import observe_project
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.journey import folder_of, open_in
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.model import Version, rung_from
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.route import way_to
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.schema import schema_of
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.survey import (
    fetch_releases,
    known_to_origin,
    see,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import (
    OperationStore,
    default_directory,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.arguments import connect_world

ARGUMENTS = {
    **PROJECT_ARGUMENTS,
    **ENGINE_ARGUMENTS,
    "version": {"type": "str", "default": ""},
    "ladder": {"type": "list", "elements": "dict", "default": []},
    "ceiling": {"type": "str", "default": ""},
    "fetch": {"type": "bool", "default": False},
    "operations_dir": {"type": "path", "default": ""},
}
LIMITS = {"stop_timeout": 120, "ready_timeout": 120}


def main() -> None:
    """Read the options, look, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        try:
            require_libraries_of_stores()
        except LibraryMissing as lacking:
            if not module.check_mode:
                raise
            # A dry run on a fresh host comes before the role that provides the libraries could do so.
            return {
                "changed": False,
                "unfinished": "",
                "host": {"folder": params["project_src"], "version": ""},
                "wanted": params["version"],
                "way": [],
                "blockers": [],
                "missing": list(lacking.missing),
                "plan_complete": False,
                "plan_text": f"{lacking.msg}\nNot looked at before that: which version runs, and what is on the way.",
            }
        ladder = [rung_from(rung) for rung in params["ladder"]]
        operations = OperationStore(params["operations_dir"] or default_directory())
        folder = folder_of(params["project_src"], operations)
        unfinished = open_in(folder, operations)
        if unfinished is not None:
            # Its services may be down, and its files on their way: nobody is asked but its journal.
            plan = unfinished.plan.summary
            stop = {"version": plan["to"], "kind": plan["kind"], "notes": plan["notes"], "rung": plan["rung"]}
            host = {"folder": folder, "version": plan["from"]}
            return {
                "changed": False,
                "plan_complete": True,
                "unfinished": unfinished.id,
                "host": host,
                "wanted": plan["to"],
                "way": [{**stop, "images": [], "fetched": True}],
                "blockers": [],
            }
        world = connect_world({**params, **LIMITS, "project_src": folder}, {})
        beyond: list[Version] = []
        if params["fetch"] and module.check_mode:
            beyond = known_to_origin(folder)
        elif params["fetch"]:
            fetch_releases(folder)
        project = observe_project(world.engine, world.compose)
        world = world.of(project)
        seen = see(world, project)
        host, schema = seen.as_dict(), schema_of(ladder, seen.columns)
        if str(schema):
            host["versions"]["schema"] = str(schema)
        return {
            "changed": False,
            "plan_complete": True,
            "unfinished": "",
            "host": host,
            "blockers": [blocker.text for blocker in seen.blockers],
            **way_to(world, seen, params["version"], ladder, beyond, params["ceiling"]),
        }

    answer(module, work)


if __name__ == "__main__":
    main()
