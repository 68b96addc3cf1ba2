# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps that prove that a service is after an image change what it was before: what it holds, and who gets in."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import logins
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint import model
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.compare import refuse_losses
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.take import ESTIMATED, take
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.store import postgresql_store
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.beyond import beyond_proof
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps.downtime import running_on
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Transfer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import durable
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World, the_container, transfer_of

CHANGING = ("image_hooks", "image_migrations")
"""The kinds of steps by which the image's own process changes what is there, before or after the change."""


class RememberService(NothingToUndo):
    """What the service holds and which applications it lets in, with these stopped and itself still serving.

    args: ``transfer``, ``applications``: ids of the containers whose environments name logins, ``contents``: whether
    what it holds is compared; what was loaded from a dump was, when nobody else reached it. Where the server does
    not serve any more (a run that was killed goes on), what an earlier run noted counts; without one nothing does.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        transfer = transfer_of(step)
        serving = running_on(context.world, transfer, transfer.origin)
        return None if serving else context.evidence.get(step.name, {"logins": [], "noted": False})

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        transfer, engine = transfer_of(step), context.world.engine
        server = the_container(context.world, transfer)
        if step.args["contents"]:
            with postgresql_store(context.world).session(engine, server) as session:
                found = take(session, rows=ESTIMATED)
            durable.write_json_atomically(_path(transfer, context), model.as_dict(found))
        let_in = [str(one) for one in _logins(step, context, server) if not logins.refusal(engine, server, one)]
        return {"logins": let_in, "noted": True, "warnings": self._unproved(step, transfer, let_in)}

    @staticmethod
    def _unproved(step: Step, transfer: Transfer, let_in: Sequence[str]) -> list[str]:
        """Say where nothing will prove that the applications are let in again."""
        if let_in or not step.args["applications"]:
            return []
        return [
            f"No login to {transfer.service} was found in the environments of its dependents that it lets in, so none"
            " is proved after the change: they may come by a pooler, or have their password in a file (_FILE)."
        ]


class CompareService(NothingToUndo):
    """Nothing is missing that was noted, and whoever was let in is let in, before any application starts.

    args: ``transfer``, ``applications``, ``contents`` as above, ``remembered_by``: name of the step above,
    ``identified_by``: name of the one that says which cluster shall serve. Asked again after our own hooks and
    migrations, or after applications have worked there, it compares no more: what these dropped is no loss.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return still_true(step, context)

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        transfer, world = transfer_of(step), context.world
        known = context.evidence.get(step.args["remembered_by"], {})
        if not known.get("noted"):
            return {"logins_proved": [], "at": time.time()}
        server = the_container(world, transfer)
        identity = context.evidence[step.args["identified_by"]]["identities"][transfer.name]
        facts = transfer.facts_at_goal(identity)
        world.store(transfer).wait_ready(world.engine, server.id, facts, world.ready_timeout)
        if self._was_changed(step, context):
            told = f"{transfer.service} was worked with before what it holds was compared, so that was not compared."
            return {**context.evidence.get(step.name, {"logins_proved": [], "warnings": [told]}), "at": time.time()}
        self._refuse_other_logins(step, context, server, known["logins"])
        if step.args["contents"]:
            with open(_path(transfer, context), encoding="utf-8") as file:
                before = model.from_dict(json.load(file))
            with postgresql_store(world).session(world.engine, server) as session:
                refuse_losses(before, take(session, rows=ESTIMATED), "The service lacks what it had before")
        return {"logins_proved": list(known["logins"]), "at": time.time()}

    @staticmethod
    def _was_changed(step: Step, context: Context[World]) -> bool:
        """Tell whether others than the change itself may have changed what is there, and it lacked nothing before."""
        records = context.operation.journal.records()
        if step.name not in context.evidence and any(r.what == "failure" and r.step == step.name for r in records):
            return False
        ours = {s.name for s in context.operation.plan.steps if s.kind in CHANGING and not s.args.get("old_server")}
        begun = any(r.what in ("intent", "evidence") and r.step in ours for r in records)
        return begun or any(r.what == "undo-refused" for r in records)

    @staticmethod
    def _refuse_other_logins(step: Step, context: Context[World], server: Container, wanted: Sequence[str]) -> None:
        there = {str(one): one for one in _logins(step, context, server)}
        for name in wanted:
            refused = logins.refusal(context.world.engine, server, there[name]) if name in there else ""
            if refused:
                raise StatefulError(f"The login of {name} was let in before, and is not any more: {refused}")


def still_true(step: Step, context: Context[World]) -> Evidence | None:
    """Return what was found out of a service that serves since, without a break; None where it was started anew.

    Another image may have served in between, and written. Once all was proved, applications have worked since: what
    they dropped is no loss, and a server that is only down is started again.
    """
    known = context.evidence.get(step.name)
    if known is None or beyond_proof(context):
        return known
    server = the_container(context.world, transfer_of(step))
    return known if server.running and server.started <= known["at"] else None


def _logins(step: Step, context: Context[World], server: Container) -> list[logins.AppLogin]:
    found = (context.world.engine.container(container_id) for container_id in step.args["applications"])
    return logins.logins_of([one for one in found if one is not None], server)


def _path(transfer: Transfer, context: Context[World]) -> str:
    return os.path.join(context.operation.directory, f"{transfer.label}.fingerprint.json")
