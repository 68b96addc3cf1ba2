# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A whole Debian server in a container: systemd, sshd, and a Docker engine of its own inside."""

from __future__ import annotations

import io
import secrets
import subprocess
import tarfile
from pathlib import Path

from . import images
from ._base import LABEL, SandboxError, cache_dir, locked, run, wait_for
from .engine import Engine, up

IMAGE = "server:trixie"
# Less than --privileged, which fails where the machine itself lacks a capability.
CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH", "SYSLOG")


def ssh_key() -> Path:
    """Return the private key that opens every server of the sandbox, generated once."""
    key = cache_dir("ssh") / "id_ed25519"
    with locked(cache_dir("locks") / "ssh.lock"):
        if not key.exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "selfhost-stateful-sandbox", "-f", str(key)])
    return key


class Server:
    """A server that is reached over ssh as root, like the hosts that the playbooks are for."""

    def __init__(self, name: str | None = None, *, engine: Engine | None = None) -> None:
        self.name = name or f"sfs-server-{secrets.token_hex(4)}"
        self._engine = engine

    @property
    def engine(self) -> Engine:
        """The engine in which the server itself is a container."""
        if self._engine is None:
            self._engine = up()
        return self._engine

    def start(self) -> Server:
        """Start (or find running) the server; return when ssh and the engine inside answer."""
        if not self.is_running():
            self.stop()
            self._run()
        wait_for(lambda: self.ssh("true", check=False).returncode == 0, f"{self.name}: ssh answers", timeout=60)
        wait_for(
            lambda: self.ssh("docker", "info", check=False).returncode == 0,
            f"{self.name}: the engine inside answers", timeout=60,
        )  # fmt: skip
        return self

    def is_running(self) -> bool:
        """Tell whether the server's container runs."""
        return self.engine.docker("inspect", "-f", "{{.State.Running}}", self.name, check=False) == "true"

    @property
    def address(self) -> str:
        """Its address on the engine's bridge."""
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        address = self.engine.docker("inspect", "-f", form, self.name)
        if not address:
            raise SandboxError(f"{self.name} does not run")
        return address

    @property
    def published_port(self) -> int:
        """The port on this machine's loopback that leads to its sshd, for engines in a virtual machine."""
        return int(self.engine.docker("port", self.name, "22/tcp").splitlines()[0].rpartition(":")[2])

    @property
    def ssh_options(self) -> list[str]:
        """Options that make ssh use the sandbox's key and no file of the user's."""
        # The host key is the image's and known to all; checking it would prove nothing.
        return [
            "-F", "none", "-i", str(ssh_key()), "-p", str(self.published_port),
            "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5",
        ]  # fmt: skip

    @property
    def ssh_args(self) -> list[str]:
        """The command line that logs in as root; append a command."""
        return ["ssh", *self.ssh_options, "root@127.0.0.1"]

    def ssh(self, *argv: str, check: bool = True, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command over ssh."""
        return run([*self.ssh_args, *argv], check=check, input=input)

    def inventory(self, host: str = "server") -> str:
        """Return an Ansible inventory with this one host."""
        options = self.ssh_options
        common = " ".join(options[:2] + options[6:])
        return (
            f"{host} ansible_host=127.0.0.1 ansible_port={self.published_port} ansible_user=root "
            f"ansible_ssh_private_key_file={ssh_key()} ansible_python_interpreter=/usr/bin/python3 "
            f"ansible_ssh_common_args='{common}'\n"
        )

    def load_image(self, ref: str) -> None:
        """Copy an image from the engine outside to the one inside."""
        environment = self.engine.env
        client = self.engine.client
        with subprocess.Popen([client, "-H", environment["DOCKER_HOST"], "save", ref], stdout=subprocess.PIPE) as save:
            load = subprocess.run(
                [client, "-H", environment["DOCKER_HOST"], "exec", "-i", self.name, "docker", "load", "-q"],
                stdin=save.stdout, capture_output=True, text=True, check=False,
            )  # fmt: skip
        if save.returncode != 0 or load.returncode != 0:
            raise SandboxError(f"{ref} could not be copied to {self.name}: {load.stderr.strip()}")

    def stop(self) -> None:
        """Remove the server and the volume that its engine kept everything in."""
        self.engine.docker("rm", "-fv", self.name, check=False)

    def __enter__(self) -> Server:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def _run(self) -> None:
        image = images.ref(IMAGE, self.engine)
        self.engine.docker(
            "create", "--name", self.name, "--hostname", "server", "--pull", "never",
            "--label", f"{LABEL}=1", "--cgroupns", "host",
            *(f"--cap-add={capability}" for capability in CAPABILITIES),
            "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
            "--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec",
            "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw", "--volume", "/var/lib/docker",
            "--publish", "127.0.0.1::22", image,
        )  # fmt: skip
        # Before the first start: sshd must never be up without it.
        self.engine.docker("cp", "-", f"{self.name}:/root/.ssh", input=_authorized_keys())
        self.engine.docker("start", self.name)


def _authorized_keys() -> str:
    """Return an archive with the key in a file of root's: sshd refuses one that is the caller's own."""
    content = ssh_key().with_suffix(".pub").read_bytes()
    entry = tarfile.TarInfo("authorized_keys")
    entry.size, entry.mode = len(content), 0o600
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue().decode("ascii")
