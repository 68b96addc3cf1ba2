# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs of a database image, run in helper containers that never outlive their work."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.last_words import fit_for_a_message
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container, Helper
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError

SHORTEST_LOOK, LONGEST_LOOK = 0.01, 0.25
PATIENCE = 0.05
"""The part of what a helper has run until now that its end may go unnoticed: each look is work for the engine."""
TICK_EVERY = 1.0
LOG_LINES = 400
# What the programs say is looked at, so it must not depend on the image's language.
ENGLISH = {"LC_ALL": "C"}


@dataclass(frozen=True)
class Finished:
    """How a helper ended, and what it said on both streams; ``cut``: it may have said more than that, before."""

    role: str
    argv: tuple[str, ...]
    rc: int
    output: str
    cut: bool = False

    def last_words(self) -> str:
        return "\n".join(self.output.strip().splitlines()[-8:])


class Run(Protocol):
    """What runs helpers to their ends: :func:`run` in a container each, :func:`toolbox.opened` in one for all."""

    def __call__(self, helper: Helper, *, timeout: float, tick: Callable[[], None] | None = None) -> Finished: ...


def run(
    engine: Engine,
    helper: Helper,
    *,
    timeout: float,
    tick: Callable[[], None] | None = None,
) -> Finished:
    """Run a helper to its end, calling ``tick`` about once a second, and remove it in any case."""
    with running(engine, helper) as container_id:
        return to_its_end(engine, container_id, helper, timeout=timeout, tick=tick)


def to_its_end(
    engine: Engine, container_id: str, helper: Helper, *, timeout: float, tick: Callable[[], None] | None = None
) -> Finished:
    """Wait until a helper that runs has ended, calling ``tick`` about once a second."""
    began = next_tick = time.monotonic()
    container = engine.container(container_id)
    while container is not None and container.running:
        if time.monotonic() >= began + timeout:
            raise out_of_time(helper, timeout)
        if tick is not None and time.monotonic() >= next_tick:
            tick()
            next_tick = time.monotonic() + TICK_EVERY
        ran = time.monotonic() - began
        time.sleep(min(LONGEST_LOOK, max(SHORTEST_LOOK, PATIENCE * ran)))
        container = engine.container(container_id)
    if container is None:
        raise StatefulError(f"The helper {helper.argv[0]} was removed by somebody else while it worked.")
    said = engine.logs(container.id, tail=LOG_LINES)
    return finished(helper, container, rc=container.exit_code, said=said)


def alone(engine: Engine) -> Run:
    """Return what runs each helper in a container of its own."""
    return functools.partial(run, engine)


def finished(helper: Helper, container: Container, *, rc: int, said: str, cut: bool = False) -> Finished:
    """Return how a helper ended in ``container``, which said this, or ``cut``, the end of it."""
    lines = said.splitlines()
    environment = {**container.env, **helper.environment}
    argv = (*container.entrypoint, *container.command, *helper.argv)
    cut = cut or len(lines) >= LOG_LINES
    words = fit_for_a_message("\n".join(lines[-LOG_LINES:]), environment, argv, cut=cut)
    return Finished(helper.role, helper.argv, rc, words, cut)


def out_of_time(helper: Helper, timeout: float) -> StatefulError:
    return StatefulError(f"The helper {helper.argv[0]} has not ended within {timeout:.0f} s; it was stopped.")


@contextmanager
def running(engine: Engine, helper: Helper) -> Iterator[str]:
    """Start a helper, hand out its id, and remove it with what it was given."""
    container_id = start(engine, helper)
    with removed_after(engine, container_id):
        yield container_id


@contextmanager
def removed_after(engine: Engine, container_id: str) -> Iterator[None]:
    """Remove a helper of ours in any case."""
    try:
        yield
    except BaseException:
        # An engine that does not remove it either is no better cause. The next run removes it, by its label.
        with suppress(StatefulError, OSError):
            engine.remove_container(container_id, force=True)
        raise
    engine.remove_container(container_id, force=True)


def start(engine: Engine, helper: Helper) -> str:
    """Start a helper; whoever calls this removes it."""
    container_id = engine.create_helper(helper, start=False)
    try:
        engine.start(container_id)
    except StatefulError:
        engine.remove_container(container_id, force=True)
        raise
    return container_id


def must_succeed(finished: Finished, what: str) -> Finished:
    """Raise with the program's own words unless it ended with 0."""
    if finished.rc != 0:
        raise StatefulError(f"{what} failed: {finished.argv[0]} ended with {finished.rc}:\n{finished.last_words()}")
    return finished


def must_be_silent(output: str, what: str) -> None:
    """Raise if a client program complained: some of them end with 0 all the same."""
    complaints = [line for line in output.splitlines() if "error:" in line.lower() or "fatal:" in line.lower()]
    if complaints:
        raise StatefulError(f"{what} ended with 0, and said:\n" + "\n".join(complaints[:8]))
