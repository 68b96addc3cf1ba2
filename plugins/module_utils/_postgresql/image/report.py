# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster, an image and a comparison of the two, as a result holds them and as a person reads them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    CandidateImage,
    Comparison,
    Subject,
    Way,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.needs import shown
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.report import size_text, told


def cluster_as_dict(subject: Subject) -> dict[str, Any]:
    """Return what a cluster says of itself; of its settings those that differ from their defaults."""
    cluster, inventory = subject.cluster, subject.inventory
    return {
        "data_directory": cluster.data_directory,
        "major": cluster.major,
        "version": subject.image.version,
        "server_version_num": cluster.server_version_num,
        # JSON's readers keep 53 bits of a number; this has 64.
        "system_identifier": str(cluster.system_identifier),
        "superuser": cluster.superuser,
        "in_recovery": cluster.in_recovery,
        "size_bytes": cluster.size_bytes,
        "relations": cluster.relations,
        "data_checksums": cluster.data_checksums,
        "wal_level": cluster.wal_level,
        "databases": [
            {
                **asdict(database),
                "extensions": {e.name: e.version for e in inventory.extensions if e.database == database.name},
            }
            for database in cluster.databases
        ],
        "collations": [asdict(collation) for collation in inventory.collations],
        "text_indexes": inventory.text_indexes,
        "text_index_bytes": inventory.text_index_bytes,
        "text_partitions": inventory.text_partitions,
        "auth_methods": list(inventory.auth_methods),
        "password_encryption": inventory.password_encryption,
        "md5_roles": list(inventory.md5_roles),
        "tablespaces": [asdict(space) for space in cluster.tablespaces],
        "unlogged_tables": cluster.unlogged_tables,
        "slots": [asdict(slot) for slot in cluster.slots],
        "prepared_transactions": cluster.prepared_transactions,
        "settings": [
            {"name": s.name, "value": s.value, "source": s.source, "place": s.place}
            for s in inventory.settings
            if s.differs
        ],
    }


def image_as_dict(image: CandidateImage) -> dict[str, Any]:
    return {
        "reference": image.reference,
        "id": image.id,
        "major": image.major,
        "version": image.version,
        "libc": image.libc,
        "libc_version": image.libc_version,
        "icu": image.icu,
        "uid": image.user[0],
        "gid": image.user[1],
        "data_directory": image.data_directory,
        "volumes": list(image.volumes),
        "extensions": {
            name: {"version": version, "updates_from": [v for v in image.updates.get(name, ()) if v != version]}
            for name, version in image.extensions.items()
        },
        "locales": list(image.locales),
    }


def strategies(comparison: Comparison) -> list[dict[str, Any]]:
    return [
        {
            "strategy": way.strategy,
            "possible": is_open(comparison, way),
            "impediments": list(way.impediments),
            "reason": way.reason,
            "downtime_seconds": way.downtime,
            "space_bytes": way.space,
        }
        for way in comparison.ways
    ]


def is_open(comparison: Comparison, way: Way) -> bool:
    return not comparison.blockers and not way.impediments


def text(
    container: str, subject: Subject, candidate: CandidateImage | None, comparison: Comparison | None, free_bytes: int
) -> str:
    """Return all of it for people; ``free_bytes`` is negative where the place of new data is not known."""
    lines = _of_cluster(container, subject)
    if candidate is not None and comparison is not None:
        lines += ["", f"{candidate.reference}: {_in_short(candidate)}"]
        lines += _of_ways(comparison, free_bytes)
        lines += [f"  Note: {warning}" for warning in comparison.warnings]
        lines += told(comparison.blockers)
    return "\n".join(lines)


def _in_short(image: CandidateImage) -> str:
    icu = f", ICU {image.icu}" if image.icu else ""
    return (
        f"Postgres {image.version} on {image.libc} {image.libc_version}{icu}, as {image.user[0]}:{image.user[1]},"
        f" cluster in {image.data_directory}"
    )


def _of_cluster(container: str, subject: Subject) -> list[str]:
    cluster, inventory = subject.cluster, subject.inventory
    lines = [
        f"{container}: {_in_short(subject.image)} ({subject.image.reference})",
        f"  {size_text(cluster.size_bytes)}, {cluster.relations} relations in {len(cluster.databases)} databases,"
        f" checksums {'on' if cluster.data_checksums else 'off'}, wal_level {cluster.wal_level},"
        f" bootstrap superuser {cluster.superuser}",
    ]
    for database in cluster.databases:
        extensions = [
            f"{extension.name} {extension.version}"
            for extension in inventory.extensions
            if extension.database == database.name and extension.name != "plpgsql"
        ]
        order = database.locale or database.collate
        held = f"; {', '.join(extensions)}" if extensions else ""
        lines.append(f"  {database.name}: {size_text(database.bytes)}, {database.encoding}, {order}{held}")
    lines.append(f"  Logins by {shown(inventory.auth_methods)}; {inventory.text_indexes} indexes on text")
    return lines


def _of_ways(comparison: Comparison, free_bytes: int) -> list[str]:
    lines = []
    for way in comparison.ways:
        against: Sequence[str] = way.impediments
        if against:
            lines.append(f"  {way.strategy}: not possible, {'; '.join(against)}")
            continue
        free = f" of {size_text(free_bytes)} free" if free_bytes >= 0 else ""
        lines.append(
            f"  {way.strategy}: about {way.downtime:.0f} s of downtime, {size_text(way.space)}{free} beside the"
            f" original: {way.reason}"
        )
    return lines
