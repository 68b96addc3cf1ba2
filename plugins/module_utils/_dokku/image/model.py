# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is asked for and what was found, where the data of an app is to go to a service of another image. Pure data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import App, Schedule, Service, Settings
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import costs
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    SWAP,
    ImageFindings,
    ImageRequest,
)

MODULE = "dokku_postgres_image"
AUTO, PHYSICAL, DUMP = "auto", "physical", "dump"
LONGEST_NAME = 48
"""The container's host name is ``dokku.postgres.`` and the service's name, and Linux takes 63 characters."""
NEW_CLUSTER_BYTES = 64 * 1024 * 1024
SHOWN = 5


@dataclass(frozen=True)
class BackupPlace:
    """The bucket that the last backup of the old service and the first of the new one go to."""

    bucket: str
    use_iam: bool = False


@dataclass(frozen=True)
class Request:
    """What is asked for. ``settings`` are those that are given; all others are the old service's."""

    app: str
    repository: str
    version: str
    name: str = ""
    strategy: str = AUTO
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    scheme: str | None = None
    maintenance: bool = True
    unit: str = ""
    backup: BackupPlace | None = None
    backup_dir: str = ""
    programs_dir: str = ""
    """Where the programs of the old image lie while the files are upgraded."""
    answer_path: str = "/"
    accept_losses: bool = False

    @property
    def reference(self) -> str:
        return f"{self.repository}:{self.version}"


@dataclass(frozen=True)
class Room:
    """A file system that something is put on."""

    mount_point: str
    device: int
    free_bytes: int


@dataclass(frozen=True)
class FilesWay:
    """How the files of the old service would go to the new one: what was asked and found, and what is against it."""

    request: ImageRequest
    found: ImageFindings
    against: tuple[str, ...] = ()

    @property
    def copied(self) -> bool:
        """Whether the files go as they are: both images are of one major version."""
        return self.found.way.strategy == SWAP

    @property
    def space_bytes(self) -> int:
        """What the new service takes beside the old one while it is made, rounded up."""
        if self.copied:
            return self.found.subject.cluster.size_bytes + costs.SLACK
        return self.found.comparison.way(self.found.way.strategy).space


@dataclass(frozen=True)
class Found:
    """An app, the service that it has its data in, and the image that it is to go to."""

    app: App
    old: Service
    settings: Settings
    running: bool
    maintained: bool | None
    """Whether the page is shown now; None where there is no plugin for it."""
    image_id: str
    built: str
    name: str
    name_taken: bool
    others: tuple[str, ...]
    """Who else uses the old service, in words."""
    major: int
    new_major: int
    database_bytes: int
    lacks: tuple[Blocker, ...]
    beside: Mapping[str, Sequence[str]]
    """What a dump of one database does not hold: names, by what they are of in words."""
    backup_room: Room
    data_room: Room
    schedule: Schedule | None = None
    files: FilesWay | None = None
    """None where the old service does not run, and so tells nothing."""
    mixed: bool = False
    """Whether some processes of the app run, and others that are to do not."""
    strangers: tuple[str, ...] = ()
    """The app's variables that name the old service by another login than its own."""


def in_words(beside: Mapping[str, Sequence[str]]) -> list[str]:
    """Return in words what a dump of one database does not hold."""
    return [
        f"{what} {', '.join(names[:SHOWN])}{f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''}"
        for what, names in beside.items()
    ]


def default_name(app: str, repository: str, version: str, built: str) -> str:
    """Return ``app-image-version-date``, the date being the day on which the image was built."""
    image = repository.rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9_-]", "_", f"{app}-{image}-{version}-{built[:10].replace('-', '')}")
