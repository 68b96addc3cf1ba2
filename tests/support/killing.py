# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A module that is killed at a step, as a host that loses its power would kill it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

from tests.sandbox._base import wait_for


def kill_worker(process: subprocess.Popen[bytes], operations: Path, step: str, *, what: str = "intent") -> None:
    """Kill the process that works, and the one that waits, once the journal has ``what`` of ``step``."""

    def begun() -> bool:
        # Not of a draft: it gets its name between the listing and the reading.
        journals = [journal.read_text() for journal in operations.glob("[!.]*/journal.jsonl")]
        # The last line may be half written.
        found = [json.loads(line) for text in journals for line in text.splitlines(True) if line.endswith("\n")]
        return any(line.get("what") == what and line.get("step") == step for line in found)

    wait_for(lambda: begun() or process.poll() is not None, f"the step {step} begins", timeout=240, every=0.005)
    assert process.poll() is None, f"it ended before {step}"
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(child), signal.SIGKILL)
    process.kill()
    process.wait()
    time.sleep(0.05)
