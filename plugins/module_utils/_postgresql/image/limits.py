# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long what an image's own process asks for may take: the service is down meanwhile, and nobody looks on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.server import Server
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session

SECONDS = 3600.0
"""What each gets that names no limit of its own."""
AGAIN_AFTER = 1.0


def limit_of(given: Mapping[str, Any]) -> float:
    """Return the seconds that a hook or a migration gets; 0 is no limit."""
    asked = given.get("timeout")
    return SECONDS if asked is None else float(asked)


@contextmanager
def within(server: Server, session: Session, seconds: float, name: str) -> Iterator[None]:
    """End the session where what is done in it takes longer, and say so."""
    if not seconds:
        yield
        return
    backend, reached, over = session.scalar("SELECT pg_backend_pid()"), threading.Event(), threading.Event()

    def end() -> None:
        reached.set()
        while not over.is_set():
            # One that cannot connect now may a moment later; only this ends what is waited for.
            with suppress(StatefulError), server.connect() as ours:
                ours.rows("SELECT pg_terminate_backend(%s)", (backend,))
            over.wait(AGAIN_AFTER)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except StatefulError as error:
        if reached.is_set():
            error.msg = f"{name} took longer than {seconds:g} s (timeout), and was ended. {error.msg}"
        raise
    finally:
        over.set()
        timer.cancel()
