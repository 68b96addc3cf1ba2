# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A program that takes longer than it may is ended, with all that it began, and is not waited for."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.limit import (
    Limit,
    TookTooLong,
    end_family,
    exchange_within,
    family_of,
)

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"


def test_its_children_end_with_it_also_those_that_do_not_listen() -> None:
    argv = ["sh", "-c", f"sleep 60 & '{sys.executable}' -c '{STUBBORN}' & wait; sleep 60"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        program.stdout.readline()
        assert len(family_of(program.pid)) == 3
        end_family(program.pid, grace=0.1)
        assert program.wait(5) != 0
        assert program.stdout.read() == b"", "nobody holds it open"


def test_the_connection_is_closed_where_something_holds_it_open() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TookTooLong, match=r"sh took longer than 0\.1 s, and was ended"):
        exchange_within(Limit("sh", 0.1, lambda: 0), ours, None, lambda piece: None)


def test_what_ends_in_time_is_let_be() -> None:
    said: list[bytes] = []
    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(struct.pack(">BxxxL", 1, 2) + b"ok")
        theirs.close()
        exchange_within(Limit("sh", 0.3, lambda: pytest.fail("was ended")), ours, None, said.append)
        time.sleep(0.4)
    assert said == [b"ok"]
