# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How every kind of operation ends, put together for the module ``operation``: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.arguments import host_from
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.ending import ending_of_dogus
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.run import MODULE as CLOUDOGU
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.arguments import connection
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.handlers import CONCURRENT_HANDLERS
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.journey import MODULE as CONCURRENT
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.reload import prove_loaded
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.arguments import world_from
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.ending import ending_of_swaps
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.model import MODULE as DOKKU
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import connect
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.planner import MODULE as HEROKU
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.ending import Ending
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.steps import IMAGE_HANDLERS
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.way_back import plan_image_way_back
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.arguments import server_from
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.ending import (
    ending_of_migrations,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.steps import MODULE as MIGRATIONS
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.arguments import connect_world, request_from
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.ending import StorageEnding
from ansible_collections.selfhost.stateful.plugins.module_utils._stores import stores_from

UNUSED = {"rewrite": "none", "pin_images": False, "accept_drift": True, "max_downtime": 0}
"""Options of a move that a way back does not have."""


@dataclass(frozen=True)
class Call:
    """One call of the module: its options, and where the journals are."""

    operation: Operation
    params: Mapping[str, Any]
    operations: OperationStore
    check_mode: bool

    def with_known(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options with what an operation journaled; what was set here wins over that."""
        given = {name: self.params[name] for name in ("docker_host", "compose_program") if self.params[name]}
        return {**self.params, **known, **given}


def ending_of(
    operation: Operation, params: Mapping[str, Any], operations: OperationStore, *, check_mode: bool
) -> Ending:
    """Return what ends an operation of this kind."""
    make = ENDINGS.get(operation.plan.goal.module, _of_stores)
    return make(Call(operation, params, operations, check_mode))


def _of_stores(call: Call) -> Ending:
    stores, discard_writes = stores_from(call.params), call.params["discard_writes"]
    return StorageEnding(
        operations=call.operations,
        handlers={**IMAGE_HANDLERS, **CONCURRENT_HANDLERS},
        connect=lambda known: connect_world(call.with_known(known), stores),
        make_request=lambda project: request_from({**call.params, **UNUSED}, project, ()),
        check_mode=call.check_mode,
        ways_back={"postgresql_image": partial(plan_image_way_back, discard_writes=discard_writes)},
        proofs={CONCURRENT: prove_loaded},
        back_once_proved=(CONCURRENT,),
    )


def _of_migrations(call: Call) -> Ending:
    return ending_of_migrations(
        call.operations,
        lambda known: server_from(call.with_known(known)),
        lambda: connect(connection(call.params)),
        check_mode=call.check_mode,
        environment=call.params["environment"],
    )


def _of_cloudogu(call: Call) -> Ending:
    return ending_of_dogus(
        call.operations,
        lambda known: host_from(call.with_known(known)),
        check_mode=call.check_mode,
        discard_writes=call.params["discard_writes"],
    )


def _of_dokku(call: Call) -> Ending:
    return ending_of_swaps(
        call.operations, lambda known: world_from(call.with_known(known)), check_mode=call.check_mode
    )


def _of_heroku(call: Call) -> Ending:
    raise InvalidInput(
        f"{call.operation.id} remembers what the app {call.operation.plan.summary['app']} ran on Heroku, and ends when"
        f" that runs again: selfhost.stateful.{HEROKU} with state: restored and this app.",
    )


ENDINGS: Mapping[str, Callable[[Call], Ending]] = {
    MIGRATIONS: _of_migrations,
    CLOUDOGU: _of_cloudogu,
    DOKKU: _of_dokku,
    HEROKU: _of_heroku,
}
"""By the module of an operation; those on stores are the rest."""
