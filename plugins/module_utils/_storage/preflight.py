# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands in the way of a plan, said in sentences before anything is touched. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    ANONYMOUS,
    BIND,
    LAYER,
    POSTGRESQL,
    RENAME,
    TMPFS,
    DataPath,
    Findings,
    MountRequest,
    Move,
    Place,
    Request,
    Unstarted,
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
            f"{where} is a bind mount already, of {data.host_path}: moving between bind mounts is not what this does.",
            next_command="leave the mount as it is, or stop the service and move the directory by hand",
        )
    if data.driver not in ("", "local"):
        raise InvalidInput(
            f"{where} is a volume of the driver {data.driver}; only volumes of the local driver can be moved."
        )
    if data.host_path and overlap(data.host_path, source):
        raise InvalidInput(f"{source} overlaps with {data.host_path}, where the data of {data.service} is now.")


def blockers(request: Request, findings: Findings, choices: Mapping[str, Choice]) -> list[str]:
    """Return everything that forbids the plan, each with a way out."""
    found = [*findings.blockers, *findings.rewrite.blockers]
    for move in findings.moves:
        found += _of_move(move, choices[name_of(move)])
    ways_out = {LAYER: "list it in mounts too, with target: {path}", TMPFS: "put it on disk first"}
    found += [
        f"{part.service} keeps {part.what} at {part.path}, on no volume, where it is lost when the container is created"
        f" anew: {ways_out[part.kind].format(path=part.path)}."
        for part in findings.outlying
        if part.kind in ways_out
    ]
    for unstarted in findings.unstarted:
        found += _of_unstarted(unstarted)
    found += _space(request, findings, choices)
    for service, differences in findings.drift.items():
        if not request.accept_drift:
            found.append(
                f"Recreating {service} would change more than its mount, because its compose file changed since it"
                f" was created: {'; '.join(differences)}. Apply that first (docker compose up -d {service}), or set"
                " accept_drift: true."
            )
    for service, paths in findings.other_anonymous.items():
        if findings.compose_v1:
            found.append(
                f"Compose v1 forgets the anonymous volumes of {service} at {', '.join(paths)} when it recreates the"
                " container: list these paths in mounts too."
            )
    if request.backup == "none":
        slower = [name for name, choice in choices.items() if choice.strategy != RENAME]
        if slower:
            found.append(
                f"backup: none is allowed for the strategy rename only, and {', '.join(slower)} takes another: set"
                " backup: auto, or strategy: rename where that is possible."
            )
    estimate = estimated_downtime(findings, choices)
    if request.max_downtime and estimate > request.max_downtime:
        found.append(
            f"The downtime is estimated at {estimate:.1f} s, more than max_downtime ({request.max_downtime:.1f} s):"
            " raise max_downtime, or name sources on the data's own file system, where a rename takes a bare restart."
        )
    return found


def warnings(request: Request, findings: Findings, choices: Mapping[str, Choice]) -> list[str]:
    found = list(findings.warnings)
    for move in findings.moves:
        if move.data.facts is not None:
            found += move.data.facts.warnings
    found += [
        f"{part.service} keeps {part.what} at {part.path}, in an anonymous volume, which 'down' leaves without a name:"
        f" list it in mounts too, with target: {part.path}, to have it moved."
        for part in findings.outlying
        if part.kind == ANONYMOUS
    ]
    for unstarted in findings.unstarted:
        found += _told_of_unstarted(unstarted)
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


def _of_move(move: Move, choice: Choice) -> list[str]:
    data, place, found = move.data, move.place, []
    if not choice.strategy:
        reasons = "; ".join(f"{name}: {why}" for name, why in choice.against.items())
        found.append(f"{data.service}: {choice.reason} ({reasons}). Set strategy: auto, or name another source.")
    if not place.empty:
        found.append(
            f"{place.path} is not empty: it holds {place.occupied_by}. Name another directory, or move that away first."
        )
    found += _of_place(place, move.ignore_line, move.ignore_file)
    if move.users:
        found.append(
            f"The volume of {data.service} is mounted by {', '.join(move.users)} too, which would keep the old place:"
            " give that container the new mount first, or remove it."
        )
    if move.shipped_by_image:
        found.append(
            f"The image of {data.service} ships files at {data.target}; only data made at run time can be moved:"
            " name the target below it that holds that data alone."
        )
    if data.kind == LAYER and not data.host_path:
        found.append(
            f"The engine's storage driver does not show where the layer of {data.service} is: back it up with"
            f" compose_storage_backup, and restore that into a service that has a volume at {data.target}."
        )
    if data.facts is not None:
        found += data.facts.blockers
    return found


def _of_place(place: Place, ignore_line: str, ignore_file: str) -> list[str]:
    found = []
    if place.volatile:
        found.append(
            f"{place.path} lies on {place.filesystem}, which does not survive a restart. Name a directory on disk."
        )
    if ignore_line:
        found.append(
            f"{place.path} lies inside the build context of this project and would be copied into the image or"
            f" break the build: add the line '{ignore_line}' to {ignore_file}."
        )
    return found


