# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A dockerd as a process: its command line, its start, its end, and what it leaves mounted."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from ._base import SandboxError, run, wait_for


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the engine's Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def answers(host: str, *, timeout: float = 3.0) -> bool:
    """Tell whether an engine answers at ``host``."""
    if not host.startswith("unix://"):
        client = shutil.which("docker")
        return client is not None and run([client, "-H", host, "version"], check=False, timeout=20).returncode == 0
    connection = UnixConnection(host.removeprefix("unix://"), timeout)
    try:
        connection.request("GET", "/_ping")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def program() -> str | None:
    """Return the path of dockerd, which lies outside of many users' PATH."""
    return shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin")


def pid_of(pid_file: Path, socket_path: str) -> int | None:
    """Return the pid in ``pid_file`` if it is a dockerd on ``socket_path`` (a pid may have been reused)."""
    try:
        pid = int(pid_file.read_text())
        cmdline = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except (OSError, ValueError):
        return None
    return pid if f"unix://{socket_path}" in cmdline else None


def start(argv: list[str], host: str, log: Path) -> int:
    """Start a dockerd detached from this session, wait until it answers at ``host`` and return its pid."""
    pid_file = Path(argv[argv.index("--pidfile") + 1])
    if pid_of(pid_file, host.removeprefix("unix://")) is None:
        # Left by one that was killed: a new one would refuse to start if that pid is somebody else's by now.
        pid_file.unlink(missing_ok=True)
    with log.open("ab") as sink:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True)

    def ready() -> bool:
        if process.poll() is not None:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
            raise SandboxError(f"dockerd ended with {process.returncode} while starting: {tail}")
        return answers(host)

    wait_for(ready, f"dockerd answers at {host}")
    return process.pid


def stop(pid: int, *, sig: signal.Signals = signal.SIGTERM, timeout: float = 60.0) -> None:
    """Signal a dockerd that the sandbox started and wait until it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sig)
    wait_for(lambda: not alive(pid), f"dockerd {pid} ends", timeout=timeout)


def alive(pid: int) -> bool:
    """Tell whether process ``pid`` runs (a zombie, reaped here if it is our child, does not)."""
    with contextlib.suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def unmount_below(*roots: Path) -> None:
    """Unmount what an engine left mounted below ``roots``, deepest first, and its mount of a root upon itself."""
    for inner, point in sorted(_mounts(), key=lambda mount: len(mount[1]), reverse=True):
        # A file system that the caller mounted at the root has "/" as its inner path and stays.
        upon_itself = inner != "/" and any(point == str(root) for root in roots)
        if upon_itself or any(point.startswith(f"{root}/") for root in roots):
            run(["umount", "--lazy", point], check=False)


def _mounts() -> list[tuple[str, str]]:
    """Return for each mount its path within its file system and where it is mounted, octal escapes resolved."""
    fields = (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [(entry[3], re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), entry[4])) for entry in fields]


def command_line(*, data_root: Path, run_dir: Path, socket_path: Path, extra: tuple[str, ...] = ()) -> list[str]:
    """Return the command line of a dockerd that shares no file with an engine of the machine's."""
    run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    data_root.mkdir(parents=True, exist_ok=True, mode=0o711)
    # An empty configuration file of our own: /etc/docker/daemon.json belongs to the machine's engine.
    config = run_dir / "daemon.json"
    config.write_text(json.dumps({}))
    path = program()
    if path is None:
        raise SandboxError("dockerd is not installed")
    return [
        path, "--config-file", str(config),
        "--data-root", str(data_root), "--exec-root", str(run_dir / "exec"),
        "--pidfile", str(run_dir / "docker.pid"), "--host", f"unix://{socket_path}",
        "--storage-driver", "overlay2", *extra,
    ]  # fmt: skip


def in_this_namespace() -> int | None:
    """Return the process id of a dockerd in this network namespace, if there is one."""
    here = os.stat("/proc/self/ns/net").st_ino
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            same = os.stat(process / "ns/net").st_ino == here
            if same and (process / "comm").read_text().strip() == "dockerd":
                return int(process.name)
    return None
