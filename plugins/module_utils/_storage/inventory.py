# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a project's services keep where, for people who want to know before they do anything. Changes nothing."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Project
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container, Image, Volume
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import FILES, DataPath
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.observe import (
    data_paths,
    measured,
    with_facts,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.report import size_text
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World


def services(world: World, project: Project, wanted: Sequence[str], *, sizes: bool) -> list[dict[str, Any]]:
    """Return one entry a service: its containers, its image and what that means now, its data paths."""
    names = [name for name in project.config.services if not wanted or name in wanted]
    return [_service(world, project, name, sizes=sizes) for name in names]


def _service(world: World, project: Project, name: str, *, sizes: bool) -> dict[str, Any]:
    containers = project.containers.get(name, ())
    reference = project.service(name).image
    image = world.engine.image(containers[0].image_id if containers else reference) if containers or reference else None
    paths, unanswered = _paths(world, project, name)
    return {
        "service": name,
        "containers": [{"name": c.name, "status": c.status, "image_id": c.image_id} for c in containers],
        "image": _image(world, project, name, containers),
        "declared_volumes": list(image.volumes) if image else [],
        "unanswered": unanswered,
        "paths": [_path(world, path, containers, sizes=sizes) for path in paths],
    }


def _paths(world: World, project: Project, name: str) -> tuple[list[DataPath], str]:
    """Return the service's paths, and why its store could not be asked: one that fails must not hide the others."""
    try:
        return data_paths(world, project, name), ""
    except StatefulError as error:
        unanswered = error.msg
    except PermissionError as error:
        unanswered = f"this user may not look into its container ({error.strerror}): run the task with become: true"
    plain = {kind: store for kind, store in world.stores.items() if kind == FILES}
    return data_paths(replace(world, stores=plain), project, name), unanswered


def _image(world: World, project: Project, name: str, containers: Sequence[Container]) -> dict[str, Any]:
    service = project.service(name)
    reference = service.image or (containers[0].image_ref if containers else "")
    now = world.engine.image(reference) if reference else None
    running = containers[0].image_id if containers else ""
    built = service.build is not None
    return {
        "reference": reference,
        "running_id": running,
        "running_version": version_of(world.engine.image(running)) if running else "",
        "resolves_to": now.id if now else "",
        "resolves_to_version": version_of(now),
        "moved_on": bool(running and now and now.id != running),
        "built_here": built,
        "floating": not built and is_floating(reference),
    }


VERSIONS = ("PG_MAJOR", "REDIS_VERSION", "VALKEY_VERSION", "KEYDB_VERSION")
"""The variables in which images of stores name their version: of Postgres the major, of the others all of it."""


def version_of(image: Image | None) -> str:
    """Return the version of the store that an image is made for, empty where it names none."""
    return next((image.env[name] for name in VERSIONS if image.env.get(name)), "") if image else ""


def is_floating(reference: str) -> bool:
    """Tell whether a tag follows the newest major: it names no version of its own, but a variant at most.

    ``postgres:alpine`` was 9.6 once and is another major at the next pull; so does
    ``postgres:alpine3.20``, whose number is that of its base.
    """
    if not reference or "@" in reference or reference.startswith("sha256:"):
        return False
    tag = reference.rpartition("/")[2].partition(":")[2]
    return not any(_VERSION.match(part) for part in tag.split("-"))


_VERSION = re.compile(r"(?:v|pg)?\d", re.IGNORECASE)


def _path(world: World, path: DataPath, containers: Sequence[Container], *, sizes: bool) -> dict[str, Any]:
    unseen = _unseen(path.host_path)
    single = os.path.isfile(path.host_path)
    known = measured(path) if sizes and not unseen and not single else path
    size = {"bytes": known.size_bytes, "files": known.files} if known is not path else {"bytes": None, "files": None}
    if sizes and single:
        size = {"bytes": os.path.getsize(path.host_path), "files": 1}
    version, unanswered = "", ""
    identity: dict[str, Any] = {}
    if path.store != FILES and unseen:
        unanswered = unseen
    elif path.store != FILES and path.host_path:
        container = next(c for c in containers if c.id == path.container)
        try:
            facts = with_facts(world, path, container).facts
            version, identity = (facts.version, dict(facts.identity)) if facts else ("", {})
        except StatefulError as error:
            unanswered = error.msg
    return {
        "target": path.target,
        "kind": path.kind,
        "store": path.store,
        "version": version,
        "identity": identity,
        "unanswered": unanswered,
        "data_directory": os.path.normpath(os.path.join(path.target, path.subpath)),
        "mount": dict(path.mount),
        "host_path": path.host_path,
        "declared": path.declared,
        "ephemeral": bool(path.ephemeral),
        "reason": path.ephemeral,
        **size,
        "filesystem": known.filesystem,
        "owner": known.owner,
        "mode": known.mode,
    }


def _unseen(host_path: str) -> str:
    """Return why this user cannot look at a path of the host; empty where that is possible, or there is none."""
    if not host_path:
        return ""
    try:
        is_directory = stat.S_ISDIR(os.stat(host_path).st_mode)
    except PermissionError:
        return _NEEDS_ROOT.format(host_path)
    except OSError as error:
        return f"{host_path} cannot be looked at: {error.strerror}"
    return _NEEDS_ROOT.format(host_path) if is_directory and not os.access(host_path, os.R_OK | os.X_OK) else ""


_NEEDS_ROOT = "this user may not look into {}: run the task with become: true"


def orphans(world: World) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Return the volumes that no container refers to and that hold data of a store, and those not looked into."""
    in_use = world.engine.volumes_in_use()
    found: list[dict[str, Any]] = []
    unknown: list[dict[str, str]] = []
    for volume in world.engine.volumes():
        if volume.name in in_use:
            continue
        reason = _not_looked_into(volume)
        if reason:
            unknown.append({"volume": volume.name, "reason": reason})
            continue
        for store in world.stores.values():
            found += [
                {"volume": volume.name, "anonymous": volume.anonymous, **asdict(orphan)}
                for orphan in store.orphans(volume.mountpoint)
            ]
    return found, unknown


def _not_looked_into(volume: Volume) -> str:
    if volume.driver != "local":
        return f"a volume of the driver {volume.driver}"
    if volume.options:
        # Its directory is empty as long as nothing uses it, whatever it holds.
        return f"a local volume with options ({', '.join(sorted(volume.options))})"
    return _unseen(volume.mountpoint)


def _image_notes(image: Mapping[str, Any]) -> str:
    notes = []
    if image["built_here"]:
        notes.append("built here")
    if image["floating"]:
        notes.append("the tag floats")
    if image["moved_on"]:
        runs, means = (
            f"{image[key][7:19]}{' (' + image[version] + ')' if image[version] else ''}"
            for key, version in (("running_id", "running_version"), ("resolves_to", "resolves_to_version"))
        )
        notes.append(f"it runs {runs}, and the tag means {means} by now")
    elif image["resolves_to"] and (image["floating"] or image["resolves_to_version"]):
        version = f", version {image['resolves_to_version']}" if image["resolves_to_version"] else ""
        notes.append(f"now {image['resolves_to'][7:19]}{version}")
    return f"  ({'; '.join(notes)})" if notes else ""


def text(
    project: str,
    found: Sequence[dict[str, Any]],
    lost: Sequence[dict[str, Any]],
    unknown: Sequence[dict[str, str]] = (),
) -> str:
    """Return the report as a person reads it."""
    lines = [f"Project {project}"]
    for service in found:
        image = service["image"]
        lines.append(f"  {service['service']}: {image['reference'] or 'no image'}{_image_notes(image)}")
        if not service["containers"]:
            lines.append("    never started")
        if service["unanswered"]:
            lines.append(f"    its store could not be asked, so its paths may be incomplete: {service['unanswered']}")
        for path in service["paths"]:
            store = f"{path['store']} {path['version']}".strip()
            mark = "EPHEMERAL" if path["ephemeral"] else "kept"
            size = "size unknown" if path["bytes"] is None else size_text(path["bytes"])
            lines.append(f"    {path['target']}  {path['kind']}, {store}, {size}  [{mark}]")
            if path["data_directory"] != os.path.normpath(path["target"]):
                lines.append(f"      its data directory is {path['data_directory']}")
            if path["reason"]:
                lines.append(f"      {path['reason']}")
            if path["unanswered"]:
                lines.append(f"      it could not be asked: {path['unanswered']}")
    for orphan in lost:
        lines.append(
            f"  Orphaned volume {orphan['volume'][:12]}: {orphan['store']} {orphan['version']}"
            f" {orphan['identifier']}, {orphan['state']}, last written {orphan['last_write']}"
        )
    if unknown:
        lines.append(f"  {len(unknown)} volumes that no container refers to were not looked into:")
        lines += [f"    {volume['volume'][:12]}: {volume['reason']}" for volume in unknown]
    return "\n".join(lines)
