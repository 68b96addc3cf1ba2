# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster as data: what one running server says of itself. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

FIRST_OF_USERS = 16384
"""Objects with a smaller oid come with the server: another one has its own."""


@dataclass(frozen=True)
class Tablespace:
    """A tablespace outside the data directory; ``location`` as the server sees it."""

    oid: int
    name: str
    location: str


@dataclass(frozen=True)
class Database:
    """One database; ``locale`` is ICU's or the built-in provider's, empty with libc (``provider`` c)."""

    name: str
    owner: str
    bytes: int
    encoding: str
    collate: str
    ctype: str
    provider: str
    locale: str
    allows_connections: bool
    is_template: bool


@dataclass(frozen=True)
class Slot:
    """A replication slot that outlives its session."""

    name: str
    kind: str
    active: bool


@dataclass(frozen=True)
class Cluster:
    """What one running server says of itself. Paths are those inside its container, sizes are bytes."""

    server_version_num: int
    major: str
    system_identifier: int
    superuser: str
    in_recovery: bool
    data_directory: str
    config_file: str
    hba_file: str
    ident_file: str
    port: int
    unix_socket_directories: tuple[str, ...]
    wal_level: str
    max_wal_senders: int
    free_wal_senders: int
    max_connections: int
    data_checksums: bool
    wal_segment_bytes: int
    archive_mode: str
    shared_preload_libraries: str
    synchronous_standby_names: str
    password_encryption: str
    databases: tuple[Database, ...]
    tablespaces: tuple[Tablespace, ...]
    slots: tuple[Slot, ...]
    prepared_transactions: int
    unlogged_tables: int
    relations: int
    database_bytes: int
    wal_bytes: int

    @property
    def size_bytes(self) -> int:
        return self.database_bytes + self.wal_bytes

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Cluster:
        return Cluster(
            **{
                **raw,
                "unix_socket_directories": tuple(raw["unix_socket_directories"]),
                "databases": tuple(Database(**each) for each in raw["databases"]),
                "tablespaces": tuple(Tablespace(**each) for each in raw["tablespaces"]),
                "slots": tuple(Slot(**each) for each in raw["slots"]),
            }
        )

    def files_outside(self) -> tuple[str, ...]:
        """Return the configuration files that a copy of the data directory leaves behind."""
        inside = self.data_directory.rstrip("/") + "/"
        return tuple(path for path in (self.config_file, self.hba_file, self.ident_file) if not path.startswith(inside))


def major_from(server_version_num: int) -> str:
    """Return ``15`` for 150004 and ``9.6`` for 90624."""
    if server_version_num >= 100000:
        return str(server_version_num // 10000)
    return f"{server_version_num // 10000}.{server_version_num // 100 % 100}"