def _of_unstarted(waiting: Unstarted) -> list[str]:
    """Return what would let a service without a container start without its data, or on data that is not its own."""
    place, service = waiting.place, waiting.service
    found = _of_place(place, waiting.ignore_line, waiting.ignore_file)
    if waiting.left_behind:
        first = (
            f"{service} has no container, and its file mounts {waiting.mounted_now} at {waiting.target}, which holds"
        )
        found.append(
            f"{first} {waiting.left_behind}: with the mount of {place.path} in its place the next 'up' would start"
            f" without that. "
            + (
                f"Move that directory to {place.path} by hand first."
                if waiting.mounted_kind == BIND
                else f"Make the container (docker compose up --no-start {service}) and run the same task again: then"
                " the data is moved."
            )
        )
    if waiting.astray:
        found.append(
            f"The image of {service} keeps its data at {waiting.astray}, which a mount at {waiting.target} does not"
            f" hold: name the target that does."
        )
    if waiting.lost_here and not waiting.holds:
        found.append(
            f"{service} has no container, and volumes of this project without one hold {waiting.store} data:"
            f" {', '.join(waiting.lost_here)}. The next 'up' would initialise an empty one in {place.path}. Mount the"
            f" right volume in the file again, make the container (docker compose up --no-start {service}), and run the"
            " same task again; or remove what is not needed (docker volume rm)."
        )
    if waiting.store and waiting.replicas > 1:
        found.append(
            f"The file asks for {waiting.replicas} replicas of {service}, which would all write to {place.path}: write"
            " scale: 1 (or deploy.replicas: 1) into the file."
        )
    if waiting.store and not place.empty:
        found += _of_occupied(waiting)
    return found


def _of_occupied(waiting: Unstarted) -> list[str]:
    path, service = waiting.place.path, waiting.service
    own = [found for found in waiting.holds if found.store == waiting.store]
    if not own:
        return [
            f"{path} is not empty: it holds {waiting.place.occupied_by}, and {service} is {waiting.store}. Name another"
            " directory, or move that away first."
        ]
    return [
        f"{path} holds {found.shown}, and the image of {service} is {waiting.store} {waiting.version}, which cannot"
        " start on that: name the image that the data belongs to, or another directory."
        for found in own
        if not can_read(waiting.store, found.version, waiting.version)
    ]


def can_read(store: str, data: str, image: str) -> bool:
    """Tell whether an image of one version starts on data of another; what is not known is no objection.

    Postgres reads its own major alone; the others read what is older.
    """
    written, reads = major_of(store, data), major_of(store, image)
    if not written or not reads:
        return True
    return written == reads if store == POSTGRESQL else int(written) <= int(reads)


def major_of(store: str, version: str) -> str:
    """Return ``17`` for ``17.2``, and ``9.6`` for Postgres 9.6, where the second number counted; empty if unknown."""
    first, _dot, rest = version.partition(".")
    if not first.isdigit():
        return ""
    second = rest.partition(".")[0]
    return f"{first}.{second}" if store == POSTGRESQL and int(first) < 10 and second.isdigit() else first


def _told_of_unstarted(waiting: Unstarted) -> list[str]:
    found = []
    if not waiting.place.empty and not waiting.left_behind:
        what = ", ".join(data.shown for data in waiting.holds) or waiting.place.occupied_by
        found.append(f"{waiting.place.path} holds {what}: {waiting.service} starts on that.")
    if waiting.lost and not waiting.holds:
        found.append(
            f"Volumes without a container hold {waiting.store} data: {', '.join(waiting.lost)}. If one of them is that"
            f" of {waiting.service}, mount it in the file and make the container first (docker compose up --no-start"
            f" {waiting.service}), else an empty one begins in {waiting.place.path}."
        )
    return found


def _space(request: Request, findings: Findings, choices: Mapping[str, Choice]) -> list[str]:
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
        total = sum(int(move.data.size_bytes * 1.05) + (32 << 20) for move in findings.moves)
        needed[place.device] = needed.get(place.device, 0) + total
    return [
        f"{places[device].mount_point} has {places[device].free_bytes:,} bytes free and needs {bytes_:,}:"
        f" {bytes_ - places[device].free_bytes:,} bytes are missing. Free them, or put the backup on another file"
        " system with backup_dir."
        for device, bytes_ in needed.items()
        if bytes_ > places[device].free_bytes
    ]


def overlap(one: str, other: str) -> bool:
    """Tell whether two paths are the same or one lies below the other; both absolute, symbolic links resolved."""
    first, second = one.rstrip("/") + "/", other.rstrip("/") + "/"
    return first.startswith(second) or second.startswith(first)
