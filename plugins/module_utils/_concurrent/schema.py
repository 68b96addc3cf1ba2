# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tables of a host say of the versions that have run on it. Pure.

An api adds its columns when it starts and takes none away, so that a column is there since the first version that has
it, whatever runs today; one that is missing tells that no such version has ever run.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.model import Rung, Version


@dataclass(frozen=True)
class Schema:
    """``reached``: the newest rung whose columns are there; ``ahead``: the oldest of which one is missing."""

    reached: Rung | None = None
    ahead: Rung | None = None
    missing: tuple[str, ...] = ()

    def __str__(self) -> str:
        since = f"{self.reached.at} or later" if self.reached else ""
        until = f"before {self.ahead.at}" if self.ahead else ""
        return ", ".join(part for part in (since, until) if part)

    def contradicts(self, version: Version) -> bool:
        """Tell whether that version, had it ever run, would have added what is missing."""
        return self.ahead is not None and (version.major, version.minor, version.patch) >= self.ahead.key


def schema_of(ladder: Sequence[Rung], columns: Collection[str]) -> Schema:
    """Return what the columns say; only a rung that names what it awaits can be told from the one before."""
    telling = sorted((rung for rung in ladder if rung.awaits), key=lambda rung: rung.key)
    reached = None
    for rung in telling:
        missing = tuple(name for name in rung.awaits if name not in columns)
        if missing:
            return Schema(reached, rung, missing)
        reached = rung
    return Schema(reached)
