# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The downtime begins: what was planned with still holds, and all who write are shut out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import links, maintenance, services, survey
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image import beside
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.model import in_words
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.processes import (
    processes,
    start_app,
    stop_app,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import (
    END,
    RAN,
    RAN_SINCE,
    World,
    end_sessions,
    has_to_run,
    is_primary,
    is_read_only,
    now,
    sessions_with,
    set_read_only,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import container_of
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step


class Quiet(SelfProving):
    """The app does not run, its page is shown, nobody has a session with its database, and a new one could not write.

    args: ``app``, ``old``, ``new``, ``page``: whether the page is ours to show, ``variables``: those of the app that
    name the old service, ``databases``: which of its databases each of them names, ``image_id``: of what that runs,
    ``read_only``: whether a new session may not write; where what it writes is taken along, it may, ``exported``: of a
    dump what it was planned to leave behind (``beside``), and the image that it goes ``to``. Whether the app runs is
    journaled before it is stopped.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        known = context.evidence.get(step.name)
        if known is None:
            return None
        if is_primary(context.world, step.args["app"], step.args["new"]):
            return known
        if processes(context.world, step.args["app"]):
            return None
        return known if self._is_shut(context.world, step.args) else None

    @staticmethod
    def _is_shut(world: World, args: Mapping[str, Any]) -> bool:
        """Tell whether nobody has a session with the old service, where it runs, and new ones may not write."""
        found = world.engine.container(container_of(args["old"]))
        if found is None or not found.running:
            return True
        database = world.service(args["old"]).database
        return not sessions_with(world, args["old"], database) and (
            not args["read_only"] or is_read_only(world, args["old"], database)
        )

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        world, app, old = context.world, step.args["app"], step.args["old"]
        database = world.service(old).database
        if not is_primary(world, app, step.args["new"]):
            self._ask_again(world, step.args)
        if RAN not in context.evidence:
            self._note(context, app)
        began = now()
        if step.args["page"]:
            maintenance.set_enabled(world.dokku, app, True)
        stop_app(world, app)
        if step.args["read_only"]:
            set_read_only(world, old, database, wanted=True)
        ended = end_sessions(world, old, database)
        return {"began": began, "sessions_ended": ended, "at": now()}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        world, old = context.world, step.args["old"]
        if RAN not in context.evidence:
            return {}  # it was refused before anything was touched
        database = world.service(old).database
        if step.args["read_only"]:
            set_read_only(world, old, database, wanted=False)
        # A session that began in between stays read-only as long as its pool keeps it.
        with world.session(old) as there:
            there.scalar(END, (database,))
        self.let_go(step, context)
        return {"ended": now()}

    def let_go(self, step: Step, context: Context[World]) -> None:
        world, app = context.world, step.args["app"]
        try:
            if has_to_run(context):
                start_app(world, app)
            if context.evidence.get(RAN_SINCE):
                # The next way back asks anew.
                context.operation.journal.evidence(RAN_SINCE, {}, durable=True)
        except StatefulError as error:
            # What the page says, that it is back soon, is true no longer.
            if step.args["page"]:
                error.state += "; its page is taken away, since nobody works on it"
            raise
        finally:
            if step.args["page"] and RAN in context.evidence and maintenance.is_enabled(world.dokku, app):
                maintenance.set_enabled(world.dokku, app, False)

    @staticmethod
    def _not_exported(world: World, old: str, planned: Mapping[str, Any] | None) -> str:
        """Say what the old service has since, which its export will not hold, or the new image cannot take."""
        if planned is None:
            return ""  # its files go whole, or an earlier version noted nothing
        new = beside.since(world, old, planned["beside"])
        if new:
            return f"an export of {old} would leave behind what it has since: {'; '.join(in_words(new))}"
        return " ".join(blocker.text for blocker in beside.lacks_of(world, old, planned["to"])).rstrip(".")

    @classmethod
    def _ask_again(cls, world: World, args: Mapping[str, Any]) -> None:
        """Raise where what was planned with does not hold any more: days may lie between the plan and this."""
        app, old = args["app"], survey.with_schedule(world.dokku, world.service(args["old"]))
        others = services.others_of(world.reached, old, app)
        seen = survey.app(world.dokku, app)
        held = seen.pointing_at(old)
        strangers = services.strangers_of(world.reached, seen, old)
        databases = {name: seen.addresses[name].database for name in held}
        if not is_primary(world, app, old.name):
            changed = f"DATABASE_URL of {app} does not point at {old.name} any more"
        elif others:
            changed = f"others would go on writing to {old.name}: {'; '.join(others)}"
        elif sorted(held) != sorted(args["variables"]):
            changed = f"{', '.join(held)} of {app} point at {old.name}, and {', '.join(args['variables'])} did"
        elif strangers:
            changed = f"{', '.join(strangers)} of {app} names {old.name} by another login than the service's own"
        elif databases != args.get("databases", databases):
            told = ", ".join(f"{name} names {database or 'none'}" for name, database in databases.items())
            changed = f"of the databases of {old.name} {told} now"
        elif old.image_id != args["image_id"]:
            # The copy of its files, and what that is upgraded by, are of the image that it ran.
            changed = f"{old.name} runs {old.image} ({old.image_id[7:19]}), and ran {args['image_id'][7:19]}"
        elif old.exposed:
            changed = f"{old.name} is exposed on ports of this host ({old.exposed})"
        elif old.encrypted:
            changed = f"the backups of {old.name} are encrypted, and its key is not carried over"
        elif old.schedule_unread:
            changed = f"{old.name} is backed up by a schedule that cannot be read"
        else:
            changed = cls._not_exported(world, old.name, args.get("exported"))
        if not changed:
            return
        raise StatefulError(
            f"It is not as it was when this was planned: {changed}.",
            next_command=world.dokku.typed("postgres:links", old.name),
        )

    @staticmethod
    def _note(context: Context[World], app: str) -> None:
        running = survey.is_running(context.world.dokku, app)
        if running == links.MIXED:
            raise StatefulError(
                f"Of the processes of {app} some run and others do not: start it, or stop it.",
                next_command=context.world.dokku.typed("ps:report", app),
            )
        noted = {"running": running == "true"}
        context.operation.journal.evidence(RAN, noted, durable=True)
        context.evidence[RAN] = noted
