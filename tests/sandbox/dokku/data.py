# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``postgres:export`` and its like: the caller's input and output joined to a service's container."""

from __future__ import annotations

import os
import sys

from .ground import Host
from .service import Service, existing
from .services import dump_command, restore_command
from .words import Fail, warn


def _export(host: Host, args: list[str]) -> int:
    return host.docker.pass_on(*dump_command(existing(host, args[0] if args else "")))


def _import(host: Host, args: list[str]) -> int:
    service = existing(host, args[0] if args else "")
    if sys.stdin.isatty():
        raise Fail("No data provided on stdin.")
    if host.fault("import-half-way", service.name):
        data = sys.stdin.buffer.read()
        # A small dump is all catalogue but for its end.
        kept = len(data) // 2 if len(data) > 40_000 else max(0, len(data) - 200)
        return host.docker.feed(*restore_command(service), data=data[:kept])
    return host.docker.pass_on(*restore_command(service))


def _container(service: Service) -> str:
    if service.status == "missing":
        raise Fail("Service container does not exist")
    if not service.running:
        raise Fail("Service container is not running")
    return service.id


def _terminal() -> list[str]:
    return ["-i", "-t"] if sys.stdin.isatty() else []


def _connect(host: Host, args: list[str]) -> int:
    service = existing(host, args[0] if args else "")
    return host.docker.pass_on(
        "container", "exec", "--env=LANG=C.UTF-8", "--env=LC_ALL=C.UTF-8", "-i", *_terminal()[1:], service.container,
        "psql", "-v", "ON_ERROR_STOP=1", "-h", "localhost", "-U", "postgres", service.database,
    )  # fmt: skip


def _enter(host: Host, args: list[str]) -> int:
    service = existing(host, args[0] if args else "")
    command = args[1:] or ["/bin/bash"]
    return host.docker.pass_on("container", "exec", *_terminal(), _container(service), *command)


def _logs(host: Host, args: list[str]) -> int:
    service = existing(host, args[0] if args else "")
    if service.status == "missing":
        raise Fail("Service container does not exist")
    if not service.running:
        warn("Service logs may not be output as service is not running")
    counts = [arg for arg in args[1:] if arg.isdigit()]
    follow = ["--follow"] if {"-t", "--tail"} & set(args[1:]) else []
    os.dup2(sys.stdout.fileno(), sys.stderr.fileno())
    return host.docker.pass_on("container", "logs", *follow, "--tail", *(counts or ["all"]), service.id)


COMMANDS = {
    "postgres:export": _export, "postgres:import": _import, "postgres:connect": _connect, "postgres:enter": _enter,
    "postgres:logs": _logs,
}  # fmt: skip
