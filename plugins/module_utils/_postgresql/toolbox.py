# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many programs of one image in a downtime, in one container that stays: an alternative to a helper for each.

A program starts there in a third of the time. And the end of a container takes a layered file system away, for which
the kernel writes out all that is dirty on the disk below it: what has just been loaded, in the middle of the loading.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.exchange import ERRORS_KEPT
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import ExecResult, Helper
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import helpers, own_server

IDLE = ("sleep", "1000000")
"""What the container does by itself; eleven days are more than any program in it is given."""


@contextmanager
def opened(engine: Engine, frame: Helper) -> Iterator[helpers.Run]:
    """Keep a container open and hand out what runs helpers in it, one after another or several at once.

    ``frame`` is how it is made, but for what it runs: with all that any of them has mounted.
    """
    with helpers.running(engine, replace(frame, argv=IDLE)) as container_id:
        container = own_server.alive(engine, container_id)

        def run(helper: Helper, *, timeout: float, tick: Callable[[], None] | None = None) -> helpers.Finished:
            _refuse_others(frame, helper)
            with ThreadPoolExecutor(1) as pool:
                answer = pool.submit(
                    engine.execute, container_id, helper.argv, environment=helper.environment, user=helper.user
                )
                try:
                    ended = _awaited(answer, helper, timeout, tick)
                except BaseException:
                    # With its container the program ends, and with that the thread that listens to it.
                    engine.remove_container(container_id, force=True)
                    raise
            said = (ended.stdout + ended.stderr).decode("utf-8", "replace")
            return helpers.finished(helper, container, rc=ended.rc, said=said, cut=len(ended.stderr) >= ERRORS_KEPT)

        yield run


def _refuse_others(frame: Helper, helper: Helper) -> None:
    """Raise where a helper could not do in the container what it does in one of its own."""
    there = {(bind.source, bind.target, bind.read_only) for bind in frame.binds}
    lacking = [
        bind.target
        for bind in helper.binds
        # What may be written may be read as well.
        if not there & {(bind.source, bind.target, False), (bind.source, bind.target, bind.read_only)}
    ]
    if lacking or (helper.image_id, helper.network_mode) != (frame.image_id, frame.network_mode):
        raise ValueError(f"{helper.argv[0]} is not at home in a container of {frame.role}: {lacking}")


def _awaited(answer: Future[ExecResult], helper: Helper, timeout: float, tick: Callable[[], None] | None) -> ExecResult:
    ends = time.monotonic() + timeout
    while not wait([answer], timeout=helpers.TICK_EVERY).done:
        if time.monotonic() >= ends:
            raise helpers.out_of_time(helper, timeout)
        if tick is not None:
            tick()
    return answer.result()
