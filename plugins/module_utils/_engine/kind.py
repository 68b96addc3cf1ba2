# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which engines the collection can move data on, told before anything is touched."""

from __future__ import annotations

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import EngineInfo

LOCAL_HOSTS = ("unix://", "http+unix://")


def unsupported(info: EngineInfo, *, docker_host: str, root_dir_here: bool) -> list[str]:
    """Return one sentence for each thing about this engine that data cannot be moved under.

    ``root_dir_here``: whether the engine's root directory exists in this file
    system, which is how an engine on another host behind a socket gives itself away.
    """
    reasons = []
    if not docker_host.startswith(LOCAL_HOSTS):
        # Also where the port is one of this machine: nothing proves that it is not forwarded.
        reasons.append(
            f"The engine is reached at {docker_host}, which may be another machine: run the task on the engine's own"
            " host, by its socket (docker_host: unix:///var/run/docker.sock)."
        )
    if "podman" in info.product.lower():
        reasons.append("The engine is podman behind Docker's API; its storage is not laid out as Docker's.")
    options = " ".join(info.security_options)
    if "name=rootless" in options:
        reasons.append(
            "The engine is rootless: its volumes belong to mapped users that root on the host cannot settle."
        )
    if "name=userns" in options:
        reasons.append("The engine remaps users (userns-remap): numeric owners inside and outside differ.")
    if "desktop" in info.operating_system.lower():
        reasons.append("Docker Desktop keeps its volumes inside a virtual machine, out of reach from here.")
    elif info.root_dir.startswith("/var/snap/"):
        reasons.append("The engine is confined by snap and sees only parts of the file system.")
    elif not root_dir_here:
        reasons.append(
            f"The engine at {docker_host} keeps its data in {info.root_dir}, which does not exist here:"
            " run the task on the engine's own host."
        )
    return reasons
