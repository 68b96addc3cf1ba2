# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the engine says of itself and of its objects, as plain data.

Names follow the Engine API: a mount read back from the engine keeps the keys
that ``docker inspect`` shows (Type, Name, Source, Destination, RW), so that a
proof can be compared by eye with what the admin sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

OPERATION_LABEL = "selfhost.stateful.operation"
ROLE_LABEL = "selfhost.stateful.role"
COMPOSE_LABELS = "com.docker.compose."
ANONYMOUS_LABEL = "com.docker.volume.anonymous"


@dataclass(frozen=True)
class EngineMount:
    """One entry of a container's ``Mounts``; ``name`` and ``driver`` only for volumes."""

    type: str
    source: str
    destination: str
    rw: bool
    name: str = ""
    driver: str = ""

    def as_inspect(self) -> dict[str, Any]:
        """Return the mount in the engine's own keys."""
        shown: dict[str, Any] = {
            "Type": self.type,
            "Source": self.source,
            "Destination": self.destination,
            "RW": self.rw,
        }
        if self.name:
            shown["Name"] = self.name
        return shown


@dataclass(frozen=True)
class RestartPolicy:
    """A container's restart policy; ``maximum_retries`` counts only for ``on-failure``."""

    name: str = "no"
    maximum_retries: int = 0


@dataclass(frozen=True)
class Container:
    """A container as inspected at one moment. ``pid`` is 0 unless it is running."""

    id: str
    name: str
    image_id: str
    image_ref: str
    status: str
    pid: int
    labels: Mapping[str, str]
    env: Mapping[str, str]
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    user: str
    mounts: tuple[EngineMount, ...]
    tmpfs: tuple[str, ...]
    network_mode: str
    restart: RestartPolicy
    stop_signal: str
    stop_timeout: int | None
    health: str
    exit_code: int
    started_at: str
    finished_at: str
    layers: Mapping[str, str] = field(default_factory=dict)
    published: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    """The containers, by id or name, whose network, process or IPC namespace this one was made to share."""
    addresses: tuple[str, ...] = ()
    """Where it is reached from this host, on each of its networks; none while it does not run."""
    aliases: tuple[str, ...] = ()
    """The names beside its own by which its networks know it, as far as they were asked for."""
    linked: tuple[str, ...] = ()
    """The names of the containers that it was linked to (``--link``)."""
    auto_remove: bool = False
    """Whether the engine removes it, and its anonymous volumes, as soon as it stops (``--rm``)."""

    @property
    def running(self) -> bool:
        return self.status in ("running", "paused", "restarting")

    @property
    def started(self) -> float:
        """Return when it was last started, in seconds since the epoch; 0 for never."""
        return seconds_of(self.started_at)

    @property
    def service(self) -> str:
        return self.labels.get("com.docker.compose.service", "")

    @property
    def short_id(self) -> str:
        return self.id[:12]

    def mount_at(self, path: str) -> EngineMount | None:
        """Return the deepest mount that holds ``path``, or None for the container's own layer."""
        wanted = path.rstrip("/") + "/"
        holding = [m for m in self.mounts if wanted.startswith(m.destination.rstrip("/") + "/")]
        return max(holding, key=lambda m: len(m.destination.rstrip("/")), default=None)


@dataclass(frozen=True)
class Image:
    """An image as the engine stores it; ``volumes`` are its declared VOLUME paths."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    env: Mapping[str, str]
    volumes: tuple[str, ...]
    user: str
    stop_signal: str
    created: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Volume:
    """A volume; ``mountpoint`` is its directory on the host for the ``local`` driver."""

    name: str
    driver: str
    mountpoint: str
    options: Mapping[str, str]
    labels: Mapping[str, str]
    created_at: str

    @property
    def anonymous(self) -> bool:
        return ANONYMOUS_LABEL in self.labels or (
            len(self.name) == 64 and all(c in "0123456789abcdef" for c in self.name)
        )


@dataclass(frozen=True)
class EngineInfo:
    """The engine itself: version, where it keeps things, and what makes it unusual."""

    version: str
    name: str
    root_dir: str
    operating_system: str
    security_options: tuple[str, ...]
    product: str
    storage_driver: str


@dataclass(frozen=True)
class ExecResult:
    """What a command inside a container answered."""

    argv: tuple[str, ...]
    rc: int
    stdout: bytes
    stderr: bytes

    def text(self) -> str:
        return self.stdout.decode("utf-8", "replace")

    def error_text(self) -> str:
        """Return the last lines of what the command complained about."""
        said = (self.stderr or self.stdout).decode("utf-8", "replace").strip().splitlines()
        return "\n".join(said[-8:])


@dataclass(frozen=True)
class Bind:
    """A host path mounted into a helper container. Live data is always ``read_only``."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True)
class Helper:
    """A container that works for an operation and is found again by its label.

    ``environment`` may hold secrets: it never enters a journal or a result.
    ``volumes`` are names of volumes that it holds, read-only, below /kept.
    """

    operation: str
    role: str
    image_id: str
    argv: tuple[str, ...]
    user: str = ""
    binds: tuple[Bind, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    network_mode: str = "none"
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = "SIGTERM"
    working_dir: str = ""
    shm_bytes: int = 268435456
    tmpfs: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()

    def labels_on(self, image: Image | None) -> dict[str, str]:
        """Return the labels of its container. It is none of the service that ``image`` was built for.

        Compose labels what it builds with project and service, and an engine gives a container the labels of its
        image: by those it would be found as one more container of that service. They cannot be taken off, but blanked.
        """
        inherited = image.labels if image else {}
        blank = {name: "" for name in inherited if name.startswith(COMPOSE_LABELS)}
        return {**blank, **self.labels, OPERATION_LABEL: self.operation, ROLE_LABEL: self.role}


@dataclass(frozen=True)
class Successor:
    """A container that is made as another one was made, and is to take its place.

    ``image`` is a name or an id, ``labels`` come on top of the other's. ``bind`` takes the place of what the other
    has mounted at ``replaces``; without it every mount stays what it is. It has no restart policy at first.
    """

    name: str
    image: str
    labels: Mapping[str, str] = field(default_factory=dict)
    replaces: str = ""
    bind: Bind | None = None


def seconds_of(stamp: str) -> float:
    """Return the engine's RFC 3339 stamp, which is UTC, in seconds since the epoch; 0 for 'never'."""
    if not stamp or stamp.startswith("0001-"):
        return 0.0
    whole, _dot, rest = stamp.partition(".")
    fraction = "".join(char for char in rest if char.isdigit())
    # The zone of this host, and its summer time, are none of the engine's business.
    seconds = datetime.strptime(whole.rstrip("Z"), "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc).timestamp()
    return seconds + (float(f"0.{fraction}") if fraction else 0.0)
