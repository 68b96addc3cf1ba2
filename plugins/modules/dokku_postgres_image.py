# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An app of dokku's has its data in a Postgres service of another image."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dokku_postgres_image
short_description: An app of dokku's has its data in a Postgres service of another image
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Makes a new service of dokku's plugin C(postgres) with the image and all settings of the old one, brings the data
    there, and lets the app in once every table, row, sequence and extension is known to be there. The old service is
    unlinked and stopped then, and stays until the operation is committed (M(selfhost.stateful.operation)).
  - There are two ways to bring it. By V(physical) the files are copied while the app runs, and follow what it writes;
    in the downtime the old server stops, the copy is brought to that state, and C(pg_upgrade) takes it to the new major
    version, where there is one. The downtime does not grow with the data, and everything of the cluster comes along.
    By V(dump) one database is exported and imported in the downtime (O(strategy)).
  - Nothing is believed by its exit code. What the plugin calls a success is looked at. Whether the app has the image
    already is told by the image's ID and not by its tag.
  - While it runs, the new service is made, O(unit) is started, and the old service is backed up into O(bucket) and,
    where its files are to go, into O(backup_dir). Then the page is shown, the app's processes are stopped, and sessions
    of others are ended. After that the database is read-only for whoever comes, or the old server stops. After the
    proof the schedule and the login of the backups are carried over.
  - Anything that fails before the app answers on the new service is undone. The app then runs on the old one.
  - What was written to the new service is never thrown away unasked. Where the app was let in, wrote, and does not
    answer, the module says so, and the app stays where its data is.
notes:
  - The plugin's export holds one database, without roles, grants and settings of databases. Where the old service
    has such and its files cannot go, the module refuses, unless O(accept_losses) says that nobody needs them.
  - Where the files go, so do the settings and C(pg_hba.conf) of the old service; those that the new major version does
    not know are left out. The database, the password and the certificate are those of the new service.
  - The page keeps visitors away and nobody else. It is the app's processes that are stopped, and their number is kept.
  - The variables of the app are set with C(config:set --no-restart), of which the addresses with their passwords are
    words for as long as it runs, as they are of the calls that the plugin itself makes. The same is true of the login
    for backups, which C(postgres:backup-auth) takes in no other way.
  - It refuses an old service that others use or that is exposed on ports of the host, one whose backups are encrypted
    or whose schedule cannot be read, an address of the app with a password in its query or by another login than the
    service's own, and an app of which some processes run and others do not. By a dump also one of another database.
  - Every variable that names the old service keeps its scheme, its query and, where that is another one than the
    service's own, its database.
  - Who uses the old service, by which variables, which image that runs, and what its cluster holds that a dump would
    leave behind, or the new image lacks, is asked once more before anything stops, since days may lie between
    O(stop_before=switch) and that. Where it is not as it was, what was prepared is undone
    and planned anew, and a warning says so.
  - Where the files go, the old service stands still from then on. Where it runs, or was written to, before the app
    answers on the new one, everything is undone, since the new one lacks what was written to it. Later that is a
    warning, and no commit destroys what was written to.
  - Where others use the new service by then, there is no way back that would take it from them.
  - An app that was moved on to a third service since is not taken back. The operation can be committed then.
  - Both images have a name of this collection's too, C(selfhost-stateful/kept), until the operation is committed. A way
    back starts the old service on the very image that it ran, also where C(postgres:stop) has removed its container and
    a newer build has its tag. Where that image is gone, a way back is refused before anything is touched.
  - The module does not pull. The role P(selfhost.stateful.dokku_postgres_image#role) does, before the downtime.
extends_documentation_fragment:
  - selfhost.stateful.dokku
  - selfhost.stateful.dokku.settings
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
    details:
      - Returns the plan with all that forbids it. To look at the image, a container of it is started and removed.
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
  image:
    description: The repository of the image.
    type: str
    default: postgres
  version:
    description: The tag of the image.
    type: str
    required: true
  name:
    description:
      - The name of the new service. Left out, it consists of the app, the image, its tag and the day on which it was
        built, with V(_) for what a name may not have.
    type: str
    default: ""
  strategy:
    description:
      - How the data gets to the new service. V(physical) takes the files, V(dump) exports the database to a file and
        imports that. V(auto) is V(physical), and V(dump) where something is against that, which the plan names.
    type: str
    choices: [auto, physical, dump]
    default: auto
  database_scheme:
    description:
      - The scheme of the app's addresses, such as V(postgis), which becomes its E(POSTGRES_DATABASE_SCHEME). Empty for
        the plugin's default. Left out, it stays as it is.
    type: str
  maintenance:
    description: Whether to show the page of dokku's plugin C(maintenance) in the downtime.
    type: bool
    default: true
  unit:
    description: A unit of systemd's that is started, and waited for, before the downtime, such as an export of yours.
    type: str
    default: ""
  bucket:
    description:
      - The bucket that the old service is backed up into before the downtime, and the new one after it. Each backup is
        read back. Left out, the dump on the host is the only one.
    type: str
    default: ""
  use_iam:
    description: Whether the host itself may write to the bucket, without a login of the service's.
    type: bool
    default: false
  backup_dir:
    description:
      - Where the dump goes, which is kept. Where the files go, it is taken and read to its end before the downtime.
        Left out, C(backups) beside O(operations_dir).
    type: path
    default: ""
  answer_path:
    description:
      - The path at which the web processes of the app have to answer with a status below 500 before anything is proved.
        A redirect is an answer, and is not followed. Empty for not asking them.
    type: str
    default: /
  accept_losses:
    description: Whether what a dump of one database does not hold may stay behind.
    type: bool
    default: false
  stop_before:
    description:
      - V(switch) does all that costs no downtime, and halts. The next run without it goes on there. Where an earlier
        run was killed in the downtime, this one goes on and does not halt, so that the app comes up again.
      - V(commit) halts before the old service is destroyed, which this module never does by itself (see
        M(selfhost.stateful.operation)); it is the same as leaving the option out.
    type: str
    choices: [switch, commit]
  stop_timeout:
    description: Seconds that processes, sessions and the old server get to end.
    type: int
    default: 120
  ready_timeout:
    description: Seconds that the new server and the app get to answer.
    type: int
    default: 120
  operations_dir:
    description:
      - Where operations are journaled. Left out, C(/var/lib/selfhost-stateful/operations), or without root the XDG
        state directory.
    type: path
    default: ""
requirements:
  - psycopg 3; without it psql in the containers is asked, which takes longer
  - botocore, for O(bucket)
  - dokku's plugin maintenance 0.5 or later, for O(maintenance)
seealso:
  - module: selfhost.stateful.operation
  - module: selfhost.stateful.dokku_postgres_info
"""

EXAMPLES = r"""
- name: Say what would be done
  selfhost.stateful.dokku_postgres_image:
    app: blog
    version: "17.2"
  check_mode: true

- name: The blog has its data in Postgres 17
  selfhost.stateful.dokku_postgres_image:
    app: blog
    version: "17.2"
  register: swapped

- name: Go back, where nothing was written since
  selfhost.stateful.operation:
    id: "{{ swapped.operation }}"
    state: rolled_back
  when: swapped is changed
"""

RETURN = r"""
operation:
  description: The id of the operation, of the last one where nothing was to be done.
  returned: success
  type: str
service:
  description: The service that the app has its data in.
  returned: success, but in check mode
  type: str
plan:
  description:
    - What is done, as C(app), C(from), C(to), C(strategy) with its C(reason), C(steps), and C(space) and C(free), the
      bytes that are needed and free on each file system, by its mount point.
  returned: always where a plan was made
  type: dict
plan_text:
  description: The plan, for people.
  returned: always where a plan was made
  type: str
plan_complete:
  description: Whether everything could be looked at. It is false in check mode on a host that still lacks libraries.
  returned: always where a plan was made
  type: bool
missing:
  description: The libraries that the host lacks.
  returned: when C(plan_complete) is false
  type: list
  elements: str
blockers:
  description: What forbids it, each with a way out.
  returned: failure
  type: list
  elements: str
downtime_seconds:
  description: From the first word to the app to the moment in which visitors saw it again.
  returned: where data was moved
  type: float
phases:
  description: How many seconds each step took, by its name.
  returned: where data was moved
  type: dict
verification:
  description:
    - What was compared and asked, as C(tables) and C(rows) that are in the new service (for V(physical) those of
      large tables are estimates), C(answers), the status that
      each web process answered with, and C(backup), the first one of the new service.
  returned: where data was moved
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
    LibraryMissing,
    missing,
    prefer,
    prefer_libraries_of_stores,
    require,
    unplanned,
)

