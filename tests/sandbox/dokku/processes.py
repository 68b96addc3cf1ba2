# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``ps:*``: an app's processes."""

from __future__ import annotations

import json

from . import config, variables
from .deploy import STOP_S, containers, deploy, end, formation, write_formation
from .ground import Host
from .words import Fail, info1, info2, plain, quiet, verbose, warn

__all__ = ["COMMANDS", "deploy", "running", "start", "stop"]


def running(host: Host, app: str) -> str:
    """Return ``true``, ``false`` or ``mixed``."""
    states = {host.docker.state(container) == "running" for container in containers(host, app).values()}
    return "mixed" if len(states) > 1 else str(states == {True}).lower()


def stop(host: Host, app: str) -> None:
    """Stop an app's processes; how many there are to be is kept."""
    found = containers(host, app)
    if not found:
        warn(f"App {app} has not been deployed")
        return
    info1(f"Stopping {app}")
    for container in found.values():
        if host.docker.state(container):
            host.docker.stop(container, STOP_S)
    config.set_many(host, app, {variables.RESTORE: "0"}, restart=False)


def start(host: Host, app: str) -> None:
    """Start an app's processes where not all of them run."""
    if not containers(host, app):
        warn(f"App {app} has not been deployed")
        return
    state = running(host, app)
    if state == "true":
        warn(f"App {app} already running")
        return
    if state == "mixed":
        warn("App is running in mixed mode, releasing")
    info1(f"Starting {app}")
    deploy(host, app)


def _one(args: list[str]) -> str:
    if not args:
        raise Fail("Please specify an app to run the command on")
    return args[0]


def _stop(host: Host, args: list[str]) -> None:
    app = _one(args)
    host.app(app)
    stop(host, app)


def _start(host: Host, args: list[str]) -> None:
    app = _one(args)
    host.app(app)
    start(host, app)


def _restart(host: Host, args: list[str]) -> None:
    app = _one(args)
    host.app(app)
    info1(f"Restarting {app}")
    deploy(host, app, args[1] if len(args) > 1 else "")


def _retire(host: Host, _args: list[str]) -> None:
    for app in host.apps():
        end(host, host.get_property("ps", app, "retire").split())
        host.set_property("ps", app, "retire", "")


def _scale(host: Host, args: list[str]) -> None:
    flags = [arg for arg in args if arg.startswith("--")]
    words = [arg for arg in args if not arg.startswith("--") and arg not in ("json", "stdout")]
    app = _one(words)
    host.app(app)
    if len(words) == 1:
        _show_scale(host, app, as_json="json" in args or "--format=json" in flags)
        return
    changes = {}
    for word in words[1:]:
        kind, equals, count = word.partition("=")
        if not equals:
            raise Fail(f"Missing count for process type {word}")
        if not count.isdigit():
            raise Fail(f"Invalid count for process type {kind}")
        changes[kind] = int(count)
    write_formation(host, app, {**formation(host, app), **changes})
    if "--skip-deploy" not in flags and containers(host, app):
        for kind in changes:
            deploy(host, app, kind)


def _show_scale(host: Host, app: str, *, as_json: bool) -> None:
    found = sorted(formation(host, app).items())
    if as_json:
        plain(json.dumps([{"process_type": kind, "quantity": count} for kind, count in found], separators=(",", ":")))
        return
    if not quiet():
        info1(f"Scaling for {app}")
        plain("proctype: qty")
        plain("--------: ---")
    for kind, count in found:
        plain(f"{kind + ':':<5} {count}")


def _report(host: Host, args: list[str]) -> None:
    flags = [arg for arg in args if arg.startswith("--")]
    words = [arg for arg in args if not arg.startswith("--") and arg != "json"]
    for app in words[:1] or host.apps():
        host.app(app)
        report = _facts(host, app)
        if "json" in args or "--format=json" in flags:
            plain(json.dumps(report, separators=(",", ":")))
        elif flags:
            key = flags[0].removeprefix("--")
            if key not in report:
                valid = ", ".join(f"--{name}" for name in sorted(report))
                raise Fail(f"Invalid flag passed, valid flags: {valid}")
            plain(report[key])
        else:
            info2(f"{app} ps information")
            for name, value in report.items():
                verbose(f"{name.replace('-', ' ').capitalize() + ':':<30} {value}".rstrip())


def _facts(host: Host, app: str) -> dict[str, str]:
    found = containers(host, app)
    restore = variables.load(host, app).get(variables.RESTORE) != "0"
    states = {
        f"status-{process.replace('.', '-')}": f"{host.docker.state(container) or 'missing'} (CID: {container[:11]})"
        for process, container in found.items()
    }
    return dict(
        sorted(
            {
                "computed-stop-timeout-seconds": str(STOP_S),
                "deployed": str(bool(found)).lower(),
                "processes": str(sum(formation(host, app).values())),
                "ps-can-scale": "true",
                "ps-computed-procfile-path": "Procfile",
                "ps-global-procfile-path": "Procfile",
                "ps-procfile-path": "",
                "ps-restart-policy": "on-failure:10",
                "restore": str(restore).lower(),
                "running": running(host, app),
                **states,
            }.items()
        )
    )


COMMANDS = {
    "ps:report": _report, "ps:scale": _scale, "ps:stop": _stop, "ps:start": _start, "ps:restart": _restart,
    "ps:retire": _retire,
}  # fmt: skip
