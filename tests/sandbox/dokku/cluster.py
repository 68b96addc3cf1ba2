# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The container of a service: made, secured, started, stopped, removed."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from .engine_calls import SANDBOX_LABEL
from .service import PORT, Service, show
from .words import Fail, info2, verbose, warn

# From this major on the image keeps its data one level higher.
LAYOUT_18 = 18

# What the plugin does in the new container, and a question of ours: an image built without TLS is left without,
# because its server would not start.
PREPARE = """
createdb -E utf8 "$1" 2> /dev/null || echo exists
postgres -C ssl -c ssl=on > /dev/null 2>&1 || echo plain
"""
CIPHERS = "AES256+EECDH:AES256+EDH"


def has_image(service: Service, image: str, version: str) -> bool:
    """Tell whether an image is there; of the plugin's default a fault may say no."""
    host = service.host
    if (image, version) == host.default_image and host.fault("default-image-missing", service.name):
        return False
    return host.docker.image(f"{image}:{version}") is not None


def image_environment(service: Service, image: str) -> dict[str, str]:
    """Return the variables that an image sets."""
    found = service.host.docker.image(image)
    return dict(pair.split("=", 1) for pair in found["Config"]["Env"] or ()) if found else {}


def mount_point(variables: Mapping[str, str], image: str) -> str:
    """Return where an image wants the data."""
    major = variables.get("PG_MAJOR") or image.rpartition(":")[2].partition(".")[0].partition("-")[0]
    newer = major.isdigit() and int(major) >= LAYOUT_18
    return "/var/lib/postgresql" if newer else "/var/lib/postgresql/data"


def create(service: Service) -> None:
    """Make the container as the service's files say, and its database where there is none."""
    docker = service.host.docker
    image = ":".join(service.image)
    variables = image_environment(service, image)
    mount = mount_point(variables, image)
    (service.root / "ID").unlink(missing_ok=True)
    initial = service.network("initial-network")
    optional = {"memory": "SERVICE_MEMORY", "shm-size": "SHM_SIZE"}
    sizes = {flag: service.read(name) for flag, name in optional.items()}
    docker.run(
        "container", "create",
        f"--cidfile={service.root / 'ID'}", f"--env-file={service.root / 'ENV'}",
        f"--env=POSTGRES_PASSWORD={service.read('PASSWORD')}",
        f"--hostname={service.container}", f"--name={service.container}", "--restart=always",
        "--label=dokku=service", "--label=dokku.service=postgres",
        f"--label={service.host.label}", f"--label={SANDBOX_LABEL}",
        f"--volume={service.data}:{mount}",
        *([f"--memory={sizes['memory']}m"] if sizes["memory"] else []),
        *([f"--shm-size={sizes['shm-size']}"] if sizes["shm-size"] else []),
        *([f"--network={initial}", f"--network-alias={service.hostname}"] if initial else []),
        image, *service.read("CONFIG_OPTIONS").split(),
    )  # fmt: skip
    _connect(service, "post-create-network", "create")
    docker.start(service.id)
    _connect(service, "post-start-network", "start")
    verbose("Waiting for container to be ready")
    _wait(service)
    verbose("Creating container database")
    said = docker.run(
        "container", "exec", "-u", "postgres", service.container, "sh", "-c", PREPARE, "sh", service.database
    ).stdout.split()  # fmt: skip
    if "exists" in said:
        verbose("Already exists")
    verbose("Securing connection to database")
    docker.stop(service.id)
    if "plain" not in said:
        _secure(service.data / Path(variables.get("PGDATA", mount)).relative_to(mount))
    docker.start(service.id)
    _wait(service)
    info2(f"Postgres container created: {service.name}")
    show(service)


def start(service: Service, *, quiet: bool = False) -> None:
    """Start the container, or make it anew where it was removed.

    Whether that can be done is decided by the plugin's default image, whatever the service's own is;
    and where it cannot, the caller is told so in words alone.
    """
    docker = service.host.docker
    state = docker.state(service.container)
    if state == "running":
        if not quiet:
            warn("Service is already started")
        return
    info2("Starting container")
    if state == "exited":
        docker.start(service.container)
        info2("Container started")
    elif has_image(service, *service.host.default_image):
        create(service)
    else:
        verbose(f"Missing image {':'.join(service.image)} for {service.name}")


def upgrade(service: Service, image: str, version: str) -> None:
    """Make the container anew from an image that the caller has seen to be there."""
    info2("Starting container")
    service.write("IMAGE", image)
    service.write("IMAGE_VERSION", version)
    create(service)


def pause(service: Service) -> None:
    """Stop the container."""
    docker = service.host.docker
    if not docker.state(service.container):
        warn("Service is already paused")
        return
    info2("Pausing container")
    docker.stop(service.container)
    verbose("Container paused")


def remove(service: Service) -> bool:
    """Stop and remove the container; tell whether there was one."""
    docker = service.host.docker
    pause(service)
    if not docker.state(service.container):
        return False
    verbose("Removing container")
    docker.remove(service.container)
    return True


def _connect(service: Service, key: str, when: str) -> None:
    networks = [name for name in service.network(key).split(",") if name]
    if networks:
        verbose(f"Connecting to networks after container {when}")
    for network in networks:
        verbose(f"- {network}")
        service.host.docker.run("network", "connect", "--alias", service.hostname, network, service.container)


def _wait(service: Service) -> None:
    """Wait until the server answers over TCP: the one of the first start has its socket alone."""
    docker = service.host.docker
    deadline = time.monotonic() + service.host.settings.wait_seconds
    ready = ("container", "exec", service.container, "pg_isready", "-q", "-h", "127.0.0.1")
    while not (
        listens(docker.address(service.container), PORT) and docker.run(*ready, check=False).returncode == 0
    ):  # fmt: skip
        found = docker.inspect(service.container)
        # One that was started twice without success does not come.
        if time.monotonic() > deadline or found is None or found["RestartCount"] > 1:
            logs = docker.run("container", "logs", service.container, check=False)
            info2(f"Start of {service.name} container output")
            for line in (logs.stdout + logs.stderr).splitlines():
                verbose(line)
            info2(f"End of {service.name} container output")
            raise Fail("", marked=False)
        time.sleep(0.02)


def listens(address: str, port: int) -> bool:
    """Tell whether somebody takes connections there."""
    try:
        with socket.create_connection((address, port), timeout=1):
            return bool(address)
    except OSError:
        return False


def _secure(data: Path) -> None:
    """Put a certificate into the data directory and switch TLS on.

    The plugin's key is one of RSA, which takes seconds to make, and it copies both from a container of the image.
    """
    subprocess.run(
        [
            "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-x509", "-days",
            "365000", "-nodes", "-batch", "-out", "server.crt", "-keyout", "server.key",
        ],
        check=True, cwd=data, capture_output=True,
    )  # fmt: skip
    owner = data.stat()
    for name in ("server.crt", "server.key"):
        os.chown(data / name, owner.st_uid, owner.st_gid)
    (data / "server.key").chmod(0o600)
    path = data / "postgresql.conf"
    text = re.sub("^#ssl = off", "ssl = on", path.read_text(), flags=re.MULTILINE)
    path.write_text(re.sub("^#ssl_ciphers =.*", f"ssl_ciphers = '{CIPHERS}'", text, flags=re.MULTILINE))
