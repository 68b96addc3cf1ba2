# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a Redis server holds, and what differs from an earlier look."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_fingerprint_info
short_description: What a Redis server holds, and what differs from an earlier look
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Counts the keys of every database by type, and those without a time to live, takes the length of every stream, and
    digests the contents of a sample. The sample is chosen by the keys' names, so that it is the same one every time and
    in every server.
  - A key of more than 1000 items, or of more than 1 MiB, is not read whole, as the server would need its memory once
    more and serve nobody meanwhile. It is digested by its length, and a string, a list, a sorted set or a stream by its
    first and last items as well, unless these are too large themselves. What changed between these, at the same length,
    is not seen.
  - Nothing is changed. The server looks through its keys a part at a time, and serves in between; contents do not leave
    it.
  - Keys with a time to live may end at any time. They are counted, and never missed.
extends_documentation_fragment:
  - selfhost.stateful.fingerprint
  - selfhost.stateful.subject
  - selfhost.stateful.project
  - selfhost.stateful.project.engine
  - selfhost.stateful.project.redis_login
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
requirements:
  - docker (SDK for Python)
  - PyYAML
  - the compose CLI, version 2 or 1.29, for O(service)
seealso:
  - module: selfhost.stateful.postgresql_fingerprint_info
"""

EXAMPLES = r"""
- name: What does the Redis of this Mastodon hold?
  selfhost.stateful.redis_fingerprint_info:
    project_src: /home/mastodon/live
    service: redis
  register: before

- name: Is it still the same?
  selfhost.stateful.redis_fingerprint_info:
    project_src: /home/mastodon/live
    service: redis
    against: "{{ before.fingerprint }}"
  register: now
  failed_when: now.lost | length > 0
"""

RETURN = r"""
fingerprint:
  description:
    - What the server holds; JSON all the way down, to be kept and given as O(against) later.
    - C(databases) has for each one C(keys), C(types) and C(lasting) (keys by type, the latter without a time to live),
      whether the latter are C(exact), C(streams) with the length of each (of more than ten thousand none is named),
      C(stream_items), and the C(digest) of the C(sampled) keys, one of C(one_of), of which C(in_part) were too large to
      be read whole.
  returned: success
  type: dict
differences:
  description: What is not as it was in O(against), for people, with what is lost first.
  returned: success
  type: list
  elements: str
  sample:
    - "database 0: the stream timeline:home has 41 items, 42 before"
lost:
  description: Those of the differences that say that something is not there any more.
  returned: success
  type: list
  elements: str
equal:
  description: Whether there is no difference; null without O(against).
  returned: success
  type: bool
"""

from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._host import OF_STORES, prefer, require

if __name__ == "__main__":
    # Before all else is imported, which takes a second: it is to happen once, where it can be used.
    prefer(*OF_STORES)

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhost.stateful.plugins.module_utils._compose import subject
from ansible_collections.selfhost.stateful.plugins.module_utils._earlier import AGAINST_ARGUMENTS, earlier, told
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.fingerprint import (
    as_dict,
    compare,
    from_dict,
    take,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.session import open_session

ARGUMENTS = {
    **subject.SUBJECT_ARGUMENTS,
    "redis_password": {"type": "str", "default": "", "no_log": True},
    **AGAINST_ARGUMENTS,
}


def main() -> None:
    """Read the options, look, compare, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        require(*OF_STORES)
        before = earlier(params["against"], from_dict)
        found = subject.find(params)
        container = subject.running(found, params["service"])
        session = open_session(found.engine, container, password=params["redis_password"])
        known = {number: database.one_of for number, database in before.databases.items()} if before else {}
        now = take(session, one_of=known)
        return {
            "changed": False,
            "fingerprint": as_dict(now),
            **told(compare(before, now) if before else None),
        }

    answer(module, work)


if __name__ == "__main__":
    main()
