# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Numbered migrations have run against a Postgres database, in order, each once."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_migrations
short_description: Numbered migrations have run against a Postgres database, in order, each once
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Runs files named C(NN-description.sql) and C(NN-description.sh), in the order of their numbers. What ran is noted in
    the database itself, in the table C(selfhost_stateful.migrations), with name, sha256, who, when, how long and how
    many rows; and in the journal of this host, as one operation each (see M(selfhost.stateful.operation_info)).
  - An SQL file is one transaction together with its note. Either both are there or neither is, whenever it is killed.
    A file that declares C(transaction) false is run statement by statement, and noted before and after.
  - A script is run inside the container, under errexit, nounset and pipefail, with C(PGUSER), C(PGDATABASE), C(PGHOST)
    and C(PGPORT) set. The end of what it says is kept in the journal and in RV(ran).
  - A backup is taken and proved before the first one runs.
  - A file that was changed after it ran is refused by name, as are a gap, a number that is used twice, and a file whose
    number is lower than one that ran already.
notes:
  - |-
    What guards a migration stands in a comment at its head, as YAML, or beside it in O(migrations):
    C(transaction) (true), C(repeatable) (false; a file without a transaction that was broken off may simply be run
    again), C(expect_rows) (a number; a range such as C(10-20) or C({min: 1}); or a query that says how many rows are
    still to do, which have to be changed and then be none), C(done_when) (a query that is true once it is done: where
    it is true before, the migration is noted as done and not run, unless it was begun and broken off),
    C(statement_timeout) and C(lock_timeout) (seconds), and C(marker) (see O(migrations)). The comment stands before
    all else, each of its lines begins with C(--), or in a script with C(#), and an undo file has none: a file with
    C(selfhost.stateful:) anywhere else is refused.
  - A guard that does not hold after a migration rolls it back, where it runs in a transaction.
  - Beside C(NN-description.sql) may lie C(NN-description.undo.sql), and the same with C(.sh). With it
    M(selfhost.stateful.operation) takes the migration back. Without it the way back is the backup. An undo script that
    was broken off leaves the note C(undoing), and the migration does not count as done; it can be taken back again.
  - A second runner, from wherever it comes, is refused by an advisory lock of the database while one is at work.
  - Files are journaled as they are. They should hold no secrets; give those in O(environment).
  - A file runs with the settings of role and database, C(search_path) included, as the application's own sessions do.
extends_documentation_fragment:
  - selfhost.stateful.subject
  - selfhost.stateful.project
  - selfhost.stateful.project.engine
  - selfhost.stateful.project.login
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
    details:
      - Lists what would run and, of SQL, what the query of C(expect_rows) says. Queries run in a transaction that is
        read-only.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
  action:
    description:
      - Indicates this has a corresponding action plugin so some parts of the options can be executed on the controller.
    support: full
options:
  src:
    description:
      - The directory of the files. On the controller it is looked for as other files are, in C(files) of the role and
        of the playbook.
    type: path
    default: ""
  src_on:
    description: Where O(src) is.
    type: str
    choices: [controller, host, container]
    default: controller
  migrations:
    description:
      - Migrations in place of files. What guards them may also stand at the head of O(migrations[].content).
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
        description:
          - A query that is true once it is done, as a whole. An index that is built C(CONCURRENTLY) exists before, and
            is done once it is C(indisvalid).
        type: str
      statement_timeout:
        description: Seconds that one statement may take. V(0) is no limit.
        type: float
      lock_timeout:
        description: Seconds that one statement may wait for a lock. V(0) is no limit.
        type: float
      marker:
        description: Commands that keep the mark of completion elsewhere. They are run in the container.
        type: dict
        suboptions:
          read:
            description:
              - Prints the mark. Where it fails there is none, but where it cannot be run at all (exit code 126 or 127)
                the task fails.
            type: list
            elements: str
            required: true
          set:
            description: Sets it, after the migration. It is read back.
            type: list
            elements: str
            default: []
          remove:
            description:
              - Removes it, where the migration is taken back, and is needed for that where there is
                O(migrations[].marker.set). A mark that is still there then keeps the migration from being taken back.
            type: list
            elements: str
            default: []
          expected:
            description: What O(migrations[].marker.read) prints once it is done. Left out, anything.
            type: str
            default: ""
  series:
    description: The name of this run of numbers. One database may have several, of different applications.
    type: str
    default: default
  until:
    description: The last number that is wanted.
    type: int
  accept:
    description: Numbers of files that were changed after they ran, and whose new text is accepted without running it.
    type: list
    elements: int
    default: []
  retry:
    description: Numbers of files without a transaction that were broken off, and are to be run from their beginning.
    type: list
    elements: int
    default: []
  environment:
    description:
      - Further variables for scripts and for the commands of markers. Their values are not journaled, so that
        M(selfhost.stateful.operation) has to be given them again for a roll back.
    type: dict
    default: {}
  user:
    description: The user in the container that scripts and commands run as. Left out, the container's own.
    type: str
    default: ""
  backup:
    description:
      - The backup before the first migration, as in M(selfhost.stateful.postgresql_backup).
      - V(none) takes none, which the plan says. There is no way back then but undo files.
    type: str
    choices: [auto, physical, logical, none]
    default: auto
  backup_dir:
    description: Where backups go. Left out, C(backups) beside O(operations_dir).
    type: path
    default: ""
  operations_dir:
    description:
      - Where operations are journaled. Left out, C(/var/lib/selfhost-stateful/operations), or without root the XDG
        state directory.
    type: path
    default: ""
requirements:
  - root on the Docker host
  - docker (SDK for Python)
  - psycopg 3
  - PyYAML
  - the compose CLI, version 2 or 1.29, where O(service) is given
seealso:
  - module: selfhost.stateful.operation
  - module: selfhost.stateful.postgresql_backup
"""

EXAMPLES = r"""
- name: Say what would run
  selfhost.stateful.postgresql_migrations:
    project_src: /srv/forum
    service: db
    src: migrations
  check_mode: true

- name: Run the migrations that lie in files/migrations of the role
  selfhost.stateful.postgresql_migrations:
    project_src: /srv/forum
    service: db
    src: migrations
    backup_dir: /var/backups/forum

- name: Fill a column, in place of a file
  selfhost.stateful.postgresql_migrations:
    project_src: /srv/forum
    service: db
    series: forum
    migrations:
      - name: 01-fill-variant.sql
        content: |
          UPDATE associations SET variant = payload->'body'->>'imageUrl' WHERE variant IS NULL;
        expect_rows: SELECT count(*) FROM associations WHERE variant IS NULL
        lock_timeout: 5
        statement_timeout: 600

- name: Run scripts of the container, whose marks a command of its own keeps
  selfhost.stateful.postgresql_migrations:
    container: postgresql
    migrations:
      - name: 02-restrict-visibility.sh
        content: /docker-entrypoint-initdb.d/02-restrictStatVisibility.sh
        marker:
          read: [doguctl, config, --default, "", restricted_stat_visibility]
          expected: "true"
"""

RETURN = r"""
ran:
  description: What ran, in order, each with C(name), C(state), C(rows), C(seconds), C(output), C(operation), C(copies).
  returned: success, and where one failed after others
  type: list
  elements: dict
operations:
  description: The ids of the operations, in order. M(selfhost.stateful.operation) takes the newest back first.
  returned: success
  type: list
  elements: str
ledger:
  description:
    - The notes of this series, with C(number), C(name), C(sha256), C(state), C(who), C(host), C(at), C(seconds),
      C(rows).
  returned: success
  type: list
  elements: dict
pending:
  description: What is left to run, in check mode, each with C(name) and, where a query says so, C(rows).
  returned: in check mode
  type: list
  elements: dict
plan_text:
  description: The plan for people.
  returned: success
  type: str
blockers:
  description: What forbids it, in check mode. Without check mode the task fails with the same words.
  returned: in check mode
  type: list
  elements: str
msg:
  description: What happened.
  returned: failure
  type: str
state:
  description: What of the migration that failed is done.
  returned: failure
  type: str
copies:
  description: The backup.
  returned: failure
  type: list
  elements: dict
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
    prefer_libraries_of_stores,
    require_libraries_of_stores,
)

