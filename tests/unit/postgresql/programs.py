# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs that name their loader, as far as that is looked at."""

from __future__ import annotations

import struct


def elf(loader: str, *, wide: bool = True, order: str = "<", rest: bytes = b"") -> bytes:
    """Return the head of an ELF program: a segment of another kind, and then the one that names ``loader``."""
    header, entry = (64, 56) if wide else (52, 32)
    name = loader.encode() + b"\0"
    at = header + 2 * entry
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]).ljust(12, b"\0")
    if wide:
        head = struct.pack(f"{order}HHIQQQIHHHHHH", 3, 62, 1, 0, header, 0, 0, header, entry, 2, 0, 0, 0)
        segments = [(6, 0, 0), (3, at, len(name))]
        table = b"".join(struct.pack(f"{order}IIQQQQQQ", kind, 4, o, o, o, n, n, 1) for kind, o, n in segments)
    else:
        head = struct.pack(f"{order}HHIIIIIHHHHHH", 3, 3, 1, 0, header, 0, 0, header, entry, 2, 0, 0, 0)
        segments = [(6, 0, 0), (3, at, len(name))]
        table = b"".join(struct.pack(f"{order}IIIIIIII", kind, o, o, o, n, n, 4, 1) for kind, o, n in segments)
    return ident + head + table + name + rest
