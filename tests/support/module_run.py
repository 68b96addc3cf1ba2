# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A module in a process of its own, started as Ansible starts one, and its answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from tests.tools import tree

MODULES = f"ansible_collections.{tree.COLLECTION}.plugins.modules"


def start(name: str, options: Mapping[str, Any], *, check: bool = False) -> subprocess.Popen[bytes]:
    """Start a module; :func:`answer_of` waits for it."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"{MODULES}.{name}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tree.link())},
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": {"_ansible_check_mode": check, **options}}).encode())
    process.stdin.close()
    return process


def answer_of(process: subprocess.Popen[bytes], timeout: float = 300.0) -> dict[str, Any]:
    """Return what the module answers, whether it succeeded or failed; an error that nobody foresaw is raised."""
    assert process.stdout is not None
    assert process.stderr is not None
    said, beside = process.stdout.read(), process.stderr.read()
    process.wait(timeout)
    try:
        answer: dict[str, Any] = json.loads(said)
    except ValueError:
        raise AssertionError(f"no answer: {said!r} {beside!r}") from None
    assert "exception" not in answer, answer["exception"]
    return answer
