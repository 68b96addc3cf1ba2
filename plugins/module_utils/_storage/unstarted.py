# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands around a service that has no container: its data may be waiting in a volume. Changes nothing.

After ``compose down`` a service looks as if it had never been started. Edited
without a look around, its file would let the next ``up`` initialise an empty
store beside the data.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.build_context import BuildContext
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.config import Service, volume_name
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import PROJECT_LABEL, Project
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Image, Volume
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    BIND,
    NAMED,
    FoundData,
    MountRequest,
    Unstarted,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.observe import (
    declared_by,
    line_missing,
    occupant,
    place,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World

SHOWN_VOLUMES = 5
"""How many volumes without a container are named."""


def look_around(world: World, project: Project, mount: MountRequest, contexts: Sequence[BuildContext]) -> Unstarted:
    """Return what has to be known before the file of a service without a container is edited."""
    service = project.service(mount.service)
    image = world.engine.image(service.image) if service.image else None
    set_here = {key: value for key, value in service.environment.items() if value is not None}
    kind, declared = declared_by(world, service.image, {**(image.env if image else {}), **set_here})
    mounted_kind, mounted_now, left_behind = _mounted_now(world, project, mount)
    lost, lost_here = lost_volumes(world, project, kind, {mounted_now})
    ignore_line, ignore_file = line_missing(contexts, mount.source)
    return Unstarted(
        service=mount.service,
        target=mount.target,
        place=place(world, mount.source),
        store=kind,
        version=declared.version if declared else "",
        holds=tuple(_data_in(world, mount.source)),
        mounted_now=mounted_now,
        mounted_kind=mounted_kind,
        left_behind=left_behind,
        astray=_astray(service, image, mount.target, declared.data_path if declared else ""),
        lost=lost,
        lost_here=lost_here,
        replicas=service.replicas,
        user=_numeric_user(service.user or (image.user if image else "")),
        ignore_line=ignore_line,
        ignore_file=ignore_file,
    )


def _numeric_user(user: str) -> str:
    """Return ``user`` where it is a number other than root's; a name is known inside the image alone."""
    uid, _colon, gid = user.partition(":")
    if not uid.isdigit() or int(uid) == 0:
        return ""
    return user if gid.isdigit() else uid


def _mounted_now(world: World, project: Project, mount: MountRequest) -> tuple[str, str, str]:
    """Return kind and name of what the file mounts at the target so far, and what that holds."""
    declared = project.service(mount.service).mount_at(mount.target)
    if declared is None or declared.anonymous:
        return "", "", ""
    inner = os.path.relpath(mount.target, declared.target)
    if declared.type == "bind":
        source = os.path.join(project.working_dir, os.path.expanduser(declared.source), inner)
        path = os.path.realpath(source)
        return (BIND, path, _content(world, path)) if path != mount.source else ("", "", "")
    if declared.type != "volume":
        return "", "", ""
    name = volume_name(project.config.volumes, declared.source)
    volume = world.engine.volume(name)
    if volume is None:
        return NAMED, name, ""
    if not _can_be_looked_into(volume):
        return NAMED, name, "what cannot be seen while no container uses it"
    return NAMED, name, _content(world, os.path.join(volume.mountpoint, inner))


def _content(world: World, path: str) -> str:
    return occupant(world, path) if os.path.isdir(path) and os.listdir(path) else ""


def _can_be_looked_into(volume: Volume) -> bool:
    # With options, the directory is a mount of something else, and empty while nothing uses it.
    return volume.driver == "local" and not volume.options


def _data_in(world: World, directory: str) -> Iterable[FoundData]:
    for store in world.stores.values():
        for found in store.orphans(directory):
            what = f"{found.store} {found.version}".strip()
            known = f", {found.identifier}" if found.identifier else ""
            yield FoundData(
                found.store, found.version, f"{what}{known}, {found.state}, last written {found.last_write}"
            )


def lost_volumes(
    world: World, project: Project, kind: str, but: Iterable[str] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the volumes that no container refers to and that hold data of ``kind``; apart, those of the project."""
    others: list[str] = []
    here: list[str] = []
    in_use = world.engine.volumes_in_use() if kind else frozenset()
    for volume in world.engine.volumes() if kind else ():
        if volume.name in in_use or volume.name in but or not _can_be_looked_into(volume):
            continue
        for found in _data_in(world, volume.mountpoint):
            if found.store == kind:
                ours = volume.labels.get(PROJECT_LABEL) == project.name
                (here if ours else others).append(f"{volume.name} ({found.shown})")
    return tuple(others[:SHOWN_VOLUMES]), tuple(here[:SHOWN_VOLUMES])


def _astray(service: Service, image: Image | None, target: str, data_path: str) -> str:
    """Return where the image would keep its data although ``target`` is mounted; empty where that is in it."""
    volumes = [path.rstrip("/") for path in image.volumes] if image else []
    deeper = [path for path in volumes if _below(path, target) and not _is_mounted_below(service, target, path)]
    if data_path and (_below(data_path, target) or data_path == target):
        beside = [path for path in deeper if data_path == path or _below(data_path, path)]
        return beside[0] if beside else ""
    if deeper:
        return deeper[0]
    return data_path if any(_below(target, path) for path in volumes) else ""


def _is_mounted_below(service: Service, target: str, path: str) -> bool:
    mounted = service.mount_at(path)
    return mounted is not None and _below(mounted.target, target)


def _below(path: str, above: str) -> bool:
    return path.rstrip("/").startswith(above.rstrip("/") + "/")
