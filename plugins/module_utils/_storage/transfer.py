# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One data path on its way from where it lives to where it is wanted. Pure, and JSON all the way down.

A roll back is a transfer like any other, with origin and goal exchanged.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Plan
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    ANONYMOUS,
    BIND,
    LAYER,
    NAMED,
    StoreFacts,
)


@dataclass(frozen=True)
class Location:
    """Where data lies, and who serves it there.

    ``path`` is the directory on the host, ``volume`` its name for volumes. The
    rest is given where it differs between the two ends of a transfer: ``image``,
    the id of the image that serves the data; ``target``, where that has it
    mounted; ``subpath``, where the data directory lies below the mount. Where no
    compose file says what a container is made from, ``reference`` is the image's
    name, and ``container`` the id of the very one that serves, empty before it is made.
    """

    kind: str
    path: str
    volume: str = ""
    image: str = ""
    target: str = ""
    subpath: str | None = None
    reference: str = ""
    container: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return what is known; what is the same at both ends stays out."""
        raw = {"kind": self.kind, "path": self.path, "volume": self.volume}
        words = {name: getattr(self, name) or None for name in ("image", "target", "reference", "container")}
        more = {**words, "subpath": self.subpath}
        return {**raw, **{name: value for name, value in more.items() if value is not None}}

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Location:
        return Location(**{entry.name: raw[entry.name] for entry in fields(Location) if entry.name in raw})

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
    ``image_id`` is the image that the service ran and is recreated from, unless
    a location names its own. ``goal_facts``: those of the store at the goal,
    where it is another one there. ``restart``: the restart policy of a container
    that no compose file gives one.
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
    goal_facts: Mapping[str, Any] = field(default_factory=dict)
    restart: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        raw = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {
            **raw,
            "origin": self.origin.as_dict(),
            "goal": self.goal.as_dict(),
            "facts": dict(self.facts),
            "containers": list(self.containers),
            "options": dict(self.options),
            "goal_facts": dict(self.goal_facts),
            "restart": dict(self.restart),
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
        return label_of(self.service, self.target)

    def target_at(self, location: Location) -> str:
        """Return where the service has ``location`` mounted."""
        return location.target or self.target

    def image_at(self, location: Location) -> str:
        """Return the id of the image that serves the data at ``location``."""
        return location.image or self.image_id

    def data_at(self, location: Location, directory: str = "") -> str:
        """Return the store's data directory below ``directory``, the host side of the mount of ``location``."""
        subpath = self.subpath if location.subpath is None else location.subpath
        return posixpath.join(directory or location.path, subpath) if subpath else directory or location.path

    @property
    def staged_data(self) -> str:
        """Return the data directory of what is being built up for the goal."""
        return self.data_at(self.goal, self.staging)

    @property
    def volume_end(self) -> Location | None:
        """Return the end that is a volume, of which no transfer has two different ones; None where neither is."""
        return next((location for location in (self.origin, self.goal) if location.is_volume), None)

    @property
    def store_facts(self) -> StoreFacts:
        return facts_from_dict(self.facts)

    def facts_at_goal(self, identity: Mapping[str, Any]) -> StoreFacts:
        """Return the store's facts at the goal; of another store there, ``identity`` is known once it was made."""
        if not self.goal_facts:
            return self.store_facts
        return replace(facts_from_dict(self.goal_facts), identity=identity)

    def expected_mount(self) -> dict[str, Any]:
        """Return the engine's own keys of the mount that proves the goal; empty for a container's layer."""
        if self.goal.kind == BIND:
            return {"Type": "bind", "Source": self.goal.path, "Destination": self.target_at(self.goal), "RW": True}
        if self.goal.is_volume:
            return {"Type": "volume", "Name": self.goal.volume, "Destination": self.target_at(self.goal), "RW": True}
        return {}


def label_of(service: str, target: str) -> str:
    """Return a name for a service's path that is one for a file, too."""
    return f"{service}{target}".replace("/", "_")


def transfers_of_plan(plan: Plan) -> list[Transfer]:
    """Return what a plan transfers; empty for one that only edits a file."""
    return [
        Transfer.from_dict(raw) for step in plan.steps if step.kind == "stop_stores" for raw in step.args["transfers"]
    ]


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
