# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server of our own that others never reach: run until it answers, asked, and taken away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.last_words import last_words
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import readiness


@contextmanager
def serving(
    engine: Engine,
    running: AbstractContextManager[str],
    system_identifier: int,
    login: readiness.Login,
    *,
    seconds: float,
    data_directory: str = "",
    begun: Callable[[str], None] | None = None,
) -> Iterator[str]:
    """Wait until a server answers as the cluster that it is to be, and hand out the id of its container.

    ``running`` starts it, hands out that id, and removes it at the end (:func:`helpers.running`). ``seconds`` is what
    it gets to answer; raises :class:`StatefulError` where it does not. ``begun`` gets the id first, where the container
    does something else before, and returns when that is over.
    """
    with running as container_id:
        if begun is not None:
            begun(container_id)
        readiness.wait_ready(
            engine,
            container_id,
            deadline=time.monotonic() + seconds,
            clock=time.monotonic,
            pause=time.sleep,
            expect_system_identifier=system_identifier,
            tcp=False,
            data_directory=data_directory,
            login=login,
        )
        yield container_id


def alive(engine: Engine, container_id: str) -> Container:
    """Return the container of such a server as it runs; raises with its last words where it has ended."""
    container = engine.container(container_id)
    if container is None or not container.pid:
        words = last_words(engine, container, tail=20) if container else "its container is gone"
        raise StatefulError(f"A server of our own has ended by itself. Its last words:\n{words}")
    return container
