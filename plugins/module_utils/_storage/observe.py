# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the data of a project's services lives now: questions to the engine and the file system, no changes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.build_context import (
    BuildContext,
    line_to_add,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Services
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container, EngineMount
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.layer import layer_path
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    ANONYMOUS,
    BIND,
    FILES,
    LAYER,
    NAMED,
    OTHER,
    TMPFS,
    DataPath,
    Place,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.places import NFS
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import Declared
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import mounts as file_systems
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import scan
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World

SHOWN_ENTRIES = 5
"""How many entries of a directory that is in the way are named."""


def data_paths(world: World, project: Services, service: str) -> list[DataPath]:
    """Return every path of ``service`` that holds data: its mounts, and its store's directory wherever it is.

    Of several replicas the first speaks for all but anonymous volumes and layers,
    which each has for itself.
    """
    found: list[DataPath] = []
    for number, container in enumerate(project.containers.get(service, ())):
        for path in _of_container(world, service, container):
            if number == 0 or path.kind in (ANONYMOUS, LAYER):
                found.append(path)
    return found


def _of_container(world: World, service: str, container: Container) -> list[DataPath]:
    image = world.engine.image(container.image_id)
    declared = image.volumes if image else ()
    kind, data_path = store_of(world, container)
    paths = [_of_mount(world, service, container, mount, declared) for mount in container.mounts]
    paths += [
        DataPath(service, target, TMPFS, "", FILES, container=container.id, running=container.running)
        for target in container.tmpfs
    ]
    if not kind:
        return paths
    mount = container.mount_at(data_path)
    memory = _deepest(container.tmpfs, data_path)
    if memory and (mount is None or len(memory) > len(mount.destination)):
        return [_with_store(path, kind, data_path) if path.target == memory else path for path in paths]
    if mount is None:
        layer = DataPath(
            service=service,
            target=data_path,
            kind=LAYER,
            host_path=layer_path(container, data_path),
            store=kind,
            container=container.id,
            running=container.running,
        )
        return [*paths, layer]
    return [_with_store(path, kind, data_path) if path.target == mount.destination else path for path in paths]


def _with_store(path: DataPath, kind: str, data_path: str) -> DataPath:
    subpath = os.path.relpath(data_path, path.target)
    return replace(path, store=kind, subpath="" if subpath == "." else subpath)


def _deepest(directories: Iterable[str], path: str) -> str:
    """Return the deepest of ``directories`` that holds ``path``; empty for none."""
    holding = [each for each in directories if f"{path.rstrip('/')}/".startswith(f"{each.rstrip('/')}/")]
    return max(holding, key=len, default="")


def _of_mount(
    world: World, service: str, container: Container, mount: EngineMount, declared: Iterable[str]
) -> DataPath:
    kind, driver, options = OTHER, mount.driver, {}
    if mount.type == "bind":
        kind = BIND
    elif mount.type == "tmpfs":
        kind = TMPFS
    elif mount.type == "volume":
        volume = world.engine.volume(mount.name)
        kind = ANONYMOUS if volume is not None and volume.anonymous else NAMED
        options = dict(volume.options) if volume else {}
    return DataPath(
        service=service,
        target=mount.destination,
        kind=kind,
        host_path=mount.source if kind in (BIND, NAMED, ANONYMOUS) else "",
        store=FILES,
        volume=mount.name,
        driver=driver,
        volume_options=options,
        mount=mount.as_inspect(),
        container=container.id,
        running=container.running,
        declared=mount.destination in declared,
    )


def store_of(world: World, container: Container) -> tuple[str, str]:
    """Return the kind of store that ``container`` is and its data directory inside; empty for neither."""
    for kind, store in world.stores.items():
        data_path = store.recognises(world.engine, container, lambda path: host_path_of(container, path))
        if data_path:
            return kind, data_path
    return "", ""


def declared_by(world: World, image_ref: str, env: Mapping[str, str]) -> tuple[str, Declared | None]:
    """Return the kind of store that an image is by its own word, and what else it says; nothing for neither."""
    for kind, store in world.stores.items():
        declared = store.declares(image_ref, env)
        if declared is not None:
            return kind, declared
    return "", None


def host_path_of(container: Container, path: str) -> str:
    """Return where ``path`` of a container lies on the host, from its mounts or its layer."""
    mount = container.mount_at(path)
    if mount is None:
        return layer_path(container, path)
    return os.path.normpath(os.path.join(mount.source, os.path.relpath(path, mount.destination)))


