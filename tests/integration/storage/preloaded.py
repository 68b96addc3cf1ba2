# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes of the modules, forked from one that has imported all that they import.

Hundreds of runs would each spend a second on their imports. What is forked is a process
like one that was started: its own arguments, environment, streams, pid and exit code.

Started by itself (``python -m tests.integration.storage.preloaded <descriptor>``) this is the
process that is forked from. A request is one message on the socket: argv and environment,
with the run's three streams and a line, on which come back its pid and, at its end, its
exit code as ``subprocess`` has it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import IO, Any

from tests.tools import tree

MODULES = "ansible_collections.selfhost.stateful.plugins.modules"
RUNNER = "tests.integration.storage.runner"
PRELOADED = (RUNNER, f"{MODULES}.compose_storage", f"{MODULES}.operation", "docker", "psycopg", "yaml")
LARGEST = 1 << 16


class Forked:
    """A run that was forked; what the tests use of it is what ``subprocess.Popen`` has."""

    def __init__(self, line: socket.socket, stdin: IO[str], stdout: IO[str]) -> None:
        self._line = line
        self.stdin, self.stdout = stdin, stdout
        self.returncode: int | None = None
        self.pid = int(line.recv(LARGEST))

    def poll(self) -> int | None:
        """Return the exit code, or None where it still runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code."""
        if self.returncode is None:
            if not select.select([self._line], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.returncode = int(self._line.recv(LARGEST))
            self._line.close()
        return self.returncode

    def kill(self) -> None:
        """Kill it, where it still runs."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def start(argv: Sequence[str], env: Mapping[str, str], stderr: IO[str]) -> Forked:
    """Run a module as ``python -m`` would: ``argv`` begins with its name."""
    server = _server()
    line, far_line = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    into, stdin = os.pipe()
    stdout, out_of = os.pipe()
    theirs = [into, out_of, stderr.fileno(), far_line.fileno()]
    try:
        socket.send_fds(server, [json.dumps({"argv": argv, "env": dict(env)}).encode()], theirs)
    finally:
        os.close(into)
        os.close(out_of)
        far_line.close()
    return Forked(line, os.fdopen(stdin, "w"), os.fdopen(stdout))


@functools.cache
def _server() -> socket.socket:
    """Start the process that is forked from; it ends with this one."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    path = os.pathsep.join([str(tree.link()), str(tree.ROOT)])
    with far:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.storage.preloaded", str(far.fileno())],
            stdin=subprocess.DEVNULL, pass_fds=[far.fileno()], env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
    atexit.register(_end, near, server)
    return near


def _end(near: socket.socket, server: subprocess.Popen[bytes]) -> None:
    near.close()
    server.wait()


def serve(control: socket.socket) -> None:
    """Fork for each request, and tell each run's end, until nobody asks any more."""
    for name in PRELOADED:
        importlib.import_module(name)
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _events in selector.select():
                if key.fileobj is control:
                    request, descriptors, _flags, _address = socket.recv_fds(control, LARGEST, 4)
                    if not request:
                        return
                    child, line = _fork(json.loads(request), descriptors)
                    selector.register(os.pidfd_open(child), selectors.EVENT_READ, (child, line))
                else:
                    selector.unregister(key.fileobj)
                    os.close(key.fd)
                    _tell_end(*key.data)


def _fork(request: Mapping[str, Any], descriptors: Sequence[int]) -> tuple[int, socket.socket]:
    *streams, number = descriptors
    child = os.fork()
    if child == 0:
        _become(request, streams)
    for stream in streams:
        os.close(stream)
    line = socket.socket(fileno=number)
    line.send(str(child).encode())
    return child, line


def _tell_end(child: int, line: socket.socket) -> None:
    _pid, status = os.waitpid(child, 0)
    # The test that asked may have ended without waiting.
    with line, contextlib.suppress(BrokenPipeError):
        line.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(request: Mapping[str, Any], streams: Sequence[int]) -> None:
    """Be the run that was asked for; never returns."""
    code = 1
    try:
        for target, stream in enumerate(streams):
            os.dup2(stream, target)
        # Nothing of the server's: a worker that outlives its run would keep the socket open.
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.environ.clear()
        os.environ.update(request["env"])
        module, *arguments = request["argv"]
        sys.argv = [module, *arguments]
        importlib.import_module(module).main()
        code = 0
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter would end with it
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
