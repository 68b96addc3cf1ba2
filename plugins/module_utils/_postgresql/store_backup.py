# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The backup that a move takes first: physical where one can be had and is not ruled out, else logical."""

from __future__ import annotations

import os

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import AGAIN, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Copy
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import (
    impediments,
    logical_backup,
    physical_backup,
    routes,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import observe_cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import BackupRequest, Report


def take(engine: Engine, container: Container, connection: Session, request: BackupRequest, report: Report) -> Copy:
    """Take the backup that ``request`` asks for and prove it; live data is only read."""
    os.makedirs(os.path.dirname(request.destination), mode=0o700, exist_ok=True)
    cluster = observe_cluster(connection)
    against = impediments.to_physical_backup(cluster, container)
    if request.mode == "physical" and against:
        raise StatefulError(
            f"A physical backup of {request.service} is not possible: {'; '.join(against)}.",
            next_command=f"set backup: auto, or logical, and {AGAIN}",
        )
    route = None
    if request.mode != "logical" and not against:
        try:
            route = routes.find_route(engine, container, cluster, connection.login, replication=True)
        except routes.NoRoute:
            # The rules let nobody replicate: a dump is as good a backup, and needs no change of them.
            if request.mode == "physical":
                raise
    if route is not None:
        evidence = physical_backup.take(
            engine,
            container,
            cluster,
            route,
            destination=request.destination,
            operation=request.operation,
            labels={},
            progress=report,
        )
        proof = f"pg_verifybackup read {evidence['manifest_files']} files against their manifest"
    else:
        unproved = impediments.to_logical_backup(cluster)
        if unproved:
            raise StatefulError(
                f"A logical backup of {request.service} could not be proved: {'; '.join(unproved)}.",
                next_command="run the role selfhost.stateful.host_requirements on this host, then the same task again",
            )
        evidence = logical_backup.take_proved(
            engine,
            connection,
            cluster,
            destination=request.destination,
            operation=request.operation,
            progress=report,
        )
        proof = "restored into a scratch container and counted"
    return Copy(
        role="backup",
        service=request.service,
        path=request.destination,
        moment=evidence["moment"],
        size_bytes=evidence["bytes"],
        protected="a directory of its own",
        proof=proof,
    )
