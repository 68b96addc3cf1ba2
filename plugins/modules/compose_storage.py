# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Move the data of a compose project's services into bind mounts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: compose_storage
short_description: Data of a compose project's services lives in bind mounts
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Moves the data of services from anonymous volumes, named volumes or the container's own layer into directories of
    the host, in one downtime for all of them, and proves it. Postgres and Redis are recognised and stopped by their
    own means; any other path is moved as plain files.
  - What can be done while the services run is done while they run. A consistent backup is taken and proved first.
    Then the dependents and the services stop, the data is moved, the compose file is changed, only these services are
    created anew from the very image that they ran, their mounts are read back from the engine, and they start.
  - Every step is journaled before it is made. Killed anywhere, the next run goes on or rolls back by itself. A failure
    before the proof is undone, and the services run on the old storage again. What is proved is never undone because
    something later failed.
  - While an operation is open, a container of the service's own image that does nothing but sleep holds each volume
    concerned, read-only, so that a prune takes none of them. It goes with the operation's end.
  - Where all is in place already, nothing changes. Volumes without a container that hold data of the same kind are
    named in a warning, because a service that was started on its mount before its data was moved began with an empty
    one.
  - From its first step on the work runs in a session of its own. If the connection is lost it goes on, and the next
    run waits for it.
extends_documentation_fragment:
  - selfhost.stateful.project
  - selfhost.stateful.project.change
  - selfhost.stateful.project.engine
  - selfhost.stateful.project.login
  - selfhost.stateful.project.redis_login
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
    details:
      - Returns the whole plan, with strategy and reasons, sizes, blockers and an estimate of the downtime. The estimate
        is rough and on the safe side.
      - On a host that still lacks the Docker SDK or PyYAML it says what would be installed, and sets RV(plan_complete)
        to V(false). With PyYAML and compose it plans the edit of the compose file all the same, for every mount whose
        O(mounts[].target) is given, or named by the file itself for the same O(mounts[].source), also in a comment.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: full
    details:
      - Shows the changed lines of the compose file with secrets masked. The data itself is not shown.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
options:
  mounts:
    description:
      - The wanted bind mounts, as in compose's long form.
    type: list
    elements: dict
    required: true
    suboptions:
      service:
        description: The service whose data is moved.
        type: str
        required: true
      target:
        description:
          - The path in the container. Left out, it is found by asking the store where its data is, and taking the
            mount that holds it.
          - A tablespace outside the data directory is a path of its own. One on no volume has to be listed, because it
            would be lost with the container.
        type: str
        default: ""
      source:
        description:
          - The directory on the host. A relative one counts from the project's directory. It must not exist, or be
            empty.
          - For a service that has no container, only the file is edited, and the directory may hold the data that the
            service is to start on. It is refused where data of the service waits elsewhere, for example in the named
            volume of a project that is down, and where a store that does not begin as root may not use the directory.
          - No store goes to an NFS mount with the option C(soft). Any other NFS is warned of.
        type: str
        required: true
  strategy:
    description:
      - V(auto) takes the first of the following whose conditions hold, and says why in RV(plan).
      - V(rename) renames the volume's directory; at any size it costs a bare restart. Both places have to be on one
        file system.
      - V(clone) shares the blocks after the stop, on file systems that can (XFS, btrfs).
      - V(replica) follows the running Postgres with a standby on the new place and restarts on that.
      - V(copy) copies while the service runs, and after the stop only what changed since.
    type: str
    choices: [auto, rename, clone, replica, copy]
    default: auto
  backup:
    description:
      - V(auto) takes a physical backup of Postgres where it can be verified by its manifest (13 and later), else a
        logical one that is restored into a scratch container to prove it.
      - V(none) is allowed for the strategy V(rename) only, where the directory itself stays whole.
    type: str
    choices: [auto, physical, logical, none]
    default: auto
  pin_images:
    description:
      - Services are always created anew from the image that they ran. Where their tag means another image by now, this
        writes the one that runs into the compose file, so that the next plain C(up) does not start another.
      - Where the tag means another major version of the store by now, the plan is refused without it.
    type: bool
    default: false
requirements:
  - root on the Docker host
  - docker (SDK for Python)
  - psycopg 3, for Postgres; without it psql in the container is asked, which takes longer and rules out V(replica)
    and, from Postgres 10 on, a logical backup
  - PyYAML
  - the compose CLI, version 2 or 1.29
seealso:
  - module: selfhost.stateful.compose_storage_info
  - module: selfhost.stateful.compose_file_mount
  - module: selfhost.stateful.operation
"""

EXAMPLES = r"""
- name: Keep the data of a Mastodon in its checkout
  selfhost.stateful.compose_storage:
    project_src: /home/mastodon/live
    mounts:
      - service: db
        source: ./postgres
      - service: redis
        source: ./redis

