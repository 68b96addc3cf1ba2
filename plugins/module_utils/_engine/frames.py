# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The frames in which an engine sends what a program prints, output and errors in one stream.

https://docs.docker.com/reference/api/engine/version/v1.43/#tag/Container/operation/ContainerAttach: eight bytes, the
first for which of the two it is and the last four for how long, and then so many bytes. The SDK asks the connection
several times for each; here many frames are taken at once, which halves the time of a large output.
"""

from __future__ import annotations

import socket as socketlib
import struct
from collections.abc import Iterator

AT_ONCE = 1 << 19
_HEADER = struct.Struct(">BxxxL")
_OUTPUT = 1


class BrokenOff(ConnectionError):
    """The connection ended in the middle of a frame."""


def frames(raw: socketlib.socket) -> Iterator[tuple[bytes, bytes]]:
    """Yield what comes, as output and errors; either may be empty. Raises :class:`BrokenOff`."""
    buffer = bytearray(AT_ONCE)
    view = memoryview(buffer)
    header = bytearray()
    kind = left = 0
    while True:
        size = raw.recv_into(buffer)
        if not size:
            if left or header:
                raise BrokenOff("the engine's connection ended in the middle of what a program said")
            return
        output, errors, at = bytearray(), bytearray(), 0
        while at < size:
            if not left:
                taken = min(_HEADER.size - len(header), size - at)
                header += view[at : at + taken]
                at += taken
                if len(header) == _HEADER.size:
                    kind, left = _HEADER.unpack(header)
                    header.clear()
                continue
            taken = min(left, size - at)
            (output if kind == _OUTPUT else errors).extend(view[at : at + taken])
            at += taken
            left -= taken
        yield bytes(output), bytes(errors)
