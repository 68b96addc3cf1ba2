# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove a logical backup by restoring it: a dump is a backup once a server has taken all of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Bind, Container, Helper
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import (
    helpers,
    logical_catalogue,
    logical_restore,
    paths,
    scratch,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.counts import Counts, emptied_before
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.model import as_dict
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.take import take
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.pg_restore import Target

ROLE = "logical-proof"
JOBS = 2


def prove(
    engine: Engine,
    container: Container,
    cluster: Cluster,
    *,
    place: str,
    scratch_directory: str,
    owner: tuple[int, int],
    operation: str,
    labels: Mapping[str, str],
    jobs: int = JOBS,
    fingerprint: bool = False,
) -> dict[str, Any]:
    """Restore the backup in ``place`` into a scratch server and compare its rows; returns what was compared.

    It is restored as it would be into a new cluster. Any error of the restore, any table
    with other rows than the dump's snapshot had, and any that was replaced when the dump
    began and came out of it without a row, raises :class:`StatefulError`. With
    ``fingerprint`` the result also has, as ``content``, what the whole of it looks like.
    """
    dump = os.path.join(place, logical_catalogue.DUMP)
    catalogue = logical_catalogue.read_catalogue(dump)
    with (
        scratch.server(
            engine, container, cluster, directory=scratch_directory, owner=owner, operation=operation, labels=labels
        ) as server,
        scratch.open_session(engine, server, logical_restore.TEMPLATE) as session,
    ):
        target = Target(session, cluster.server_version_num, server.route, server.image_id, helpers.alone(engine))
        brought = logical_restore.bring(target, dump, catalogue, jobs=jobs, operation=operation, labels=labels)
        _refuse_emptied(emptied_before(catalogue.replaced, brought.counts))
        proved: dict[str, Any] = {
            "databases": sorted(catalogue.directories),
            **compared(catalogue.counts, brought.counts),
            "left_out": list(brought.left_out),
        }
        if fingerprint:
            logical_restore.publish(session, catalogue)
            if logical_restore.TEMPLATE in catalogue.directories:
                logical_restore.fill_template(target, dump, catalogue, operation=operation, labels=labels)
            logical_restore.drop_leftovers(session, is_empty=lambda name: True)
            proved["content"] = as_dict(take(session, jobs=jobs))
    return proved


def _refuse_emptied(tables: list[str]) -> None:
    if tables:
        raise StatefulError(
            f"The dump holds no row of {', '.join(tables[:20])}: somebody rewrote them (as many an ALTER TABLE does),"
            " emptied them or made them anew when it began, and its snapshot shows nothing of that.",
            next_command="wait until no migration is at work, move this backup away if it is there already, and run the"
            " same task again",
        )


def read_whole(engine: Engine, image_id: str, *, place: str, operation: str, labels: Mapping[str, str]) -> None:
    """Let the client program read every dump in ``place`` to its end: less than a restore, and more than a look."""
    dump = os.path.join(place, logical_catalogue.DUMP)
    owner = paths.owner_of(dump)
    for name, directory in logical_catalogue.read_catalogue(dump).directories.items():
        helper = Helper(
            operation=operation,
            role=ROLE,
            image_id=image_id,
            argv=("pg_restore", "-f", "/dev/null", f"{logical_catalogue.DUMP_TARGET}/{directory}"),
            user=f"{owner[0]}:{owner[1]}",
            binds=(Bind(dump, logical_catalogue.DUMP_TARGET, read_only=True),),
            environment=helpers.ENGLISH,
            labels=labels,
        )
        what = f"The reading of the dump of the database {name}"
        said = helpers.must_succeed(helpers.run(engine, helper, timeout=logical_restore.DAYS), what).output
        helpers.must_be_silent(said, what)


def compared(wanted: Counts, found: Counts) -> dict[str, int]:
    """Return how much of what was restored could be compared, row count by row count."""
    exact = [
        found.databases[database][table].rows
        for database, tables in wanted.databases.items()
        for table, count in tables.items()
        if count.exact and found.databases[database].get(table) == count
    ]
    return {
        "tables_compared": len(exact),
        "rows_compared": sum(exact),
        "tables_restored": sum(len(tables) for tables in found.databases.values()),
    }
