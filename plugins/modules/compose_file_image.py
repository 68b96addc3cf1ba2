# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put the image of one service into the compose files of a project."""

from __future__ import annotations

DOCUMENTATION = r"""
module: compose_file_image
short_description: Put the image of a service into a compose file
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Edits the compose file of a project so that a service names another image, for example a pinned version in the
    place of a floating tag. It works from the files alone and needs no engine. It pulls nothing, and restarts nothing.
  - Comments, blank lines, quotes, indentation, order and line ends stay as they are, byte for byte outside the
    line concerned.
  - Where the service's C(image) comes through an anchor, a merge key, C(extends) or C(include), an edit in place
    would change more than the one service. It is then refused, and O(rewrite=override) is the way.
  - The result is parsed again before it is written, and must differ in exactly this image. Where the compose CLI is
    installed, the output of C(compose config) before and after must differ in exactly this image too. It is asked about
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
      - The service that gets the image. It has to name an image already.
    type: str
    required: true
  image:
    description:
      - The image, as it is to stand in the file. Variables are not possible here.
    type: str
    required: true
  rewrite:
    description:
      - V(in_place) edits the file that names the image now. If git tracks that file, the next
        C(git pull) that touches it stops.
      - V(override) writes or extends the override file beside the first file in use, for example
        C(compose.override.yaml) beside C(compose.yaml). Compose reads it by itself, and git is not disturbed, but
        whoever reads the main file alone does not see the image. If the files are listed by O(files) or
        E(COMPOSE_FILE), the override file has to be added to that list; RV(files) and a warning say so.
      - V(none) changes nothing and tells in RV(how) whether the service names it.
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
  - module: selfhost.stateful.compose_file_mount
"""

EXAMPLES = r"""
- name: Pin the major version that the data belongs to
  selfhost.stateful.compose_file_image:
    project_src: /home/mastodon/live
    service: db
    image: postgres:14-alpine

- name: The same without touching the file that git tracks
  selfhost.stateful.compose_file_image:
    project_src: /home/mastodon/live
    service: redis
    image: redis:7-alpine
    rewrite: override
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
  sample: "/home/mastodon/live/docker-compose.yml: replaced"
how:
  description:
    - What was done, or would be done in check mode. One of V(replaced), V(wrote override file),
      V(extended override file), V(already there), and V(left as it is) with O(rewrite=none) where the file names
      another image.
  returned: success
  type: str
  sample: replaced
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

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_files import ARGUMENTS, edit_files
from ansible_collections.selfhost.stateful.plugins.module_utils._host import require
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import default_directory


def main() -> None:
    """Read the options, edit, exit."""
    module = AnsibleModule(
        argument_spec={**ARGUMENTS, "image": {"type": "str", "required": True}},
        supports_check_mode=True,
    )
    params = module.params

    def work() -> dict[str, Any]:
        require("yaml")
        operations = params["operations_dir"] or default_directory()
        images = {params["service"]: params["image"]}
        return edit_files(params, operations=operations, images=images, check_mode=module.check_mode)

    answer(module, work)


if __name__ == "__main__":
    main()
