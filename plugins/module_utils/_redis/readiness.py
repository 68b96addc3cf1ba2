# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wait until a server answers again."""

from __future__ import annotations

import time
from typing import Callable

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import logs_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.last_words import last_words
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.counts import parse_keyspace
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.session import (
    NotAnswering,
    RedisError,
    Session,
    open_asking,
)

PAUSE = 0.02
"""Seconds between two questions; each is an exec and takes longer than that by itself."""


class NotReady(RedisError):
    """The server did not come to answer as it should."""


def wait_ready(
    engine: Engine,
    container_id: str,
    *,
    timeout: float,
    password: str = "",
    expect_keys: bool = False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Session:
    """Return a session as soon as the server answers PING with PONG and has loaded its data.

    ``expect_keys``: one that holds no key at all then did not load its data, and is refused.
    Raises :class:`NotReady`: at once when the container has ended or starts over
    and over, else after ``timeout`` seconds. A wrong password is raised as it is.
    """
    deadline = clock() + timeout
    last = "it was never asked"
    while True:
        container = engine.container(container_id)
        ended = _ended(container)
        if ended:
            raise _not_ready(engine, container_id, container, ended)
        if container is not None and container.status == "running":
            try:
                session, (keyspace,) = open_asking(engine, container, ("INFO", "keyspace"), password=password)
                if expect_keys and not parse_keyspace(str(keyspace)):
                    raise _not_ready(engine, container_id, container, "answers, and holds none of its keys")
                return session
            except NotReady:
                raise
            except NotAnswering as error:
                last = error.msg
            except StatefulError as error:
                # Between the inspection and the exec the container may have
                # ended, which the engine then says in its own words.
                if not _ended(engine.container(container_id)):
                    raise
                last = error.msg
        if clock() >= deadline:
            raise _not_ready(engine, container_id, container, f"is not ready after {timeout:.0f} s: {last}")
        sleep(PAUSE)


def _ended(container: Container | None) -> str:
    if container is None:
        return "is gone"
    if container.status in ("exited", "dead"):
        return f"ended with exit code {container.exit_code}"
    if container.status == "restarting":
        return f"ends as soon as it starts (exit code {container.exit_code})"
    return ""


def _not_ready(engine: Engine, container_id: str, container: Container | None, why: str) -> NotReady:
    name = container.name if container else container_id[:12]
    tail = last_words(engine, container, tail=8) if container else ""
    said = f" Its log ends with:\n{tail}" if tail else ""
    return NotReady(
        f"The Redis container {name} {why}.{said}",
        state="the data is where the container mounts it; nothing was removed",
        next_command=logs_of(name),
    )
