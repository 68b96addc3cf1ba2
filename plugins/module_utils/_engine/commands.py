# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an admin is told to type to see more of a container: commands that only look."""

from __future__ import annotations

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import shell


def logs_of(container: str) -> str:
    """Return the command that shows the end of a container's log, by its name or its id."""
    return shell("docker", "logs", "--tail", "50", container)


def mounts_of(container: str) -> str:
    """Return the command that shows a container's mounts in the engine's own keys, by its name or its id."""
    return shell("docker", "inspect", "--format", "{{json .Mounts}}", container)


def containers_with(label: str, value: str) -> str:
    """Return the command that lists the containers with a label, running or not."""
    return shell("docker", "ps", "-a", "--filter", f"label={label}={value}")
