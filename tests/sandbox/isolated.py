# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A private engine that a test may restart or kill without disturbing anybody else's."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

from . import apt, dockerd
from ._base import RUN_DIR, STATE_DIR, SandboxError, run, wait_for
from .engine import Engine, remove_labelled, up


class IsolatedEngine:
    """A dockerd in a network namespace of its own: two engines in one take each other's bridge away.

    Only the network is its own; files, processes and mounts are this machine's, so
    that volumes and ``/proc/<pid>/root`` are reached as with any engine.
    """

    def __init__(self, data_root: Path | None = None, *, live_restore: bool = False) -> None:
        self._id = f"sfs-{secrets.token_hex(4)}"
        self._own_root = data_root is None
        self.data_root = data_root or STATE_DIR / "isolated" / self._id
        self._run_dir = RUN_DIR / self._id
        self._socket = self._run_dir / "docker.sock"
        self._live_restore = live_restore
        self._shared: Engine | None = None

    @property
    def host(self) -> str:
        """The address for DOCKER_HOST."""
        return f"unix://{self._socket}"

    @property
    def engine(self) -> Engine:
        """This engine, for projects, prober and images."""
        return Engine(host=self.host, ours=True, client=self._borrowed().client)

    @property
    def pid(self) -> int | None:
        """The process id of its dockerd, if it lives."""
        return dockerd.pid_of(self._run_dir / "docker.pid", str(self._socket))

    def start(self) -> IsolatedEngine:
        """Make the namespace where there is none yet and start dockerd in it."""
        if os.geteuid() != 0:
            raise SandboxError("an engine of one's own needs root")
        if self._borrowed().host == self.host:
            raise SandboxError("DOCKER_HOST names the isolated engine itself")
        ip = apt.ensure_program("ip", "iproute2")
        if not Path("/run/netns", self._id).exists():
            run([ip, "netns", "add", self._id])
            run([ip, "-n", self._id, "link", "set", "lo", "up"])
        extra = ("--live-restore",) if self._live_restore else ()
        argv = dockerd.command_line(
            data_root=self.data_root, run_dir=self._run_dir, socket_path=self._socket, extra=extra
        )
        # A pid file left by a killed dockerd may name a process that lives again under that number.
        (self._run_dir / "docker.pid").unlink(missing_ok=True)
        # Not `ip netns exec`: that mounts a fresh /sys, and the control groups are gone.
        dockerd.start(["nsenter", f"--net=/run/netns/{self._id}", *argv], self.host, self._run_dir / "dockerd.log")
        return self

    def load_image(self, ref: str) -> None:
        """Copy an image from the shared engine."""
        shared = self._borrowed()
        with subprocess.Popen(
            [shared.client, "save", ref], stdout=subprocess.PIPE, env={**os.environ, **shared.env}
        ) as save:
            load = subprocess.run(
                [shared.client, "load", "-q"], stdin=save.stdout, capture_output=True, text=True, check=False,
                env={**os.environ, "DOCKER_HOST": self.host},
            )  # fmt: skip
        if save.returncode != 0 or load.returncode != 0:
            raise SandboxError(f"{ref} could not be copied to the isolated engine: {load.stderr.strip()}")

    def restart(self) -> None:
        """Stop and start dockerd, as an upgrade of its package would."""
        self._halt(signal.SIGTERM)
        self.start()

    def kill(self) -> None:
        """End dockerd at once, as the out-of-memory killer would.

        Its containers live on until it starts again; then it ends them and restarts those
        with ``restart: always`` (but not ``unless-stopped``, which it takes for stopped by hand).
        """
        self._halt(signal.SIGKILL)

    def stop(self) -> None:
        """End dockerd and with it its containers."""
        self._halt(signal.SIGTERM)

    def cleanup(self) -> None:
        """Remove all of it: containers, processes, mounts, namespace, files."""
        if self.pid is not None:
            with contextlib.suppress(SandboxError):
                remove_labelled(self.engine)
            self._halt(signal.SIGTERM)
        self._end_leftovers()
        dockerd.unmount_below(self.data_root, self._run_dir)
        if self._own_root:
            shutil.rmtree(self.data_root, ignore_errors=True)
        else:
            # The folder is the caller's; what the engine put into it is not.
            for entry in self.data_root.glob("*"):
                if entry.name != "lost+found":
                    shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
        if Path("/run/netns", self._id).exists():
            run([apt.ensure_program("ip", "iproute2"), "netns", "del", self._id])
        shutil.rmtree(self._run_dir, ignore_errors=True)

    def __enter__(self) -> IsolatedEngine:
        try:
            return self.start()
        except BaseException:
            self.cleanup()
            raise

    def __exit__(self, *_exc: object) -> None:
        self.cleanup()

    def _borrowed(self) -> Engine:
        """Return the engine that images are copied from."""
        if self._shared is None:
            self._shared = up()
        return self._shared

    def _halt(self, sig: signal.Signals) -> None:
        pid = self.pid
        if pid is not None:
            dockerd.stop(pid, sig=sig)

    def _end_leftovers(self) -> None:
        """End the containers and the containerd that a killed dockerd left; they all name our folder."""
        mark = str(self._run_dir / "exec").encode()
        for _round in range(2):
            # Shims first reap their container; a second look finds what they let go.
            pids = [pid for pid in _pids() if mark in _cmdline(pid)]
            for shim in pids:
                for child in _children(shim) if b"containerd-shim" in _cmdline(shim) else []:
                    _signal(child)
            for pid in pids:
                _signal(pid)
            self._await_end(pids)

    @staticmethod
    def _await_end(pids: list[int]) -> None:
        wait_for(lambda: not any(map(dockerd.alive, pids)), "the isolated engine's processes end", timeout=20)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]


def _cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _signal(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
