# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A project on the engine in memory, as an observation of it would be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.command_line import ProjectOptions
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.config import parse_config
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Project, assemble
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import EngineMount
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.by_compose import ByCompose
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.files_store import FilesStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World
from tests.support.fake_compose import LABEL, FakeCompose
from tests.support.fake_store import KIND, TARGET, FakeStore
from tests.support.memory_engine import MemoryEngine

NAME = "app"


@dataclass
class Small:
    """One project below ``root``; ``text`` is its compose file."""

    root: Path
    engine: MemoryEngine
    compose: FakeCompose
    store: FakeStore

    @property
    def world(self) -> World:
        return World(self.engine, ByCompose(self.compose), NAME, {KIND: self.store, "files": FilesStore()})  # type: ignore[arg-type]

    @property
    def project(self) -> Project:
        files = self.compose.files()
        config = parse_config(yaml.safe_load(Path(files[0]).read_text()), project_name=NAME)
        found = self.engine.containers(labels={LABEL + "project": NAME})
        return assemble(self.compose, config, str(self.root), files, found)  # type: ignore[arg-type]

    def add(self, service: str, image: str = "store:1", mounts: Sequence[EngineMount] = (), **more: Any) -> str:
        """Create a container of ``service`` and return its id."""
        labels = {LABEL + "project": NAME, LABEL + "service": service, LABEL + "container-number": "1"}
        known = self.engine.image(image)
        assert known is not None
        name = f"{NAME}-{service}-{len(self.engine.held) + 1}"
        return self.engine.create_container(name, known, mounts=mounts, labels=labels, **more)


def small(root: Path, text: str, *, images: Mapping[str, Sequence[str]] | None = None) -> Small:
    """Lay a project out that has no container yet; ``images`` by name with the volumes that each declares."""
    (root / "compose.yaml").write_text(text, encoding="utf-8")
    engine = MemoryEngine(root / "engine")
    for name, volumes in (images or {"store:1": (TARGET,)}).items():
        engine.add_image(name, volumes=volumes)
    return Small(root, engine, FakeCompose(engine, ProjectOptions(str(root)), NAME), FakeStore())


def bind(source: Path, target: str) -> EngineMount:
    return EngineMount("bind", str(source), target, True)
