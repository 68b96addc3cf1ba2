# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which programs run in a container, as this host sees them: an image's name promises nothing."""

from __future__ import annotations

import os

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container


def programs_in(container: Container) -> frozenset[str]:
    """Return the names (at most 15 characters each) of the programs that run in the container.

    Raises ``OSError`` where this user may not know.
    """
    own = os.readlink(f"/proc/{container.pid}/ns/pid")
    return frozenset(_name(pid) for pid in os.listdir("/proc") if pid.isdigit() and _namespace(pid) == own)


def _namespace(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:  # it ended meanwhile, or is none of the container's
        return ""


def _name(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""
