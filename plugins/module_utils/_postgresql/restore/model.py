# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a restore plans and what it answers. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup.model import Record

RESTORE = "restore"
NOTHING = "nothing"


@dataclass(frozen=True)
class Plan:
    """``target`` is where the backup goes, in words; ``needed_bytes`` is what it takes there."""

    action: str
    record: Record
    target: str
    needed_bytes: int
    free_bytes: int
    text: str
    blockers: tuple[Blocker, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Restored:
    """What was restored: ``proof`` in words, what was kept as it was, and what the target does not know."""

    proof: str
    kept: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def not_empty(target: str, reasons: tuple[str, ...], command: str) -> Blocker:
    shown = ", ".join(reasons[:8]) + (f" and {len(reasons) - 8} more" if len(reasons) > 8 else "")
    return Blocker(
        f"{target} is not empty: it has {shown}. A backup is restored into an empty cluster only, and nothing is"
        " overwritten: make a new one beside it.",
        command,
    )
