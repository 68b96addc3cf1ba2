# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The postmaster of a container: its lock file, and its process on this host."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import logs_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import paths

PID_FILE = "postmaster.pid"
READY = "ready"


@dataclass(frozen=True)
class PidFile:
    """``postmaster.pid``; the pid is that of the container's own pid namespace.

    ``status`` is empty before 10 and else starting, stopping, ready or standby;
    ``listen_address`` is empty where the server has no TCP port open.
    """

    pid: int
    data_directory: str
    port: int
    socket_directory: str
    listen_address: str
    status: str


@dataclass(frozen=True)
class Postmaster:
    """The process of the server as this host sees it."""

    pid: int
    is_main: bool
    argv: tuple[str, ...]


def parse_pid_file(text: str) -> PidFile:
    """Parse the lock file; raises ``ValueError`` for one that is not written completely yet."""
    lines = text.split("\n") + [""] * 8
    return PidFile(
        pid=abs(int(lines[0])),  # negative in a single-user server
        data_directory=lines[1],
        port=int(lines[3]),
        socket_directory=lines[4].strip(),
        listen_address=lines[5].strip(),
        status=lines[7].strip(),
    )


def read_pid_file(data_directory: str) -> PidFile | None:
    """Read the lock file below a path on this host; None where there is none, or half of one."""
    try:
        with open(os.path.join(data_directory, PID_FILE), encoding="utf-8", errors="replace") as file:
            return parse_pid_file(file.read(4096))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def find_postmaster(container: Container, data_directory: str) -> Postmaster:
    """Return the server's process; ``data_directory`` as the container names it.

    The container's main process need not be the server: an init (``init: true``) or
    a shell may stand in front of it, and may swallow the signals meant for it.
    """
    lock = read_pid_file(paths.seen_path(container, data_directory))
    if lock is None:
        raise StatefulError(
            f"No server runs on {data_directory} in the container {container.name}.",
            next_command=logs_of(container.name),
        )
    namespace = _namespace(container.pid)
    for pid in _processes():
        if _namespace(pid) == namespace and _inner_pid(pid) == lock.pid:
            return Postmaster(pid=pid, is_main=pid == container.pid, argv=argv_of(pid))
    raise StatefulError(
        f"{PID_FILE} in {data_directory} of {container.name} names process {lock.pid}, which does not run.",
        next_command=logs_of(container.name),
    )


def programs_in(container: Container) -> list[tuple[str, ...]]:
    """Return the command lines of all that runs in a container, also of what was started in it later."""
    namespace = _namespace(container.pid)
    found = []
    for pid in _processes() if namespace else []:
        if _namespace(pid) == namespace:
            try:
                found.append(argv_of(pid))
            except OSError:  # it ended meanwhile
                continue
    return found


def command_lines() -> list[tuple[str, ...]]:
    """Return the command lines of all that runs on this host."""
    found = []
    for pid in _processes():
        try:
            found.append(argv_of(pid))
        except OSError:  # it ended meanwhile
            continue
    return found


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:  # it ended meanwhile
        return ""


def _inner_pid(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("NSpid:"):
                    return int(line.split()[-1])
    except OSError:
        return 0
    return pid


def parent_of(pid: int) -> int:
    """Return the process that a process is the child of, as this host sees both; 0 where it has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def argv_of(pid: int) -> tuple[str, ...]:
    """Return the command line of a process; raises OSError where it has ended."""
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return tuple(os.fsdecode(part) for part in file.read().split(b"\0")[:-1])
