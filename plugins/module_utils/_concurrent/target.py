# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the files of a host become at another version, told without checking it out, and what forbids it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.command_line import (
    DEFAULT_FILES,
    OVERRIDE_FILES,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import host as hosts
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.checkout import Checkout
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.images import (
    against,
    at,
    floating,
    own_services,
    pinned,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.model import (
    QUERY,
    RELOAD,
    Rung,
    Target,
    Version,
    after_moves,
    described,
    version_of,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.naming import against_folder
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.survey import (
    FOLDERS,
    Seen,
    tag_of,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, InvalidInput, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import mounts, scan
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.rename import can_rename
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World


def target_of(world: World, seen: Seen, version: Version) -> Target:
    """Look at the files of a version without checking it out."""
    blockers: list[Blocker] = []
    if seen.checkout is None:
        current = {name: service.image for name, service in seen.project.config.services.items()}
        return _with_images(world, seen, version, seen.folder, False, (), current, blockers)
    checkout, release = seen.checkout, str(version)
    if not checkout.commit_of(release):
        blockers.append(
            Blocker(
                f"The checkout in {checkout.root} has no tag {release}.",
                shell("git", "-C", checkout.root, "fetch", "--tags"),
            )
        )
        return Target(seen.folder, False, (), {}, {}, (), tuple(blockers))
    own = checkout.has_own_commits()
    merge = own and bool(seen.branch)
    source = release
    changed = set(checkout.changed_here()).intersection(checkout.differs(release))
    if changed:
        blockers.append(
            Blocker(
                f"{', '.join(sorted(changed))} in {checkout.root} was changed here and is not committed, and {release}"
                " has another: nothing of yours is overwritten. Commit it on a branch of your own, which is merged"
                " then.",
                shell("git", "-C", checkout.root, "diff"),
            )
        )
    elif own and not seen.branch:
        blockers.append(
            Blocker(
                f"The checkout in {checkout.root} has commits of yours that are on no branch, and would be left behind:"
                " give them one.",
                shell("git", "-C", checkout.root, "switch", "-c", "ours"),
            )
        )
    elif merge:
        try:
            conflicts = checkout.conflicts(release)
        except InvalidInput as error:
            blockers.append(Blocker(error.msg, error.next_command))
            return Target(seen.folder, merge, (), {}, {}, (), tuple(blockers))
        if not conflicts:
            source = checkout.merged(release)
        else:
            blockers.append(
                Blocker(
                    f"Your branch {seen.branch} and {release} are in conflict in {', '.join(conflicts)}: merge it by"
                    " hand, and run this again.",
                    shell("git", "-C", checkout.root, "merge", release),
                )
            )
    unknown = sorted(set(checkout.in_the_way(source)) - changed)
    if unknown:
        blockers.append(
            Blocker(
                f"{', '.join(unknown)} in {checkout.root} is unknown to git, and {release} has a file of its own there:"
                " nothing of yours is overwritten. Move it away first.",
                shell("ls", "-la", *(os.path.join(checkout.root, name) for name in unknown)),
            )
        )
    here = os.path.relpath(seen.folder, os.path.realpath(checkout.root))
    folder, text = _file_in(checkout, source, here)
    if text is None:
        blockers.append(Blocker(f"{release} has no compose file in {here} or {' or '.join(FOLDERS)}."))
        return Target(seen.folder, merge, (), {}, {}, (), tuple(blockers))
    goal = os.path.normpath(os.path.join(checkout.root, folder))
    moves = tuple(_moves(checkout, here, folder)) if goal != seen.folder else ()
    services = services_of(text)
    if goal != seen.folder:
        documents = (document_of(text), _override(seen.folder))
        blockers += against_folder(seen.project, checkout, source, goal, dict(moves), documents)
    blockers += _in_the_way(checkout, source, dict(moves))
    blockers += _elsewhere(seen, goal, services, dict(moves))
    images = {name: str(body.get("image", "")) for name, body in services.items()}
    return _with_images(world, seen, version, goal, merge, moves, images, blockers)


def _file_in(checkout: Checkout, source: str, here: str) -> tuple[str, str | None]:
    for folder in dict.fromkeys((here, *FOLDERS)):
        for name in DEFAULT_FILES:
            text = checkout.file_at(source, os.path.normpath(os.path.join(folder, name)))
            if text is not None:
                return folder, text
    return here, None


def _moves(checkout: Checkout, here: str, there: str) -> list[tuple[str, str]]:
    """Return what git does not know in the folder that goes away, and where it goes: data, secrets, overrides."""
    root = checkout.root
    listed = checkout.git("ls-files", "--others", "--directory", "-z", "--", here).split("\0")
    entries = {name.rstrip("/") for name in listed if name}
    top = sorted({os.path.join(here, os.path.relpath(name, here).split(os.sep)[0]) for name in entries})
    return [(os.path.join(root, old), os.path.join(root, there, os.path.basename(old))) for old in top]


def _in_the_way(checkout: Checkout, source: str, moved: Mapping[str, str]) -> list[Blocker]:
    """Find what cannot go where the compose file goes: something is there, or is once the release is checked out."""
    found = []
    for old, new in moved.items():
        inside = os.path.relpath(new, checkout.root)
        if os.path.lexists(new) or checkout.asks("cat-file", "-e", f"{source}:{inside}"):
            text = f"{new} is in the way of {old}, which goes where the compose file goes."
            found.append(Blocker(text, shell("ls", "-la", old, new)))
    return found


def _elsewhere(
    seen: Seen, folder: str, services: Mapping[str, Mapping[str, Any]], moved: Mapping[str, str]
) -> list[Blocker]:
    """Find where the release has its stores in other directories than the data is in: they would start empty."""
    found: list[Blocker] = []
    # The override file goes along, or stays beside the compose file: what it mounts is mounted then too.
    overrides = _overrides(seen.folder)
    for service, data in ((hosts.DB, seen.data), (hosts.REDIS, seen.redis)):
        if not data:
            continue
        goal = after_moves(data, moved)
        volumes = [volume for each in (services, overrides) for volume in each.get(service, {}).get("volumes") or ()]
        sources = [_source_of(volume, folder) for volume in volumes]
        if any("$" in str(volume) for volume in volumes):
            continue  # only compose can tell, once it is started; what it counts then has to be there
        mounted = [source for source in sources if source]
        if not any(goal == source or goal.startswith(source + os.sep) for source in mounted):
            shown = ", ".join(mounted) or "no directory of the host"
            found.append(
                Blocker(
                    f"The release mounts {shown} into {service}, and the data is in {goal}: it would start"
                    " empty. Move it there first, or keep your own mount in an override file.",
                    shell("ls", "-la", os.path.dirname(goal)),
                )
            )
    return found


def _source_of(volume: Any, folder: str) -> str:
    """Return the directory of the host that an entry of ``volumes`` mounts; empty where it is none."""
    if isinstance(volume, dict):
        source = str(volume.get("source", ""))
    else:
        source, colon, _target = str(volume).partition(":")
        source = source if colon else ""  # a volume without a name
    return os.path.normpath(os.path.join(folder, source)) if source.startswith((".", "/")) else ""


def _with_images(
    world: World,
    seen: Seen,
    version: Version,
    folder: str,
    merge: bool,
    moves: tuple[tuple[str, str], ...],
    images: Mapping[str, str],
    blockers: list[Blocker],
) -> Target:
    services = seen.project.config.services
    # What is interpolated is known as compose reads it today, with the host's own settings.
    read = {name: services[name].image if "$" in ref and name in services else ref for name, ref in images.items()}
    effective = {**read, **_overridden(seen.folder)}
    own = own_services(world, seen)
    ours: dict[str, str] = {}
    for name in own:
        reference = effective.get(name, "")
        named = version_of(tag_of(reference))
        if named is not None and named != version:
            ours[name] = at(reference, version)
    for name, server, major in (
        (hosts.DB, seen.db, seen.postgresql),
        (hosts.REDIS, seen.redis_server, seen.redis_major),
    ):
        pin = pinned(world, server, effective.get(name, ""), major) if server is not None else ""
        if pin:
            ours[name] = pin
    effective = {**effective, **ours}
    names = floating(world, {name: effective.get(name, "") for name in own}, version)
    meant = {each["tag"] for each in names}
    for name in sorted(set(images) - set(hosts.STORES)):
        if effective.get(name, "") not in meant:
            blockers += against(world, name, effective.get(name, ""), version if name in own else None)
    return Target(folder, merge, moves, ours, effective, own, tuple(blockers), names)


def services_of(text: str) -> dict[str, dict[str, Any]]:
    """Return the services of a compose file by name, as they stand in it."""
    return _services(document_of(text))


def _services(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = document.get("services") or {}
    return {name: body or {} for name, body in found.items()}


def document_of(text: str) -> dict[str, Any]:
    """Return a compose file as it stands, nothing put in."""
    import yaml

    return yaml.safe_load(text) or {}


def _overridden(folder: str) -> dict[str, str]:
    """Return the images that the override file beside the compose file names."""
    return {key: str(body["image"]) for key, body in _overrides(folder).items() if body.get("image")}


def _overrides(folder: str) -> dict[str, dict[str, Any]]:
    """Return the services of the override file beside the compose file."""
    return _services(_override(folder))


def _override(folder: str) -> dict[str, Any]:
    """Return the override file beside the compose file, as it stands: it stays, whatever is checked out."""
    for name in OVERRIDE_FILES:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                return document_of(file.read())
    return {}


def blockers_of(
    seen: Seen, target: Target, rung: Rung, version: Version, backups: str = "", *, backed_up: bool = False
) -> list[Blocker]:
    """Return everything that forbids the change."""
    found = [*seen.blockers, *target.blockers]
    if seen.version is None:
        found.append(
            Blocker(
                "Which version runs here cannot be told: neither the api, nor its image, nor the checkout says it"
                f" ({', '.join(f'{name}: {value}' for name, value in seen.versions.items()) or 'nothing'})."
            )
        )
    said, label = described(seen.versions.get("said", "")), described(seen.versions.get("label", ""))
    if said and label and said != label:
        found.append(Blocker(f"The api says that it is {said}, and its image is labelled {label}."))
    missing = [name for name in (seen.data, seen.redis) if name and not os.path.isdir(name)]
    if missing:
        found.append(Blocker(f"{missing[0]} is no directory.", shell("ls", "-la", os.path.dirname(missing[0]))))
    if rung.kind == RELOAD and seen.data:
        found += _space(seen, backups, backed_up=backed_up)
    if rung.kind == RELOAD and not rung.kinds:
        found.append(Blocker(f"The rung {rung.at} reloads everything and says nothing of how."))
    if rung.kind == QUERY and not rung.migrations:
        found.append(Blocker(f"The rung {rung.at} runs a migration and has none."))
    return found


def _space(seen: Seen, backups: str, *, backed_up: bool) -> list[Blocker]:
    """The new cluster and a copy of Redis lie beside the old data, dump and backup where backups go: each has room."""
    possible = can_rename(seen.data, os.path.dirname(seen.data))
    if not possible.yes:
        return [Blocker(f"{seen.data} cannot be set aside by a rename: {possible.reason}")]
    data, redis = tree_bytes(seen.data), tree_bytes(seen.redis)
    wanted = [
        (os.path.dirname(seen.data), data),
        (os.path.dirname(seen.redis), 2 * redis),
        (backups or os.path.dirname(seen.data), data + redis + (data if backed_up else 0)),
    ]
    needed: dict[str, int] = {}
    free: dict[str, int] = {}
    for path, size in wanted:
        system = mounts.filesystem_of(_that_is_there(path))
        needed[system.mount_point] = needed.get(system.mount_point, 0) + size
        free[system.mount_point] = system.bytes_free
    return [
        Blocker(
            f"{place} lacks {size - free[place]:,} bytes for what lies there until the reload is committed.",
            shell("df", "-h", place),
        )
        for place, size in needed.items()
        if free[place] < size
    ]


def _that_is_there(path: str) -> str:
    while not os.path.isdir(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def tree_bytes(path: str) -> int:
    return scan.tree_size(path).bytes_allocated
