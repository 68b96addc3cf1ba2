# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A proved physical backup of a running cluster, in a directory of its own.

::

    <destination>/            0700
        data/                 the data directory, numeric owners kept
        tablespaces/<name>/   what data/pg_tblspc links to, by the original's paths

The content starts as it is on an image of the same major version.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._clock import moment
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import (
    basebackup,
    impediments,
    paths,
    staging,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.basebackup import Progress
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.manifest import Manifest
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.routes import Route

ROLE = "physical-backup"
DATA = "data"
TABLESPACES = "tablespaces"


def take(
    engine: Engine,
    container: Container,
    cluster: Cluster,
    route: Route,
    *,
    destination: str,
    operation: str,
    labels: Mapping[str, str],
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Copy the running cluster, prove the copy, and only then give it its name; returns the evidence.

    ``route`` comes from :func:`routes.find_route` with ``replication=True``. On any
    failure nothing is left at ``destination``.
    """
    with staging.staged(destination) as place:
        return fill(
            engine,
            container,
            cluster,
            route,
            place=place,
            destination=destination,
            operation=operation,
            labels=labels,
            progress=progress,
        )


def fill(
    engine: Engine,
    container: Container,
    cluster: Cluster,
    route: Route,
    *,
    place: str,
    destination: str,
    operation: str,
    labels: Mapping[str, str],
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Copy the running cluster into ``place``, which is to be called ``destination``, and prove the copy there."""
    reasons = impediments.to_physical_backup(cluster, container)
    if reasons:
        raise StatefulError(f"No physical backup of {container.name} is possible: {'; '.join(reasons)}.")
    began = time.monotonic()
    owner = paths.owner_of(paths.seen_path(container, cluster.data_directory))
    data = os.path.join(place, DATA)
    basebackup.make_owned(data, owner)
    tablespaces = _make_tablespaces(place, cluster, owner)
    basebackup.copy(
        engine,
        container,
        cluster,
        route,
        directory=data,
        tablespaces=tablespaces,
        operation=operation,
        role=ROLE,
        labels=labels,
        progress=progress,
    )
    proof = basebackup.verify(
        engine,
        container.image_id,
        directory=data,
        tablespaces=tablespaces,
        system_identifier=cluster.system_identifier,
        operation=operation,
        role=ROLE,
        labels=labels,
    )
    files, size = staging.tree_size(place)
    return _evidence(destination, cluster.system_identifier, proof, files, size, time.monotonic() - began)


def verify(
    engine: Engine,
    image_id: str,
    *,
    destination: str,
    system_identifier: int,
    tablespaces: Mapping[str, str],
    operation: str,
    labels: Mapping[str, str],
) -> dict[str, Any]:
    """Prove a backup again, at any later time; ``tablespaces`` maps each name to its location."""
    began = time.monotonic()
    data = os.path.join(destination, DATA)
    proof = basebackup.verify(
        engine,
        image_id,
        directory=data,
        tablespaces={location: place_of(destination, name) for name, location in tablespaces.items()},
        system_identifier=system_identifier,
        operation=operation,
        role=ROLE,
        labels=labels,
    )
    files, size = staging.tree_size(destination)
    return _evidence(destination, system_identifier, proof, files, size, time.monotonic() - began)


def _make_tablespaces(place: str, cluster: Cluster, owner: tuple[int, int]) -> dict[str, str]:
    if cluster.tablespaces:
        os.mkdir(os.path.join(place, TABLESPACES), 0o700)
    made = {}
    for space in cluster.tablespaces:
        made[space.location] = place_of(place, space.name)
        basebackup.make_owned(made[space.location], owner)
    return made


def place_of(place: str, tablespace: str) -> str:
    """Return where in a backup the content of a tablespace lies."""
    return os.path.join(place, TABLESPACES, tablespace.replace("/", "_"))


def _evidence(
    destination: str, system_identifier: int, proof: Manifest, files: int, size: int, seconds: float
) -> dict[str, Any]:
    return {
        "kind": "physical",
        "path": destination,
        "bytes": size,
        "files": files,
        "system_identifier": str(system_identifier),
        "manifest_sha256": proof.sha256,
        "manifest_files": proof.files,
        "timeline": proof.timeline,
        "start_lsn": proof.start_lsn,
        "stop_lsn": proof.end_lsn,
        "moment": proof.written_at.isoformat(timespec="milliseconds"),
        "verified_at": moment(),
        "seconds": round(seconds, 3),
    }
