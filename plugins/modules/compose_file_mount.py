# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put one bind mount into the compose files of a project."""

from __future__ import annotations

DOCUMENTATION = r"""
module: compose_file_mount
short_description: Put a bind mount into a compose file
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Edits the compose file of a project so that a service mounts a directory of the host at a path of its container.
    It works from the files alone and needs no engine. It moves no data, and restarts nothing.
  - Comments, blank lines, quotes, indentation, order and line ends stay as they are, byte for byte outside the
    lines concerned.
  - A commented mount for that path is uncommented, an entry for that path is replaced (its options are kept where a
    bind mount has them too), a list without one gets an entry in its own form, and a service without C(volumes) gets
    the key. A top-level named volume that nothing uses any more is dropped from the file; the volume itself stays
    with the engine.
  - Where the service's C(volumes) come through an anchor, a merge key, C(extends) or C(include), an edit in place
    would change more than the one service. It is then refused, and O(rewrite=override) is the way.
  - The result is parsed again before it is written, and must differ in exactly this mount. Where the compose CLI is
    installed, the output of C(compose config) before and after must differ in exactly this mount too. It is asked about
    the edit before anything is written, and about the files themselves afterwards; then they are put back if need be.
  - The files are written atomically. Mode, owner, ACLs and SELinux context stay, and a symbolic link stays one.
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: full
    details:
      - Shows the changed lines with three lines around them. Values that look like secrets are masked.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
options:
  service:
    description:
      - The service that gets the mount.
    type: str
    required: true
  target:
    description:
      - The path in the container. A trailing slash does not count.
    type: str
    required: true
  source:
    description:
      - The directory on the host. A relative path counts from the project's directory, and C(./) is put before it.
      - It is taken literally. A C($) is doubled, so that compose does not take it for a variable.
    type: str
    required: true
  read_only:
    description:
      - Whether the container may only read. With V(false), an entry that says C(ro) keeps it.
    type: bool
    default: false
  rewrite:
    description:
      - V(in_place) edits the file that declares the mount now, or the service. If git tracks that file, the next
        C(git pull) that touches it stops.
      - V(override) writes or extends the override file beside the first file in use, for example
        C(compose.override.yaml) beside C(compose.yaml). Compose reads it by itself, and git is not disturbed, but
        whoever reads the main file alone does not see the mount. If the files are listed by O(files) or
        E(COMPOSE_FILE), the override file has to be added to that list; RV(files) and a warning say so.
      - V(none) changes nothing and tells in RV(how) whether the mount is there.
    type: str
    choices: [in_place, override, none]
    default: in_place
  operations_dir:
    description:
      - Where the lines that were changed are kept, in C(files) below it, before the file is written. A run that was
        killed in between is found there, and its edit proved or taken back by the next one. Left out,
        C(/var/lib/selfhost-stateful/operations), or without root the XDG state directory.
    type: path
    default: ""
extends_documentation_fragment:
  - selfhost.stateful.project
requirements:
  - PyYAML
seealso:
  - module: selfhost.stateful.compose_file_image
"""

EXAMPLES = r"""
- name: Keep the database of a Mastodon in its checkout
  selfhost.stateful.compose_file_mount:
    project_src: /home/mastodon/live
    service: db
    target: /var/lib/postgresql/data
    source: ./postgres

- name: The same without touching the file that git tracks
  selfhost.stateful.compose_file_mount:
    project_src: /home/mastodon/live
    service: redis
    target: /data
    source: ./redis
    rewrite: override

- name: Ask whether the mount is there
  selfhost.stateful.compose_file_mount:
    project_src: /home/mastodon/live
    service: redis
    target: /data
    source: ./redis
    rewrite: none
  register: redis_mount
"""

RETURN = r"""
plan:
  description: The C(files) that change, C(how), and the C(files_in_use) afterwards.
  returned: success
  type: dict
plan_text:
  description: What changes where, for people.
  returned: success
  type: str
  sample: "/home/mastodon/live/docker-compose.yml: uncommented"
how:
  description:
    - What was done, or would be done in check mode. One or more, separated by commas, of V(uncommented), V(appended),
      V(replaced), V(added volumes key), V(dropped an unused volume) (in another file), V(wrote override file),
      V(extended override file), V(already there), and V(left as it is) with O(rewrite=none) where the mount is missing.
  returned: success
  type: str
  sample: uncommented
files:
  description: The compose files that are to be used from now on, in order.
  returned: success
  type: list
  elements: str
  sample: [/home/mastodon/live/docker-compose.yml]
files_changed:
  description: The files that were written.
  returned: success
  type: list
  elements: str
  sample: [/home/mastodon/live/docker-compose.yml]
hunks:
  description:
    - For each file that was written, the lines that were put in the place of others. This is what it takes to reverse
      the edit in the file as it is later. Secrets in the lines around are masked.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The file.
      type: str
    created:
      description: Whether the file was not there before.
      type: bool
    hunks:
      description: The changed places, with C(line), C(before), C(after), the lines around them and their C(place).
      type: list
      elements: dict
validated:
  description: Whether C(compose config) confirmed the edit. V(false) where nothing was to be changed.
  returned: success
  type: bool
msg:
  description: What happened.
  returned: failure
  type: str
state:
  description: How the files are now.
  returned: failure
  type: str
  sample: nothing was changed
copies:
  description: Copies of data that exist. This module makes none.
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

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import Mount
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_files import ARGUMENTS, edit_files
from ansible_collections.selfhost.stateful.plugins.module_utils._host import require
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import default_directory


def main() -> None:
    """Read the options, edit, exit."""
    module = AnsibleModule(
        argument_spec={
            **ARGUMENTS,
            "target": {"type": "str", "required": True},
            "source": {"type": "str", "required": True},
            "read_only": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    mount = Mount(params["service"], params["target"], params["source"], params["read_only"])

    def work() -> dict[str, Any]:
        require("yaml")
        operations = params["operations_dir"] or default_directory()
        return edit_files(params, operations=operations, mounts=[mount], check_mode=module.check_mode)

    answer(module, work)


if __name__ == "__main__":
    main()
