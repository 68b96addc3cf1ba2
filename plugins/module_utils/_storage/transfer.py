# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One data path on its way from where it lives to where it is wanted. Pure, and JSON all the way down.

A roll back is a transfer like any other, with origin and goal exchanged.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    ANONYMOUS,
    BIND,
    LAYER,
    NAMED,
    StoreFacts,
)


@dataclass(frozen=True)
class Location:
    """Where data lies: ``path`` is the directory on the host, ``volume`` its name for volumes."""

    kind: str
    path: str
    volume: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "path": self.path, "volume": self.volume}

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Location:
        return Location(kind=raw["kind"], path=raw["path"], volume=raw.get("volume", ""))

    @property
    def is_volume(self) -> bool:
        return self.kind in (ANONYMOUS, NAMED)

    def shown(self) -> str:
        if self.is_volume:
            return f"the {self.kind} volume {self.volume[:12] if self.kind == ANONYMOUS else self.volume}"
        if self.kind == LAYER:
            return "the container's own layer"
        return self.path


@dataclass(frozen=True)
class Transfer:
    """What one move needs to know, also in the process that resumes it.

    ``staging`` is where data is built up before it gets its final name, always
    beside the goal. ``inode`` and ``device`` are those of the origin's
    directory: after a rename they tell that it is the very same one.
    ``image_id`` is the image that the service ran and is recreated from.
    """

    service: str
    target: str
    origin: Location
    goal: Location
    strategy: str
    store: str
    facts: Mapping[str, Any]
    staging: str
    retained: str
    image_id: str
    containers: tuple[str, ...]
    running: bool
    subpath: str = ""
    inode: int = 0
    device: int = 0
    size_bytes: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        raw = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {
            **raw,
            "origin": self.origin.as_dict(),
            "goal": self.goal.as_dict(),
            "facts": dict(self.facts),
            "containers": list(self.containers),
            "options": dict(self.options),
        }

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Transfer:
        return Transfer(
            **{
                **{entry.name: raw[entry.name] for entry in fields(Transfer) if entry.name in raw},
                "origin": Location.from_dict(raw["origin"]),
                "goal": Location.from_dict(raw["goal"]),
                "containers": tuple(raw["containers"]),
            }
        )

    @property
    def name(self) -> str:
        return f"{self.service}:{self.target}"

    @property
    def label(self) -> str:
        """Return what tells the transfer's files from those of others in one directory."""
        return f"{self.service}{self.target}".replace("/", "_")

    def data_in(self, directory: str) -> str:
        """Return the store's data directory below ``directory``, the host side of the mount."""
        return posixpath.join(directory, self.subpath) if self.subpath else directory

    @property
    def store_facts(self) -> StoreFacts:
        return facts_from_dict(self.facts)

    def expected_mount(self) -> dict[str, Any]:
        """Return the engine's own keys of the mount that proves the goal; empty for a container's layer."""
        if self.goal.kind == BIND:
            return {"Type": "bind", "Source": self.goal.path, "Destination": self.target, "RW": True}
        if self.goal.is_volume:
            return {"Type": "volume", "Name": self.goal.volume, "Destination": self.target, "RW": True}
        return {}


def facts_as_dict(facts: StoreFacts) -> dict[str, Any]:
    return {
        "kind": facts.kind,
        "version": facts.version,
        "data_path": facts.data_path,
        "identity": dict(facts.identity),
        "against": dict(facts.against),
        "blockers": [asdict(blocker) for blocker in facts.blockers],
        "warnings": list(facts.warnings),
        "details": dict(facts.details),
        "outside": dict(facts.outside),
    }


def facts_from_dict(raw: Mapping[str, Any]) -> StoreFacts:
    return StoreFacts(
        kind=raw["kind"],
        version=raw["version"],
        data_path=raw["data_path"],
        identity=raw["identity"],
        against=raw["against"],
        blockers=tuple(Blocker(**blocker) for blocker in raw["blockers"]),
        warnings=tuple(raw["warnings"]),
        details=raw["details"],
        outside=raw["outside"],
    )
