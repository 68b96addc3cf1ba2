# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proof that the new version has everything that the old one had."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.ces import Host
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.dependents import (
    hold_dependents,
    note_writers,
    weighed,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.model import (
    LOCAL_STATE,
    MARKERS,
    is_a_new_default,
    lost_markers,
    unmarked,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.steps import before_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import logs_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import NEXT_XID, system_identifier
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint import model as fingerprints
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.compare import (
    SHOWN,
    compare,
    coverage,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.take import take


class Prove(NothingToUndo):
    """Everything that was there is there, and the dogu's migrations are done. args: ``to``, ``keys``."""

    def is_done(self, step: Step, context: Context[Host]) -> Evidence | None:
        known, host = context.evidence.get(step.name), context.world
        if known is None or str(host.version()) != step.args["to"]:
            return None
        with host.session() as there:
            return known if str(system_identifier(there)) == known["system_identifier"] else None

    def apply(self, step: Step, context: Context[Host]) -> Evidence:
        # Of a run that was killed: cesapp, or a restart of the host, has started them since.
        note_writers(context)
        with weighed(step, context):
            hold_dependents(context)
            return self._proved(step, context)

    @staticmethod
    def _proved(step: Step, context: Context[Host]) -> Evidence:
        host = context.world
        before = fingerprints.from_dict(read_json(before_of(context)))
        container = host.container()
        with host.session(container) as there:
            after = take(there)
            identity, xid = str(system_identifier(there)), int(there.scalar(NEXT_XID))
        lost = [each for each in compare(before, after) if each.lost]
        defaults = [each for each in lost if is_a_new_default(each, before, after)]
        missing = [str(each) for each in lost if each not in defaults]
        if missing:
            more = f"; and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            raise StatefulError(
                f"{host.name} {step.args['to']} does not have what {step.args['from']} had:"
                f" {'; '.join(missing[:SHOWN])}{more}."
            )
        keys = host.keys()
        lost_marks = lost_markers(step.args["keys"], keys)
        if lost_marks:
            raise StatefulError(
                f"The registry of {host.name} {step.args['to']} lacks {', '.join(lost_marks)}, which says that a"
                " migration was done, and was there before.",
                next_command=logs_of(host.name),
            )
        if keys.get(LOCAL_STATE):
            raise StatefulError(f"{LOCAL_STATE} is {keys[LOCAL_STATE]} although {host.name} serves.")
        read = coverage(before, after)
        return {
            "system_identifier": identity,
            "next_xid": xid,
            "new_defaults": [str(each) for each in defaults],
            "unmarked": unmarked(keys, migrations_of(host, container)),
            "markers": {key: keys[key] for key in MARKERS if keys.get(key) == "true"},
            "tables": read.tables,
            "rows": sum(each.rows for one in after.databases.values() for each in one.tables.values()),
            "roles": len(after.roles),
            "databases": sorted(after.databases),
        }


def migrations_of(host: Host, container: Container) -> list[str]:
    """Return the names of the migrations that the image brings; raises where they cannot be listed."""
    answer = host.engine.execute(container.id, ("ls", "/docker-entrypoint-initdb.d"))
    if answer.rc == 0:
        return answer.text().split()
    said = answer.stderr.decode("utf-8", "replace").strip()
    if "No such file" in said:
        return []
    raise StatefulError(
        f"The migrations that {host.name} has run cannot be listed: {said or f'ls ended with {answer.rc}'}",
        next_command=logs_of(container.name),
    )


def read_json(path: str) -> Any:
    with open(path, encoding="utf-8") as file:
        return json.load(file)
