# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which way a cluster goes to another image, and why. Pure."""

from __future__ import annotations

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    AUTO,
    DUMP,
    STRATEGIES,
    Comparison,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.strategy import Choice


def choose_way(comparison: Comparison, wanted: str) -> Choice:
    """Return the first way without an impediment, or the one that was named if it has none."""
    against = {way.strategy: "; ".join(way.impediments) for way in comparison.ways if way.impediments}
    if wanted != AUTO:
        if wanted in against:
            return Choice("", f"strategy {wanted} was asked for, but {against[wanted]}", against)
        return Choice(wanted, comparison.way(wanted).reason or "it was asked for", against)
    if comparison.goes_down and DUMP not in against:
        # Slow, and never what somebody means who has mistyped a tag.
        against[DUMP] = "it would go down a major version, which it does where it is named: strategy: dump"
    for strategy in STRATEGIES:
        if strategy not in against:
            reason = comparison.way(strategy).reason
            faster = [f"no {name}: {against[name]}" for name in STRATEGIES[: STRATEGIES.index(strategy)]]
            return Choice(strategy, f"{reason} ({'; '.join(faster)})" if faster else reason, against)
    return Choice("", "no way leads from this cluster to that image", against)
