# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An app's containers: new ones beside the old, checked, and then in their place."""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path

from . import cluster, service, variables
from .engine_calls import SANDBOX_LABEL
from .ground import Host
from .words import Fail, info1, info2, verbose, warn

PORT = 5000
CHECK_S = 60.0
STOP_S = 30
OPTIONS = "DOCKER_OPTIONS_DEPLOY"


def formation(host: Host, app: str) -> dict[str, int]:
    """Return how many processes of each type are wanted."""
    words = host.get_property("ps", app, "scale").split()
    return {kind: int(count) for kind, count in (word.split("=") for word in words)}


def write_formation(host: Host, app: str, wanted: dict[str, int]) -> None:
    """Note how many processes of each type are wanted."""
    host.set_property("ps", app, "scale", "\n".join(f"{kind}={count}" for kind, count in sorted(wanted.items())))


def containers(host: Host, app: str) -> dict[str, str]:
    """Return the ids of an app's containers by process, such as ``web.1``."""
    return {path.name.removeprefix("CONTAINER."): path.read_text().strip() for path in _files(host, app)}


def deploy(host: Host, app: str, only: str = "") -> None:
    """Replace the containers of an app, or of one type of process, by new ones."""
    image = host.get_property("git", app, "source-image")
    if not image:
        raise Fail(f"App {app} has not been deployed")
    _start_linked(host, app)
    started: dict[str, str] = {}
    wanted = {kind: count for kind, count in formation(host, app).items() if only in ("", kind)}
    try:
        for kind, count in sorted(wanted.items(), key=lambda item: item[0] != "web"):
            if count:
                info1(f"Deploying {kind} (count={count})")
            for index in range(1, count + 1):
                process = f"{kind}.{index}"
                started[process] = _create(host, app, process, image)
                host.docker.start(started[process])
        for process, container in started.items():
            _check(host, process, container)
    except Fail:
        # The old ones stay as they are.
        for container in started.values():
            host.docker.remove(container)
        raise
    _swap(host, app, started, wanted)
    kept = variables.load(host, app)
    if kept.pop(variables.RESTORE, None) is not None:
        variables.save(host, app, kept)
    info2(f"Application deployed: {app}")


def _start_linked(host: Host, app: str) -> None:
    """Start the services that the app is linked to, as the plugin does before every start of an app."""
    for linked in service.every(host):
        if app in linked.links and not linked.running:
            warn(f"Service {linked.name} is not running, issuing service start")
            cluster.start(linked)


def _create(host: Host, app: str, process: str, image: str) -> str:
    options = [word for line in docker_options(host, app) for word in shlex.split(line)]
    network = host.get_property("network", app, "initial-network")
    values = {**variables.load(host, app), "PORT": str(PORT), "DYNO": process}
    for fault in ("app-does-not-start", "app-does-not-answer"):
        if host.fault(fault, app):
            values["SANDBOX_APP_FAULT"] = fault
    kind = process.partition(".")[0]
    return host.docker.run(
        "container", "create",
        f"--name={app}.{process}.upcoming-{os.urandom(4).hex()}",
        f"--label={host.label}", f"--label={SANDBOX_LABEL}", "--label=dokku", f"--label=com.dokku.app-name={app}",
        "--label=com.dokku.container-type=deploy", f"--label=com.dokku.process-type={kind}",
        f"--label=com.dokku.dyno={process}",
        *([f"--network={network}"] if network else []),
        *(f"--env={key}={value}" for key, value in values.items()),
        *options, image, kind,
    ).stdout.strip()  # fmt: skip


def docker_options(host: Host, app: str) -> list[str]:
    """Return the options that an app's containers are made with, one to a line."""
    path = host.app(app) / OPTIONS
    return path.read_text().splitlines() if path.exists() else []


def write_docker_options(host: Host, app: str, options: list[str]) -> None:
    """Write the options that an app's containers are made with."""
    (host.app(app) / OPTIONS).write_text("".join(f"{option}\n" for option in options))


def _check(host: Host, process: str, container: str) -> None:
    """Wait until web listens; of other processes it is enough that they run."""
    deadline = time.monotonic() + CHECK_S
    while True:
        found = host.docker.inspect(container)
        if found is None or found["State"]["Status"] != "running" or found["RestartCount"]:
            logs = host.docker.run("container", "logs", container, check=False)
            raise Fail(f"App container failed to start!!\n{logs.stdout}{logs.stderr}".strip())
        if not process.startswith("web.") or cluster.listens(host.docker.address(container), PORT):
            return
        if time.monotonic() > deadline:
            raise Fail(f"Could not start due to 1 failed checks: {process} does not listen")
        time.sleep(0.05)


def _swap(host: Host, app: str, started: dict[str, str], wanted: dict[str, int]) -> None:
    """Give the new containers the names of the old, and end the old."""
    retired = []
    for path in _files(host, app):
        process = path.name.removeprefix("CONTAINER.")
        if process.partition(".")[0] in wanted:
            container = path.read_text().strip()
            if host.docker.state(container):
                host.docker.rename(container, f"{app}.{process}.{time.time_ns() // 1000}")
                retired.append(container)
            path.unlink()
    for process, container in started.items():
        host.docker.rename(container, f"{app}.{process}")
        (host.home / app / f"CONTAINER.{process}").write_text(f"{container}\n")
    if host.fault("late-retirement", app):
        pending = host.get_property("ps", app, "retire").split()
        host.set_property("ps", app, "retire", "\n".join([*pending, *retired]))
        for container in retired:
            verbose(f"Container {container[:12]} will be retired in 60 seconds")
    else:
        end(host, retired)


def end(host: Host, ids: list[str]) -> None:
    """Stop and remove containers."""
    for container in ids:
        if host.docker.state(container):
            host.docker.stop(container, STOP_S)
            host.docker.remove(container)


def _files(host: Host, app: str) -> list[Path]:
    return sorted(host.app(app).glob("CONTAINER.*"))
