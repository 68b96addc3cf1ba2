# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands in the way of a plan, said in sentences before anything is touched. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, InvalidInput, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    ANONYMOUS,
    BIND,
    COPY,
    LAYER,
    POSTGRESQL,
    RENAME,
    REPLICA,
    TMPFS,
    DataPath,
    Findings,
    MountRequest,
    Move,
    Place,
    Request,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.places import (
    of_own_places,
    of_place,
    overlap,
    told_of_place,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.starting import (
    of_unstarted,
    told_of_unstarted,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.strategy import (
    Choice,
    downtime,
    space_needed,
)


def check_request(mounts: Iterable[MountRequest]) -> None:
    """Raise :class:`InvalidInput` where the request contradicts itself."""
    targets: set[tuple[str, str]] = set()
    sources: dict[str, str] = {}
    for mount in mounts:
        if (mount.service, mount.target) in targets:
            raise InvalidInput(f"Two mounts name {mount.target or 'the data'} of the service {mount.service}.")
        targets.add((mount.service, mount.target))
        for other, service in sources.items():
            if overlap(other, mount.source):
                raise InvalidInput(
                    f"The directories {other} (of {service}) and {mount.source} (of {mount.service}) overlap:"
                    " each store needs one of its own."
                )
        sources[mount.source] = mount.service


def check_move(data: DataPath, source: str) -> None:
    """Raise :class:`InvalidInput` where ``source`` cannot be a new place for ``data``."""
    where = f"{data.target} of the service {data.service}"
    if data.kind == TMPFS:
        raise InvalidInput(f"{where} is in memory (tmpfs): there is nothing on disk that could be moved.")
    if data.kind == BIND:
        raise InvalidInput(
            f"{where} is a bind mount already, of {data.host_path}: moving between bind mounts is not what this does."
            " Leave the mount as it is, or stop the service and move the directory by hand."
        )
    if data.driver not in ("", "local"):
        raise InvalidInput(
            f"{where} is a volume of the driver {data.driver}; only volumes of the local driver can be moved.",
            next_command=shell("docker", "volume", "inspect", data.volume),
        )
    if data.host_path and overlap(data.host_path, source):
        raise InvalidInput(f"{source} overlaps with {data.host_path}, where the data of {data.service} is now.")


def blockers(request: Request, findings: Findings, choices: Mapping[str, Choice]) -> list[Blocker]:
    """Return everything that forbids the plan, each with a way out."""
    found = [*findings.blockers, *findings.rewrite.blockers]
    for move in findings.moves:
        found += _of_move(move, choices[name_of(move)])
    ways_out = {LAYER: "list it in mounts too, with target: {path}", TMPFS: "put it on disk first"}
    found += [
        Blocker(
            f"{part.service} keeps {part.what} at {part.path}, on no volume, where it is lost when the container is"
            f" created anew: {ways_out[part.kind].format(path=part.path)}."
        )
        for part in findings.outlying
        if part.kind in ways_out
    ]
    for unstarted in findings.unstarted:
        found += of_place(unstarted.place, unstarted.store, unstarted.ignore_line, unstarted.ignore_file)
        found += of_unstarted(unstarted, request.compose)
    found += _space(request, findings, choices)
    if not request.accept_drift:
        found += _of_drift(request, findings)
    for service, paths in findings.other_anonymous.items():
        if findings.compose_v1:
            found.append(
                Blocker(
                    f"Compose v1 forgets the anonymous volumes of {service} at {', '.join(paths)} when it recreates the"
                    " container: list these paths in mounts too."
                )
            )
    for move in findings.moves:
        found += _of_backup(request, move.data)
    if request.backup == "none":
        slower = [name for name, choice in choices.items() if choice.strategy != RENAME]
        if slower:
            found.append(
                Blocker(
                    f"backup: none is allowed for the strategy rename only, and {', '.join(slower)} takes another: set"
                    " backup: auto, or strategy: rename where that is possible."
                )
            )
    found += of_own_places(request, findings)
    if not request.pin_images:
        found += [
            Blocker(
                f"{sentence}: the next plain 'up' would start that on this data. Set pin_images: true to write the"
                f" image that runs into the file, or name it there for {service} yourself."
            )
            for service, sentence in findings.other_majors.items()
        ]
    estimate = estimated_downtime(findings, choices)
    if request.max_downtime and estimate > request.max_downtime:
        found.append(
            Blocker(
                f"The downtime is estimated at {estimate:.1f} s, more than max_downtime ({request.max_downtime:.1f} s):"
                " raise max_downtime, or name sources on the data's own file system, where a rename takes a bare"
                " restart."
            )
        )
    return found


def of_users(move: Move, why: str) -> list[Blocker]:
    """Say who else has the volume mounted."""
    data = move.data
    if not move.users:
        return []
    return [
        Blocker(
            f"The volume of {data.service} is mounted by {', '.join(move.users)} too, {why}.",
            shell("docker", "ps", "-a", "--filter", f"volume={data.volume}"),
        )
    ]


def _of_drift(request: Request, findings: Findings) -> list[Blocker]:
    found = []
    for service, differences in findings.drift.items():
        said = (
            f"Recreating {service} would change more than its mount, because its compose file changed since it was"
            f" created: {'; '.join(differences)}."
        )
        if service in findings.stranded_by_up:
            # What everybody would type first is what loses the data.
            found.append(
                Blocker(
                    f"{said} Do not apply that by 'docker compose up', which would create {service} anew without its"
                    " data: set accept_drift: true, and it is applied together with the move."
                )
            )
        else:
            found.append(
                Blocker(
                    f"{said} Apply that first (docker compose up -d {service}), or set accept_drift: true.",
                    f"{request.compose} up -d --no-deps {shlex.quote(service)}",
                )
            )
    return found


def warnings(request: Request, findings: Findings, choices: Mapping[str, Choice]) -> list[str]:
    found = list(findings.warnings)
    for move in findings.moves:
        if move.data.facts is not None:
            found += move.data.facts.warnings
        if move.partial_line and choices[name_of(move)].strategy in (COPY, REPLICA):
            found.append(
                f"Until the switch a copy of the data of {move.data.service} grows inside the build context of this"
                f" project: build nothing before that, or add the line '{move.partial_line}' to its ignore file."
            )
        found += told_of_place(move.place, move.data.store)
    found += [
        f"{part.service} keeps {part.what} at {part.path}, in an anonymous volume, which 'down' leaves without a name:"
        f" list it in mounts too, with target: {part.path}, to have it moved."
        for part in findings.outlying
        if part.kind == ANONYMOUS
    ]
    for unstarted in findings.unstarted:
        found += told_of_place(unstarted.place, unstarted.store)
        found += told_of_unstarted(unstarted)
    for service, sentence in findings.floating.items():
        advice = "" if request.pin_images else " Set pin_images: true to write the image that runs into the file."
        found.append(f"{sentence} The service {service} is recreated from the image that it ran.{advice}")
    if request.backup == "none" and findings.moves:
        found.append("No backup is taken (backup: none): the renamed directory is the only copy of the data.")
    found += findings.rewrite.warnings
    return found


def estimated_downtime(findings: Findings, choices: Mapping[str, Choice]) -> float:
    """Return the estimate for all moves in one downtime: restarts overlap, the moves add up."""
    restart = downtime(RENAME, findings.moves[0].data) if findings.moves else 0.0
    extra = sum(downtime(choices[name_of(move)].strategy, move.data) - restart for move in findings.moves)
    return restart + max(0.0, extra)


def name_of(move: Move) -> str:
    return f"{move.data.service}:{move.data.target}"


def _of_move(move: Move, choice: Choice) -> list[Blocker]:
    data, place, found = move.data, move.place, []
    if not choice.strategy:
        reasons = "; ".join(f"{name}: {why}" for name, why in choice.against.items())
        found.append(
            Blocker(f"{data.service}: {choice.reason} ({reasons}). Set strategy: auto, or name another source.")
        )
    if place.is_mount_point:
        found.append(
            Blocker(
                f"{place.path} is itself a mount point, in whose place no directory can be put: name one below it, for"
                f" example {place.path.rstrip('/')}/{data.service}."
            )
        )
    elif not place.empty:
        found.append(
            Blocker(
                f"{place.path} is not empty: it holds {place.occupied_by}. Name another directory, or move that away"
                " first.",
                shell("ls", "-la", place.path),
            )
        )
    found += of_place(place, data.store, move.ignore_line, move.ignore_file)
    found += of_users(move, "which would keep the old place: give that container the new mount first, or remove it")
    if move.shipped_by_image:
        found.append(
            Blocker(
                f"The image of {data.service} ships files at {data.target}; only data made at run time can be moved:"
                " name the target below it that holds that data alone."
            )
        )
    if data.kind == LAYER and not data.host_path:
        found.append(
            Blocker(
                f"The engine's storage driver does not show where the layer of {data.service} is: back it up with"
                f" compose_storage_backup, and restore that into a service that has a volume at {data.target}."
            )
        )
    if data.facts is not None:
        found += data.facts.blockers
    return found


def backup_bytes(request: Request, data: DataPath) -> int:
    """Return about what the backup of a path takes while it is made and proved.

    A logical one is restored beside itself to prove it. What Redis has in memory
    alone is written into it, too.
    """
    size = max(data.size_bytes, int(_details(data).get("used_memory", 0)))
    return int(size * (2.1 if _logical(request, data) else 1.05)) + (32 << 20)


def _details(data: DataPath) -> Mapping[str, Any]:
    return data.facts.details if data.facts is not None else {}


def _logical(request: Request, data: DataPath) -> bool:
    """Tell whether the backup of a path is a logical one."""
    impeded = bool(_details(data).get("physical_backup"))
    return data.store == POSTGRESQL and data.running and (request.backup == "logical" or impeded)


def _of_backup(request: Request, data: DataPath) -> list[Blocker]:
    reasons = _details(data).get("logical_backup")
    if not reasons or request.backup == "none" or not _logical(request, data):
        return []
    return [
        Blocker(
            f"The backup of {data.service} is a logical one, and could not be proved: {'; '.join(reasons)}. Run the"
            " role selfhost.stateful.host_requirements on this host first."
        )
    ]


def _space(request: Request, findings: Findings, choices: Mapping[str, Choice]) -> list[Blocker]:
    """Add up what every file system has to take, backups included."""
    needed: dict[int, int] = {}
    places: dict[int, Place] = {}
    for move in findings.moves:
        places.setdefault(move.place.device, move.place)
        wanted = space_needed(choices[name_of(move)].strategy, move.data)
        needed[move.place.device] = needed.get(move.place.device, 0) + wanted
    if findings.backup_place is not None and request.backup != "none":
        place = findings.backup_place
        places.setdefault(place.device, place)
        total = sum(backup_bytes(request, move.data) for move in findings.moves if not move.backed_up_with)
        total += sum(move.data.size_bytes for move in findings.moves if move.backed_up_with)
        needed[place.device] = needed.get(place.device, 0) + total
    inodes: dict[int, int] = {}
    for move in findings.moves:
        if space_needed(choices[name_of(move)].strategy, move.data):
            inodes[move.place.device] = inodes.get(move.place.device, 0) + move.data.files
    scarce = [
        Blocker(
            f"{places[device].mount_point} has {places[device].free_inodes} inodes free and needs {count}: name a"
            " source on another file system, or remove files that are not needed (df -i shows them).",
            shell("df", "-i", places[device].mount_point),
        )
        for device, count in inodes.items()
        if places[device].free_inodes is not None and count > (places[device].free_inodes or 0)
    ]
    return scarce + [
        Blocker(
            f"{places[device].mount_point} has {places[device].free_bytes:,} bytes free and needs {bytes_:,}:"
            f" {bytes_ - places[device].free_bytes:,} bytes are missing. Free them, or put the backup on another file"
            " system with backup_dir.",
            shell("df", "-h", places[device].mount_point),
        )
        for device, bytes_ in needed.items()
        if bytes_ > places[device].free_bytes
    ]
