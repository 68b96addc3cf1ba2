# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a program in a container reads and writes, piece by piece over the engine's connection.

One thread does nothing but receive, into a few buffers that go round; another takes them apart and hands out what is
in them. So the engine is not kept waiting while a piece is summed up and written, however much comes in all.
"""

from __future__ import annotations

import contextlib
import queue
import socket as socketlib
import threading
from collections.abc import Callable, Iterator

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.frames import BrokenOff, Frames
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.pipe import Draining, OutputPipe

BUFFERS, BUFFER = 8, 1 << 18
"""How many there are at most, and their size: a connection hands out no more at once."""
ERRORS_KEPT = 1 << 16
END_OF_FEEDING = 10.0


class Stopped(Exception):
    """The program goes on and nobody listens: an end on this host failed with ``cause``, or is None: the time is up."""

    def __init__(self, cause: BaseException | None) -> None:
        super().__init__("nobody listens to the program any more")
        self.cause = cause


class _Listening:
    """Whether what the program says is still of use; if not, why."""

    def __init__(self, raw: socketlib.socket) -> None:
        self._raw = raw
        self._first = threading.Lock()
        self._stopped: Stopped | None = None

    def stopped(self) -> Stopped | None:
        return self._stopped

    def stop(self, cause: BaseException | None = None) -> None:
        """Stop it for the first cause that is told, also where it waits for the program."""
        with self._first:
            if self._stopped is None:
                self._stopped = Stopped(cause)
        # Only this direction: from the end of its input, the program would conclude that it has all of it.
        with contextlib.suppress(OSError):
            self._raw.shutdown(socketlib.SHUT_RD)


class _HandingOut:
    """Takes buffers apart, in a thread of its own, and keeps the end of the errors.

    Without a ``stdout``, what comes as output is the engine's own word on a program that it could not begin.
    """

    def __init__(self, stdout: Callable[[bytes], object] | None, listening: _Listening) -> None:
        self._stdout = stdout
        self._listening = listening
        self._frames = Frames()
        self._full: queue.SimpleQueue[tuple[bytearray, int] | None] = queue.SimpleQueue()
        self._empty: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        self._made = 0
        self._errors = bytearray()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def buffer(self) -> bytearray:
        """Return one to receive into, and wait for it where all are in use."""
        if self._made < BUFFERS and self._empty.empty():
            self._made += 1
            return bytearray(BUFFER)
        return self._empty.get()

    def put_copy(self, piece: bytes) -> None:
        for at in range(0, len(piece), BUFFER):
            part, buffer = piece[at : at + BUFFER], self.buffer()
            buffer[: len(part)] = part
            self.put(buffer, len(part))

    def put(self, buffer: bytearray, size: int) -> None:
        self._full.put((buffer, size))

    def join(self) -> None:
        """Wait until all is handed out."""
        self._full.put(None)
        self._thread.join()

    def close(self) -> bytes:
        """Return the end of what the program said beside its output; raises :class:`BrokenOff`."""
        self._frames.close()
        return bytes(self._errors)

    def _work(self) -> None:
        while (full := self._full.get()) is not None:
            buffer, size = full
            if self._listening.stopped() is None:
                try:
                    self._take(memoryview(buffer)[:size])
                except BaseException as error:  # noqa: BLE001 - raised where somebody waits for it
                    self._listening.stop(error)
            self._empty.put(buffer)

    def _take(self, piece: memoryview) -> None:
        output, errors = self._frames.cut(piece)
        if output and self._stdout is not None:
            self._stdout(output)
            output = b""
        if output or errors:
            self._errors += output + errors
            del self._errors[:-ERRORS_KEPT]


def exchange(
    raw: socketlib.socket,
    stdin: Iterator[bytes] | None,
    stdout: Callable[[bytes], object],
    *,
    early: bytes = b"",
    timeout: float = 0,
    pipe: OutputPipe | None = None,
    runs: Callable[[], bool] = lambda: False,
) -> bytes:
    """Hand ``stdin`` to a program that runs and its output to ``stdout``; return the end of what it said beside it.

    ``stdout`` is called in another thread, for one piece after the other. Raises :class:`Stopped`, with the connection
    still open towards the program, at once where ``stdin`` or ``stdout`` raises, and after ``timeout`` seconds (0:
    never). ``early`` is what came before; ``pipe``: where the output comes, if not over the connection, and ``runs``
    whether the program goes on.
    """
    raw.settimeout(None)  # a program may be silent for as long as it works
    listening = _Listening(raw)
    feeder = threading.Thread(target=_feed, args=(raw, stdin or iter(()), listening), daemon=True)
    limit = threading.Timer(timeout, listening.stop)
    limit.daemon = True
    if stdin is not None:
        feeder.start()
    if timeout:
        limit.start()
    handing_out = _HandingOut(None if pipe else stdout, listening)
    draining = Draining(pipe, stdout, stopped=listening.stopped, failed=listening.stop, runs=runs) if pipe else None
    try:
        handing_out.put_copy(early)
        while listening.stopped() is None:
            buffer = handing_out.buffer()
            try:
                size = raw.recv_into(buffer)
            except OSError as error:
                if listening.stopped() is not None:
                    break
                raise BrokenOff(f"the engine's connection broke off: {error}") from error
            if not size:
                break
            handing_out.put(buffer, size)
        _join(handing_out, draining)
    except BaseException as error:
        listening.stop(error)  # a pipe that is still written to would be waited for
        _join(handing_out, draining)
        raise
    finally:
        limit.cancel()
    if stdin is not None and listening.stopped() is None:
        feeder.join(END_OF_FEEDING)
    stopped = listening.stopped()
    if stopped is not None:
        raise stopped
    return handing_out.close()


def _join(*hands: _HandingOut | Draining | None) -> None:
    for hand in hands:
        if hand is not None:
            hand.join()


def _feed(raw: socketlib.socket, stdin: Iterator[bytes], listening: _Listening) -> None:
    try:
        for piece in stdin:
            raw.sendall(piece)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it has ended without reading all; how, its exit code tells
    except BaseException as error:  # noqa: BLE001 - raised where somebody waits for it
        listening.stop(error)
        return
    with contextlib.suppress(OSError):
        raw.shutdown(socketlib.SHUT_WR)
