# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the program calls the engine: by its API, which is ten times faster, and by the client for the rest."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

from .words import Fail

# A plain label, so that whatever removes the sandbox's things finds these too.
SANDBOX_LABEL = "selfhost.stateful.sandbox=1"


@dataclass(frozen=True)
class Docker:
    """The client and the address of the engine."""

    client: str
    host: str

    def run(self, *args: str, check: bool = True, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Call the client and keep what it prints; where it fails, the subcommand ends with its words and code."""
        done = subprocess.run(
            [self.client, *args],
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            input=input,
            stdin=None if input is not None else subprocess.DEVNULL,
            env=self._env,
        )
        if check and done.returncode != 0:
            raise Fail(done.stderr, done.returncode, marked=False)
        return done

    def out(self, *args: str) -> str:
        """Return what the client printed, nothing where it failed."""
        done = self.run(*args, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    def pass_on(
        self, *args: str, stdout: IO[Any] | int | None = None, stdin: IO[Any] | int | None = None, errors: bool = True
    ) -> int:
        """Call the client on the caller's own input and output and return its exit code."""
        stderr = None if errors else subprocess.DEVNULL
        return subprocess.run(
            [self.client, *args], check=False, stdin=stdin, stdout=stdout, stderr=stderr, env=self._env
        ).returncode

    def feed(self, *args: str, data: bytes) -> int:
        """Call the client with ``data`` on its input and return its exit code."""
        return subprocess.run([self.client, *args], check=False, input=data, env=self._env).returncode

    def piped(self, source: Sequence[str], target: Sequence[str]) -> None:
        """Let the client's output be another's input; what either says, and how it ends, is lost."""
        with subprocess.Popen(
            [self.client, *source], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=self._env,
        ) as first:  # fmt: skip
            self.pass_on(*target, stdin=first.stdout, stdout=subprocess.DEVNULL, errors=False)
            if first.stdout is not None:
                first.stdout.close()

    def inspect(self, container: str) -> dict[str, Any] | None:
        """Return what the engine says of a container; None where there is none."""
        return self._ask(f"/containers/{container}/json") if container else None

    def state(self, container: str) -> str:
        """Return a container's state in the engine's word, empty where there is none."""
        found = self.inspect(container)
        return str(found["State"]["Status"]) if found else ""

    def image(self, image: str) -> dict[str, Any] | None:
        """Return what the engine says of an image; None where it is not there."""
        return self._ask(f"/images/{urllib.parse.quote(image, safe='/:')}/json")

    def address(self, container: str) -> str:
        """Return a container's address in its first network, empty where it has none."""
        found = self.inspect(container)
        networks = found["NetworkSettings"]["Networks"].values() if found else ()
        return next((str(network["IPAddress"]) for network in networks if network["IPAddress"]), "")

    def start(self, container: str) -> None:
        """Start a container."""
        self._do("POST", f"/containers/{container}/start")

    def stop(self, container: str, seconds: int = 10) -> None:
        """Stop a container, with force after so many seconds."""
        self._do("POST", f"/containers/{container}/stop?t={seconds}")

    def rename(self, container: str, name: str) -> None:
        """Give a container another name."""
        self._do("POST", f"/containers/{container}/rename?name={urllib.parse.quote(name)}")

    def remove(self, container: str) -> None:
        """Remove a container, running or not; its volumes stay."""
        self._do("DELETE", f"/containers/{container}?force=1")

    def _ask(self, path: str) -> dict[str, Any] | None:
        status, body = self._call("GET", path)
        return dict(json.loads(body)) if status == 200 else None

    def _do(self, method: str, path: str) -> None:
        status, body = self._call(method, path)
        if status >= 400:
            raise Fail(f"Error response from daemon: {json.loads(body)['message']}", marked=False)

    def _call(self, method: str, path: str) -> tuple[int, bytes]:
        """Speak the oldest HTTP, in which an answer ends where the connection does: its library takes long to load."""
        answer = b""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(60)
                connection.connect(self.host.removeprefix("unix://"))
                connection.sendall(f"{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Length: 0\r\n\r\n".encode())
                while chunk := connection.recv(65536):
                    answer += chunk
        except OSError as exc:
            raise Fail(f"Cannot connect to the Docker daemon at {self.host}: {exc}", marked=False) from exc
        head, _empty, body = answer.partition(b"\r\n\r\n")
        return int(head.split(maxsplit=2)[1]), body

    @property
    def _env(self) -> dict[str, str]:
        return {**os.environ, "DOCKER_HOST": self.host}
