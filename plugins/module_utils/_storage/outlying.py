# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Data of a store that lies apart from what moves. Questions only.

A container that is created anew keeps its volumes and loses its own layer, so
what is not asked to move has to lie on a mount.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Services
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    FILES,
    LAYER,
    DataPath,
    Move,
    Outlying,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.observe import data_paths, with_facts
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World


def outlying(world: World, project: Services, moves: Sequence[Move]) -> tuple[Outlying, ...]:
    """Return what the stores of the moving services keep where nothing moves."""
    services = list(dict.fromkeys(move.data.service for move in moves))
    return tuple(found for service in services for found in _of_service(world, project, service, moves))


def with_parts(moves: Sequence[Move]) -> tuple[Move, ...]:
    """Return ``moves`` with those marked that are part of a running store which moves, too.

    A part that is copied by itself while the store runs would be of another
    moment than the rest; the store's own backup holds both.
    """
    whole = {
        (move.data.service, path): move.data.target
        for move in moves
        if move.data.running and move.data.facts is not None
        for path in move.data.facts.outside
    }
    marked = []
    for move in moves:
        inside = [target for (service, path), target in whole.items()
                  if service == move.data.service and _inside(path, move.data.target)]  # fmt: skip
        part = move.data.store == FILES and bool(inside)
        marked.append(replace(move, backed_up_with=inside[0]) if part else move)
    return tuple(marked)


def _of_service(world: World, project: Services, service: str, moves: Sequence[Move]) -> Iterator[Outlying]:
    paths = data_paths(world, project, service)
    moving = {move.data.target: move.data for move in moves if move.data.service == service}
    containers = {container.id: container for container in project.containers[service]}
    for path in paths:
        if path.store == FILES:
            continue
        if path.target not in moving:
            yield Outlying(service, f"its {path.store} data", path.target, path.kind)
        container = containers[path.container]
        known = moving.get(path.target, path)
        facts = (known if known.facts is not None else with_facts(world, path, container)).facts
        for place, what in (facts.outside if facts is not None else {}).items():
            kind, target = _where(place, paths)
            layer_moves = kind == LAYER and any(
                data.kind == LAYER and _inside(place, data.target) for data in moving.values()
            )
            if target not in moving and not layer_moves:
                yield Outlying(service, what, place, kind)


def _where(place: str, paths: Sequence[DataPath]) -> tuple[str, str]:
    """Return the kind and the target of the deepest mount that holds ``place``; the layer where none does."""
    holding = [path for path in paths if path.kind != LAYER and _inside(place, path.target)]
    deepest = max(holding, key=lambda path: len(path.target.rstrip("/")), default=None)
    return (deepest.kind, deepest.target) if deepest else (LAYER, "")


def _inside(path: str, directory: str) -> bool:
    return (path.rstrip("/") + "/").startswith(directory.rstrip("/") + "/")
