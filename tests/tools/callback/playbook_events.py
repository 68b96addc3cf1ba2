# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tells what a playbook does, one JSON object a line, while Ansible's own output goes to a log."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: playbook_events
type: notification
short_description: Results as JSON lines
description:
  - Writes to the file descriptor that the environment variable PLAYBOOK_EVENTS names.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """One event for each result."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "playbook_events"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._sink = os.fdopen(os.dup(int(os.environ["PLAYBOOK_EVENTS"])), "w")
        self._started = time.monotonic()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Note when a task starts."""
        self._started = time.monotonic()

    def v2_runner_on_ok(self, result: Any) -> None:
        """Hand on what a task returned."""
        self._result("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Hand on how a task failed."""
        self._result("ignored" if ignore_errors else "failed", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Hand on that the host was not reached."""
        self._result("failed", result)

    def _result(self, event: str, result: Any) -> None:
        task = result._task
        data = {key: value for key, value in result._result.items() if not key.startswith(("_", "ansible_"))}
        told = {
            "event": event, "task": task.get_name().strip(), "action": task.action, "result": data,
            "seconds": time.monotonic() - self._started,
        }  # fmt: skip
        print(json.dumps(told, default=str), file=self._sink, flush=True)
