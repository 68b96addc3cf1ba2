# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A compose that makes containers in a ``MemoryEngine`` as its files say, with the habits of version 2.

What the file no longer mounts at a declared path is carried over from the old
container, a bind mount as well as a volume; what stood nowhere becomes an
anonymous volume. A container is recreated only where its service changed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.command_line import (
    ProjectOptions,
    as_typed,
    effective_files,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import (
    Container,
    EngineMount,
    RestartPolicy,
)
from tests.support.memory_engine import MemoryEngine

LABEL = "com.docker.compose."


@dataclass
class FakeCompose:
    """Stands in for ``_compose.cli.ComposeCli``."""

    engine: MemoryEngine
    options: ProjectOptions
    project: str
    environment: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[str], None] = lambda verb: None
    is_v1: bool = False

    def files(self) -> tuple[str, ...]:
        return effective_files(self.options, self.environment)

    def typed(self, *words: str) -> str:
        return as_typed(("docker", "compose", *words), self.options.project_src)

    def config(self, *, interpolate: bool = True, all_profiles: bool = False) -> dict[str, Any]:
        merged = self._merged(self.files())
        services = {}
        for name, service in merged["services"].items():
            mounts = [{"target": target, **wanted} for target, wanted in service["volumes"].items()]
            services[name] = {**service, "volumes": mounts}
        return {"name": self.project, "services": services, "volumes": merged["volumes"]}

    def service_hashes(self, services: Iterable[str] = ()) -> dict[str, str]:
        merged = self._merged(self.files())
        return {name: self._digest(merged, name) for name in services or merged["services"]}

    @staticmethod
    def _digest(merged: Mapping[str, Any], name: str) -> str:
        told = json.dumps([merged["services"][name], merged["volumes"]], sort_keys=True, default=str)
        return hashlib.sha256(told.encode()).hexdigest()

    def up(
        self,
        services: Sequence[str] = (),
        *,
        extra_files: Sequence[str] = (),
        no_deps: bool = True,
        force_recreate: bool = False,
        no_start: bool = False,
        wait: bool = False,
        stopped: bool = False,
        timeout: float = 120.0,
    ) -> None:
        """Bring ``services`` (all where none is named) to what the files say."""
        paths = [*self.files(), *extra_files]
        merged = self._merged(paths)
        for name in services or merged["services"]:
            self.before("compose up")
            self._one(name, merged, paths, force_recreate=force_recreate, start=not no_start)

    def _merged(self, paths: Sequence[str]) -> dict[str, Any]:
        services: dict[str, dict[str, Any]] = {}
        volumes: dict[str, Any] = {}
        for path in paths:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
            volumes.update(content.get("volumes") or {})
            for name, service in content.get("services", {}).items():
                known = services.setdefault(name, {"volumes": {}})
                for entry in service.get("volumes") or ():
                    target, wanted = self._entry(entry)
                    known["volumes"][target] = wanted
                known.update({key: value for key, value in service.items() if key != "volumes"})
        return {"services": services, "volumes": volumes}

    def _entry(self, entry: Any) -> tuple[str, dict[str, str]]:
        if isinstance(entry, str):
            source, _colon, target = entry.partition(":")
            kind = "bind" if source.startswith((".", "/")) else "volume"
            target = target.removesuffix(":z").removesuffix(":rw")
            if kind == "bind":
                source = os.path.normpath(os.path.join(self.options.project_src, source))
            return target, {"type": kind, "source": source}
        return entry["target"], {"type": entry["type"], "source": entry["source"]}

    def _one(
        self, name: str, merged: Mapping[str, Any], paths: Sequence[str], *, force_recreate: bool, start: bool
    ) -> None:
        service = merged["services"][name]
        digest = self._digest(merged, name)
        image = self.engine.image(service["image"])
        assert image is not None, service["image"]
        labels = {LABEL + "project": self.project, LABEL + "service": name}
        made = {LABEL + "config-hash": digest, LABEL + "project.config_files": ",".join(paths)}
        found = self.engine.containers(labels=labels)
        current = [c for c in found if (c.labels[LABEL + "config-hash"], c.image_id) == (digest, image.id)]
        # Of two (one that died in between left both) the obsolete one goes.
        old = next(iter(current or found), None)
        for other in found:
            if old is not None and other.id != old.id:
                self._remove(other)
        if old is not None and current and not force_recreate:
            self._name(old.id, name)
            container_id = old.id
        else:
            container_id = self._recreate(name, service, merged, old, {**labels, **made})
        if start:
            self.engine.start(container_id)

    def _recreate(
        self,
        name: str,
        service: Mapping[str, Any],
        merged: Mapping[str, Any],
        old: Container | None,
        labels: Mapping[str, str],
    ) -> str:
        image = self.engine.image(service["image"])
        assert image is not None
        mounts = [self._mount(target, wanted, merged["volumes"]) for target, wanted in service["volumes"].items()]
        covered = {mount.destination for mount in mounts}
        if old is not None:
            mounts += [m for m in old.mounts if m.destination in image.volumes and m.destination not in covered]
        restart = RestartPolicy(service.get("restart", "no"))
        self.before("compose: create the new container")
        made = self.engine.create_container(
            f"{old.id[-12:]}_{name}" if old else f"{self.project}-{name}-1",
            image, mounts=mounts, labels=labels, restart=restart,
        )  # fmt: skip
        if old is not None:
            self.before("compose: remove the old container")
            self._remove(old)
            self.before("compose: name the new container")
            self._name(made, name)
        return made

    def _remove(self, container: Container) -> None:
        if self.engine.held[container.id].running:
            self.engine.stop(container.id, signal=container.stop_signal, timeout=10, kill=True)
        self.engine.drop(container.id)

    def _name(self, container_id: str, service: str) -> None:
        wanted = f"{self.project}-{service}-1"
        if self.engine.held[container_id].name != wanted:
            self.engine.rename(container_id, wanted)

    def _mount(self, target: str, wanted: Mapping[str, str], volumes: Mapping[str, Any]) -> EngineMount:
        if wanted["type"] == "bind":
            return EngineMount("bind", wanted["source"], target, True)
        declared = volumes.get(wanted["source"]) or {}
        name = declared.get("name") or f"{self.project}_{wanted['source']}"
        if declared.get("external"):
            assert self.engine.volume(name) is not None, f"external volume {name} not found"
        return self.engine.volume_mount(name, target)
