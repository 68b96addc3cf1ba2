# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove an edit by compose's own reading of the project: it changed what was asked for and nothing else.

Messages name keys only: the values in compose's output are interpolated and may be secrets.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.config import ServiceMount, parse_mount
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import Mount, normal_target


def unintended_changes(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    *,
    mounts: Sequence[Mount] = (),
    images: Mapping[str, str] | None = None,
    directory: str,
) -> list[str]:
    """Compare two outputs of ``compose config``: what changed beyond the request, or did not change as requested."""
    wanted_images = dict(images or {})
    problems = [f"'{key}'" for key in _differing(before, after) if key not in ("services", "volumes")]
    volumes_before, volumes_after = before.get("volumes") or {}, after.get("volumes") or {}
    problems += [f"volumes.{key}" for key in volumes_after if volumes_after[key] != volumes_before.get(key)]
    services_before, services_after = before.get("services") or {}, after.get("services") or {}
    for name in dict.fromkeys([*services_before, *services_after]):
        old, new = services_before.get(name) or {}, services_after.get(name) or {}
        own = {normal_target(target) for mount in mounts if mount.service == name for target in mount.targets}
        problems += [
            f"services.{name}.{key}"
            for key in _differing(old, new)
            if key != "volumes" and not (key == "image" and name in wanted_images)
        ]
        if _others(old, own) != _others(new, own):
            problems.append(f"services.{name}.volumes")
    for mount in mounts:
        if not _is_mounted(services_after.get(mount.service) or {}, mount, directory):
            problems.append(f"services.{mount.service}.volumes has no bind mount of {mount.source} at {mount.target}")
    for service, image in wanted_images.items():
        if (services_after.get(service) or {}).get("image") != image:
            problems.append(f"services.{service}.image is not {image}")
    return problems


# Once there is a second file, compose 1 sorts these and writes some lists as mappings.
_UNORDERED = frozenset(
    ("cap_add", "cap_drop", "configs", "depends_on", "devices", "expose", "external_links", "links", "networks")
    + ("ports", "profiles", "secrets", "security_opt", "tmpfs", "volumes_from")
)


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterable[str]:
    return [
        key
        for key in dict.fromkeys([*before, *after])
        if _canonical(key, before.get(key)) != _canonical(key, after.get(key))
    ]


def _canonical(key: str, value: Any) -> Any:
    if key == "extra_hosts" and isinstance(value, list):
        return dict(re.split("[:=]", str(item), maxsplit=1) for item in value)
    if key not in _UNORDERED:
        return value
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list) and not any(isinstance(item, (list, Mapping)) for item in value):
        return {str(item): None for item in value}
    if isinstance(value, Mapping):
        return {name: inner or None for name, inner in value.items()}
    return sorted(value, key=repr) if isinstance(value, list) else value


def _mounts(service: Mapping[str, Any]) -> list[ServiceMount]:
    return [parse_mount(entry) for entry in service.get("volumes") or ()]


def _others(service: Mapping[str, Any], own: set[str]) -> list[ServiceMount]:
    # Compose 1 sorts its answer, and where it puts an entry is no part of what the entry means.
    others = [mount for mount in _mounts(service) if normal_target(mount.target) not in own]
    return sorted(others, key=lambda mount: mount.target)


def _is_mounted(service: Mapping[str, Any], mount: Mount, directory: str) -> bool:
    ours = {normal_target(target) for target in mount.targets}
    found = [each for each in _mounts(service) if normal_target(each.target) in ours]
    if any(normal_target(each.target) != normal_target(mount.target) for each in found):
        return False
    wanted = os.path.normpath(os.path.join(directory, os.path.expanduser(mount.source)))
    if len(found) != 1 or found[0].type != "bind" or (mount.read_only and not found[0].read_only):
        return False
    return os.path.normpath(found[0].source) == wanted
