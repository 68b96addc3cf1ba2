# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Starts and ends the stand-in for Heroku that the scenario ``heroku`` runs against."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path


def start(place: Path) -> None:
    """Start it in a session of its own; its address goes to ``heroku.url``, its process id to ``heroku.pid``."""
    argv = [sys.executable, "-m", "tests.sandbox.heroku"]
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    (place / "heroku.pid").write_text(str(process.pid))
    (place / "heroku.url").write_text(process.stdout.readline())


def stop(place: Path) -> None:
    """End it, where it runs."""
    note = place / "heroku.pid"
    if note.exists():
        try:
            os.kill(int(note.read_text()), signal.SIGTERM)
        except ProcessLookupError:
            pass
        note.unlink()


if __name__ == "__main__":
    {"start": start, "stop": stop}[sys.argv[1]](Path(sys.argv[2]))
