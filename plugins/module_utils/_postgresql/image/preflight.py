# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What forbids an image change, and what an admin has to know of it beforehand. Pure."""

from __future__ import annotations

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import costs
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    ANOTHER_CLUSTER,
    BY_DUMP,
    DUMP,
    PG_UPGRADE,
    SWAP,
    ImageFindings,
    ImageRequest,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import preflight as of_moves
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import RENAME
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.strategy import (
    Choice,
    space_needed,
)

PROGRAMS_BYTES = 600 << 20
"""What the file system of a Postgres image takes at most, less what no server needs."""


def blockers(request: ImageRequest, found: ImageFindings) -> list[Blocker]:
    """Return everything that forbids the plan, each with a way out."""
    storage, service = request.storage, request.service
    refused = [*found.comparison.blockers, *found.against_migrations]
    if not found.way.strategy:
        reasons = "; ".join(f"{name}: {why}" for name, why in found.way.against.items())
        refused.append(Blocker(f"{service}: {found.way.reason} ({reasons})."))
    if found.image_is_built:
        refused.append(
            Blocker(
                f"The compose file builds the image of {service}, and the next build would take its name: build the"
                f" other one under a name of its own, give the service image: {found.subject.image.reference} in place"
                " of build:, and name the built one with image."
            )
        )
    if storage.backup == "none":
        refused.append(Blocker("A backup is taken before an image change: set backup: auto."))
    replaced = [mount for mount in storage.mounts if mount.replaces]
    if found.way.strategy in ANOTHER_CLUSTER and replaced and storage.rewrite == "override":
        refused.append(
            Blocker(
                f"{request.image} has its data at {replaced[0].target} and not at {replaced[0].replaces}, and an"
                " override file can add a mount and take none away: set rewrite: in_place."
            )
        )
    if found.way.strategy in ANOTHER_CLUSTER and found.placeless:
        refused.append(
            Blocker(
                f"The data of {service} is in a volume, and a container that no compose project runs has no directory"
                " in which the new cluster would lie: name one with source."
            )
        )
    if found.way.strategy in ANOTHER_CLUSTER:
        refused += _of_another_cluster(request, found)
    refused += of_moves.blockers(storage, found.findings, _choices(found))
    if found.way.strategy == SWAP:
        refused += of_moves.of_users(found.move, "which may write to it in the downtime: remove that container first")
        refused += _space_of_backup(request, found)
    refused += _space_of_indexes(request, found)
    estimate = estimated_downtime(found)
    if storage.max_downtime and estimate > storage.max_downtime:
        refused.append(
            Blocker(
                f"The downtime is estimated at {estimate:.1f} s, more than max_downtime ({storage.max_downtime:.1f} s):"
                " raise max_downtime."
            )
        )
    return refused


def _of_another_cluster(request: ImageRequest, found: ImageFindings) -> list[Blocker]:
    refused = []
    if found.way.strategy == DUMP:
        there, needed = found.move.place, found.comparison.way(DUMP).space
        backup = found.findings.backup_place
        if backup is not None and backup.device == there.device:
            needed += of_moves.backup_bytes(request.storage, found.move.data)
        if needed > there.free_bytes:
            refused.append(
                Blocker(
                    f"{there.mount_point} has {there.free_bytes:,} bytes free, and the backup, the copy, its dump and"
                    f" the new cluster take about {needed:,}: {needed - there.free_bytes:,} bytes are missing there."
                    " Free them, or name another place with source.",
                    shell("df", "-h", there.mount_point),
                )
            )
        return refused
    place = found.programs_place
    if place.free_bytes < PROGRAMS_BYTES:
        refused.append(
            Blocker(
                f"{place.mount_point} has {place.free_bytes:,} bytes free, and the programs of the image that runs take"
                f" up to {PROGRAMS_BYTES:,} while it is upgraded: free some, or name another operations_dir.",
                shell("df", "-h", place.mount_point),
            )
        )
    return refused


def _space_of_backup(request: ImageRequest, found: ImageFindings) -> list[Blocker]:
    place, needed = found.findings.backup_place, of_moves.backup_bytes(request.storage, found.move.data)
    if place is None or needed <= place.free_bytes:
        return []
    return [
        Blocker(
            f"{place.mount_point} has {place.free_bytes:,} bytes free and the backup needs {needed:,}:"
            f" {needed - place.free_bytes:,} bytes are missing. Free them, or name another backup_dir.",
            shell("df", "-h", place.mount_point),
        )
    ]


def _space_of_indexes(request: ImageRequest, found: ImageFindings) -> list[Blocker]:
    """Return what forbids that indexes are built anew in the downtime: a full disk there undoes all of it."""
    strategy, inventory = found.way.strategy, found.subject.inventory
    there = found.data_place if strategy == SWAP else found.move.place
    if strategy not in (SWAP, PG_UPGRADE) or not found.comparison.reindex or there is None:
        return []
    built = costs.rebuilt_space(strategy, inventory)
    needed = built if strategy == SWAP else built + space_needed(found.copying.strategy, found.move.data)
    backup = found.findings.backup_place
    if backup is not None and backup.device == there.device:
        needed += of_moves.backup_bytes(request.storage, found.move.data)
    if needed <= there.free_bytes:
        return []
    beside = "the backup" if strategy == SWAP else "the backup and the copy"
    return [
        Blocker(
            f"{there.mount_point} has {there.free_bytes:,} bytes free, and {inventory.text_indexes} indexes that are"
            f" built anew in the downtime take up to {built:,} with their WAL, with {beside} {needed:,}:"
            f" {needed - there.free_bytes:,} bytes are missing there. Free them, or {BY_DUMP} with source on a file"
            " system that has room.",
            shell("df", "-h", there.mount_point),
        )
    ]


def warnings(request: ImageRequest, found: ImageFindings) -> list[str]:
    """Return what the plan says beside its steps."""
    told = [*found.comparison.warnings]
    told += of_moves.warnings(request.storage, found.findings, _choices(found))
    if found.way.strategy == SWAP and found.move.data.facts is not None:
        told += found.move.data.facts.warnings
    if found.way.strategy == SWAP and found.comparison.updates:
        updated = dict.fromkeys(f"{each.name} ({each.version})" for each in found.comparison.updates)
        told.append(
            "ALTER EXTENSION UPDATE is made to the data that stays, and no way back takes it back:"
            f" {', '.join(updated)}. The older libraries of the former image would serve the newer objects then, if"
            " they can."
        )
    if found.way.strategy == SWAP and request.bare:
        told.append(
            f"Until the operation is committed, the container that runs now stays beside its successor, stopped and"
            f" renamed, with the same data mounted: start {request.service} by its name and never all containers at"
            " once (docker start $(docker ps -aq)), or two servers write to one directory."
        )
    return list(dict.fromkeys(told))


def estimated_downtime(found: ImageFindings) -> float:
    """Return the estimate in seconds; 0 where no way leads there."""
    return found.comparison.way(found.way.strategy).downtime if found.way.strategy else 0.0


def _choices(found: ImageFindings) -> dict[str, Choice]:
    """Return the strategy of each move: that of the copy, and none where the data stays."""
    stays = Choice(RENAME, "the data stays where it is", {})
    return {of_moves.name_of(found.move): stays if found.way.strategy == SWAP else found.copying}
