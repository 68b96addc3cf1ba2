# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stop containers for a moment, and start them again whatever happens: what is stopped is noted before it is.

A run that is killed leaves the note, and :func:`start_again` of the next one does what was left to do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import logs_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import held
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import durable
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World

STOPPED = "stopped.json"
POLL = 0.1


@dataclass
class Downtime:
    """How long the containers did not serve, in seconds; known when they run again."""

    seconds: float = 0.0


def note_directory(operations: str, project: str) -> str:
    """Return where the note of a project lies below the operations' directory."""
    return os.path.join(operations, ".stopped", project)


@contextmanager
def stopped(world: World, directory: str, containers: Sequence[Container]) -> Iterator[Downtime]:
    """Have ``containers`` stopped inside the block, their restart policies held, and running again after it."""
    downtime = Downtime()
    os.makedirs(directory, mode=0o700, exist_ok=True)
    ids = [container.id for container in containers]
    began = time.monotonic()
    try:
        _note(directory, ids, stopping=())
        held.hold(world, directory, list(dict.fromkeys(container.service for container in containers)))
        for number, container in enumerate(containers, start=1):
            _note(directory, ids, stopping=ids[:number])
            world.engine.stop(container.id, signal=container.stop_signal, timeout=world.stop_timeout)
        yield downtime
    finally:
        start_again(world, directory)
        downtime.seconds = time.monotonic() - began


def start_again(world: World, directory: str) -> list[str]:
    """Start what the note says was stopped, give back the restart policies, and return the names; none without one."""
    path = os.path.join(directory, STOPPED)
    noted = durable.read_json(path)
    if noted is None:
        return []
    started = [name for name in (_start(world, container_id) for container_id in noted["stopping"]) if name]
    held.release(world, directory)
    durable.remove_file(path)
    return started


def _note(directory: str, containers: Sequence[str], *, stopping: Sequence[str]) -> None:
    note = {"containers": list(containers), "stopping": list(stopping)}
    durable.write_json_atomically(os.path.join(directory, STOPPED), note)


def _start(world: World, container_id: str) -> str:
    """Start a container and return its name; one that was asked to end and did not yet is waited for."""
    asked = world.engine.container(container_id)
    if asked is None:
        return ""
    deadline = time.monotonic() + world.stop_timeout
    while _is_ending(world, asked) and time.monotonic() < deadline:
        time.sleep(POLL)
    world.engine.start(container_id)
    now = world.engine.container(container_id)
    if now is None or not now.running:
        log = logs_of(asked.name)
        raise StatefulError(
            f"{asked.name} was stopped for a copy and does not start again.",
            state="its data is where it was, and was only read",
            next_command=f"{shell('docker', 'start', asked.name)}; {log}",
        )
    return asked.name


def _is_ending(world: World, asked: Container) -> bool:
    """Tell whether the very process that was asked to end still runs."""
    now = world.engine.container(asked.id)
    return now is not None and now.running and now.started_at == asked.started_at
