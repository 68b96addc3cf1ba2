# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers that do not wait for each other's start: most of that is waiting, and it is part of the downtime."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeVar

First = TypeVar("First")
Second = TypeVar("Second")
Third = TypeVar("Third")


@contextmanager
def entered_together(
    first: AbstractContextManager[First], second: AbstractContextManager[Second], third: AbstractContextManager[Third]
) -> Iterator[tuple[First, Second, Third]]:
    """Enter three contexts at the same time, and leave them one by one, the last one first.

    Where one cannot be entered, the others are left again, and its error is raised, of several that of the first named.
    """
    with ExitStack() as entered:
        pool = ThreadPoolExecutor(3)
        one, other, another = (
            pool.submit(first.__enter__),
            pool.submit(second.__enter__),
            pool.submit(third.__enter__),
        )
        begun: list[tuple[AbstractContextManager[Any], Future[Any]]]
        begun = [(first, one), (second, other), (third, another)]
        try:
            pool.shutdown()  # which waits for all of them
        finally:
            # Also where the waiting is broken off: what is begun in a thread is not stopped by that.
            for manager, entering in begun:
                if entering.exception() is None:
                    entered.push(manager)
        yield one.result(), other.result(), another.result()
