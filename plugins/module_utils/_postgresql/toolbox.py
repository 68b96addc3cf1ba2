# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many programs of one image in a downtime, in one container that stays: an alternative to a helper for each.

A program starts there in a third of the time. And the end of a container takes a layered file system away, for which
the kernel writes out all that is dirty on the disk below it: what has just been loaded, in the middle of the loading.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import replace

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.exchange import ERRORS_KEPT
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import ExecResult, Helper
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import helpers

IDLE = ("sleep", "2147483647")
"""What the container does by itself, for longer than anybody waits."""
LOOK_EVERY = 30.0
"""Seconds after which the engine is asked whether the container is still there: an answer that is lost never comes."""
GRACE = 10.0
"""Seconds that a program which was ended gets to be heard of."""


@contextmanager
def opened(engine: Engine, frame: Helper) -> Iterator[helpers.Run]:
    """Keep a container open and hand out what runs helpers in it, one after another.

    ``frame`` is how it is made, but for what it runs: with all that any of them has mounted. A helper that does not
    come to its own end takes the container with it.
    """
    with helpers.running(engine, replace(frame, argv=IDLE)) as container_id:
        container = engine.container(container_id)
        if container is None or not container.running:
            raise StatefulError(f"The container for {frame.role} did not stay up: its image has no working 'sleep'.")

        def run(helper: Helper, *, timeout: float, tick: Callable[[], None] | None = None) -> helpers.Finished:
            _refuse_others(frame, helper)
            answer = _begin(engine, container_id, helper)
            try:
                ended = _awaited(engine, container_id, answer, helper, timeout, tick)
            except BaseException:
                # With its container the program ends. Where the engine does not answer, nobody waits for it.
                with suppress(StatefulError, OSError):
                    engine.remove_container(container_id, force=True)
                    wait([answer], timeout=GRACE)
                raise
            said = (ended.stdout + ended.stderr).decode("utf-8", "replace")
            return helpers.finished(helper, container, rc=ended.rc, said=said, cut=len(ended.stderr) >= ERRORS_KEPT)

        yield run


def _begin(engine: Engine, container_id: str, helper: Helper) -> Future[ExecResult]:
    """Run a program beside this thread; one that listens for ever to an engine that has gone keeps nobody."""
    answer: Future[ExecResult] = Future()

    def work() -> None:
        try:
            ended = engine.execute(container_id, helper.argv, environment=helper.environment, user=helper.user)
        except BaseException as error:  # noqa: BLE001 - raised where somebody waits for it
            answer.set_exception(error)
        else:
            answer.set_result(ended)

    threading.Thread(target=work, name=helper.argv[0], daemon=True).start()
    return answer


def _awaited(
    engine: Engine,
    container_id: str,
    answer: Future[ExecResult],
    helper: Helper,
    timeout: float,
    tick: Callable[[], None] | None,
) -> ExecResult:
    began = looked = time.monotonic()
    while not wait([answer], timeout=helpers.TICK_EVERY).done:
        now = time.monotonic()
        if now >= began + timeout:
            raise helpers.out_of_time(helper, timeout)
        if now >= looked + LOOK_EVERY:
            container, looked = engine.container(container_id), now
            if (container is None or not container.running) and not wait([answer], timeout=GRACE).done:
                raise StatefulError(f"The container of {helper.argv[0]} has ended, and nobody told how that has.")
        if tick is not None:
            tick()
    return answer.result()


def _refuse_others(frame: Helper, helper: Helper) -> None:
    """Raise where a helper could not do in the container what it does in one of its own."""
    there = {(bind.source, bind.target, bind.read_only) for bind in frame.binds}
    lacking = {
        "image": helper.image_id != frame.image_id,
        "network": helper.network_mode != frame.network_mode,
        "volumes": bool(helper.volumes or helper.tmpfs),
        # What may be written may be read as well.
        **{
            bind.target: not there & {(bind.source, bind.target, False), (bind.source, bind.target, bind.read_only)}
            for bind in helper.binds
        },
    }
    if any(lacking.values()):
        found = ", ".join(name for name, lacks in lacking.items() if lacks)
        raise ValueError(f"{helper.argv[0]} is not at home in a container for {frame.role}: {found}")
