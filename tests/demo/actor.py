# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plays the scene on the engine's host for a demo that may run elsewhere: a JSON request a line, an answer a line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from tests.sandbox._base import SandboxError

from .scene import Scene


class Actor:
    """The scene in another process, here or at the other end of ssh."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [*argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def __call__(self, request: str, *args: Any) -> Any:
        """Have one method of the scene called and return its answer."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise SandboxError("the demo's actor has no pipes")
        try:
            stdin.write(json.dumps([request, *args]) + "\n")
            stdin.flush()
        except BrokenPipeError:
            line = ""
        else:
            line = stdout.readline()
        if not line:
            raise SandboxError(f"the demo's actor ended with {self._process.wait()} while asked to {request}")
        answer = json.loads(line)
        if "error" in answer:
            raise SandboxError(answer["error"])
        return answer["answer"]

    def close(self) -> None:
        """End the process; it stops writing by itself when its input ends."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait()


def serve() -> int:
    """Answer requests until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    # Whatever else prints must not come between the answers.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    scene = Scene()
    for line in sys.stdin:
        request, *args = json.loads(line)
        try:
            answer: dict[str, Any] = {"answer": getattr(scene, request)(*args)}
        except SandboxError as exc:
            answer = {"error": str(exc)}
        print(json.dumps(answer), file=answers, flush=True)
    scene.stop_writing()
    return 0


if __name__ == "__main__":
    sys.exit(serve())
