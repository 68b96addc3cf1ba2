# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the data that a wanted mount is about, and the directory that it is to live in. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Project
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container, EngineMount
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    ANONYMOUS,
    BIND,
    LAYER,
    DataPath,
    MountRequest,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.neighbours import down_to_one
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.observe import (
    data_paths,
    declared_by,
    reached,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World


def find_data(world: World, project: Project, mount: MountRequest) -> DataPath | None:
    """Return where the wanted mount's data lives now; None where the service has no container yet."""
    if not project.containers.get(mount.service):
        return None
    there_already = _in_place(world, project, mount)
    if there_already is not None:
        return there_already
    paths = data_paths(world, project, mount.service)
    if mount.target:
        wanted = os.path.normpath(mount.target)
        found = [path for path in paths if os.path.normpath(path.target) == wanted]
        return (
            _one(project, found, mount, f"{mount.target} of the service {mount.service}")
            if found
            else _in_layer(world, project, mount, paths)
        )
    stores = [path for path in paths if path.store != "files"]
    if stores:
        return _one(project, stores, mount, f"the store of the service {mount.service}")
    anonymous = [path for path in paths if path.kind == ANONYMOUS]
    if len(anonymous) == 1:
        return anonymous[0]
    there = [path for path in paths if reached(path, mount.source)]
    if len(there) == 1:
        return there[0]
    known = ", ".join(f"{path.target} ({path.kind})" for path in paths) or "none"
    raise InvalidInput(
        f"The service {mount.service} is no store that is known here; name the target of its mount. Its paths: {known}."
    )


def _in_place(world: World, project: Project, mount: MountRequest) -> DataPath | None:
    """Return the wanted mount if a container has it, by the engine's word alone: a run with nothing to do is cheap."""
    for container in project.containers[mount.service]:
        for known in container.mounts:
            if known.type != "bind" or os.path.realpath(known.source) != mount.source:
                continue
            if os.path.normpath(mount.target) == known.destination or (
                not mount.target and _holds_declared_data(world, container, known)
            ):
                return DataPath(
                    service=mount.service,
                    target=known.destination,
                    kind=BIND,
                    host_path=known.source,
                    store="files",
                    mount=known.as_inspect(),
                    container=container.id,
                    running=container.running,
                )
    return None


def _holds_declared_data(world: World, container: Container, mount: EngineMount) -> bool:
    """Tell by declarations alone whether a container's data lies in ``mount``, which may be one level off."""
    inside = mount.destination.rstrip("/") + "/"
    if any(other.destination.startswith(inside) for other in container.mounts):
        return False
    _kind, declared = declared_by(world, container.image_ref, container.env)
    if declared is not None and declared.data_path:
        return container.mount_at(declared.data_path) == mount
    image = world.engine.image(container.image_id)
    return any(container.mount_at(path) == mount for path in (image.volumes if image else ()))


def _one(project: Project, found: Sequence[DataPath], mount: MountRequest, what: str) -> DataPath:
    if len(found) > 1 and len({path.container for path in found}) > 1:
        lost = any(path.kind == LAYER for path in found)
        raise InvalidInput(
            f"The service {mount.service} runs as {len(found)} replicas, and each has data of its own at"
            f" {found[0].target}: they cannot share {mount.source}. Write scale: 1 (or deploy.replicas: 1) into the"
            " compose file, too: it decides how many the next 'up' makes.",
            # A layer goes with its container: which one is to stay is nothing to paste.
            next_command="" if lost else down_to_one(project, mount.service),
        )
    if len(found) > 1:
        raise InvalidInput(f"There is more than one place for {what}: {', '.join(path.target for path in found)}.")
    return found[0]


def _in_layer(world: World, project: Project, mount: MountRequest, paths: Sequence[DataPath]) -> DataPath:
    """Return a path that is named and not mounted: it lies in the container's own layer, if it is there at all."""
    from_layer = [path for path in paths if path.kind == LAYER and path.target == mount.target]
    if from_layer:
        return from_layer[0]
    container = project.containers[mount.service][0]
    path = os.path.join(container.layers.get("UpperDir", ""), mount.target.lstrip("/"))
    below = container.mount_at(mount.target)
    if below is not None or not container.layers or not os.path.isdir(path):
        known = ", ".join(f"{known.target} ({known.kind})" for known in paths) or "none"
        raise InvalidInput(
            f"The service {mount.service} has no data path {mount.target} of its own. Its paths: {known}."
        )
    return DataPath(
        service=mount.service,
        target=mount.target,
        kind=LAYER,
        host_path=path,
        store="files",
        container=container.id,
        running=container.running,
    )


def declared_target(world: World, project: Project, service: str) -> str:
    """Return the data path of a service without a container: the one that its image declares."""
    reference = project.service(service).image
    image = world.engine.image(reference) if reference else None
    if image is not None and len(image.volumes) == 1:
        return image.volumes[0]
    raise InvalidInput(f"{service} was never started, so its data path cannot be found: name the target of its mount.")


def with_sources(mounts: Sequence[MountRequest], project_dir: str) -> tuple[MountRequest, ...]:
    """Return the requests with absolute sources, symbolic links resolved; raises for what cannot be a directory."""
    found = []
    for mount in mounts:
        written = mount.written or mount.source
        absolute = os.path.normpath(os.path.join(project_dir, os.path.expanduser(written)))
        _check_way(absolute)
        found.append(replace(mount, source=os.path.realpath(absolute), written=written))
    return tuple(found)


def _check_way(path: str) -> None:
    """Raise where no directory can be made at ``path``, because of a link or a file on the way to it."""
    above = os.path.dirname(path)
    if os.path.islink(path) and not os.path.exists(path):
        raise InvalidInput(f"{path} is a symbolic link to nowhere.", next_command=shell("ls", "-ld", path))
    if os.path.exists(above) and not os.path.isdir(above):
        raise InvalidInput(
            f"{above} is not a directory, so {path} cannot be made.", next_command=shell("ls", "-ld", above)
        )
    if above != path:
        _check_way(above)
