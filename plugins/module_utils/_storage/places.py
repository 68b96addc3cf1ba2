# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Can a directory hold what is to be put there, by what is known of it and its file system? Pure."""

from __future__ import annotations

import shlex

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    FILES,
    Findings,
    Place,
    Request,
)

WITHOUT_OWNERS = frozenset({"vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "9p", "cifs", "smb3"})
NFS = frozenset({"nfs", "nfs4"})


def of_place(place: Place, store: str, ignore_line: str, ignore_file: str) -> list[Blocker]:
    """Return why ``place`` cannot hold the data of a ``store`` (empty for files of no known kind).

    Not asked: whether the service may pass through the directories above it.
    The engine mounts as root, and the container sees the mount alone.
    """
    found = []
    if place.volatile:
        found.append(
            Blocker(
                f"{place.path} lies on {place.filesystem}, which does not survive a restart. Name a directory on disk."
            )
        )
    if place.filesystem in WITHOUT_OWNERS:
        found.append(
            Blocker(
                f"{place.path} lies on {place.filesystem}, which does not keep the owners of files, and the service"
                " would not be let at its data: name a directory on a file system of Linux."
            )
        )
    if place.read_only:
        found.append(
            Blocker(
                f"{place.path} lies on {place.mount_point}, which is mounted read-only: mount -o remount,rw"
                f" {place.mount_point}, or name another directory.",
                _remount(place),
            )
        )
    if place.closed and not place.read_only:
        found.append(_closed(place, place.path))
    if place.soft and store not in ("", FILES):
        found.append(
            Blocker(
                f"{place.path} lies on {place.mount_point}, an NFS mount with the option soft: a write that the server"
                " answers late fails there, and a database that meets that loses what it acknowledged. Mount it with"
                " the option hard, or name another directory.",
                shell("findmnt", "-o", "TARGET,SOURCE,OPTIONS", "--target", place.mount_point),
            )
        )
    if ignore_line:
        found.append(
            Blocker(
                f"{place.path} lies inside the build context of this project and would be copied into the image or"
                f" break the build: add the line '{ignore_line}' to {ignore_file}.",
                # The line break before it, because the last line of the file may have none.
                f"printf '\\n%s\\n' {shlex.quote(ignore_line)} >> {shlex.quote(ignore_file)}",
            )
        )
    return found


def told_of_place(place: Place, store: str) -> list[str]:
    """Return what has to be known of a place that may hold the data of a ``store``."""
    if place.filesystem not in NFS:
        return []
    found = [
        f"{place.path} lies on {place.filesystem}: where the server maps root to nobody, the owners of files cannot be"
        " kept, and the run ends before its downtime."
    ]
    if store not in ("", FILES):
        found.append(
            f"A database on {place.filesystem} is as safe as the server of {place.mount_point}: unless that exports it"
            " with sync, what was acknowledged is lost when the server fails. And only one machine may ever run on it."
        )
    return found


def _closed(place: Place, what: str) -> Blocker:
    if place.filesystem in NFS:
        return Blocker(
            f"{what} cannot be made: the NFS server lets root write nothing in {place.closed}, which it maps to nobody"
            " (root_squash). Export it with no_root_squash, or name another directory.",
            shell("findmnt", "-o", "TARGET,SOURCE,OPTIONS", "--target", place.closed),
        )
    return Blocker(
        f"{what} cannot be made: not even root may write in {place.closed}, which may be immutable (chattr -i ends"
        " that). Or name another directory.",
        shell("lsattr", "-d", place.closed),
    )


def _remount(place: Place) -> str:
    return shell("mount", "-o", "remount,rw", place.mount_point)


def of_own_places(request: Request, findings: Findings) -> list[Blocker]:
    """Return what speaks against the directories of backups and of what is retained."""
    found = []
    for directory, option in ((request.backup_dir, "backup_dir"), (request.retained_dir, "operations_dir")):
        for move in findings.moves:
            if directory and overlap(directory, move.source):
                found.append(
                    Blocker(
                        f"{move.source} and {directory} lie inside one another, and what is kept there must not be"
                        f" mixed with data that is used: name another source, or another {option}."
                    )
                )
    place = findings.backup_place
    if place is not None and request.backup != "none":
        if place.volatile:
            found.append(
                Blocker(
                    f"{place.path} lies on {place.filesystem}, which does not survive a restart, and is to hold the"
                    " backup: name a directory on disk as backup_dir."
                )
            )
        if place.read_only:
            found.append(
                Blocker(
                    f"{place.path} lies on {place.mount_point}, which is mounted read-only, and is to hold the backup:"
                    " name another backup_dir.",
                    _remount(place),
                )
            )
        elif place.closed:
            found.append(_closed(place, f"The backup in {place.path}"))
    return found


def overlap(one: str, other: str) -> bool:
    """Tell whether two paths are the same or one lies below the other; both absolute, symbolic links resolved."""
    first, second = one.rstrip("/") + "/", other.rstrip("/") + "/"
    return first.startswith(second) or second.startswith(first)
