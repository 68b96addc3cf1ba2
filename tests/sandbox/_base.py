# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Places, the one label, and the one way in which the sandbox runs programs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

LABEL = "selfhost.stateful.sandbox"
IMAGE_PREFIX = "selfhost-sandbox"
PROJECT_PREFIX = "sfs-"

# Everything that needs root lives here; nothing of an engine that the user runs does.
STATE_DIR = Path("/var/lib/selfhost-sandbox")
RUN_DIR = Path("/run/selfhost-sandbox")

T = TypeVar("T")


class SandboxError(Exception):
    """One clear sentence for the person who ran the command; the command exits with 2."""


def cache_root() -> Path:
    """Return the sandbox's cache folder, which need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base, "selfhost-stateful-sandbox")


def cache_dir(*parts: str) -> Path:
    """Return (and create) a folder below the sandbox's cache folder."""
    path = cache_root().joinpath(*parts)
    path.mkdir(parents=True, exist_ok=True)
    return path


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    input: str | None = None,
    cwd: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``argv`` with ``env`` added to the environment; raise with the program's own words if it fails."""
    args = [os.fspath(arg) for arg in argv]
    try:
        done = subprocess.run(
            args,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            input=input,
            stdin=None if input is not None else subprocess.DEVNULL,
            cwd=cwd,
            timeout=timeout,
            env={**os.environ, **(env or {})},
        )
    except FileNotFoundError as exc:
        raise SandboxError(f"{args[0]} is not installed") from exc
    if check and done.returncode != 0:
        words = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-15:])
        raise SandboxError(f"{' '.join(args)} failed with {done.returncode}: {words}")
    return done


def wait_for(
    probe: Callable[[], T | None],
    what: str,
    *,
    timeout: float = 60.0,
    every: float = 0.05,
) -> T:
    """Ask ``probe`` until it answers something true; raise when ``timeout`` seconds are over."""
    deadline = time.monotonic() + timeout
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise SandboxError(f"{what}: not reached within {timeout:.0f} s")
        time.sleep(every)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive ``flock`` on ``path``; the kernel drops it when the holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
