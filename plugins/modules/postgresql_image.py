# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Postgres, of a compose project or a container by itself, runs another image with the same data."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_image
short_description: A Postgres runs another image with the same data
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Takes a service of a compose project, or a container that C(docker run) made, from the Postgres image that it runs
    to another one, with its data, and proves it. Within a major version and to a newer one that takes seconds of
    downtime.
  - Within a major version the data stays where it is. For a newer one pg_upgrade works on a copy, which becomes a new
    directory beside the old one; no special image is needed. What can be done before the downtime is done before it,
    such as a proved backup, the new cluster, the checks of pg_upgrade, and a first copy or a standby.
  - A dump goes where files cannot go, as to an older major version. Its downtime grows with the data.
    The original directory is neither written nor started by anything but its own image, and stays until the operation
    is committed.
  - Configuration files are carried over as they are at the stop, with all that they name in the data directory, such as
    the certificates and keys of TLS; an absolute path that leads there becomes a relative one. What the new major
    version no longer knows becomes a comment there, and is listed in RV(settings_left_out). The authentication rules,
    the passwords and C(password_encryption) stay as they are.
  - Whether the image is the wanted one is decided by its id, not by its tag, so that a newer build of one tag is
    another image. The image has to be on the engine; it is not pulled unasked. A run that goes on with an operation
    does so with the image that it was begun with, which has a name of ours meanwhile, whatever its tag means by then.
  - A container that no compose project runs is made anew as it was made, on the other image. Its options, networks,
    addresses, ports and volumes are carried over, and what it only had from the old image is left to the new one. The
    container that is replaced is not removed. It stays beside its successor, stopped, without its restart policy and
    under another name, until the operation is committed; a roll back gives that very container its name back.
  - Every step is journaled before it is made. Killed anywhere, the next run goes on or rolls back by itself. A failure
    before the proof is undone, and the service runs on the old image again.
