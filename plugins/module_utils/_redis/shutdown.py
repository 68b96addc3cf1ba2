# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make sure that the stop which is coming loses nothing.

On SIGTERM a server saves only where it has save points. A SAVE before the stop
would lose what is written in between; a save point that is set at run time
does not, because the saving is then part of the shutdown itself. It is gone
with the process, so nothing has to be put back unless the stop is called off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import logs_of
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.counts import Counts, parse_keyspace
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.facts import RedisFacts
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.session import (
    ErrorReply,
    RedisError,
    Session,
    ask,
    checked,
)

SAVE_POINT = "86400 1"
"""Once a day at most, so that it starts no background save of its own before the stop."""

PAUSE_SINCE = (6, 2)
"""CLIENT PAUSE ... WRITE and CLIENT UNPAUSE; before, a pause shuts out our own commands too."""


BY_COMMAND = "shutdown"
"""The method by which the server is told to save and end, because nothing can be set."""


@dataclass(frozen=True)
class SavePlan:
    """How a stop will be made safe. ``settings`` are set, ``previous`` puts them back."""

    method: str
    reason: str
    settings: Mapping[str, str] = field(default_factory=dict)
    previous: Mapping[str, str] = field(default_factory=dict)
    pause_ms: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the plan for a journal."""
        return asdict(self)


def plan_save(facts: RedisFacts, *, pause_ms: int = 0) -> SavePlan:
    """Decide what the server needs before a SIGTERM; pure.

    ``pause_ms`` asks for writers to be held back until the stop, which makes
    the counts taken by :func:`arrange_save` exact; it is dropped where the
    server cannot do it.
    """
    pause = pause_ms if facts.version >= PAUSE_SINCE else 0
    if facts.save is None:
        return _plan_without_config(facts, pause)
    settings: dict[str, str] = {}
    previous: dict[str, str] = {}
    # The AOF is written out at a stop. But a server that reads no AOF when it
    # starts again (switched on at run time only) needs the RDB all the same.
    needs_rdb = not (facts.appendonly and facts.starts_with_aof)
    if needs_rdb and not facts.save:
        settings["save"], previous["save"] = SAVE_POINT, facts.save
    words = facts.shutdown_on_sigterm.split()
    if needs_rdb and ("nosave" in words or "now" in words):
        settings["shutdown-on-sigterm"], previous["shutdown-on-sigterm"] = "default", facts.shutdown_on_sigterm
    if settings:
        reason = f"without {' and '.join(sorted(settings))} set at run time a stop would not save"
        return SavePlan("config", reason, settings, previous, pause)
    reason = "it saves by its own save points when it stops" if needs_rdb else "the append-only file holds every write"
    return SavePlan("none", reason, pause_ms=pause)


def arrange_save(session: Session, plan: SavePlan) -> Counts:
    """Carry out ``plan`` and return the key counts as they stand afterwards, under the pause where there is one.

    Raises where the server does not take it.
    """
    requests: list[tuple[str, ...]] = [("CONFIG", "SET", name, value) for name, value in plan.settings.items()]
    # Ask again what was set: a proxy or a renamed command may answer OK to anything.
    requests += [("CONFIG", "GET", name) for name in plan.settings]
    if plan.pause_ms:
        requests.append(("CLIENT", "PAUSE", str(plan.pause_ms), "WRITE"))
    requests.append(("INFO", "keyspace"))
    replies = [checked(session, reply, request) for reply, request in zip(ask(session, *requests), requests)]
    for name, value in plan.settings.items():
        got = replies[requests.index(("CONFIG", "GET", name))]
        if not isinstance(got, tuple) or got[1:] != (value,):
            unarrange_save(session, plan)
            raise RedisError(
                f"{session.container_name} does not keep {name} {value}; it answers {got!r}.",
                next_command=logs_of(session.container_name),
            )
    return parse_keyspace(str(replies[-1]))


def unarrange_save(session: Session, plan: SavePlan) -> None:
    """Put back what :func:`arrange_save` set, because the stop is called off. Safe to repeat."""
    requests: list[tuple[str, ...]] = [("CONFIG", "SET", name, value) for name, value in plan.previous.items()]
    if plan.pause_ms:
        requests.append(("CLIENT", "UNPAUSE"))
    if requests:
        for reply, request in zip(ask(session, *requests), requests):
            checked(session, reply, request)


def ask_to_shut_down(session: Session) -> None:
    """Tell the server itself to save and end, for one that no signal reaches (a shell is process 1).

    Only with the restart policy ``no``: under another the engine starts the
    container again at once.
    """
    try:
        reply = ask(session, ("SHUTDOWN", "SAVE"))[0]
    except RedisError:
        return  # the connection ends with the server; whoever asked looks at the container
    if isinstance(reply, ErrorReply):
        checked(session, reply, ("SHUTDOWN", "SAVE"))


def plan_from_dict(raw: Mapping[str, Any]) -> SavePlan:
    return SavePlan(**raw)


def _plan_without_config(facts: RedisFacts, pause_ms: int) -> SavePlan:
    given = facts.startup.last("save")
    if facts.appendonly and facts.starts_with_aof:
        return SavePlan("none", "the append-only file holds every write", pause_ms=pause_ms)
    if given not in (None, "") and facts.shutdown_on_sigterm == "default":
        return SavePlan("none", "it is started with save points, so it saves when it stops", pause_ms=pause_ms)
    # Its own command saves as a part of the shutdown, and nothing can be written in between.
    refusal = facts.config_refusal or "no answer"
    return SavePlan(BY_COMMAND, f"CONFIG is out of reach ({refusal}), so it is told to save and end", pause_ms=pause_ms)
