# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Work in a session of its own, so that a lost connection cannot leave a service down.

The module process forks; the child leaves the terminal's session, ignores
SIGHUP, and lets go of the module's output, which belongs to the connection. The
parent only waits for it. If the parent is gone, the child goes on alone, and the
next run finds the project's lock taken, waits for it, and reads what it did.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError

OK = "ok"
FAILED = "failed"


def run_detached(work: Callable[[], dict[str, Any]], *, result_path: str, log_path: str) -> dict[str, Any]:
    """Run ``work`` in a detached child and return what it returned; raise what it raised.

    ``work`` must open its own connections: sockets that are shared over a fork
    mix up two conversations. What it returns is written to ``result_path`` first.
    """
    _remove(result_path)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _child(work, result_path, log_path)
    _pid, status = os.waitpid(child, 0)
    try:
        with open(result_path, encoding="utf-8") as handle:
            outcome = json.load(handle)
    except (FileNotFoundError, ValueError):
        raise StatefulError(
            f"The process that did the work ended unexpectedly ({_describe(status)}); its log is {log_path}.",
            state="unfinished: the journal holds every step that was made",
            next_command="run the same task again: it resumes or rolls back by itself",
        ) from None
    if outcome["kind"] == FAILED:
        raise _rebuilt(outcome["result"])
    result: dict[str, Any] = outcome["result"]
    return result


def _child(work: Callable[[], dict[str, Any]], result_path: str, log_path: str) -> None:
    # Never returns: the module's own exit path (temporary files, results on
    # stdout) belongs to the parent.
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDONLY)
        log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        try:
            outcome = {"kind": OK, "result": work()}
        except StatefulError as error:
            outcome = {"kind": FAILED, "result": error.as_result()}
        _write(result_path, outcome)
        status = 0
    except BaseException:  # noqa: BLE001 - this process ends here, and its log says why
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _rebuilt(result: dict[str, Any]) -> StatefulError:
    known = ("msg", "state", "copies", "safe_to_rerun", "next_command")
    facts = {key: value for key, value in result.items() if key not in known}
    return StatefulError(
        result["msg"],
        state=result["state"],
        copies=result["copies"],
        safe_to_rerun=result["safe_to_rerun"],
        next_command=result["next_command"],
        **facts,
    )


def _describe(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit {os.WEXITSTATUS(status)}"


def _write(path: str, outcome: dict[str, Any]) -> None:
    draft = f"{path}.draft"
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        json.dump(outcome, stream)
    os.rename(draft, path)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