- name: Only look, and refuse more than five seconds of downtime
  selfhost.stateful.compose_storage:
    project_src: /home/mastodon/live
    max_downtime: 5
    mounts:
      - service: db
        source: ./postgres
  check_mode: true
  register: plan

- name: Make reality match a compose file that a template wrote
  selfhost.stateful.compose_storage:
    project_src: /srv/forum
    rewrite: none
    mounts:
      - service: database
        target: /var/lib/postgresql/data
        source: /srv/forum/data/postgres
"""

RETURN = r"""
operation:
  description: The id of the operation, for M(selfhost.stateful.operation).
  returned: success
  type: str
  sample: live-compose_storage-3f2a9c1b-1
operation_state:
  description: V(done), or V(running) where O(stop_before) halted it.
  returned: changed
  type: str
plan:
  description: What is moved from where to where and how, what stops, which files change, the estimated downtime.
  returned: always
  type: dict
plan_text:
  description: The same for people.
  returned: always
  type: str
plan_complete:
  description:
    - V(false) where the host lacked a library, so that nothing but the compose files could be looked at. RV(plan) has
      no C(moves) then.
  returned: always
  type: bool
missing:
  description: The libraries that the host lacks, by the names that Python imports them by.
  returned: when the host lacks one that is needed
  type: list
  elements: str
blockers:
  description:
    - Everything that forbids the plan, each with a way out. RV(plan_text) shows below each the command that leads
      there, if there is one, and RV(next_command) is the first of them.
  returned: when there are any
  type: list
  elements: str
downtime_seconds:
  description: From the first stop of a store to the moment in which all answered again.
  returned: changed
  type: float
downtime_phases:
  description: The parts of RV(downtime_seconds), in seconds by name.
  returned: changed
  type: dict
bytes_copied:
  description: Bytes that were written to the new places; none for a rename.
  returned: changed
  type: int
copies:
  description:
    - Every other copy of the data, with C(role) (backup or original), C(path), C(moment) that it holds, C(size_bytes),
      what proves it and what protects it.
  returned: always
  type: list
  elements: dict
mounts:
  description: The mounts as the engine reports them, in its own keys.
  returned: success
  type: dict
verification:
  description: What was compared, before and after.
  returned: changed
  type: dict
steps:
  description: Seconds per step.
  returned: changed
  type: dict
msg:
  description: What happened.
  returned: failure
  type: str
state:
  description: Where the data is now and what runs.
  returned: failure
  type: str
safe_to_rerun:
  description: Whether the same task may be run again.
  returned: failure
  type: bool
next_command:
  description:
    - One line that can be pasted into a shell, on the managed host unless it begins with C(ansible-playbook); or in
      words what is to be done, where the way out is a choice.
  returned: failure
  type: str
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
    LOGIN_ARGUMENTS,
    PROJECT_ARGUMENTS,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.standby_steps import MOVE_HANDLERS
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.arguments import (
    CHANGE_ARGUMENTS,
    MOUNT_ARGUMENTS,
    compose_of,
    connect_world,
    mount_requests,
    operations_directory,
    request_from,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.from_files import plan_from_files
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.journey import StorageJourney
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.run import Task, carry_out
from ansible_collections.selfhost.stateful.plugins.module_utils._stores import stores_from

ARGUMENTS = {
    **PROJECT_ARGUMENTS,
    **CHANGE_ARGUMENTS,
    **ENGINE_ARGUMENTS,
    **LOGIN_ARGUMENTS,
    "mounts": MOUNT_ARGUMENTS,
    "strategy": {"type": "str", "choices": ["auto", "rename", "clone", "replica", "copy"], "default": "auto"},
    "backup": {"type": "str", "choices": ["auto", "physical", "logical", "none"], "default": "auto"},
    "pin_images": {"type": "bool", "default": False},
}


def main() -> None:
    """Read the options, carry them out, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        try:
            require_libraries_of_stores()
        except LibraryMissing as lacking:
            if not module.check_mode:
                raise
            # A dry run on a fresh host comes before the role that provides the libraries could do so.
            compose = compose_of(params) if "yaml" not in lacking.missing else None
            return plan_from_files(compose, mount_requests(params), params["rewrite"], lacking.msg, lacking.missing)
        stores = stores_from(params)
        return carry_out(
            Task(
                connect=lambda: connect_world(params, stores),
                operations=OperationStore(operations_directory(params)),
                handlers=MOVE_HANDLERS,
                journey=StorageJourney(
                    mounts=mount_requests(params),
                    make_request=lambda project, mounts: request_from(params, project, mounts),
                ),
                check_mode=module.check_mode,
                stop_before="switch" if params["stop_before"] == "switch" else "",
            )
        )

    answer(module, work)


if __name__ == "__main__":
    main()
