# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the demo takes place: on this machine's engine, or in a server-in-a-container."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.sandbox import images, recipes
from tests.sandbox._base import STATE_DIR, SandboxError
from tests.sandbox.engine import Engine
from tests.sandbox.server import Server
from tests.tools import playbook
from tests.tools.tree import ROOT

SERVER_NAME = "sfs-demo-server"
SERVER_SOURCE = "/root/demo"
HOST = "demo"
# On the volume that the server's engine keeps its own data in.
VOLUME = "/var/lib/docker/selfhost-sandbox"


@dataclass(frozen=True)
class Place:
    """How its actor is started, how Ansible reaches it and with what environment, and how a person looks into it."""

    text: str
    actor: Sequence[str]
    inventory: str
    env: dict[str, str] = field(default_factory=dict)
    look: Sequence[str] = ()


def why_not_here(engine: Engine) -> str:
    """Return why data cannot be moved on this engine from here; empty where it can."""
    if os.geteuid() != 0:
        return "moving data needs root on the Docker host, and you are not root"
    if not engine.host.startswith("unix://"):
        return f"the engine is not on this machine ({engine.host})"
    info = json.loads(engine.docker("info", "--format", "{{json .}}"))
    options = " ".join(info.get("SecurityOptions") or [])
    if "desktop" in str(info.get("OperatingSystem", "")).lower():
        return "Docker Desktop keeps its volumes in a virtual machine"
    if "name=rootless" in options or "name=userns" in options:
        return "the engine maps users to others"
    if not Path(info["DockerRootDir"], "volumes").is_dir():
        return f"the engine's directory {info['DockerRootDir']} is not on this machine"
    return ""


def here(engine: Engine) -> Place:
    """Return this machine as the place."""
    images.ensure(recipes.DEMO, engine)
    # The checkout's own interpreter has all that the modules import, so nothing is installed on this machine.
    inventory = playbook.here(HOST)
    path = os.pathsep.join([str(Path(engine.client).parent), os.environ.get("PATH", os.defpath)])
    actor = [sys.executable, "-m", "tests.demo.actor"]
    look = [f"DOCKER_HOST={engine.host}"] if engine.ours else []
    return Place("on this machine", actor, inventory, {**engine.env, "PATH": path}, look)


def in_a_server(engine: Engine) -> Place:
    """Start (or find) the demo's server, carry images and sources into it, and return it as the place."""
    refs = [image.ref for image in images.ensure([*recipes.DEMO, "mastodon-base:latest"], engine)]
    server = Server(SERVER_NAME, engine=engine).start()
    for ref in refs:
        inside = server.ssh("docker", "image", "inspect", "-f", "{{.Id}}", ref, check=False).stdout.strip()
        if inside != engine.docker("image", "inspect", "-f", "{{.Id}}", ref):
            server.load_image(ref)
    _carry_sources(server)
    # The server's own root is the container's layer, which is no place for data; its engine's volume is.
    server.ssh(
        f"mkdir -p {STATE_DIR} {VOLUME} && {{ mountpoint -q {STATE_DIR} || mount --bind {VOLUME} {STATE_DIR}; }}"
    )
    # For the demo's own writer; what the modules need is the playbook's to install.
    if server.ssh("python3", "-c", "'import psycopg'", check=False).returncode != 0:
        server.ssh("apt-get -q update && apt-get -qy --no-install-recommends install python3-psycopg")
    return Place(
        f"in the container {SERVER_NAME}, a server of its own reached over ssh",
        [*server.ssh_args, f"cd {SERVER_SOURCE} && exec python3 -m tests.demo.actor"],
        server.inventory(HOST),
        look=["docker", "exec", "-it", SERVER_NAME],
    )


def remove_server(engine: Engine) -> list[str]:
    """Remove the demo's server with all that is in it."""
    server = Server(SERVER_NAME, engine=engine)
    there = bool(engine.docker("ps", "-aq", "--filter", f"name=^{SERVER_NAME}$"))
    if there:
        server.stop()
    return [f"container {SERVER_NAME}"] if there else []


def _carry_sources(server: Server) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(ROOT / "tests/__init__.py", "tests/__init__.py")
        for folder in ("sandbox", "demo"):
            archive.add(ROOT / "tests" / folder, f"tests/{folder}", filter=_without_caches)
    unpack = f"mkdir -p {SERVER_SOURCE} && tar -x -C {SERVER_SOURCE}"
    done = subprocess.run([*server.ssh_args, unpack], input=buffer.getvalue(), capture_output=True, check=False)
    if done.returncode != 0:
        raise SandboxError(f"the demo's sources could not be copied to {server.name}: {done.stderr.decode()}")


def _without_caches(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if entry.name.endswith("__pycache__") else entry
