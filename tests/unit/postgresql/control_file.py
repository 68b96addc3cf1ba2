# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A control file made byte by byte, the way each release lays it out."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.control import crc32_legacy, crc32c

IDENTIFIER = 7301234567890123456
CHECKPOINT = 0x16_B374D848
REDO = 0x16_B374D810
MODIFIED = 1_700_000_000
CHECKPOINT_TIME = 1_699_999_990
XID = (3 << 32) + 723


def control_bytes(
    version: int, state: int, *, size: int = 288, identifier: int = IDENTIFIER, legacy: bool = False
) -> bytes:
    """Return an 8 KiB control file; ``size`` is where the checksum goes."""
    raw = bytearray(size)
    struct.pack_into("=QIIi", raw, 0, identifier, version, 202209061, state)
    struct.pack_into("=qQ", raw, 24, MODIFIED, CHECKPOINT)
    copy = 40 if version >= 1100 else 48
    struct.pack_into("=QI", raw, copy, REDO, 5)
    if version >= 1201:
        struct.pack_into("=Q", raw, copy + 24, XID)
        struct.pack_into("=q", raw, copy + 64, CHECKPOINT_TIME)
    else:
        struct.pack_into("=II", raw, copy + 20, XID >> 32, XID & 0xFFFFFFFF)
        struct.pack_into("=q", raw, copy + 56, CHECKPOINT_TIME)
    # A nonce, as the last member of the struct is: what stands before the checksum is not zero.
    raw[size - 32 : size] = bytes(range(1, 33))
    crc = crc32_legacy(bytes(raw)) if legacy else crc32c(bytes(raw))
    return (bytes(raw) + crc.to_bytes(4, sys.byteorder)).ljust(8192, b"\0")


def make_cluster(directory: Path, *, state: int = 1, major: str = "15", identifier: int = IDENTIFIER) -> Path:
    """Lay out the two files by which a data directory is known."""
    (directory / "global").mkdir(parents=True)
    (directory / "global" / "pg_control").write_bytes(control_bytes(1300, state, identifier=identifier))
    (directory / "PG_VERSION").write_text(f"{major}\n")
    return directory
