# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a program says comes over whole, whatever it is cut into; who does not listen any more does not wait for it."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from random import Random

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.exchange import (
    BUFFER,
    BUFFERS,
    Stopped,
    exchange,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.frames import BrokenOff, Frames

OUTPUT, ERRORS = 1, 2
AT_ONCE = 10.0


def framed(kind: int, said: bytes) -> bytes:
    return struct.pack(">BxxxL", kind, len(said)) + said


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield our end of a connection and the engine's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def saying(theirs: socket.socket, *frames: bytes, close: bool = True) -> threading.Thread:
    def say() -> None:
        for frame in frames:
            theirs.sendall(frame)
        if close:
            theirs.shutdown(socket.SHUT_WR)

    speaker = threading.Thread(target=say, daemon=True)
    speaker.start()
    return speaker


@pytest.mark.parametrize("seed", range(5))
def test_frames_are_the_same_wherever_they_are_cut(seed: int) -> None:
    chance = Random(seed)
    said = [(chance.choice([OUTPUT, ERRORS]), os.urandom(chance.randrange(40))) for _frame in range(50)]
    text = b"".join(framed(kind, what) for kind, what in said)
    frames, output, errors, at = Frames(), b"", b"", 0
    while at < len(text):
        size = chance.randint(1, 30)
        first, second = frames.cut(memoryview(text)[at : at + size])
        output, errors, at = output + first, errors + second, at + size
    frames.close()
    assert output == b"".join(what for kind, what in said if kind == OUTPUT)
    assert errors == b"".join(what for kind, what in said if kind == ERRORS)


@pytest.mark.parametrize("size", [1, 8, 9, 12])
def test_an_end_in_the_middle_of_a_frame_is_told(ends: tuple[socket.socket, socket.socket], size: int) -> None:
    ours, theirs = ends
    saying(theirs, framed(OUTPUT, b"12345")[:size])
    with pytest.raises(BrokenOff, match="in the middle"):
        exchange(ours, None, bytes)


def test_much_comes_in_order_through_few_buffers(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    pieces = [os.urandom(30_000) for _piece in range(2 * BUFFERS * BUFFER // 30_000)]
    frames = [framed(OUTPUT, piece) + framed(ERRORS, b"beside\n") for piece in pieces]
    saying(theirs, *frames)
    got: list[bytes] = []
    assert exchange(ours, None, got.append) == b"beside\n" * len(pieces)
    assert b"".join(got) == b"".join(pieces)


def test_who_writes_slowly_holds_up_who_speaks(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    begun, go_on = threading.Event(), threading.Event()

    def take(_piece: bytes) -> None:
        begun.set()
        go_on.wait(AT_ONCE)

    speaker = saying(theirs, *[framed(OUTPUT, bytes(BUFFER))] * 4 * BUFFERS)
    listener = threading.Thread(target=exchange, args=(ours, None, take), daemon=True)
    listener.start()
    assert begun.wait(AT_ONCE)
    speaker.join(0.2)
    assert speaker.is_alive(), "all of it was taken in"
    go_on.set()
    listener.join(AT_ONCE)
    assert not listener.is_alive()


def test_a_disk_that_is_full_ends_the_listening_at_once(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    full = OSError(errno.ENOSPC, "full")

    def take(_piece: bytes) -> None:
        raise full

    saying(theirs, framed(OUTPUT, b"a line"), close=False)  # and then nothing, as of tail -f
    began = time.monotonic()
    with pytest.raises(Stopped) as caught:
        exchange(ours, None, take)
    assert caught.value.cause is full
    assert time.monotonic() - began < AT_ONCE


def test_an_input_that_breaks_off_does_not_look_like_one_that_has_ended(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends

    def given() -> Iterator[bytes]:
        yield b"half of it"
        raise OSError(errno.EIO, "bad sector")

    with pytest.raises(Stopped) as caught:
        exchange(ours, given(), bytes)
    assert isinstance(caught.value.cause, OSError)
    theirs.settimeout(0.2)
    assert theirs.recv(100) == b"half of it"
    with pytest.raises(OSError, match="timed out"):
        theirs.recv(100)


def test_an_input_that_ends_is_seen_to_end(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    heard: list[bytes] = []

    def listen() -> None:
        while piece := theirs.recv(100):
            heard.append(piece)
        theirs.sendall(framed(OUTPUT, b"thanks"))
        theirs.shutdown(socket.SHUT_WR)

    threading.Thread(target=listen, daemon=True).start()
    got: list[bytes] = []
    exchange(ours, iter([b"all ", b"of it"]), got.append)
    assert (b"".join(heard), b"".join(got)) == (b"all of it", b"thanks")


@pytest.mark.parametrize("reads", [True, False])
def test_a_program_that_hangs_is_left_when_its_time_is_up(
    ends: tuple[socket.socket, socket.socket], reads: bool
) -> None:
    ours, _theirs = ends
    given = None if reads else iter([bytes(1 << 20)] * 100)
    with pytest.raises(Stopped) as caught:
        exchange(ours, given, bytes, timeout=0.1)
    assert caught.value.cause is None


def test_a_program_that_ends_in_time_is_none_that_hangs(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    saying(theirs, framed(ERRORS, b"done"))
    assert exchange(ours, None, bytes, timeout=AT_ONCE) == b"done"
