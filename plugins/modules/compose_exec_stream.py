# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a program in a service, between files of the host, at any size."""

from __future__ import annotations

DOCUMENTATION = r"""
module: compose_exec_stream
short_description: Run a program in a service, between files of the host, at any size
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Runs a program in the container of a compose service, with its input from a file of the host and its output to one,
    as C(docker compose exec -T service program <in >out) does. Nothing is held in memory, however much it is.
  - A file that is written bears its name once the program has ended well, its output is what was expected, and all of
    it is on the disk. Until then, and after any failure, what stood there before is untouched.
  - What the program says on its standard error is kept apart and returned.
  - As root on the engine's host, an output for a file is read from a named pipe in the container's C(/dev/shm), a good
    deal faster than the engine hands it on. A shell of the container opens the pipe and becomes the program. Where one
    of these is missing, and for any other user, the output comes through the engine.
  - A program that leaves another behind with its own output open has to redirect that one's (C(daemon >/dev/null)).
    Else nobody can tell whether the output is whole, and once all are silent for ten seconds, that is a failure.
  - Where the file cannot be written, or read, to its end, the program is ended at once.
extends_documentation_fragment:
  - selfhost.stateful.subject
  - selfhost.stateful.project
  - selfhost.stateful.project.engine
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
    details:
      - Looks for the container and the files, and runs nothing.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: partial
    details:
      - With O(creates).
options:
  argv:
    description: The program and its arguments, as a list. No shell reads it. It is no place for secrets.
    type: list
    elements: str
    required: true
  stdin_path:
    description: The file that the program reads, an absolute path on the managed host. Left out, it reads nothing.
    type: path
  stdout_path:
    description:
      - The file that the program's output becomes, an absolute path on the managed host; its directory is there. It
        can be read by its owner alone (0600).
      - Left out, the first 64 KiB of the output are returned in RV(stdout).
    type: path
  stdin_compression:
    description: How O(stdin_path) is compressed.
    type: str
    choices: [none, gzip]
    default: none
  stdout_compression:
    description: How O(stdout_path) is to be compressed.
    type: str
    choices: [none, gzip]
    default: none
  expect:
    description:
      - What the output has to be, whatever the program's exit code says. V(not_empty) refuses an empty one, V(json) all
        that is not one whole JSON document, such as one that was cut off.
    type: str
    choices: [anything, not_empty, json]
    default: anything
  creates:
    description: An absolute path on the managed host. Where it is there, the program is not run.
    type: path
  environment:
    description: Further environment variables of the program. Never shown.
    type: dict
    default: {}
  user:
    description: The user in the container. Left out, the one of the image.
    type: str
    default: ""
  run_timeout:
    description:
      - Seconds that the program may take in all. After them it is ended, with all that it began, and the task fails.
        V(0) is no limit; a program that hangs then holds the task for as long as it does.
    type: int
    default: 0
requirements:
  - docker (SDK for Python)
  - PyYAML
  - the compose CLI, version 2 or 1.29, for O(service)
seealso:
  - module: selfhost.stateful.postgresql_backup
    description: A proved backup of Postgres.
"""

EXAMPLES = r"""
- name: Dump the entities to a file
  selfhost.stateful.compose_exec_stream:
    project_src: /srv/concurrent
    service: api
    argv: [ccadmin, -H, db, -r, "redis:6379", dump_legacy, entity, all]
    stdout_path: /var/backups/entities.json
    expect: json

- name: Load them
  selfhost.stateful.compose_exec_stream:
    project_src: /srv/concurrent
    service: api
    argv: [ccadmin, -H, db, -r, "redis:6379", load, entities]
    stdin_path: /var/backups/entities.json

- name: Keep a table, compressed, once
  selfhost.stateful.compose_exec_stream:
    project_src: /srv/forum
    service: db
    argv: [psql, -XqU, postgres, -c, COPY posts TO STDOUT]
    stdout_path: /var/backups/posts.copy.gz
    stdout_compression: gzip
    expect: not_empty
    creates: /var/backups/posts.copy.gz
"""

RETURN = r"""
stderr:
  description: What the program said beside its output; of more than 64 KiB the end.
  returned: when it was run
  type: str
stdout:
  description: The output, where it went to no file; of more than 64 KiB the beginning.
  returned: when it was run
  type: str
bytes_read:
  description: How much the program was given, uncompressed.
  returned: when it was run
  type: int
bytes_written:
  description: How much the program wrote, uncompressed.
  returned: when it was run
  type: int
sha256:
  description: The digest of what was written to O(stdout_path), uncompressed.
  returned: when it was run
  type: str
seconds:
  description: How long it took.
  returned: when it was run
  type: float
msg:
  description: What happened.
  returned: failure
  type: str
state:
  description: What is on the host now.
  returned: failure
  type: str
safe_to_rerun:
  description: Whether the same task may be run again.
  returned: failure
  type: bool
next_command:
  description: One line that can be pasted into a shell on the managed host.
  returned: failure
  type: str
"""

import os
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._host import OF_STORES, prefer, require

if __name__ == "__main__":
    # Before all else is imported, which takes a second: it is to happen once, where it can be used.
    prefer(*OF_STORES)

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhost.stateful.plugins.module_utils._compose import subject
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer
from ansible_collections.selfhost.stateful.plugins.module_utils._stream import files, run

NONE = "none"
GZIP = "gzip"
ARGUMENTS = {
    **subject.SUBJECT_ARGUMENTS,
    "argv": {"type": "list", "elements": "str", "required": True},
    "stdin_path": {"type": "path"},
    "stdout_path": {"type": "path"},
    "stdin_compression": {"type": "str", "choices": [NONE, GZIP], "default": NONE},
    "stdout_compression": {"type": "str", "choices": [NONE, GZIP], "default": NONE},
    "expect": {"type": "str", "choices": [run.ANYTHING, run.NOT_EMPTY, run.JSON], "default": run.ANYTHING},
    "creates": {"type": "path"},
    "environment": {"type": "dict", "default": {}, "no_log": True},
    "user": {"type": "str", "default": ""},
    "run_timeout": {"type": "int", "default": 0},
}


def main() -> None:
    """Read the options, run it, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        require(*OF_STORES)
        if params["creates"] and os.path.lexists(params["creates"]):
            return {"changed": False}
        if not params["argv"]:
            raise InvalidInput("argv is empty: it names the program that is to be run.")
        if params["stdin_path"]:
            files.check_source(params["stdin_path"], compressed=params["stdin_compression"] == GZIP)
        if params["stdout_path"]:
            files.check_destination(params["stdout_path"])
        found = subject.find(params)
        container = subject.running(found, params["service"])
        if module.check_mode:
            return {"changed": True}
        request = run.Request(
            argv=tuple(params["argv"]),
            stdin_path=params["stdin_path"] or "",
            stdout_path=params["stdout_path"] or "",
            stdin_compressed=params["stdin_compression"] == GZIP,
            stdout_compressed=params["stdout_compression"] == GZIP,
            expect=params["expect"],
            user=params["user"],
            timeout=max(0, params["run_timeout"]),
            environment={name: str(value) for name, value in params["environment"].items()},
        )
        return {"changed": True, **run.as_dict(run.carry_out(found.engine, container, request))}

    answer(module, work)


if __name__ == "__main__":
    main()
