# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A compose project in a directory, its containers in memory: for what looks at a project and asks no store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.command_line import ProjectOptions
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Project, observe_project
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.by_compose import ByCompose
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.files_store import FilesStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import Store
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World
from tests.support.fake_compose import FakeCompose
from tests.support.memory_engine import MemoryEngine

NAME = "site"


@dataclass
class Site:
    """``up`` makes and starts the containers; images are made under the names that the file uses."""

    directory: Path
    engine: MemoryEngine
    compose: FakeCompose
    stores: Mapping[str, Store] = field(default_factory=lambda: {"files": FilesStore()})
    stop_timeout: float = 1.0

    @property
    def world(self) -> World:
        maker = ByCompose(self.compose)  # type: ignore[arg-type]
        return World(self.engine, maker, NAME, self.stores, stop_timeout=self.stop_timeout, ready_timeout=1)

    @property
    def project(self) -> Project:
        return observe_project(self.engine, self.compose)  # type: ignore[arg-type]

    def up(self) -> Site:
        self.compose.up()
        return self

    def container(self, service: str) -> Container:
        (found,) = self.world.containers_of(service)
        return found


def a_site(root: Path, text: str, images: Mapping[str, Mapping[str, Any]] | None = None) -> Site:
    """Lay out a project with this compose file below ``root``; ``images`` are options of ``add_image`` by name."""
    directory = root / "project"
    directory.mkdir()
    (directory / "compose.yaml").write_text(text, encoding="utf-8")
    engine = MemoryEngine(root / "engine")
    compose = FakeCompose(engine, ProjectOptions(os.fspath(directory)), NAME)
    for service in compose.config()["services"].values():
        if engine.image(service["image"]) is None:
            engine.add_image(service["image"], **(images or {}).get(service["image"], {}))
    return Site(directory, engine, compose)
