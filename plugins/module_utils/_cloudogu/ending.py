# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How an upgrade of the dogu ends: committed, or rolled back to the old version on the old data."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.ces import Host
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.planner import UPGRADE
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.run import HANDLERS
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.way_back import KEPT_ASIDE
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.ending import Stepwise
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import DONE, Copy
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.report import rolling_back
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import NEXT_XID, system_identifier
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.commit import remove_copy
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import let_image_go
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.scan import tree_size
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.space import require_space

OF_EVERY_SERVER = frozenset({"postgres", "template0", "template1"})


def ending_of_dogus(
    operations: OperationStore,
    connect: Callable[[Mapping[str, Any]], Host],
    *,
    check_mode: bool,
    discard_writes: bool,
) -> Stepwise[Host]:
    """Return how upgrades end; ``connect`` finds the host again, by what the operation journaled of it."""

    def host_of(operation: Operation) -> Host:
        return connect(operation.plan.facts["subject"])

    def free(operation: Operation, copies: Sequence[Copy]) -> None:
        host = host_of(operation)
        if operation.history().state == DONE and not host.serves(host.container()):
            # A later version of the same cluster, or of what was made of it by this program, is as good.
            raise StatefulError(
                f"{host.name} does not serve, so the original is not removed.", next_command="docker ps -a"
            )
        if operation.history().state == DONE:
            _refuse_emptied(host, operation)
        for copy in copies:
            remove_copy(host.engine, operation, copy)
        let_image_go(host.engine, operation.history().evidence["keep the image"]["kept_image"])

    return Stepwise(
        operations=operations,
        handlers=HANDLERS,
        open_world=lambda operation: nullcontext(host_of(operation)),
        back=_way_back,
        free=free,
        check_back=lambda operation: _check_back(host_of(operation), operation, discard_writes=discard_writes),
        check_mode=check_mode,
        # What is left once it is proved is to start others, which may be what never succeeds.
        back_once_proved=True,
    )


def _refuse_emptied(host: Host, operation: Operation) -> None:
    """Raise where nothing is left of what was proved: a dogu that was installed anew serves, too."""
    proved = set(operation.history().evidence["prove"]["databases"]) - OF_EVERY_SERVER
    with host.session() as there:
        left = proved & {row[0] for row in there.rows("SELECT datname FROM pg_database")}
    if proved and not left:
        raise StatefulError(
            f"{host.name} has none of the databases that it was upgraded with ({', '.join(sorted(proved))}), so the"
            " original, which has them, is not removed.",
            next_command=shell("docker", "exec", host.name, "psql", "-U", "postgres", "-l"),
        )


def _way_back(operation: Operation) -> str:
    name, summary = operation.plan.goal.project, operation.plan.summary
    return f"{name} goes back from {summary['to']} to {summary['from']}, on the data of before."


def _check_back(host: Host, operation: Operation, *, discard_writes: bool) -> None:
    if not discard_writes:
        _refuse_loss(host, operation)
    args = next(step.args for step in operation.plan.steps if step.kind == UPGRADE)
    if KEPT_ASIDE not in operation.history().evidence:
        require_space(
            os.path.dirname(args["original"]),
            needed=tree_size(args["volume"]).bytes_allocated,
            state="nothing was changed",
        )


def _refuse_loss(host: Host, operation: Operation) -> None:
    proved = operation.history().evidence["prove"]
    discarding = f"{rolling_back(operation)} -e operation_discard_writes=true"
    try:
        with host.session() as there:
            same = str(system_identifier(there)) == proved["system_identifier"]
            since = int(there.scalar(NEXT_XID)) - int(proved["next_xid"])
    except StatefulError as error:
        raise InvalidInput(
            f"{host.name} does not answer, so that it is not known what it has taken since it was upgraded"
            f" ({error.msg}): bring it up, or give that up with discard_writes: true; its volume is"
            " kept beside the original.",
            next_command=discarding,
        ) from error
    if same and since <= 0:
        return
    what = f"has taken about {since} transactions" if same else "runs on another cluster"
    raise InvalidInput(
        f"{host.name} {what} since it was upgraded, and the data of before does not have them: keep the new"
        " version, or give them up with discard_writes: true.",
        next_command=discarding,
    )
