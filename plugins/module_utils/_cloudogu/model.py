# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Versions of a dogu, what a host says of one, and what that means. Pure data."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.compare import Difference
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.model import Fingerprint
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster

VOLUME = "/var/lib/postgresql"
"""Where the dogu's volume is in its container, whichever directory in it is PGDATA."""

UPGRADING = "upgrading"
LOCAL_STATE = "local_state"
DUMP_KEY = "migration_backup_path"
USER = "user"
PASSWORD = "password"
MARKERS = ("restricted_stat_visibility", "migrated_database_constraints")
"""Keys by which the dogu's own migrations note that they are done."""
PASSWORD_ROTATED = "password_rotated"
KEYS = (LOCAL_STATE, DUMP_KEY, USER, PASSWORD_ROTATED, *MARKERS)
DUMP_IN_DATA = "postgresqlFullBackup.dump"
LOCK_OF_DUMP = "backup/backup.lock"

FIRST_WITH_CLOSED_PUBLIC = 150000
EQUAL, MINOR, MAJOR, DOWN = "equal", "minor", "major", "down"

_VERSION = re.compile(r"(\d+(?:\.\d+)*)-(\d+)")


@dataclass(frozen=True, order=True)
class Version:
    """A version of a dogu, ``14.17-5``: that of what it packs, and its own revision of it."""

    base: tuple[int, ...]
    revision: int

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.base))}-{self.revision}"

    @property
    def major(self) -> int:
        return self.base[0]


def version_of(text: str) -> Version | None:
    """Return the version that ``text`` is; None for anything else."""
    found = _VERSION.fullmatch(text.strip())
    return Version(tuple(map(int, found[1].split("."))), int(found[2])) if found else None


def version_of_image(reference: str) -> Version | None:
    """Return the version that an image's tag is, as ``registry/namespace/postgresql:14.17-5`` has it."""
    return version_of(reference.partition("@")[0].rpartition("/")[2].partition(":")[2])


def offered(listing: str, name: str) -> Version | None:
    """Return the newest version of a dogu that ``cesapp list-upgrades`` names; None where it names none."""
    found = []
    for line in listing.splitlines():
        words = re.split(r"[\s,;:|()\"']+", line)
        if any(word.rpartition("/")[2] == name for word in words):
            found += [version for version in map(version_of, words) if version is not None]
    return max(found, default=None)


def way(current: Version, wanted: Version) -> str:
    """Return how far it is from one version to another: what of the dogu's process they take."""
    if current == wanted:
        return EQUAL
    if wanted < current:
        return DOWN
    return MAJOR if wanted.major > current.major else MINOR


@dataclass(frozen=True)
class Dependent:
    """A dogu with a service account in the database; ``running``: whether it ran when it was looked at."""

    name: str
    account: str
    running: bool
    policy: str = "no"
    retries: int = 0

    def as_dict(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in self.__dataclass_fields__}


def account_of(dogu: str, roles: Collection[str], databases: Collection[str]) -> str:
    """Return the service account of a dogu: a role and a database that are called by it and a random word."""
    for role in sorted(set(roles) & set(databases)):
        if role.rpartition("_")[0].replace("-", "_") == dogu.replace("-", "_"):
            return role
    return ""


@dataclass(frozen=True)
class Seen:
    """The dogu as it is. ``volume`` and ``data`` are directories of this host; sizes are bytes.

    ``keys`` holds what the registry has of :data:`KEYS`; None where nobody could be asked, because nothing runs.
    ``cluster`` is None where the server does not answer, ``why_silent`` says in words why.
    """

    name: str
    container: str
    image: str
    image_id: str
    status: str
    version: Version
    available: Version | None
    state: str
    keys: Mapping[str, str] | None
    has_password: bool
    volume: str
    data: str
    data_major: str
    cluster: Cluster | None
    why_silent: str
    dependents: tuple[Dependent, ...]
    left_over: tuple[str, ...]
    """Files of an upgrade that was broken off, as paths of this host."""
    superusers: tuple[str, ...] = ()
    volume_bytes: int = 0
    free_bytes: int = 0
    post_upgrade_runs: bool = False
    at_work: bool = False
    """Whether a ``cesapp`` upgrades the dogu at this moment."""
    serves: bool = True
    """Whether what answers is the dogu's final server."""
    listed: bool = True
    """Whether the host could say which version is offered."""
    policy: str = "no"
    retries: int = 0
    """The container's restart policy, and its ``maximum_retries``."""

    @property
    def stuck(self) -> str:
        """Say what an upgrade that was broken off has left; empty where there is nothing of that kind."""
        keys = self.keys or {}
        if self.at_work:
            return ""
        if keys.get(LOCAL_STATE) == UPGRADING and not self.post_upgrade_runs:
            if self.cluster is None:
                return "startup waits for local_state, which only post-upgrade removes, and no post-upgrade runs"
            return "local_state says that an upgrade is under way, and none is: the next start would wait for ever"
        if keys.get(DUMP_KEY):
            return (
                f"{DUMP_KEY} names {keys[DUMP_KEY]}: the next post-upgrade would empty the data and restore that dump"
            )
        if self.left_over:
            return f"{', '.join(self.left_over)} is left of an upgrade"
        return ""

    def as_dict(self) -> dict[str, Any]:
        cluster = self.cluster
        return {
            "name": self.name,
            "version": str(self.version),
            "available": str(self.available) if self.available else "",
            "image": self.image,
            "status": self.status,
            "state": self.state,
            "registry": {**(self.keys or {}), "password_set": self.has_password} if self.keys is not None else {},
            "dependents": [each.as_dict() for each in self.dependents],
            "volume": self.volume,
            "volume_bytes": self.volume_bytes,
            "data_directory": self.data,
            "data_major": self.data_major,
            "answers": cluster is not None,
            "cluster": {
                "server_version_num": cluster.server_version_num,
                "system_identifier": str(cluster.system_identifier),
                "superuser": cluster.superuser,
                "databases": [each.name for each in cluster.databases],
                "size_bytes": cluster.size_bytes,
            }
            if cluster
            else {},
            "stuck": self.stuck,
        }


def is_a_new_default(difference: Difference, before: Fingerprint, after: Fingerprint) -> bool:
    """Tell what 15 does otherwise with the schema public from what is lost.

    A dump of an older server says nothing of that schema where it is as it was made; so it comes back as 15 makes it,
    owned by whoever owns the database, and closed to all others.
    """
    owner = re.fullmatch(r"owner \S+ on schema public", difference.subject)
    return before.server_version_num < FIRST_WITH_CLOSED_PUBLIC <= after.server_version_num and (
        bool(owner) or difference.subject == "grant to PUBLIC on schema public"
    )


def lost_markers(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return the markers that were set and are not any more."""
    return sorted(key for key in MARKERS if before.get(key) == "true" and after.get(key) != "true")


def unmarked(after: Mapping[str, str], migrations: Sequence[str]) -> list[str]:
    """Return the migrations of an image that have set no marker.

    Not each has to: one that finds nothing to do, or not what it needs, ends well and sets none.
    """
    by_words = {"restrictStatVisibility": MARKERS[0], "migrateConstraintsOnPartitionedTables": MARKERS[1]}
    return sorted(
        name for name in migrations for words, key in by_words.items() if words in name and after.get(key) != "true"
    )
