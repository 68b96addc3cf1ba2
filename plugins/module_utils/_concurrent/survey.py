# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host is now: which version runs, where its files and its data are, what is released. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.command_line import DEFAULT_FILES
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Project
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import host as hosts
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import said
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.checkout import Checkout, checkout_of
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.model import (
    Site,
    Version,
    described,
    names_a_version,
    version_of,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.naming import refuse_other_name
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, InvalidInput, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import control, session
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World

FOLDERS = ("docs", "_docs")
"""Where the repository has its compose file: the first below v1.0, the second since."""
FETCHING = 600.0
VERSION_LABEL = "org.opencontainers.image.version"
SOURCES = ("said", "label", "tag", "git")
"""Where a version is read, the best first."""
BESIDE = ("tag", "git")
"""Those that tell what is there to be run: it may never have been started."""


def find_folder(given: str) -> str:
    """Return the directory of the compose file: the given one, or one of :data:`FOLDERS` in it or beside it."""
    given = os.path.realpath(given)
    above = os.path.dirname(given) if os.path.basename(given) in FOLDERS else given
    for folder in (given, *(os.path.join(above, name) for name in FOLDERS)):
        if any(os.path.isfile(os.path.join(folder, name)) for name in DEFAULT_FILES):
            return folder
    raise InvalidInput(
        f"There is no compose file in {given}, nor in {' or '.join(FOLDERS)} of it: project_src is the checkout of"
        " Concurrent, or the directory of its compose file.",
        next_command=shell("ls", "-la", given),
    )


def known_to_origin(folder: str) -> list[Version]:
    """Return what ``origin`` has released, without fetching any of it."""
    checkout = checkout_of(folder)
    if checkout is None or "origin" not in checkout.git("remote").split():
        return []
    listed = checkout.git("ls-remote", "--tags", "--refs", "origin", limit=FETCHING).splitlines()
    found = (version_of(line.rpartition("/")[2]) for line in listed)
    return [version for version in found if version is not None]


def fetch_releases(folder: str) -> None:
    """Get tags and branches of ``origin``, where the folder is part of a checkout that has one."""
    checkout = checkout_of(folder)
    if checkout is not None and "origin" in checkout.git("remote").split():
        checkout.git("fetch", "--quiet", "--tags", "origin", limit=FETCHING)


@dataclass(frozen=True)
class Seen:
    """A host as it is. ``versions`` says where one was read; ``data`` and ``redis`` are directories of this host."""

    project: Project
    folder: str
    checkout: Checkout | None
    head: str
    branch: str
    versions: Mapping[str, str]
    released: tuple[Version, ...]
    api: Container
    db: Container
    data: str
    redis: str
    system_identifier: str
    postgresql: int
    blockers: tuple[Blocker, ...] = ()
    redis_server: Container | None = None
    redis_major: int = 0
    names: Mapping[str, str] = field(default_factory=dict)
    """What the host is called, which no version is to change."""
    columns: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def version(self) -> Version | None:
        """The version that runs, by the best of its sources; see :attr:`told_by`."""
        return described(self.versions[self.told_by]) if self.told_by else None

    @property
    def told_by(self) -> str:
        """Who tells the version: the api itself, else its image's label or tag, else git; empty where nobody can."""
        for source in SOURCES:
            told = self.versions.get(source, "")
            if described(told) is not None:
                return source
            # What runs says that it is something else than a release: what a tag beside it says is not that.
            if source not in BESIDE and names_a_version(told):
                return ""
        return ""

    @property
    def site(self) -> Site:
        return Site(
            folder=self.folder,
            data=self.data,
            redis=self.redis,
            containers=tuple(each.id for found in self.project.containers.values() for each in found),
            database_image=self.db.image_id,
            images={each.image_ref: each.image_id for found in self.project.containers.values() for each in found},
            root=self.checkout.root if self.checkout else "",
            head=self.head,
            branch=self.branch,
            redis_image=self.redis_server.image_id if self.redis_server else "",
        )

    @property
    def ailing(self) -> tuple[str, ...]:
        """The services with a container that does not go on running."""
        found = [name for name, each in self.project.containers.items() if not all(map(hosts.goes_on, each))]
        return tuple(sorted(set(found) - {hosts.API, *hosts.STORES}))

    def as_dict(self) -> dict[str, Any]:
        return {
            "folder": self.folder,
            "checkout": self.checkout.root if self.checkout else "",
            "branch": self.branch,
            "version": str(self.version) if self.version else "",
            "versions": dict(self.versions),
            "released": [str(each) for each in self.released],
            "data": self.data,
            "redis": self.redis,
            "postgresql": {"major": self.postgresql, "image": self.db.image_ref},
        }


def see(world: World, project: Project) -> Seen:
    """Look at a running host; raises :class:`InvalidInput` where it is none, or does not run."""
    lacking = [name for name in (hosts.API, hosts.DB, hosts.REDIS) if name not in project.config.services]
    if lacking:
        raise InvalidInput(
            f"{', '.join(project.config_files)} has no service {lacking[0]}: it is not the compose file of Concurrent."
        )
    blockers: list[Blocker] = []
    folder = project.compose.options.project_src
    host = hosts.Host(world, folder)
    for name in (hosts.API, hosts.DB, hosts.REDIS):
        found = project.containers.get(name, ())
        if len(found) != 1 or not found[0].pid:
            refuse_other_name(world, project.name, folder)
            raise InvalidInput(
                f"The service {name} does not run: this host has to be up before it can be migrated.",
                next_command=project.compose.typed("up", "-d"),
            )
    strays = [*project.one_off, *project.orphans]
    if strays:
        blockers.append(
            Blocker(
                f"{', '.join(each.name for each in strays)} belong to the project and to no service of its files:"
                " remove them first.",
                shell("docker", "rm", *(each.name for each in strays)),
            )
        )
    api, db = host.container(hosts.API), host.container(hosts.DB)
    data, redis = _directory(host, hosts.DB, blockers), _directory(host, hosts.REDIS, blockers)
    identity = control.read_control(data) if data else None
    checkout = checkout_of(folder)
    return Seen(
        project=project,
        folder=folder,
        checkout=checkout,
        head=checkout.head if checkout else "",
        branch=checkout.branch if checkout else "",
        versions=_versions(world, api, checkout),
        released=_released(world, api, checkout),
        api=api,
        db=db,
        data=data,
        redis=redis,
        system_identifier=str(identity.system_identifier) if identity else "",
        postgresql=int(control.major_of(data).partition(".")[0]) if data else 0,
        blockers=tuple(blockers),
        redis_server=host.container(hosts.REDIS),
        names=said.identity_of(said.says(api)),
        redis_major=int(host.redis_version().partition(".")[0]),
        columns=_columns(host),
    )


def _directory(host: hosts.Host, service: str, blockers: list[Blocker]) -> str:
    """Return the directory of this host that a store keeps its data in; a blocker where it is no bind mount."""
    container = host.container(service)
    place = directory_of(container, service)
    if not place:
        mount = container.mount_at(_inside(container, service))
        blockers.append(
            Blocker(
                f"The data of {service} is in {'no mount' if mount is None else f'a {mount.type}'} and not in a"
                " directory of this host: move it first, with the playbook selfhost.stateful.persist_compose."
            )
        )
    return place


def directory_of(container: Container, service: str) -> str:
    """Return the directory of this host that a store's container has its data in; empty where it is no bind mount."""
    place = _inside(container, service)
    mount = container.mount_at(place)
    if mount is None or mount.type != "bind":
        return ""
    return os.path.normpath(os.path.join(os.path.realpath(mount.source), os.path.relpath(place, mount.destination)))


def _inside(container: Container, service: str) -> str:
    return session.data_directory_of(container) if service == hosts.DB else "/data"


def _versions(world: World, api: Container, checkout: Checkout | None) -> dict[str, str]:
    image = world.engine.image(api.image_id)
    tags = [name for name in checkout.tags_here if version_of(name)] if checkout else []
    found = {
        "said": said.version_said(said.says(api)),
        "label": image.labels.get(VERSION_LABEL, "") if image else "",
        "tag": tag_of(api.image_ref),
        "git": max(tags, key=lambda name: version_of(name) or Version(0, 0, 0), default=""),
    }
    return {name: str(version_of(value) or value) for name, value in found.items() if value}


def tag_of(reference: str) -> str:
    """Return the tag of an image's reference; empty where it has none."""
    name, _at, _digest = reference.partition("@")
    last = name.rpartition("/")[2]
    return last.partition(":")[2]


def repository_of(reference: str) -> str:
    """Return a reference without its tag and digest."""
    name, _at, _digest = reference.partition("@")
    tag = tag_of(reference)
    return name[: -len(tag) - 1] if tag else name


def _released(world: World, api: Container, checkout: Checkout | None) -> tuple[Version, ...]:
    names = checkout.tags if checkout else []
    return tuple(sorted(version for version in map(version_of, names) if version is not None))


def _columns(host: hosts.Host) -> frozenset[str]:
    with host.postgresql() as there:
        return frozenset(
            name
            for (name,) in there.rows(
                "SELECT c.relname || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
                " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND a.attnum > 0"
                " AND NOT a.attisdropped AND n.nspname = 'public'"
            )
        )
