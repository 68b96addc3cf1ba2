# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The frames in which an engine sends what a program prints, output and errors in one stream.

https://docs.docker.com/reference/api/engine/version/v1.43/#tag/Container/operation/ContainerAttach: eight bytes, the
first for which of the two it is and the last four for how long, and then so many bytes. The SDK asks the connection
several times for each; here all frames of a piece are taken at once.
"""

from __future__ import annotations

import struct

_HEADER = struct.Struct(">BxxxL")
_OUTPUT = 1


class BrokenOff(ConnectionError):
    """The connection ended in the middle of a frame."""


class Frames:
    """Takes what comes over the connection, cut anywhere (:meth:`cut`), to its end (:meth:`close`)."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._kind = self._left = 0

    def cut(self, piece: memoryview) -> tuple[bytes, bytes]:
        """Return the output and the errors in a piece, as copies; either may be empty."""
        output: list[memoryview] = []
        errors: list[memoryview] = []
        at, size = 0, len(piece)
        while at < size:
            if not self._left:
                taken = min(_HEADER.size - len(self._header), size - at)
                self._header += piece[at : at + taken]
                at += taken
                if len(self._header) == _HEADER.size:
                    self._kind, self._left = _HEADER.unpack(self._header)
                    self._header.clear()
                continue
            taken = min(self._left, size - at)
            (output if self._kind == _OUTPUT else errors).append(piece[at : at + taken])
            at += taken
            self._left -= taken
        return b"".join(output), b"".join(errors)

    def close(self) -> None:
        """Raise :class:`BrokenOff` where more was announced."""
        if self._left or self._header:
            raise BrokenOff("the engine's connection ended in the middle of what a program said")
