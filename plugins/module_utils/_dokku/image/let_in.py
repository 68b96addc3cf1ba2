# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The app is let in on the new service, and how it comes back from there without a row lost unasked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import survey
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image import standstill, way_back
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.planner import REPOINT, brought
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.processes import (
    start_app,
    stop_app,
    wait_answer,
    with_another_address,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import (
    RAN_SINCE,
    World,
    has_gone_over,
    has_to_run,
    intended,
    is_primary,
    now,
    ran,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.writes import newer, writes_since
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.links import UP
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import container_of
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import (
    Context,
    Evidence,
    Undecided,
    UndoRefused,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.report import rolling_back

DISCARDED = "what was discarded"
SHUT = "what nobody may write to"
"""Evidence of an undo: the databases beside the app's that it made read-only, and has to open if it is refused."""


class LetIn(SelfProving):
    """The app runs on the new service, and answers.

    args: ``app``, ``old``, ``new``, ``page``, ``answer_path``, ``dump``. From its start on somebody writes
    to the new service, which is never thrown away unasked.
    """

    others_bring_about = True
    """Once the app is linked to the new service, anybody's ``ps:start`` lets it write there."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        world, args = context.world, step.args
        known = context.evidence.get(step.name)
        if known is None or not is_primary(world, args["app"], args["new"]):
            return None
        if ran(context) and survey.is_running(world.dokku, args["app"]) != "true":
            return None
        return known

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        world, args = context.world, step.args
        if not has_gone_over(world, args["app"], args["old"], args["new"]):
            raise Undecided(
                f"DATABASE_URL of {args['app']} points at {args['old']} again: somebody has put it back since it was"
                f" set to {args['new']}, and either of the two may have rows that the other lacks.",
                state=f"nothing was touched; {args['old']} and {args['new']} are both there",
                next_command=f"{world.dokku.typed('postgres:promote', args['new'], args['app'])} and run the same"
                f" task again, to stay on {args['new']}; or {rolling_back(context.operation)}, which says what would be"
                " lost",
            )
        self._refuse_late(context)
        if not ran(context):
            return {"answers": {}, "ended": now()}
        start_app(world, args["app"])
        if with_another_address(world, args["app"], args["new"]):
            # A deploy in the downtime began them with the address that was to be had then.
            stop_app(world, args["app"])
            start_app(world, args["app"])
        left = with_another_address(world, args["app"], args["new"])
        if left:
            raise StatefulError(
                f"Processes of {args['app']} were not started with the address of {args['new']}: {', '.join(left)}.",
                next_command=world.dokku.typed("ps:report", args["app"]),
            )
        # What was begun with the old address may have had dokku start the old service, and have written there.
        self._refuse_late(context)
        path = args["answer_path"] if world.answer_path is None else world.answer_path
        return {"answers": wait_answer(world, args["app"], path), "ended": now()}

    @staticmethod
    def _refuse_late(context: Context[World]) -> None:
        """Raise where the old service was written to after its data was taken, as long as that can be undone."""
        if not context.operation.history().proved:
            standstill.refuse_if_it_ran(context.world, context.operation)

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        world, args = context.world, step.args
        app, new = args["app"], args["new"]
        if not intended(context, REPOINT):
            return {}
        if not survey.exists(world.dokku, new):
            return {}
        if not has_gone_over(world, app, args["old"], new):
            return self._undo_put_back(step, context)
        try:
            return self._undo(step, context)
        except UndoRefused:
            raise
        except StatefulError as error:
            # Nothing is decided yet: everything stays on the new service, and the app with it.
            raise UndoRefused(
                f"It could not be found out what going back from {new} to {args['old']} would lose: {error.msg}",
                state=f"the app {app} has its data in {new}; {args['old']} was not changed",
                next_command=error.next_command or world.dokku.typed("logs", app),
            ) from error

    def _undo(self, step: Step, context: Context[World]) -> Evidence:
        world, args = context.world, step.args
        app, new = args["app"], args["new"]
        way_back.refuse_others(world, args, UndoRefused)
        both = standstill.written(world, context.operation)
        self._note_running(context, app)
        stop_app(world, app)
        names = sorted({*way_back.others(world, new), *self._shut(context)})
        self._note_shut(context, names)
        own = way_back.shut(world, new, names)
        # To shut them were some, and the server's own work counts, too; nobody is kept from going back by that.
        written = max(0, writes_since(world, new, self._brought(context)) - own)
        given_up = way_back.lost(world, context.operation, args["old"], new) if written else None
        if given_up is None:
            return {}
        if not world.discard_writes:
            self._reopen(step, context)
            left, command = f"{args['old']} is as it was before", world.dokku.typed("logs", app)
            if both:
                left = f"{args['old']} was written to as well ({both}), and each of the two has what the other lacks"
                command = (
                    f"{rolling_back(context.operation)} -e operation_discard_writes=true, which exports what {new} has,"
                    f" and goes back to {args['old']} with what that has"
                )
            elif standstill.runs_unasked(world, context.operation):
                left = f"{args['old']} was started since, and runs with what it had before"
                # dokku's own stop removes the container, which a way back may need.
                stop = shell("docker", "stop", "-t", "120", container_of(args["old"]))
                command = f"{stop}; then run the same task again, which stays on {args['new']}"
            raise UndoRefused(
                f"About {written} transactions were made on {new} since the data was brought there, and going back to"
                f" {args['old']} would lose them ({given_up.told()}).",
                state=f"the app {app} has its data in {new}; {left}",
                next_command=command,
            )
        return self._keep(step, context, given_up, written)

    def _undo_put_back(self, step: Step, context: Context[World]) -> Evidence:
        """The app has its data in the old service again: by an undo that was killed, or by hand."""
        world, args = context.world, step.args
        if step.name in context.operation.history().undone or DISCARDED in context.operation.history().evidence:
            return {}
        way_back.refuse_others(world, args, StatefulError)
        given_up = newer(world, context.operation)
        if given_up is None:
            return {}
        if not world.discard_writes:
            raise StatefulError(
                f"{args['new']} has what {args['old']} lacks ({given_up.told()}), and it would be destroyed.",
                state=f"the app {args['app']} has its data in {args['old']}; {args['new']} is as it is",
                next_command=f"{rolling_back(context.operation)} -e operation_discard_writes=true, which exports that"
                " first",
            )
        return self._keep(step, context, given_up, 0)

    @staticmethod
    def _keep(step: Step, context: Context[World], given_up: way_back.Lost, written: int) -> Evidence:
        path = f"{step.args['dump']}.discarded"
        copies = [copy.as_dict() for copy in way_back.kept(context.world, step.args["new"], path, given_up)]
        context.operation.journal.evidence(DISCARDED, {"copies": copies}, durable=True)
        return {"discarded": written, "kept_in": [copy["path"] for copy in copies]}

    def let_go(self, step: Step, context: Context[World]) -> None:
        try:
            self._reopen(step, context)
        finally:
            if has_to_run(context):
                start_app(context.world, step.args["app"])

    @staticmethod
    def _note_running(context: Context[World], app: str) -> None:
        """Note it once: where this was killed after the app had stopped, that was our doing."""
        if not context.evidence.get(RAN_SINCE):
            noted = {"running": survey.is_running(context.world.dokku, app) in UP}
            context.operation.journal.evidence(RAN_SINCE, noted, durable=True)
            context.evidence[RAN_SINCE] = noted

    @classmethod
    def _reopen(cls, step: Step, context: Context[World]) -> None:
        way_back.reopen(context.world, step.args["new"], cls._shut(context))
        cls._note_shut(context, [])

    @staticmethod
    def _note_shut(context: Context[World], names: Sequence[str]) -> None:
        context.operation.journal.evidence(SHUT, {"databases": list(names)}, durable=True)

    @staticmethod
    def _shut(context: Context[World]) -> list[str]:
        """Return the databases that an undo has let nobody write to, also one that was killed."""
        return list(context.operation.history().evidence.get(SHUT, {}).get("databases", ()))

    @staticmethod
    def _brought(context: Context[World]) -> Mapping[str, Any]:
        known = brought(context.evidence)
        if known is None:
            raise StatefulError("Nothing says as what the data came to the new service.")
        return known