if __name__ == "__main__":
    # Before all else is imported, which takes a second: it is to happen once, where it can be used.
    prefer_libraries_of_stores()

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.arguments import (
    DOKKU_ARGUMENTS,
    SETTINGS_ARGUMENTS,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.arguments import request_from, world_from
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.journey import Swap
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import (
    OperationStore,
    default_directory,
)

ARGUMENTS = {
    **DOKKU_ARGUMENTS,
    **SETTINGS_ARGUMENTS,
    "app": {"type": "str", "required": True},
    "image": {"type": "str", "default": "postgres"},
    "version": {"type": "str", "required": True},
    "name": {"type": "str", "default": ""},
    "strategy": {"type": "str", "choices": ["auto", "physical", "dump"], "default": "auto"},
    "database_scheme": {"type": "str"},
    "maintenance": {"type": "bool", "default": True},
    "unit": {"type": "str", "default": ""},
    "bucket": {"type": "str", "default": ""},
    "use_iam": {"type": "bool", "default": False},
    "backup_dir": {"type": "path", "default": ""},
    "answer_path": {"type": "str", "default": "/"},
    "accept_losses": {"type": "bool", "default": False},
    "stop_before": {"type": "str", "choices": ["switch", "commit"]},
    "stop_timeout": {"type": "int", "default": 120},
    "ready_timeout": {"type": "int", "default": 120},
    "operations_dir": {"type": "path", "default": ""},
}
BOTOCORE = "botocore"


def main() -> None:
    """Read the options, carry them out, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        if params["bucket"]:
            prefer(BOTOCORE)
        try:
            require("docker", optional=("psycopg",))
        except LibraryMissing as lacking:
            if not module.check_mode:
                raise
            rest = f"which service {params['app']} has its data in, which image that runs, and what stands in the way"
            return unplanned(lacking, {"app": params["app"], "steps": []}, rest)
        if params["bucket"] and missing(BOTOCORE):
            raise InvalidInput(
                "Backups are read back from the bucket, and the Python library botocore, which does that, is not on"
                " this host.",
                next_command="apt-get install python3-botocore",
            )
        directory = params["operations_dir"] or default_directory()
        return Swap(
            request=request_from(params, directory),
            operations=OperationStore(directory),
            connect=lambda: world_from(params),
            program=tuple(params["dokku_program"]),
            docker_host=params["docker_host"],
            check_mode=module.check_mode,
            stop_before="switch" if params["stop_before"] == "switch" else "",
        ).carry_out()

    answer(module, work)


if __name__ == "__main__":
    main()
