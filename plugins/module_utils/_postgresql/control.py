# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ``global/pg_control`` says of a cluster, read without starting anything.

The control file is the one place that tells, for a cluster that is down, who it
is (system identifier), whether it was shut down cleanly, and up to where. Reading
it costs microseconds and runs no program, so it can be asked inside a downtime.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from dataclasses import dataclass
from datetime import datetime, timezone

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError

SHUT_DOWN = "shut down"
SHUT_DOWN_IN_RECOVERY = "shut down in recovery"
SHUT_DOWN_STATES = (SHUT_DOWN, SHUT_DOWN_IN_RECOVERY)
IN_PRODUCTION = "in production"

# The order of DBState; the words are those of pg_controldata.
STATES = (
    "starting up",
    SHUT_DOWN,
    SHUT_DOWN_IN_RECOVERY,
    "shutting down",
    "in crash recovery",
    "in archive recovery",
    IN_PRODUCTION,
)

# pg_control_version: 942 is 9.4 and 9.5; 1300 is 13 to 16.
KNOWN_VERSIONS = (942, 960, 1002, 1100, 1201, 1300, 1700, 1800)

# PostgreSQL itself never lets the struct outgrow one disk sector, so that it is
# written at once (PG_CONTROL_MAX_SAFE_SIZE); the rest of the 8 KiB file is zero.
STRUCT_LIMIT = 512
FILE_SIZE = 8192
READS = 50
PAUSE = 0.002


@dataclass(frozen=True)
class ControlData:
    """One consistent reading of the control file; an LSN is written as ``pg_lsn`` prints it."""

    system_identifier: int
    control_version: int
    catalog_version: int
    state: str
    modified_at: datetime
    checkpoint_lsn: str
    redo_lsn: str
    timeline: int
    next_xid: int
    checkpoint_time: datetime

    @property
    def shut_down(self) -> bool:
        return self.state == SHUT_DOWN


class TornControlFile(ValueError):
    """The bytes do not carry their own checksum: caught in the middle of a write, or damaged."""


def parse_control(raw: bytes) -> ControlData:
    """Turn the bytes of the file into data; raises :class:`TornControlFile` or ``ValueError``.

    The struct has another size in every other release, and its checksum is its last
    member. The file is zero behind it, so the checksum is the 4-aligned word with the
    last byte that is not zero: one candidate, which makes this check as strong as
    PostgreSQL's own. (A checksum of zero would be overlooked. That is one reading in
    four thousand million, and it ends in an error, not in a wrong answer.)
    """
    if len(raw) < 16:
        raise TornControlFile(f"the file holds {len(raw)} bytes only")
    _identifier, version, _catalog = struct.unpack_from("=QII", raw)
    if version not in KNOWN_VERSIONS:
        raise ValueError(_unknown(version))
    end = len(raw.rstrip(b"\0"))
    at = (end - 1) // 4 * 4
    if not 128 <= at < STRUCT_LIMIT:
        raise TornControlFile(f"its last used byte is at {end}")
    stored = int.from_bytes(raw[at : at + 4].ljust(4, b"\0"), sys.byteorder)
    # 9.4 still used the checksum of older releases; 9.5 shares its version number.
    algorithms = (crc32c, crc32_legacy) if version == 942 else (crc32c,)
    if all(algorithm(raw[:at]) != stored for algorithm in algorithms):
        raise TornControlFile("its checksum does not match")
    return _fields(raw, version)


def _unknown(version: int) -> str:
    swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
    if swapped in KNOWN_VERSIONS:
        return "it was written on a machine of the other byte order"
    return f"its version {version} is not one of those known here ({', '.join(map(str, KNOWN_VERSIONS))})"


def _fields(raw: bytes, version: int) -> ControlData:
    identifier, _version, catalog, state = struct.unpack_from("=QIIi", raw, 0)
    modified, checkpoint = struct.unpack_from("=qQ", raw, 24)
    # Up to 10 the location of the checkpoint before the last one came in between.
    copy = 40 if version >= 1100 else 48
    redo, timeline = struct.unpack_from("=QI", raw, copy)
    if version >= 1201:  # the transaction id became one 64-bit number, aligned as such
        (next_xid,) = struct.unpack_from("=Q", raw, copy + 24)
        (checkpoint_time,) = struct.unpack_from("=q", raw, copy + 64)
    else:
        epoch, xid = struct.unpack_from("=II", raw, copy + 20)
        next_xid = epoch << 32 | xid
        (checkpoint_time,) = struct.unpack_from("=q", raw, copy + 56)
    if not 0 <= state < len(STATES):
        raise ValueError(f"its state {state} is unknown")
    return ControlData(
        system_identifier=identifier,
        control_version=version,
        catalog_version=catalog,
        state=STATES[state],
        modified_at=datetime.fromtimestamp(modified, timezone.utc),
        checkpoint_lsn=format_lsn(checkpoint),
        redo_lsn=format_lsn(redo),
        timeline=timeline,
        next_xid=next_xid,
        checkpoint_time=datetime.fromtimestamp(checkpoint_time, timezone.utc),
    )


def read_control(data_directory: str) -> ControlData:
    """Read the control file below ``data_directory``, a path on this host.

    A running server rewrites the file in place, and a reader may see half of a write:
    it is read again until its checksum holds, for a tenth of a second at most.
    """
    path = os.path.join(data_directory, "global", "pg_control")
    for attempt in range(READS):
        try:
            return parse_control(_read(path))
        except TornControlFile as error:
            reason: Exception = error
        except ValueError as error:
            reason = error
            break
        except OSError as error:
            raise StatefulError(f"The control file {path} cannot be read: {error.strerror}.") from error
        if attempt + 1 < READS:
            time.sleep(PAUSE)
    raise StatefulError(f"The control file {path} cannot be understood: {reason}.") from reason


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return os.read(descriptor, FILE_SIZE)
    finally:
        os.close(descriptor)


def major_of(data_directory: str) -> str:
    """Return the major version as PG_VERSION names it: ``9.6``, ``15``."""
    path = os.path.join(data_directory, "PG_VERSION")
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            found = file.read(16).strip()
    except OSError as error:
        raise StatefulError(f"{path} cannot be read, so this is no cluster: {error.strerror}.") from error
    if not found.replace(".", "", 1).isdigit():
        raise StatefulError(f"{path} does not hold a version: {found!r}.")
    return found


def format_lsn(location: int) -> str:
    return f"{location >> 32:X}/{location & 0xFFFFFFFF:X}"


def parse_lsn(text: str) -> int:
    """Turn ``16/B374D848`` into a byte position; raises ``ValueError``."""
    high, slash, low = text.partition("/")
    if not slash:
        raise ValueError(f"not an LSN: {text!r}")
    return int(high, 16) << 32 | int(low, 16)


def _table(polynomial: int) -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _bit in range(8):
            value = (value >> 1) ^ (polynomial if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC32C = _table(0x82F63B78)
_CRC32 = _table(0xEDB88320)


def crc32c(data: bytes) -> int:
    """Return the Castagnoli checksum that PostgreSQL has used since 9.5."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC32C[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def crc32_legacy(data: bytes) -> int:
    """Return the checksum up to 9.4: the common table, walked the other way round."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC32[(crc >> 24) ^ byte] ^ ((crc << 8) & 0xFFFFFFFF)
    return crc ^ 0xFFFFFFFF
