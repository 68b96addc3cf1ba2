# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A program that runs in a container beside its own: an exec, as engines call it, by the SDK's low-level client."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine import pipe
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.ending import OutOfTime, Unheard, end
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.exchange import Stopped, exchange
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.frames import BrokenOff
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import ExecResult

STARTS = 3
"""How often a program is started whose start the runtime broke off."""
END_AFTER_OUTPUT = 10.0
END_POLL = 0.005
UNKNOWN = -1
"""Instead of an exit code, where the engine knows none."""


def never_ran(rc: int, said: bytes) -> bool:
    """Tell whether the runtime lost the process before the program began, so that starting it again is no second run.

    On a busy host runc now and then ends so ("waiting for init preliminary setup: read init-p: connection reset by
    peer"). A program that is missing, or must not be run, is another matter: that stays so.
    """
    return rc in (126, 127) and b"unable to start container process: waiting for init preliminary setup" in said


@dataclass(frozen=True)
class Asked:
    """A program and what is to become of its input and output, as in :meth:`api.Engine.stream`."""

    container_id: str
    argv: tuple[str, ...]
    stdout: Callable[[bytes], object]
    stdin: Iterator[bytes] | None
    environment: Mapping[str, str]
    user: str
    timeout: float


def run(
    client: Any,
    container_id: str,
    argv: tuple[str, ...],
    *,
    stdout: Callable[[bytes], object],
    stdin: Iterator[bytes] | None,
    environment: Mapping[str, str],
    user: str,
    timeout: float,
    much: bool,
) -> ExecResult:
    """Run a program as :meth:`api.Engine.stream` does; raises what the client raises as well, and ``BrokenOff``."""
    asked = Asked(container_id, argv, stdout, stdin, environment, user, timeout)
    return (_run_past_engine(client, asked) if much else None) or _run(client, asked)


def _run_past_engine(client: Any, asked: Asked) -> ExecResult | None:
    """Run a program whose output comes by a pipe; None where there is no such way, and it was not begun."""
    if asked.stdin is not None:
        return None
    found = client.inspect_container(asked.container_id)
    names = [entry.partition("=")[0] for entry in found["Config"].get("Env") or ()]
    if not pipe.hands_on([*names, *asked.environment]):
        return None
    with pipe.made(int(found["State"].get("Pid") or 0), asked.container_id) as past_engine:
        if past_engine is None:
            return None
        ended = _run(client, asked, past_engine)
        # Where nobody knows how it has ended, nobody knows that it has.
        return ended if past_engine.opened or ended.rc == UNKNOWN else None


def _run(client: Any, asked: Asked, past_engine: pipe.OutputPipe | None = None) -> ExecResult:
    """Run it once, its output by the pipe ``past_engine`` if there is one."""
    argv, environment = asked.argv, dict(asked.environment)
    if past_engine is not None:
        argv, environment[pipe.VARIABLE] = (*pipe.BEGIN, *argv), past_engine.path
    made = client.exec_create(
        asked.container_id,
        list(argv),
        environment=environment,
        user=asked.user,
        stdin=asked.stdin is not None,
    )
    answer = client.exec_start(made["Id"], socket=True)
    raw = getattr(answer, "_sock", answer)
    try:
        err = exchange(
            raw,
            asked.stdin,
            asked.stdout,
            early=_read_ahead(answer, raw),
            timeout=asked.timeout,
            pipe=past_engine,
            runs=lambda: bool(_followed(client, made["Id"])["Running"]),
        )
    except Stopped as stopped:
        # Before the connection is closed: from that, a program that reads concludes that it has all.
        pid = end(lambda: _inspected(client, made["Id"]))
        program = f"{asked.argv[0]} in {asked.container_id[:12]}"
        if stopped.cause is None:
            raise OutOfTime.after(asked.timeout, program, pid) from None
        if pid:
            raise Unheard.by(stopped.cause, program, pid) from stopped.cause
        raise stopped.cause from None
    finally:
        with contextlib.suppress(OSError):
            raw.shutdown(socket.SHUT_RDWR)  # wakes who still sends to it
        answer.close()
    return ExecResult(argv=asked.argv, rc=_exit_code(client, made["Id"]), stdout=b"", stderr=err)


def _read_ahead(answer: Any, raw: socket.socket) -> bytes:
    """Return what a program has said that the SDK's reader holds, which took it in with the head of the answer.

    The SDK hands out the socket below that reader. Where this host is busier than the engine, all that a short program
    says would be missing, and the first bytes of any other.
    """
    reader = getattr(getattr(getattr(getattr(answer, "_response", None), "raw", None), "_fp", None), "fp", None)
    if reader is None:
        return b""
    raw.settimeout(0)  # it would wait for more where it holds nothing
    try:
        return bytes(reader.peek())
    except OSError:
        return b""  # nothing has come yet, over TLS; an end is met where it is waited for


def _inspected(client: Any, exec_id: str) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = client.exec_inspect(exec_id)
    except Exception as error:
        if getattr(error, "status_code", None) != 404:
            raise
        return {"Running": False}  # gone with its container
    return found


def _followed(client: Any, exec_id: str) -> Mapping[str, Any]:
    """Return what the engine knows of a program that was begun; raises :class:`BrokenOff` where it does not tell.

    As one that is started anew: it answers nothing, or knows no more of a program that goes on.
    """
    try:
        found: Mapping[str, Any] = client.exec_inspect(exec_id)
    except Exception as error:
        raise BrokenOff(f"the engine does not tell what became of it: {error}") from error
    return found


def _exit_code(client: Any, exec_id: str) -> int:
    """Return how a program ended whose output has ended; the engine may come to know of the end a little later.

    ``UNKNOWN`` where it goes on without an output, or where nobody knows, as of a container that was killed.
    """
    ends = time.monotonic() + END_AFTER_OUTPUT
    while True:
        found = _followed(client, exec_id)
        if found["ExitCode"] is not None and not found["Running"]:
            return int(found["ExitCode"])
        if not found["Running"] or time.monotonic() >= ends:
            return UNKNOWN
        time.sleep(END_POLL)
