# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove a logical backup by restoring it: a dump is a backup once a server has taken all of it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Bind, Container, Helper
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import helpers, scratch
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.counts import (
    Counts,
    compare_counts,
    count_rows,
    from_dict,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.scratch import Scratch

ROLE = "logical-proof"
DUMP = "dump"
DUMP_TARGET = "/selfhost-stateful/dump"
GLOBALS = "globals.sql"
CATALOGUE = "catalogue.json"
SUMS = "SHA256SUMS"
JOBS = 2
DAYS = 86400.0
# initdb makes these; all others are created by their dump.
PRESENT = ("postgres", "template1")


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
) -> dict[str, Any]:
    """Restore the backup in ``place`` into a scratch server and compare its rows; returns what was compared.

    Any error of the restore, and any table with other rows than the dump's snapshot had,
    raises :class:`StatefulError`.
    """
    dump = os.path.join(place, DUMP)
    catalogue = _read(os.path.join(dump, CATALOGUE))
    wanted = from_dict(catalogue["counts"])
    with scratch.server(
        engine, container, cluster, directory=scratch_directory, owner=owner, operation=operation, labels=labels
    ) as server:
        _restore_globals(engine, server, dump, catalogue["superuser"], operation, labels)
        for name, directory in catalogue["directories"].items():
            _restore_database(engine, server, dump, name, directory, operation, labels)
        with scratch.open_session(engine, server) as session:
            found = count_rows(session, budget_seconds=DAYS, exact_up_to=1 << 62)
    lost = [str(difference) for difference in compare_counts(wanted, found)]
    if lost:
        raise StatefulError(f"The dump does not hold what its snapshot held: {'; '.join(lost[:20])}.")
    return {"databases": sorted(catalogue["directories"]), **_compared(wanted, found)}


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            content: dict[str, Any] = json.load(file)
            return content
    except (OSError, ValueError) as error:
        raise StatefulError(f"The catalogue {path} of the backup cannot be read: {error}.") from error


def _compared(wanted: Counts, found: Counts) -> dict[str, int]:
    exact = [
        found.databases[database][table].rows
        for database, tables in wanted.databases.items()
        for table, count in tables.items()
        if count.exact
    ]
    return {
        "tables_compared": len(exact),
        "rows_compared": sum(exact),
        "tables_restored": sum(len(tables) for tables in found.databases.values()),
    }


def _restore_globals(
    engine: Engine, server: Scratch, dump: str, superuser: str, operation: str, labels: Mapping[str, str]
) -> None:
    # The dump creates the bootstrap superuser, whom every cluster has from the start. That
    # is the one error that has to come; the text of the dump is not touched to avoid it.
    argv = ("psql", "-X", "-q", *server.route.switches(), "-d", "postgres", "-f", f"{DUMP_TARGET}/{GLOBALS}")
    said = _run(engine, server, dump, argv, "The restore of the roles", operation, labels)
    errors = [line for line in said.splitlines() if "ERROR:" in line or "FATAL:" in line]
    unexpected = [line for line in errors if f'ERROR:  role "{superuser}" already exists' not in line]
    if unexpected or len(errors) != 1:
        raise StatefulError("The restore of the roles failed:\n" + "\n".join(unexpected or [said or "no answer"]))


def _restore_database(
    engine: Engine, server: Scratch, dump: str, name: str, directory: str, operation: str, labels: Mapping[str, str]
) -> None:
    target = ("-d", name) if name in PRESENT else ("--create", "-d", "postgres")
    argv = ("pg_restore", "--exit-on-error", "-j", str(JOBS), *server.route.switches(), *target)
    argv += (f"{DUMP_TARGET}/{directory}",)
    what = f"The restore of the database {name}"
    helpers.must_be_silent(_run(engine, server, dump, argv, what, operation, labels), what)


def _run(
    engine: Engine,
    server: Scratch,
    dump: str,
    argv: tuple[str, ...],
    what: str,
    operation: str,
    labels: Mapping[str, str],
) -> str:
    helper = Helper(
        operation=operation,
        role=ROLE,
        image_id=server.image_id,
        argv=argv,
        user=f"{server.owner[0]}:{server.owner[1]}",
        binds=(Bind(dump, DUMP_TARGET, read_only=True), *server.route.binds),
        # A role or a database may be read-only by default.
        environment={**helpers.ENGLISH, "PGOPTIONS": "-c default_transaction_read_only=off -c lc_messages=C"},
        labels=labels,
    )
    return helpers.must_succeed(helpers.run(engine, helper, timeout=DAYS), what).output
