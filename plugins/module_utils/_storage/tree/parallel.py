# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Work through a stream of jobs with a few threads, holding only a few jobs in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class Counter:
    """A number that several threads add to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.value = 0

    def add(self, amount: int) -> None:
        with self._lock:
            self.value += amount


def in_parallel(
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    *,
    workers: int,
    tick: Callable[[], None] = lambda: None,
    every: float = 0.2,
) -> Iterator[Result]:
    """Yield the results as they come. Jobs are drawn, results handed out and ``tick`` called
    (about every ``every`` seconds) in the calling thread, so that none of these needs a lock.

    The first error ends it, after the jobs that are under way.
    """
    pending: set[Future[Result]] = set()
    with ThreadPoolExecutor(workers, thread_name_prefix="tree") as pool:
        try:
            for job in jobs:
                pending.add(pool.submit(work, job))
                while len(pending) >= workers * 4:
                    done, pending = wait(pending, timeout=every, return_when=FIRST_COMPLETED)
                    tick()
                    for future in done:
                        yield future.result()
            while pending:
                done, pending = wait(pending, timeout=every, return_when=FIRST_COMPLETED)
                tick()
                for future in done:
                    yield future.result()
        finally:
            for future in pending:
                future.cancel()
    tick()