if __name__ == "__main__":
    # Before all else is imported, which takes a second: it is to happen once, where it can be used.
    prefer_libraries_of_stores()

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.subject import Reached
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.refusals import require_root
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import (
    OperationStore,
    default_directory,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import subject
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations import files, run
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.arguments import (
    LIST_ARGUMENTS,
    backups_directory,
    server_from,
    subject_of,
)

ARGUMENTS = {
    **subject.SUBJECT_ARGUMENTS,
    "src": {"type": "path", "default": ""},
    "src_on": {"type": "str", "choices": ["controller", "host", "container"], "default": "controller"},
    "migrations": LIST_ARGUMENTS,
    "series": {"type": "str", "default": "default"},
    "until": {"type": "int"},
    "accept": {"type": "list", "elements": "int", "default": []},
    "retry": {"type": "list", "elements": "int", "default": []},
    "environment": {"type": "dict", "default": {}, "no_log": True},
    "user": {"type": "str", "default": ""},
    "backup": {"type": "str", "choices": ["auto", "physical", "logical", "none"], "default": "auto"},
    "backup_dir": {"type": "path", "default": ""},
    "operations_dir": {"type": "path", "default": ""},
}


def main() -> None:
    """Read the options, run what is left, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        require_libraries_of_stores()
        require_root()
        reached = subject.reach(params)
        contents, guards = gather(params, reached)
        operations = OperationStore(params["operations_dir"] or default_directory())
        request = run.Request(
            project=reached.lock,
            series=params["series"],
            migrations=files.parse(contents, guards),
            guards=guards,
            connect=lambda: server_from(params),
            subject=subject_of(params),
            accept=params["accept"],
            retry=params["retry"],
            until=params["until"],
            backup=params["backup"],
            backup_dir=backups_directory(params, operations),
        )
        if module.check_mode:
            return run.check(request)
        with operations.locked(reached.lock, wait=True):
            return run.carry_out(request, operations)

    answer(module, work)


def gather(params: dict[str, Any], reached: Reached) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Return the content of each migration by name, and the guards that were given beside it."""
    if params["src"] and params["migrations"]:
        raise InvalidInput("Migrations are given by src or by migrations, not by both.")
    if not params["src"]:
        return files.of_list(params["migrations"])
    if params["src_on"] == "container":
        return files.of_container(reached.engine, reached.container, params["src"]), {}
    return files.of_directory(params["src"]), {}


if __name__ == "__main__":
    main()
