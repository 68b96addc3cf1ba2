# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A container that is started before the downtime, and told in the downtime what to do.

Its start takes a tenth of a second, more than any single thing that pg_upgrade does. It waits at a named pipe, in the
directory that it works in, and reads a script there once somebody opens the other end.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Bind, Helper
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import helpers
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.basebackup import give_privately
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.bench import Bench

SCRIPT = "errand.sh"
LATE, POLL = 0.2, 0.005
"""Seconds that one which was started just now gets to come to its pipe: about what another one takes to start."""


@dataclass(frozen=True)
class Waiting:
    """A container that waits, and the name of the pipe in the work directory at which it does."""

    container_id: str
    pipe: str


def helper_for(bench: Bench, script: str, binds: tuple[Bind, ...]) -> Helper:
    """Return what runs a shell script with the programs of the new image."""
    return bench.helper(bench.image_id, "sh", "-ec", script, binds=binds, PGDATA=bench.seen(bench.new))


def start(bench: Bench, binds: tuple[Bind, ...]) -> Waiting:
    """Start a container that waits for :func:`begun`; whoever calls this removes it."""
    # One that was started before, and was not removed yet, waits at another one.
    pipe = f"begin-{secrets.token_hex(4)}"
    path = os.path.join(bench.work, pipe)
    os.mkfifo(path)
    give_privately(path, bench.owner)
    script = f"read -r begin <{pipe}; . ./{SCRIPT}"
    return Waiting(helpers.start(bench.engine, helper_for(bench, script, binds)), pipe)


@contextmanager
def begun(bench: Bench, waiting: Waiting | None, script: str, binds: tuple[Bind, ...]) -> Iterator[str]:
    """Have the container that waits run a shell script, or another one if none does any more.

    Hands out the id of the one that runs it, and removes that.
    """
    if waiting is not None:
        if _told(bench, waiting, script):
            with helpers.removed_after(bench.engine, waiting.container_id):
                yield waiting.container_id
            return
        # Before anything begins: it is to do nothing any more, however late it gets there.
        bench.engine.remove_container(waiting.container_id, force=True)
    with helpers.running(bench.engine, helper_for(bench, script, binds)) as container_id:
        yield container_id


def _told(bench: Bench, waiting: Waiting, script: str) -> bool:
    """Tell the container that waits what to do; False if it does not wait."""
    path = os.path.join(bench.work, SCRIPT)
    with open(path, "w", encoding="utf-8") as file:
        give_privately(path, bench.owner)
        file.write(f"{script}\n")
    ends = time.monotonic() + LATE
    while True:
        try:
            # Refused where nobody has it open to read.
            pipe = os.open(os.path.join(bench.work, waiting.pipe), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            break
        except OSError:
            if time.monotonic() >= ends:
                return False
            time.sleep(POLL)
    try:
        return os.write(pipe, b"begin\n") > 0
    except BrokenPipeError:
        return False
    finally:
        os.close(pipe)
