# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Postgres cluster against the image that is to serve it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_image_info
short_description: What stands between a Postgres cluster and another image
version_added: 0.1.0
author:
  - The selfhost.stateful contributors (@selfhost-stateful)
description:
  - Says what a running cluster holds that its image brings along, such as extensions in every database, locales,
    collations, preloaded libraries and settings, and what a candidate image brings in their place.
  - Compares the two, and says which ways lead from one to the other, why, how long each would take the server down and
    how much space it needs, and what forbids them.
  - The candidate may be a newer build of the same major, another major, or one on another libc. It has to be on the
    host already; nothing is pulled.
  - Each image is looked at in a container of its own, without a network and without anybody's data, for about half a
    second. Nothing changes, nothing stops.
  - The ways C(swap) and C(pg_upgrade) are those of M(selfhost.stateful.postgresql_image). C(dump) is gone by
    M(selfhost.stateful.postgresql_backup) with C(format=logical) and M(selfhost.stateful.postgresql_restore), into an
    empty cluster of the other image.
  - What only C(pg_upgrade --check) tells, such as columns of types that a later major dropped, is not looked for here.
extends_documentation_fragment:
  - selfhost.stateful.subject
  - selfhost.stateful.project
  - selfhost.stateful.project.engine
  - selfhost.stateful.project.login
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
  action_group:
    description: Use C(group/selfhost.stateful.postgresql) in C(module_defaults) to set the same options for several
      modules.
    support: full
    membership: [selfhost.stateful.postgresql]
options:
  image:
    description: The candidate image, by reference or ID. Left out, only the cluster and its image are described.
    type: str
    default: ""
requirements:
  - root on the Docker host
  - docker (SDK for Python)
  - psycopg 3; without it psql in the container is asked, which takes longer
  - PyYAML
  - the compose CLI, version 2 or 1.29, for O(service)
seealso:
  - module: selfhost.stateful.compose_storage_info
"""

EXAMPLES = r"""
- name: What is in the database of this Mastodon?
  selfhost.stateful.postgresql_image_info:
    project_src: /home/mastodon/live
    service: db

- name: Could it go to Postgres 17 on Debian?
  selfhost.stateful.postgresql_image_info:
    project_src: /home/mastodon/live
    service: db
    image: postgres:17
  register: upgrade

- name: Show it
  ansible.builtin.debug:
    msg: "{{ upgrade.report_text.split('\n') }}"

- name: And a server that no compose project runs?
  selfhost.stateful.postgresql_image_info:
    container: dokku.postgres.blog
    image: postgres:17
  register: upgrade
  failed_when: upgrade.blockers | length > 0
"""

RETURN = r"""
cluster:
  description:
    - What the cluster says of itself, as C(data_directory), C(major), C(version), C(system_identifier), C(superuser)
      (the bootstrap one), C(size_bytes), C(relations), C(data_checksums), C(wal_level), C(in_recovery).
    - C(databases) have their C(encoding), C(collate), C(ctype), C(provider), C(locale) and C(extensions) by name, with
      the version. C(collations) are those by which libc or ICU order text, with the version C(recorded) and the
      C(actual) one. C(text_indexes), C(text_index_bytes) and C(text_partitions) depend on them.
    - C(auth_methods), C(password_encryption), C(md5_roles), C(tablespaces), C(unlogged_tables), C(slots),
      C(prepared_transactions).
    - C(settings) that differ from their defaults, with C(value), C(source) and C(place) (the file and its line). Values
      that may hold a secret are left empty.
  returned: success
  type: dict
image_now:
  description: The image that serves the cluster, as RV(candidate).
  returned: success
  type: dict
candidate:
  description:
    - The image that was asked about, with C(id), C(major), C(version), C(libc) (V(glibc) or V(musl)), C(libc_version),
      C(icu), C(uid), C(gid), C(data_directory), C(volumes), C(locales) (none for musl, which takes any) and
      C(extensions) by name, with their C(version) and the versions that ALTER EXTENSION UPDATE takes there
      (C(updates_from)).
  returned: when O(image) is given
  type: dict
same_image:
  description: Whether the cluster is served by the candidate already; then there is nothing to do.
  returned: when O(image) is given
  type: bool
strategies:
  description:
    - The ways to the candidate, fastest first, as C(swap) (the same files), C(pg_upgrade) and C(dump). Each with
      whether it is C(possible), its C(impediments), a C(reason) in words, an estimate of C(downtime_seconds) and of
      C(space_bytes) beside the original, without a backup.
  returned: when O(image) is given
  type: list
  elements: dict
reindex:
  description: Why text is ordered otherwise by the candidate, so that indexes on it have to be rebuilt; empty if not.
  returned: when O(image) is given
  type: str
updates:
  description: The extensions that are to be updated afterwards, with C(database), C(name) and the present C(version).
  returned: when O(image) is given
  type: list
  elements: dict
blockers:
  description: Everything that forbids all of the ways, each with a way out.
  returned: when O(image) is given
  type: list
  elements: str
warnings:
  description: What becomes otherwise without standing in the way, also shown as warnings of the task.
  returned: when there are any
  type: list
  elements: str
free_bytes:
  description: What is free where a new data directory would lie, null where that is not known.
  returned: when O(image) is given
  type: int
report_text:
  description: All of it for people.
  returned: success
  type: str
"""

from dataclasses import asdict
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._host import (
    prefer_libraries_of_stores,
    require_libraries_of_stores,
)

if __name__ == "__main__":
    # Before all else is imported, which takes a second: it is to happen once, where it can be used.
    prefer_libraries_of_stores()

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import impediments, subject
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import report
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.candidate import examine
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.compatibility import compare
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.observe import (
    observe_subject,
    place_beside,
)

ARGUMENTS = {**subject.SUBJECT_ARGUMENTS, "image": {"type": "str", "default": ""}}


def main() -> None:
    """Read the options, look, compare, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work() -> dict[str, Any]:
        require_libraries_of_stores()
        reached = subject.reach(params)
        name = reached.container.name
        candidate = examine(reached.engine, params["image"]) if params["image"] else None
        with subject.open_session(reached, params) as session:
            here = observe_subject(reached.engine, session)
            against = impediments.to_standby(
                here.cluster, reached.container, lasting_session=session.holds_transactions
            )
        result = {
            "changed": False,
            "cluster": report.cluster_as_dict(here),
            "image_now": report.image_as_dict(here.image),
        }
        if candidate is None:
            return {**result, "report_text": report.text(name, here, None, None, -1)}
        place = place_beside(reached, here.cluster.data_directory)
        comparison = compare(
            here,
            candidate,
            standby_possible=not against,
            reflinks=place is not None and place.reflinks,
            same_filesystem=place is not None and place.same_filesystem,
            container=name,
        )
        free = place.free_bytes if place else None
        return {
            **result,
            "candidate": report.image_as_dict(candidate),
            "same_image": comparison.same_image,
            "strategies": report.strategies(comparison),
            "reindex": comparison.reindex,
            "updates": [asdict(extension) for extension in comparison.updates],
            "blockers": [blocker.text for blocker in comparison.blockers],
            "warnings": comparison.warnings,
            "free_bytes": free,
            "report_text": report.text(name, here, candidate, comparison, -1 if free is None else free),
        }

    answer(module, work)


if __name__ == "__main__":
    main()
