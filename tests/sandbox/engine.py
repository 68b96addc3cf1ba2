# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One Docker engine for everybody: the one that answers, or one of the sandbox's own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import apt, dockerd
from ._base import (
    IMAGE_PREFIX,
    LABEL,
    PROJECT_PREFIX,
    RUN_DIR,
    STATE_DIR,
    SandboxError,
    cache_root,
    locked,
    run,
    wait_for,
)

SOCKET = RUN_DIR / "docker.sock"
PID_FILE = RUN_DIR / "docker.pid"
DATA_ROOT = STATE_DIR / "engine"
DEFAULT_HOST = "unix:///var/run/docker.sock"
# As the collection labels the helpers of its operations.
OPERATION_LABEL = "selfhost.stateful.operation"
KEPT_IMAGES = "selfhost-stateful/kept"
NO_ENGINE = (
    "No Docker engine answers here and none can be installed: start Docker (or set DOCKER_HOST), "
    "or run this as root on Debian or Ubuntu."
)


class NotRunning(SandboxError):
    """No container of the service runs now; it may in a moment."""


@dataclass(frozen=True)
class Engine:
    """An engine that answers: its address, whether the sandbox started it, and the client to use."""

    host: str
    ours: bool
    client: str

    @property
    def env(self) -> dict[str, str]:
        """Environment variables that make every Docker client talk to this engine."""
        return {"DOCKER_HOST": self.host}

    def docker(self, *args: str, check: bool = True, input: str | None = None) -> str:
        """Run the Docker client against this engine and return what it printed."""
        return run([self.client, *args], check=check, env=self.env, input=input).stdout.strip()

    def containers(self, *labels: str, every: bool = False, **compose: str) -> list[dict[str, Any]]:
        """Return the containers that run (or ``every`` one) with all of these labels and compose's own.

        Compose's are named by their last word: ``project=``, ``service=``, ``oneoff=``.
        """
        wanted = [*labels, *(f"com.docker.compose.{key}={value}" for key, value in compose.items())]
        filters = json.dumps({"label": wanted, **({} if every else {"status": ["running"]})})
        return list(self.api(f"/containers/json?all={int(every)}&filters={urllib.parse.quote(filters)}"))

    def remove_helpers(self, prefix: str) -> None:
        """Remove what operations left on the engine for their commit, or when they failed; their names begin so."""
        for container in self.containers(OPERATION_LABEL, every=True):
            if container["Labels"][OPERATION_LABEL].startswith(prefix):
                self.docker("rm", "-fv", container["Id"], check=False)

    def remove_kept_images(self, prefix: str) -> None:
        """Remove the names under which operations kept images for a way back, of operations that begin so."""
        for name in self.docker("images", "--format", "{{.Repository}}:{{.Tag}}", KEPT_IMAGES).splitlines():
            if name.startswith(f"{KEPT_IMAGES}:{prefix}"):
                self.docker("rmi", name, check=False)

    def newest_container(self, project: str, service: str, *, every: bool = False) -> str | None:
        """Return the id of the container of a compose service that was made last, one-off runs aside."""
        found = self.containers(every=every, project=project, service=service, oneoff="False")
        return max(found, key=lambda container: container["Created"])["Id"] if found else None

    def first_process(self, project: str, service: str) -> int:
        """Return the pid of the newest container of a compose service that runs."""
        newest = self.newest_container(project, service)
        if newest is None:
            raise NotRunning(f"no container of {service} runs")
        pid = int(self.api(f"/containers/{newest}/json")["State"]["Pid"])
        if pid == 0:
            raise NotRunning(f"the container of {service} does not run")
        return pid

    def api(self, path: str) -> Any:
        """Ask the engine's API itself: a few milliseconds where starting the client costs fifty."""
        if not self.host.startswith("unix://"):
            raise SandboxError(f"this needs an engine on this machine, not {self.host}")
        connection = dockerd.UnixConnection(self.host.removeprefix("unix://"), 10.0)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            if response.status != 200:
                raise SandboxError(f"engine: {path}: {response.status} {body.decode(errors='replace').strip()}")
            return json.loads(body)
        except (OSError, http.client.HTTPException) as exc:
            raise SandboxError(f"engine at {self.host}: {exc}") from exc
        finally:
            connection.close()


def find() -> Engine | None:
    """Return the engine that answers: the one DOCKER_HOST names, the sandbox's own, the machine's."""
    own = f"unix://{SOCKET}"
    named = os.environ.get("DOCKER_HOST")
    for host in [named] if named else [own, _context_host()]:
        if dockerd.answers(host):
            return Engine(host=host, ours=host == own, client=_client())
    return None


def up() -> Engine:
    """Return an engine that answers, starting one of the sandbox's own where there is none."""
    named = os.environ.get("DOCKER_HOST")
    default = DEFAULT_HOST.removeprefix("unix://")
    if named is None and os.path.exists(default) and not os.access(default, os.R_OK | os.W_OK):
        raise SandboxError(f"This user may not talk to the Docker engine at {default}: join its group or run as root.")
    with _start_lock():
        engine = find()
        if engine is None and named not in (None, f"unix://{SOCKET}"):
            raise SandboxError(f"DOCKER_HOST is {named}, but no engine answers there.")
        if engine is None:
            _start_own()
            engine = find()
    if engine is None:
        raise SandboxError(f"the engine was started but does not answer; its log is {RUN_DIR / 'dockerd.log'}")
    return engine


