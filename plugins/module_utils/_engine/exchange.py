# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a program in a container reads and writes, piece by piece over the engine's connection."""

from __future__ import annotations

import contextlib
import socket as socketlib
import threading
from collections.abc import Callable, Iterator

ERRORS_KEPT = 1 << 16
END_OF_FEEDING = 10.0


def exchange(
    raw: socketlib.socket,
    frames: Iterator[tuple[bytes, bytes]],
    stdin: Iterator[bytes] | None,
    stdout: Callable[[bytes], object],
) -> bytes:
    """Hand ``stdin`` to a program that runs and its output to ``stdout``; return the end of what it said beside it.

    ``frames`` are what comes over the connection: output and errors. What ``stdin`` or
    ``stdout`` raises is raised once the program has ended.
    """
    raw.settimeout(None)  # a program may be silent for as long as it works
    failures: list[BaseException] = []

    def feed() -> None:
        try:
            for piece in stdin or ():
                raw.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has ended without reading all; how, its exit code tells
        except BaseException as error:  # noqa: BLE001 - raised where somebody waits for it
            failures.append(error)
        finally:
            with contextlib.suppress(OSError):
                raw.shutdown(socketlib.SHUT_WR)

    feeder = threading.Thread(target=feed, daemon=True)
    if stdin is not None:
        feeder.start()
    err = bytearray()
    for first, second in frames:
        if first and not failures:
            try:
                stdout(first)
            except BaseException as error:  # noqa: BLE001 - as above; the program is to end by itself
                failures.append(error)
        err += second
        del err[:-ERRORS_KEPT]
    if stdin is not None:
        feeder.join(END_OF_FEEDING)
    if failures:
        raise failures[0]
    return bytes(err)
