# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Would a service without a container start with its data, once its file is edited? Pure."""

from __future__ import annotations

import posixpath
import shlex

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    BIND,
    POSTGRESQL,
    Place,
    Unstarted,
)


def of_unstarted(waiting: Unstarted, compose: str) -> list[Blocker]:
    """Return what would let a service without a container start without its data, or on data that is not its own.

    ``compose``: what is typed before a command of compose for this project.
    """
    place, service = waiting.place, waiting.service
    found = []
    if waiting.left_behind:
        first = (
            f"{service} has no container, and its file mounts {waiting.mounted_now} at {waiting.target}, which holds"
        )
        by_hand = waiting.mounted_kind == BIND
        way_out = (
            f"Move that directory to {place.path} by hand first."
            if by_hand
            else f"Make the container (docker compose up --no-start {service}) and run the same task again: then the"
            " data is moved."
        )
        found.append(
            Blocker(
                f"{first} {waiting.left_behind}: with the mount of {place.path} in its place the next 'up' would start"
                f" without that. {way_out}",
                moving(waiting.mounted_now, place.path)
                if by_hand
                else f"{compose} up --no-start {shlex.quote(service)}",
            )
        )
    if waiting.astray:
        found.append(
            Blocker(
                f"The image of {service} keeps its data at {waiting.astray}, which a mount at {waiting.target} does not"
                f" hold: name the target that does."
            )
        )
    if waiting.lost_here and not waiting.holds:
        found.append(
            Blocker(
                f"{service} has no container, and volumes of this project without one hold {waiting.store} data:"
                f" {', '.join(waiting.lost_here)}. The next 'up' would initialise an empty one in {place.path}. Mount"
                f" the right volume in the file again, make the container (docker compose up --no-start {service}), and"
                " run the same task again; or remove what is not needed (docker volume rm).",
                "docker volume ls --filter dangling=true",
            )
        )
    if waiting.store and waiting.replicas > 1:
        found.append(
            Blocker(
                f"The file asks for {waiting.replicas} replicas of {service}, which would all write to {place.path}:"
                " write scale: 1 (or deploy.replicas: 1) into the file."
            )
        )
    if waiting.store and not place.empty:
        found += _of_occupied(waiting)
    if waiting.store:
        found += [Blocker(sentence, command) for sentence, command in _of_owner(waiting)]
    return found


def _of_owner(waiting: Unstarted) -> list[tuple[str, str]]:
    """Return what keeps a service that does not begin as root out of its directory, and the command that lets it in.

    Only of one without a container: what moves keeps its numeric owners, and is
    started from the image that it ran.
    """
    place, user = waiting.place, waiting.user
    uid, _colon, gid = user.partition(":")
    if not user:
        return []
    said = f"{waiting.service} runs as the user {user}, and"
    if not place.exists:
        return [
            (
                f"{said} the engine would make {place.path} as root's, where it may not write: make it first.",
                shell("install", "-d", "-m", "700", "-o", uid, *(("-g", gid) if gid else ()), place.path),
            )
        ]
    if may_use(user, place, waiting.store):
        return []
    return [
        (
            f"{said} {place.path} belongs to {place.owner} (mode {place.mode:04o}): it could not use that. Give it the"
            " directory, or name another.",
            shell("chown", *(("-R",) if waiting.holds else ()), user, place.path),
        )
    ]


def may_use(user: str, place: Place, store: str) -> bool:
    """Tell whether a process of ``user`` can keep the data of ``store`` in a directory, by owner and mode alone.

    Postgres insists on owning its directory. A group that nobody named may be the directory's.
    """
    uid, _colon, gid = user.partition(":")
    owner, _colon, group = place.owner.partition(":")
    if uid == owner or store == POSTGRESQL:
        return uid == owner
    enters = 0o3
    return place.mode & enters == enters or (gid in ("", group) and place.mode >> 3 & enters == enters)


def moving(origin: str, goal: str) -> str:
    """Return the command that gives a directory another path, and fails where something stands there."""
    made = shell("mkdir", "-p", posixpath.dirname(goal))
    return f"{made} && {shell('mv', '-T', origin, goal)}"


def _of_occupied(waiting: Unstarted) -> list[Blocker]:
    path, service = waiting.place.path, waiting.service
    own = [found for found in waiting.holds if found.store == waiting.store]
    if not own:
        return [
            Blocker(
                f"{path} is not empty: it holds {waiting.place.occupied_by}, and {service} is {waiting.store}. Name"
                " another directory, or move that away first.",
                shell("ls", "-la", path),
            )
        ]
    return [
        Blocker(
            f"{path} holds {found.shown}, and the image of {service} is {waiting.store} {waiting.version}, which cannot"
            " start on that: name the image that the data belongs to, or another directory."
        )
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


def told_of_unstarted(waiting: Unstarted) -> list[str]:
    found = []
    if not waiting.store:
        found += [f"{sentence} ({command})" for sentence, command in _of_owner(waiting)]
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
