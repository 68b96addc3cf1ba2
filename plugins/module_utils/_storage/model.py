# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a service's data lives, and what is asked of it. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker

BIND = "bind"
NAMED = "named"
ANONYMOUS = "anonymous"
LAYER = "layer"
TMPFS = "tmpfs"
OTHER = "other"

AUTO = "auto"
RENAME = "rename"
CLONE = "clone"
REPLICA = "replica"
COPY = "copy"
STRATEGIES = (RENAME, CLONE, REPLICA, COPY)
"""Fastest first; ``auto`` takes the first whose conditions hold."""

POSTGRESQL = "postgresql"
REDIS = "redis"
FILES = "files"

KEPT_IMAGES = "selfhost-stateful/kept"
"""The repository of the names that images have which a way back needs: whoever prunes leaves what has a name."""


@dataclass(frozen=True)
class MountRequest:
    """One wanted bind mount; ``target`` is empty where the data is to be found.

    ``source`` is absolute with symbolic links resolved, ``written`` is what the
    admin wrote and what the compose file gets. ``replaces``: another target,
    whose mount this one takes the place of.
    """

    service: str
    source: str
    target: str = ""
    written: str = ""
    replaces: str = ""


@dataclass(frozen=True)
class StoreFacts:
    """What a store says of itself before anything is planned.

    ``against``: per strategy the reason why it cannot be used. ``identity`` is
    what must be equal after the move; it can be read from files alone.
    ``outside``: by path inside the container, what the store keeps apart from
    its data directory.
    """

    kind: str
    version: str
    data_path: str
    identity: Mapping[str, Any] = field(default_factory=dict)
    against: Mapping[str, str] = field(default_factory=dict)
    blockers: tuple[Blocker, ...] = ()
    warnings: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    outside: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DataPath:
    """One path of one service, and where the engine keeps it now.

    ``host_path`` is the directory on the host (empty for tmpfs), ``mount`` the
    engine's own keys. ``subpath`` is where the store's data directory lies below
    the mount (18's layout has it two levels down), ``beside`` what else the mount
    holds on the way there.
    """

    service: str
    target: str
    kind: str
    host_path: str
    store: str
    volume: str = ""
    driver: str = ""
    volume_options: Mapping[str, str] = field(default_factory=dict)
    mount: Mapping[str, Any] = field(default_factory=dict)
    container: str = ""
    running: bool = False
    declared: bool = False
    subpath: str = ""
    beside: tuple[str, ...] = ()
    size_bytes: int = 0
    files: int = 0
    inode: int = 0
    device: int = 0
    owner: str = ""
    mode: str = ""
    filesystem: str = ""
    facts: StoreFacts | None = None

    @property
    def ephemeral(self) -> str:
        """Return why a ``down`` or a prune would lose this data, or an empty string."""
        if self.kind == ANONYMOUS:
            return "an anonymous volume: 'down' leaves it without a name, and 'volume prune' then deletes it"
        if self.kind == LAYER:
            return "the container's own layer: recreating the container deletes it"
        if self.kind == TMPFS:
            return "memory: it is gone when the container stops"
        if self.volume_options.get("type") == "tmpfs":
            return "a named volume in memory (its driver's option type: tmpfs): it is gone when no container uses it"
        return ""


@dataclass(frozen=True)
class Place:
    """A directory that is to be filled, and the file system below it."""

    path: str
    exists: bool
    empty: bool
    filesystem: str
    device: int
    mount_point: str
    free_bytes: int
    volatile: bool
    occupied_by: str = ""
    read_only: bool = False
    is_mount_point: bool = False
    free_inodes: int | None = None
    """None where the file system sets no limit."""
    closed: str = ""
    """The directory in which it would be made, if not even root may make anything there."""
    soft: bool = False
    """Whether it lies on an NFS mount that gives up on a server that is slow."""
    owner: str = ""
    """``uid:gid`` of the directory, empty where it does not exist."""
    mode: int = 0


@dataclass(frozen=True)
class Move:
    """One wanted move, with what the host answered about it.

    ``cannot``: per strategy the reason why the host does not allow it. ``users``
    are other containers that mount the same volume. ``source`` is the wanted
    directory with symbolic links resolved. ``kept_below``: where the original of
    a container's layer is kept, on its own file system.
    """

    data: DataPath
    source: str
    written: str
    place: Place
    cannot: Mapping[str, str]
    users: tuple[str, ...] = ()
    shipped_by_image: bool = False
    ignore_line: str = ""
    ignore_file: str = ""
    image_id: str = ""
    kept_below: str = ""
    partial_line: str = ""
    """What the ignore file lacks for the copy that is made beside the goal while the service runs."""
    backed_up_with: str = ""
    """The target of the store that this is a part of, whose backup holds it as of one moment with the rest."""


