# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which way a move takes, and what it will cost. Pure: facts in, a choice and its reason out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    AUTO,
    CLONE,
    COPY,
    LAYER,
    POSTGRESQL,
    RENAME,
    REPLICA,
    STRATEGIES,
    DataPath,
    Move,
)

GIB = 1 << 30
SHOWN = 5


@dataclass(frozen=True)
class Choice:
    """``strategy`` is empty where none can be used; ``against`` says why, per strategy."""

    strategy: str
    reason: str
    against: Mapping[str, str]


def choose(move: Move, wanted: str) -> Choice:
    """Return the first strategy whose conditions hold, or the one that was named if they hold for it."""
    against = conditions(move)
    if wanted != AUTO:
        if wanted in against:
            return Choice("", f"strategy {wanted} was asked for, but {against[wanted]}", against)
        return Choice(wanted, "it was asked for", against)
    for strategy in STRATEGIES:
        if strategy not in against:
            faster = [f"{name}: {against[name]}" for name in STRATEGIES[: STRATEGIES.index(strategy)]]
            return Choice(strategy, "; ".join(faster) or "both places are on one file system", against)
    return Choice("", "no strategy can be used", against)


def conditions(move: Move) -> dict[str, str]:
    """Return per strategy the reason why it cannot be used for this move; one that can be is not in it."""
    data = move.data
    against = dict(move.cannot)
    if data.facts is not None:
        against.update(data.facts.against)
    if data.kind == LAYER:
        against[RENAME] = "the data is in the container's own layer, which only the engine may change"
        against[REPLICA] = "the data is in the container's own layer"
    if data.volume_options:
        options = ", ".join(sorted(data.volume_options))
        against[RENAME] = f"the volume has options ({options}): its directory is a mount of something else"
        against[CLONE] = against[RENAME]
    if data.subpath.startswith(".."):
        against[RENAME] = "the data directory does not lie below its mount"
    if data.store != POSTGRESQL:
        against.setdefault(REPLICA, f"a standby exists for Postgres only, and this is {data.store}")
    elif not data.running:
        against.setdefault(REPLICA, "the server does not run, so nothing can replicate from it")
    elif data.beside:
        against.setdefault(REPLICA, f"a standby leaves behind what lies beside the data: {_some(data.beside)}")
    return against


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def downtime(strategy: str, data: DataPath) -> float:
    """Return an estimate of the downtime in seconds: a bare restart, and what the strategy adds to it.

    Rough on purpose, and on the safe side: two stores restart in one to two
    seconds on two slow cores, and in half of that elsewhere. For ``copy`` it assumes that a twentieth of
    the data changed since the warm pass and is read and written at 500 MB/s; from a layer, whose files
    are linked before it goes, all of it is read once more, on both sides.
    """
    restart = 2.0
    if strategy == CLONE:
        return restart + 0.2 + data.files * 2e-5
    if strategy == REPLICA:
        return restart + 0.8
    if strategy == COPY:
        again = 2.0 if data.kind == LAYER else 0.05
        return restart + 0.5 + data.files * 5e-5 + data.size_bytes * again / (GIB / 2)
    return restart


def space_needed(strategy: str, data: DataPath) -> int:
    """Return the bytes that the strategy needs on the file system of the goal."""
    if strategy in (RENAME, ""):
        return 0
    if strategy == CLONE:
        return data.files * 4096
    return int(data.size_bytes * 1.05) + (64 << 20)