def measured(path: DataPath) -> DataPath:
    """Return ``path`` with what the file system knows of it: size, owner, mode, inode, file system."""
    if not path.host_path or not os.path.isdir(path.host_path):
        return path
    status = os.stat(path.host_path)
    size = scan.tree_size(path.host_path)
    return replace(
        path,
        size_bytes=size.bytes_allocated,
        files=size.files,
        inode=status.st_ino,
        device=status.st_dev,
        owner=f"{status.st_uid}:{status.st_gid}",
        mode=f"{status.st_mode & 0o7777:04o}",
        filesystem=file_systems.filesystem_of(path.host_path).fs_type,
        beside=tuple(_beside(path.host_path, path.subpath)),
    )


def _beside(mount: str, subpath: str) -> Iterable[str]:
    """Yield what ``mount`` holds outside ``subpath``, but for what the file system makes by itself."""
    parts = subpath.split("/") if subpath else []
    for depth, part in enumerate(parts):
        way = parts[:depth]
        for name in sorted(os.listdir(os.path.join(mount, *way))):
            if name not in (part, "lost+found"):
                yield "/".join((*way, name))


def with_facts(world: World, path: DataPath, container: Container) -> DataPath:
    """Return ``path`` with what its store says of itself."""
    store = world.stores[path.store]
    data_path = os.path.join(path.target, path.subpath) if path.subpath else path.target
    host_path = os.path.join(path.host_path, path.subpath) if path.subpath else path.host_path
    return replace(path, facts=store.observe(world.engine, container, data_path, host_path))


def place(world: World, path: str, *, shared: bool = False) -> Place:
    """Describe the directory that is to be filled, and what stands in it already.

    ``shared``: it is filled beside what it holds, and not put in place as a whole.
    """
    system = file_systems.filesystem_of(path)
    exists = os.path.lexists(path)
    status = os.lstat(path) if exists else None
    made_in = file_systems.nearest_existing(path if shared else os.path.dirname(path))
    empty = not exists or (os.path.isdir(path) and not os.listdir(path))
    return Place(
        path=path,
        exists=exists,
        empty=empty,
        filesystem=system.fs_type,
        device=system.device,
        mount_point=system.mount_point,
        free_bytes=system.bytes_free,
        volatile=system.volatile,
        occupied_by="" if empty else occupant(world, path),
        read_only=system.read_only,
        is_mount_point=exists and file_systems.is_mount_point(path),
        free_inodes=system.inodes_free if system.inodes_total else None,
        # Of root this is asked of the server of an NFS mount, and true elsewhere but for an immutable directory.
        closed="" if os.access(made_in, os.W_OK | os.X_OK) else made_in,
        soft=system.fs_type in NFS and bool({"soft", "softerr"} & set(system.options)),
        owner=f"{status.st_uid}:{status.st_gid}" if status else "",
        mode=stat.S_IMODE(status.st_mode) if status else 0,
    )


def occupant(world: World, path: str) -> str:
    """Return in words what stands at ``path``."""
    if not os.path.isdir(path):
        return "a file"
    for kind, store in world.stores.items():
        if kind == FILES:
            continue
        try:
            identity = store.identity(path)
        except StatefulError:
            continue
        known = [f"{key} {value}" for key, value in identity.items() if value]
        if known:  # an empty Redis has no files, so any directory could be one
            return f"{kind} data ({', '.join(known)})"
    names = sorted(os.listdir(path))
    return ", ".join(names[:SHOWN_ENTRIES]) + (
        f" and {len(names) - SHOWN_ENTRIES} more" if len(names) > SHOWN_ENTRIES else ""
    )


def line_missing(contexts: Iterable[BuildContext], path: str) -> tuple[str, str]:
    """Return the line that keeps ``path`` out of the build contexts and the file that lacks it; empty for neither."""
    for context in contexts:
        line = line_to_add(context, path)
        if line:
            return line, context.ignore_file
    return "", ""


def reached(path: DataPath | None, source: str) -> bool:
    """Tell whether the data is in the wanted bind mount already, by the engine's own word."""
    return path is not None and path.kind == BIND and os.path.realpath(path.host_path) == os.path.realpath(source)
