# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Postgres service of dokku's is backed up: by this login, at these times, and now."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dokku_postgres_backup
short_description: A Postgres service of dokku's is backed up, by this login, at these times, and now
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Gives a service of dokku's plugin C(postgres) the login for its backups where it has another one, and the schedule.
  - Backs the service up where O(now) says so, finds the object that came into the bucket, and reads it to its end. It
    fails where none came, where it is empty, which the plugin has been seen to call a success, or where it holds no
    whole archive with a dump. Of one that is encrypted only the size is looked at.
notes:
  - The plugin takes a login only as words of its call. As long as C(postgres:backup-auth) runs, a second or two, users
    of the host see the secret in the list of processes. The module logs it nowhere, and calls only where the login
    is another one than the service has.
  - Between the old login and the new one the service has none for a moment. Where the module is killed there, the next
    run gives it.
extends_documentation_fragment:
  - selfhost.stateful.dokku
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: partial
    details:
      - With O(now) every run makes a backup.
  action_group:
    description: Use C(group/selfhost.stateful.dokku) in C(module_defaults) to set the same options for several modules.
    support: full
    membership: [selfhost.stateful.dokku]
options:
  service:
    description: The service.
    type: str
    required: true
  access_key_id:
    description: The login that the service is to have, with O(secret_access_key). Left out, it stays as it is.
    type: str
  secret_access_key:
    description: The secret of O(access_key_id).
    type: str
  region:
    description: The region of the bucket.
    type: str
    default: ""
  signature_version:
    description: How requests are signed, such as V(s3v4), where the endpoint wants that.
    type: str
    default: ""
  endpoint_url:
    description: The address of an endpoint that is not Amazon's.
    type: str
    default: ""
  deauth:
    description: Whether to take the login away.
    type: bool
    default: false
  use_iam:
    description: Whether the host itself may write to the bucket, without a login of the service's.
    type: bool
    default: false
  bucket:
    description: The bucket. It is needed for O(schedule) and O(now).
    type: str
    default: ""
  schedule:
    description: When the service is backed up, in the five fields of cron. Left out, that stays as it is.
    type: str
  unschedule:
    description: Whether to back it up at no times any more.
    type: bool
    default: false
  now:
    description: Whether to back it up now.
    type: bool
    default: false
requirements:
  - botocore, for O(now)
seealso:
  - module: selfhost.stateful.dokku_postgres_info
"""

EXAMPLES = r"""
- name: Back the blog up every night
  selfhost.stateful.dokku_postgres_backup:
    service: blog-17
    access_key_id: "{{ backup_key_id }}"
    secret_access_key: "{{ backup_secret }}"
    endpoint_url: https://s3.example.org
    signature_version: s3v4
    bucket: backups
    schedule: 0 3 * * *

- name: And now, and look at what is in the bucket
  selfhost.stateful.dokku_postgres_backup:
    service: blog-17
    bucket: backups
    now: true
"""

RETURN = r"""
actions:
  description: What was done, or would be.
  returned: success
  type: list
  elements: str
  sample: [auth, schedule, backup]
schedule:
  description: When the service is backed up, as C(cron), C(bucket) and C(use_iam); null for never.
  returned: success
  type: dict
backup:
  description: The backup of now, as C(bucket), C(key), C(size_bytes), and C(dump_bytes), the size of the dump in it.
  returned: where one was made
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
    missing,
    prefer,
    prefer_libraries_of_stores,
    require,
)

if __name__ == "__main__":
    # Before all else is imported, which takes a second: it is to happen once, where it can be used.
    prefer_libraries_of_stores()

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import backups, survey
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.arguments import (
    DOKKU_ARGUMENTS,
    Reached,
    reach,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.bucket import Auth
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import Schedule
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer

ARGUMENTS = {
    **DOKKU_ARGUMENTS,
    "service": {"type": "str", "required": True},
    "access_key_id": {"type": "str", "no_log": True},
    "secret_access_key": {"type": "str", "no_log": True},
    "region": {"type": "str", "default": ""},
    "signature_version": {"type": "str", "default": ""},
    "endpoint_url": {"type": "str", "default": ""},
    "deauth": {"type": "bool", "default": False},
    "use_iam": {"type": "bool", "default": False},
    "bucket": {"type": "str", "default": ""},
    "schedule": {"type": "str"},
    "unschedule": {"type": "bool", "default": False},
    "now": {"type": "bool", "default": False},
}


def carry_out(reached: Reached, params: dict[str, Any], *, check: bool) -> dict[str, Any]:
    """Change what differs, back up where that is asked for, and return the result."""
    dokku = reached.dokku
    there = survey.with_schedule(dokku, survey.required(dokku, reached.engine, params["service"]))
    actions, made = [], {}
    wanted = Auth(*(params[name] or "" for name in LOGIN))
    if wanted and backups.auth_of(there) != wanted:
        actions.append("auth")
        if not check:
            backups.authenticate(dokku, there, wanted)
    if params["deauth"] and there.authenticated:
        actions.append("deauth")
        if not check:
            backups.deauthenticate(dokku, there)
    schedule = there.schedule
    if params["schedule"]:
        schedule = Schedule(" ".join(params["schedule"].split()), params["bucket"], params["use_iam"])
    elif params["unschedule"]:
        schedule = None
    unread = there.schedule_unread and (params["schedule"] or params["unschedule"])
    if schedule != there.schedule or unread:
        actions.append("schedule" if schedule else "unschedule")
        if not check:
            backups.set_schedule(dokku, there, schedule)
    if params["now"]:
        actions.append("backup")
        if not check:
            place = backups.place_of(there, params["bucket"], use_iam=params["use_iam"])
            made = backups.back_up(dokku, there, place, use_iam=params["use_iam"]).as_dict()
    result = {"changed": bool(actions), "actions": actions, "schedule": schedule.as_dict() if schedule else None}
    return {**result, "backup": made} if made else result


def refuse_contradictions(params: dict[str, Any]) -> None:
    """Raise for options that do not go together, and where what one of them needs is not there."""
    if (params["schedule"] or params["now"]) and not params["bucket"]:
        raise InvalidInput("The bucket that the backups go to is not named: set bucket.")
    for one, other in (("schedule", "unschedule"), ("access_key_id", "deauth"), ("access_key_id", "use_iam")):
        if params[one] and params[other]:
            raise InvalidInput(f"{one} and {other} exclude each other.")
    if params["now"] and missing(BOTOCORE):
        raise InvalidInput(
            "The backup of now is read back from the bucket, and the Python library botocore, which does that, is not"
            " on this host.",
            next_command="apt-get install python3-botocore",
        )


BOTOCORE = "botocore"
LOGIN = ("access_key_id", "secret_access_key", "region", "signature_version", "endpoint_url")


def main() -> None:
    """Read the options, carry them out, exit."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
        required_together=[("access_key_id", "secret_access_key")],
    )
    params = module.params

    def work() -> dict[str, Any]:
        if params["now"]:
            prefer(BOTOCORE)
        require("docker")
        refuse_contradictions(params)
        return carry_out(reach(params), params, check=module.check_mode)

    answer(module, work)


if __name__ == "__main__":
    main()