extends_documentation_fragment:
  - selfhost.stateful.subject
  - selfhost.stateful.project
  - selfhost.stateful.project.change
  - selfhost.stateful.project.engine
  - selfhost.stateful.project.login
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
    details:
      - Returns the whole plan, with strategy and reasons, sizes, blockers and an estimate of the downtime. The estimate
        is rough and on the safe side.
      - On a host that still lacks the Docker SDK or PyYAML it says what would be installed, and sets RV(plan_complete).
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
  service:
    description:
      - The service whose image is to be another one. It has to have one container, and that has to run.
    type: str
    default: ""
  container:
    description:
      - The name or the id of a container that no compose project runs, in place of O(project_src) and O(service).
      - Not for one that was made with C(--rm), that is managed by an orchestrator, or whose network others share
        (C(--network container:)) or link to (C(--link)), since those know it by its id.
    type: str
    default: ""
  image:
    description: The image as it is to stand in the compose file, or to be run. It has to be on the engine.
    type: str
    required: true
  strategy:
    description:
      - V(swap) starts the other image on the same directory; for a newer build or another minor version of one major.
      - V(pg_upgrade) upgrades a copy to a newer major version.
      - V(dump) loads a dump of everything into a new cluster, by parallel jobs and by the client programs of the newer
        image; also to another libc without building indexes anew, and to an older major version where nothing in the
        database needs the newer one. It is made from a copy that nobody else reaches. The rows of tables from 32 MiB on
        go straight from one server into the other, and need no room for a file.
      - V(auto) takes the first that is possible, and says why. It never goes down a major version.
    type: str
    choices: [auto, swap, pg_upgrade, dump]
    default: auto
  verify:
    description:
      - What is compared of a dump before the service starts on what was loaded. V(fast) compares definitions, roles,
        privileges, sequences, and of each table the number of its rows.
      - V(full) compares the content of all rows, too. That reads all of it twice more, in the downtime.
      - The strategies V(swap) and V(pg_upgrade) take the very files along. Definitions, roles, privileges and sequences
        are compared in any case; rows are counted before and after, as far as ten seconds reach, and fewer are told.
    type: str
    choices: [fast, full]
    default: fast
  source:
    description:
      - The directory that an upgraded cluster gets, absolute or relative to O(project_src); it is absent or empty.
      - Left out, a sibling of the data that is named for the major version, as in C(./postgres17), or that directory in
        O(project_src) where the data is in a volume. Of a O(container) whose data is in a volume it has to be given.
    type: str
    default: ""
  dependents:
    description:
      - The services that are stopped while the image is changed, and started again after the proof, with all that
        depends on them.
      - V(auto) stands for those that depend on O(service) by the compose file; further ones, which use the database
        without saying so there, are named beside it.
      - Of a O(container) nobody knows who depends on it, and V(auto) is none; those that use it are named as
        containers. They are stopped and started, and never made anew.
    type: list
    elements: str
    default: [auto]
  backup:
    description:
      - V(auto) takes a physical backup where it can be verified by its manifest (13 and later), else a logical one that
        is restored into a scratch container to prove it.
    type: str
    choices: [auto, physical, logical]
    default: auto
  pre_upgrade:
    description:
      - What runs in the old container, once the dependents are stopped and before the server is, in order. A script has
        both versions as its arguments and as E(FROM_VERSION) and E(TO_VERSION), and in E(FULL_BACKUP) whether
        O(full_backup) was decided for; SQL has the settings C(selfhost_stateful.from_version) and
        C(selfhost_stateful.to_version).
      - One that fails undoes everything. What it changes in the old cluster stays, so it has to bear being run twice.
        Its text is journaled, and no place for secrets.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What it is called, with C(.sh) or C(.sql).
        type: str
        required: true
      content:
        description: Its text.
        type: str
        required: true
      timeout:
        description: Seconds that it may take. After them it is ended, and the change undone. V(0) is no limit.
        type: float
        default: 3600
  post_upgrade:
    description:
      - The same in the new container, on its data, before anybody else is let in. One that fails undoes the change.
        Where the data stays in its files (strategy C(swap)), what it changed in them stays, too; the failure says so.
      - What hooks and O(migrations) write in a new cluster goes with it. Where somebody else wrote there before or
        after them, as a client from outside the project may, nothing is undone and the service stays on the new
        cluster; the failure names the way forward, and the one back
        (O(selfhost.stateful.operation#module:discard_writes)), which keeps the new directory as a copy. What is written
        while they run counts as theirs; where the run itself was killed meanwhile, as somebody else's.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What it is called, with C(.sh) or C(.sql).
        type: str
        required: true
      content:
        description: Its text.
        type: str
        required: true
      timeout:
        description: Seconds that it may take. After them it is ended, and the change undone. V(0) is no limit.
        type: float
        default: 3600
  full_backup:
    description:
      - Whether, beside O(backup), everything is dumped once nobody writes any more, and the dump proved. With V(auto)
        it is where hooks or O(migrations) are given and the major version or the layout of the data directory changes.
        It is a part of the downtime.
    type: str
    choices: [auto, always, never]
    default: auto
  migrations:
    description:
      - Numbered migrations of the image that run after O(post_upgrade), each once, as in
        M(selfhost.stateful.postgresql_migrations), with its ledger and its markers. They run on the data that is
        there; a new data directory runs them by the entrypoint of the image.
      - Where the data stays in its files (strategy C(swap)), they stay done although the change is undone; the failure
        says so.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: As a file would be called, C(NN-description.sql) or C(NN-description.sh).
        type: str
        required: true
      content:
        description: What the file would hold.
        type: str
        required: true
      undo:
        description: What takes it back, of the same kind.
        type: str
        default: ""
      transaction:
        description: Whether an SQL file runs in one transaction.
        type: bool
      repeatable:
        description: Whether one without a transaction may be run again where it was broken off.
        type: bool
      expect_rows:
        description: How many rows it changes, as a number, a range, or a query.
        type: raw
      done_when:
        description: A query that is true once it is done.
        type: str
      statement_timeout:
        description: Seconds that one statement may take. V(0) is no limit.
        type: float
      lock_timeout:
        description: Seconds that one statement may wait for a lock. V(0) is no limit.
        type: float
      timeout:
        description: Seconds that it may take. After them it is ended, and the change undone. V(0) is no limit.
        type: float
        default: 3600
      marker:
        description: Commands that keep the mark of completion elsewhere. They are run in the container.
        type: dict
        suboptions:
          read:
            description: Prints the mark.
            type: list
            elements: str
            required: true
          set:
            description: Sets it, after the migration. It is read back.
            type: list
            elements: str
            default: []
          remove:
            description: Removes it, where the migration is taken back.
            type: list
            elements: str
            default: []
          expected:
            description: What O(migrations[].marker.read) prints once it is done. Left out, anything.
            type: str
            default: ""
  series:
    description: The name of that run of numbers in the ledger.
    type: str
    default: image
requirements:
  - root on the Docker host
  - docker (SDK for Python)
  - psycopg 3
  - PyYAML
  - the compose CLI, version 2 or 1.29, for O(service)
seealso:
  - module: selfhost.stateful.postgresql_image_info
  - module: selfhost.stateful.operation
  - module: selfhost.stateful.compose_storage
"""

EXAMPLES = r"""
- name: Show what an upgrade to Postgres 17 would do
  selfhost.stateful.postgresql_image:
    project_src: /srv/mastodon
    service: db
    image: postgres:17-alpine
  check_mode: true

- name: Take the database to Postgres 17, into ./postgres17
  selfhost.stateful.postgresql_image:
    project_src: /srv/mastodon
    service: db
    image: postgres:17-alpine
    max_downtime: 30

- name: Take a container that docker run made to Postgres 18, with its application stopped meanwhile
  selfhost.stateful.postgresql_image:
    container: db
    image: postgres:18
    source: /srv/db/postgres18
    dependents: [app]

- name: Go back down to Postgres 15 with all that was written since
  selfhost.stateful.postgresql_image:
    project_src: /srv/mastodon
    service: db
    image: postgres:15-alpine
    strategy: dump
    verify: full
"""

RETURN = r"""
operation:
  description: The id of the operation, for M(selfhost.stateful.operation).
  returned: success
  type: str
  sample: live-postgresql_image-3f2a9c1b-1
operation_state:
  description: V(done), or V(running) where O(stop_before) halted it.
  returned: changed
  type: str
plan:
  description: From which image to which, by which strategy and why, what stops, which files change, the estimates.
  returned: always
  type: dict
plan_text:
  description: The same for people.
  returned: always
  type: str
plan_complete:
  description: V(false) in check mode where the host lacked a library, so that nothing could be looked at.
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
settings_left_out:
  description:
    - Lines of the configuration that the new major version does not know, with file and line; and by O(strategy=dump)
      what it does not know of roles and databases, such as a setting or a membership in a predefined role.
  returned: changed
  type: list
  elements: str
bytes_copied:
  description: Bytes that were written to the new place inside the downtime.
  returned: changed
  type: int
downtime_seconds:
  description: From the first stop of a store to the moment in which all answered again.
  returned: changed
  type: float
downtime_phases:
  description: The parts of RV(downtime_seconds), in seconds by name.
  returned: changed
  type: dict
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
  description:
    - What was compared, before and after. After a V(dump), C(tables_compared) and C(rows_compared) by the number of
      rows, C(contents_compared) tables by their content, and C(tables_streamed) went past the files of the dump.
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

import os
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._host import (
    LibraryMissing,
    prefer_libraries_of_stores,
    require_libraries_of_stores,
    unplanned,
)

if __name__ == "__main__":
    # Before all else is imported, which takes a second: it is to happen once, where it can be used.
    prefer_libraries_of_stores()

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.arguments import (
    POSTGRESQL_LOGIN_ARGUMENTS,
    connection,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Services
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.subject import SUBJECT_ARGUMENTS, check_choice
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import connect
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.hooks import check_hooks
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.journey import ImageJourney
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    FAST,
    FULL,
    STRATEGIES,
    ImageRequest,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.plan_hooks import (
    DECISIONS,
    SERIES,
    Hooks,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.steps import IMAGE_HANDLERS
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations import files
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.arguments import LIST_ARGUMENTS
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.arguments import (
    CHANGE_ARGUMENTS,
    connect_world,
    operations_directory,
    request_from,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.bare import name_of
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import AUTO, MountRequest
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.run import Task, carry_out
from ansible_collections.selfhost.stateful.plugins.module_utils._stores import stores_from

TIMEOUT: dict[str, Any] = {"timeout": {"type": "float", "default": 3600}}
HOOK_ARGUMENTS: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "name": {"type": "str", "required": True},
        "content": {"type": "str", "required": True},
        **TIMEOUT,
    },
}
MIGRATION_ARGUMENTS = {**LIST_ARGUMENTS, "options": {**LIST_ARGUMENTS["options"], **TIMEOUT}}
ARGUMENTS = {
    **SUBJECT_ARGUMENTS,
    **CHANGE_ARGUMENTS,
    **POSTGRESQL_LOGIN_ARGUMENTS,
    "image": {"type": "str", "required": True},
    "strategy": {"type": "str", "choices": [AUTO, *STRATEGIES], "default": AUTO},
    "verify": {"type": "str", "choices": [FAST, FULL], "default": FAST},
    "source": {"type": "str", "default": ""},
    "dependents": {"type": "list", "elements": "str", "default": [AUTO]},
    "backup": {"type": "str", "choices": ["auto", "physical", "logical"], "default": "auto"},
    "pre_upgrade": HOOK_ARGUMENTS,
    "post_upgrade": HOOK_ARGUMENTS,
    "full_backup": {"type": "str", "choices": list(DECISIONS), "default": AUTO},
    "migrations": MIGRATION_ARGUMENTS,
    "series": {"type": "str", "default": SERIES},
}


def main() -> None:
    """Read the options, carry them out, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    hooks = Hooks(
        pre=tuple(params["pre_upgrade"]),
        post=tuple(params["post_upgrade"]),
        migrations=tuple(params["migrations"]),
        series=params["series"],
        full_backup=params["full_backup"],
    )

    def request(project: Services) -> ImageRequest:
        source, service = params["source"], params["service"] or params["container"]
        mounts = (MountRequest(service, source, written=source),) if source else ()
        # How the copy is made is ours to choose; the strategy that is asked for is the one of the image change.
        storage = request_from({**params, "strategy": AUTO, "pin_images": False}, project, mounts)
        return ImageRequest(
            storage,
            service,
            params["image"],
            params["strategy"],
            params["verify"],
            tuple(params["dependents"]),
            hooks,
            bare=bool(params["container"]),
        )

    def work() -> dict[str, Any]:
        check_choice(params)
        if params["container"] and params["source"] and not os.path.isabs(params["source"]):
            raise InvalidInput("A container has no directory that source could be relative to: give an absolute path.")
        try:
            require_libraries_of_stores()
        except LibraryMissing as lacking:
            if not module.check_mode:
                raise
            service, image = params["service"] or params["container"], params["image"]
            rest = (
                f"what {service} runs, which way leads to {image}, what stops for how long, and what stands in the way"
            )
            return unplanned(lacking, {"service": service, "strategy": "", "files": []}, rest)
        check_hooks(params["pre_upgrade"], params["post_upgrade"], migrations=params["migrations"])
        files.parse(*files.of_list(params["migrations"]))
        stores, operations = stores_from({**params, "redis_password": ""}), OperationStore(operations_directory(params))
        if params["container"]:
            params["container"] = name_of(connect(connection(params)), params["container"], operations)
        return carry_out(
            Task(
                connect=lambda: connect_world(params, stores),
                operations=operations,
                handlers=IMAGE_HANDLERS,
                journey=ImageJourney(params["service"] or params["container"], tuple(params["dependents"]), request),
                check_mode=module.check_mode,
                stop_before="switch" if params["stop_before"] == "switch" else "",
            )
        )

    answer(module, work)


if __name__ == "__main__":
    main()