def env_lines(engine: Engine) -> list[str]:
    """Return the shell lines that select this engine and a client with compose v2."""
    lines = [f"export DOCKER_HOST={engine.host}"]
    if shutil.which("docker") != engine.client:
        lines.append(f'export PATH={Path(engine.client).parent}:"$PATH"')
    return lines


def down() -> bool:
    """Stop the engine that the sandbox started; an engine of the user's is left alone."""
    with _start_lock():
        pid = own_pid()
        if pid is None:
            return False
        dockerd.stop(pid)
        return True


def clean() -> list[str]:
    """Remove every container, volume, network and image of the sandbox, its engine and its files.

    Private engines and file systems of a test that still runs are that test's own to remove.
    """
    engine = find()
    removed = remove_labelled(engine) if engine else []
    if down():
        removed.append("engine")
    if DATA_ROOT.exists():
        dockerd.unmount_below(DATA_ROOT, RUN_DIR / "exec")
    for path in (DATA_ROOT, RUN_DIR / "exec", STATE_DIR / "apt", cache_root()):
        if path.exists():
            shutil.rmtree(path)
            removed.append(str(path))
    for path in (*RUN_DIR.glob("d*"), *STATE_DIR.glob("*.lock")):
        path.unlink()
    for folder in (STATE_DIR / "isolated", STATE_DIR / "loop", STATE_DIR, RUN_DIR):
        with contextlib.suppress(OSError):
            folder.rmdir()  # stays where something of a running test is in it
    return removed


def remove_labelled(engine: Engine) -> list[str]:
    """Remove what carries the sandbox's label (containers inherit it from their image) or its project prefix."""
    removed = []
    for container in engine.docker("ps", "-aq", "--filter", f"label={LABEL}").split():
        engine.docker("rm", "-fv", container, check=False)
        removed.append(f"container {container}")
    for kind in ("network", "volume"):
        names = engine.docker(kind, "ls", "-q", "--filter", f"label={LABEL}").split()
        listed = engine.docker(
            kind, "ls", "--filter", "label=com.docker.compose.project",
            "--format", '{{.Name}} {{.Label "com.docker.compose.project"}}',
        )  # fmt: skip
        names += [
            name for name, project in (line.split() for line in listed.splitlines())
            if project.startswith(PROJECT_PREFIX)
        ]  # fmt: skip
        for name in dict.fromkeys(names):
            engine.docker(kind, "rm", name, check=False)
            removed.append(f"{kind} {name}")
    images = engine.docker("images", "--filter", f"label={LABEL}", "--format", "{{.Repository}}:{{.Tag}}\t{{.ID}}")
    for line in images.splitlines():
        name, image_id = line.split("\t")
        ref = name if name.startswith(f"{IMAGE_PREFIX}/") else image_id
        engine.docker("rmi", "-f", ref, check=False)
        removed.append(f"image {ref}")
    return removed


def own_pid() -> int | None:
    """Return the process id of the engine that the sandbox started, if that process lives."""
    return dockerd.pid_of(PID_FILE, str(SOCKET))


def _start_own() -> None:
    if not Path("/proc/self/ns/net").exists() or os.geteuid() != 0:
        raise SandboxError(NO_ENGINE)
    if not _installed():
        if not apt.can_install():
            raise SandboxError(NO_ENGINE)
        apt.install_engine()
    other = dockerd.in_this_namespace()
    if other is not None:
        # Two engines in one network namespace take each other's bridge and firewall rules away. Where a service
        # manager runs, this one is the distribution's, started by the installation a moment ago.
        wait_for(
            lambda: dockerd.answers(DEFAULT_HOST),
            f"a Docker engine (pid {other}) runs in this network namespace and answers at {DEFAULT_HOST}",
            timeout=15,
        )
        return
    # Many small projects run side by side: the default pools end after about thirty networks.
    pools = ("--default-address-pool", "base=10.213.0.0/16,size=26")
    argv = dockerd.command_line(data_root=DATA_ROOT, run_dir=RUN_DIR, socket_path=SOCKET, extra=pools)
    dockerd.start(argv, f"unix://{SOCKET}", RUN_DIR / "dockerd.log")


def _installed() -> bool:
    return dockerd.program() is not None and _compose_client() is not None


def _client() -> str:
    client = _compose_client()
    if client is None and apt.can_install():
        apt.install_engine()
        client = _compose_client()
    if client is None:
        raise SandboxError("A Docker engine answers, but no docker client with compose v2 is installed.")
    return client


def _compose_client() -> str | None:
    """Return the first ``docker`` on PATH, then the distribution's, whose ``docker compose`` is v2."""
    candidates = dict.fromkeys(filter(None, [shutil.which("docker"), shutil.which("docker", path="/usr/bin")]))
    for client in candidates:
        done = run([client, "compose", "version", "--short"], check=False)
        if done.returncode == 0 and done.stdout.strip().lstrip("v").startswith(("2.", "3.", "4.", "5.")):
            return client
    return None


def _context_host() -> str:
    client = shutil.which("docker")
    if client is None:
        return DEFAULT_HOST
    shown = run([client, "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"], check=False)
    return shown.stdout.strip() or DEFAULT_HOST


@contextlib.contextmanager
def _start_lock() -> Iterator[None]:
    """Two callers at once must not start two engines; without root there is nothing to start."""
    if os.geteuid() != 0:
        yield
        return
    with locked(STATE_DIR / "engine.lock"):
        yield