@dataclass(frozen=True)
class Outlying:
    """Data of a store that stays where it is while its service's container is created anew."""

    service: str
    what: str
    path: str
    kind: str


@dataclass(frozen=True)
class PlannedRewrite:
    """What happens to the compose files: which change, how, and what the admin has to know about it."""

    paths: tuple[str, ...] = ()
    how: str = ""
    warnings: tuple[str, ...] = ()
    diff: tuple[Mapping[str, str], ...] = ()
    blockers: tuple[Blocker, ...] = ()


@dataclass(frozen=True)
class FilesAlone:
    """What a project's files tell without its engine: ``mounts`` have a target where these name it."""

    directory: str
    mounts: tuple[MountRequest, ...]
    rewrite: PlannedRewrite


@dataclass(frozen=True)
class FoundData:
    """Data of a store that lies somewhere without a container; ``version`` may be empty, ``shown`` says all of it."""

    store: str
    version: str
    shown: str


@dataclass(frozen=True)
class Unstarted:
    """A wanted mount of a service without a container: the file is edited, and what starts later starts on it.

    ``store`` and ``version`` are what its image says of itself, empty where it
    says nothing. ``holds``: the data that lies in the wanted directory.
    ``mounted_now``: what the file mounts there so far, ``left_behind`` what that
    holds. ``astray``: where the image would put its data beside the mount.
    ``lost``: volumes without a container that hold data of the same kind,
    ``lost_here`` those that bear the project's label. ``user``: the numeric
    ``uid`` or ``uid:gid`` that its file or else its image has it run as; empty
    for root, whose entrypoint takes the directory over, and for a name.
    """

    service: str
    target: str
    place: Place
    store: str = ""
    version: str = ""
    holds: tuple[FoundData, ...] = ()
    mounted_now: str = ""
    mounted_kind: str = ""
    left_behind: str = ""
    astray: str = ""
    lost: tuple[str, ...] = ()
    lost_here: tuple[str, ...] = ()
    replicas: int = 1
    user: str = ""
    ignore_line: str = ""
    ignore_file: str = ""


@dataclass(frozen=True)
class StoppedContainer:
    """A container that is stopped for the change and started after it, with its restart policy."""

    id: str
    name: str
    service: str
    policy: str
    maximum_retries: int
    grace: float


@dataclass(frozen=True)
class Request:
    """What the admin asked for; paths are absolute. ``max_downtime`` in seconds, 0 for no limit.

    ``compose``: what is typed in a shell of the host before a command of compose for this project.
    """

    project: str
    project_dir: str
    mounts: tuple[MountRequest, ...]
    strategy: str = AUTO
    backup: str = AUTO
    backup_dir: str = ""
    retained_dir: str = ""
    rewrite: str = "in_place"
    pin_images: bool = False
    accept_drift: bool = False
    max_downtime: float = 0.0
    compose: str = "docker compose"


@dataclass(frozen=True)
class Findings:
    """Everything that a plan is made from: what the engine, compose and the file system said.

    ``floating``: services whose image tag resolves to another image by now,
    with a sentence each. ``other_majors``: those of them that could not read or
    would upgrade the data, in words. ``drift``: what recreating a service would change
    besides its mount, in words. ``stranded_by_up``: the services whose data a
    plain ``up`` would leave behind, because it creates them anew on another place.
    ``hashes``: by service, compose's hash of what its files say of it now.
    """

    moves: tuple[Move, ...]
    unstarted: tuple[Unstarted, ...] = ()
    rewrite: PlannedRewrite = PlannedRewrite()
    dependents: tuple[tuple[StoppedContainer, ...], ...] = ()
    stores: tuple[StoppedContainer, ...] = ()
    floating: Mapping[str, str] = field(default_factory=dict)
    images_to_write: Mapping[str, str] = field(default_factory=dict)
    other_majors: Mapping[str, str] = field(default_factory=dict)
    drift: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    blockers: tuple[Blocker, ...] = ()
    warnings: tuple[str, ...] = ()
    backup_place: Place | None = None
    compose_v1: bool = False
    other_anonymous: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    outlying: tuple[Outlying, ...] = ()
    stranded_by_up: frozenset[str] = frozenset()
    hashes: Mapping[str, str] = field(default_factory=dict)
