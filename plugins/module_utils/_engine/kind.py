# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which engines the collection can move data on, told before anything is touched."""

from __future__ import annotations

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import EngineInfo


def unsupported(info: EngineInfo, *, docker_host: str, root_dir_here: bool, effective_uid: int) -> list[str]:
    """Return one sentence for each thing about this engine that data cannot be moved under.

    ``root_dir_here``: whether the engine's root directory exists in this file
    system, which is how an engine on another host gives itself away.
    """
    reasons = []
    if effective_uid != 0:
        reasons.append("Moving data needs root on the Docker host: run the task with become: true.")
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
    if info.root_dir.startswith("/var/snap/"):
        reasons.append("The engine is confined by snap and sees only parts of the file system.")
    elif not root_dir_here:
        where = docker_host or "the default socket"
        reasons.append(
            f"The engine at {where} keeps its data in {info.root_dir}, which does not exist here:"
            " run the task on the engine's own host."
        )
    return reasons
