# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What follows the proof: the page, the backups, and the old service, which stays unlinked and stopped."""

from __future__ import annotations

import os

from ansible_collections.selfhost.stateful.plugins.module_utils._clock import moment
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import (
    backups,
    links,
    maintenance,
    services,
    survey,
    words,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.backups import auth_of
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image import again, standstill
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import (
    ALWAYS,
    World,
    end_sessions,
    is_primary,
    now,
    stop_server,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import Service, container_of
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.report import size_of
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo, SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Copy, Step


class Show(NothingToUndo):
    """Visitors see the app again. args: ``app``, ``page``."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return context.evidence.get(step.name)

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        dokku, app = context.world.dokku, step.args["app"]
        if step.args["page"] and maintenance.is_enabled(dokku, app):
            maintenance.set_enabled(dokku, app, False)
        return {"ended": now()}


class CarryBackups(SelfProving):
    """The new service has the login and the schedule of the old one, which has no schedule any more.

    args: ``old``, ``new``.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return context.evidence.get(step.name)

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        world = context.world
        return self._carry(world, self._seen(world, step.args["old"]), self._seen(world, step.args["new"]))

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        world = context.world
        if not survey.exists(world.dokku, step.args["new"]):
            return {}
        return self._carry(world, self._seen(world, step.args["new"]), self._seen(world, step.args["old"]))

    def let_go(self, step: Step, context: Context[World]) -> None:
        # A way back that was refused after this was undone: the app stays on the new service, and so do its backups.
        _done_again(step, context, self.apply(step, context))

    @staticmethod
    def _seen(world: World, name: str) -> Service:
        found = survey.with_schedule(world.dokku, world.service(name))
        if found.schedule_unread:
            raise StatefulError(
                f"The schedule of the backups of {name} cannot be read, and is not carried over.",
                next_command=world.dokku.typed("postgres:backup-schedule-cat", name),
            )
        return found

    @staticmethod
    def _carry(world: World, source: Service, target: Service) -> Evidence:
        """Carry the backups over. First to the target: for a moment both are backed up, and never none."""
        auth = auth_of(source)
        if auth and auth_of(target) != auth:
            backups.authenticate(world.dokku, target, auth)
        if source.schedule is not None:
            if target.schedule != source.schedule:
                backups.set_schedule(world.dokku, target, source.schedule)
            backups.set_schedule(world.dokku, source, None)
        return {"schedule": source.schedule.as_dict() if source.schedule else None, "auth": bool(auth)}


class Retire(SelfProving):
    """Nothing of the app points at the old service, which is stopped and stays. args: ``app``, ``old``, ``new``.

    Where it was made read-only it stays so: whoever waits to write there again would be heard in between.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return context.evidence.get(step.name)

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        world, name = context.world, step.args["old"]
        old = world.service(name)
        if is_primary(world, step.args["app"], name):
            raise StatefulError(
                f"DATABASE_URL of {step.args['app']} points at {name} again, so that it is neither unlinked nor"
                " stopped.",
                next_command=world.dokku.typed("postgres:app-links", step.args["app"]),
            )
        links.unlink(world.dokku, survey.app(world.dokku, step.args["app"]), old)
        container = world.engine.container(container_of(name))
        if container is not None:
            if container.running:
                # What a deploy has begun in the downtime has the old address, and would write.
                end_sessions(world, name, old.database)
            # An engine that restarts would bring it up again.
            stop_server(world, container)
        wrote = standstill.written(world, context.operation)
        standstill.end_asking(world, context.operation)
        status = os.stat(old.data)
        copy = Copy(
            role="original",
            service=name,
            path=old.data,
            moment=moment(),
            size_bytes=size_of(old),
            protected="a service of dokku's, unlinked and stopped; a roll back lets new sessions write to it again",
            device=status.st_dev,
            inode=status.st_ino,
        )
        return {"copies": [copy.as_dict()], "warnings": self._told(step, wrote)}

    @staticmethod
    def _told(step: Step, wrote: str) -> list[str]:
        if not wrote:
            return []
        old, new = step.args["old"], step.args["new"]
        return [
            f"{old} was started after its data was taken for {new}, and was written to ({wrote}), which {new} lacks. It"
            " stands still now with all of that, and no commit destroys it: carry over by hand what is needed."
        ]

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        world, name = context.world, step.args["old"]
        again.give_back(world.engine, context.operation)
        standstill.begin_asking(world, context.operation)
        container = world.engine.container(container_of(name))
        if container is not None:
            world.engine.set_restart_policy(container.id, ALWAYS)
            if not container.running:
                world.engine.start(container.id)
            services.wait(world.reached, name, world.ready_timeout)
        else:
            again.start_again(world, context.operation, name)
        if step.args["app"] not in survey.links(world.dokku, name):
            world.dokku.tried(*words.link(name, step.args["app"]))
        return {}

    def let_go(self, step: Step, context: Context[World]) -> None:
        # As with the backups: nobody goes back to the old service.
        _done_again(step, context, self.apply(step, context))


def _done_again(step: Step, context: Context[World], evidence: Evidence) -> None:
    """Note what was done once more: of a step that is undone nothing counts, nor does any copy that it named."""
    context.operation.journal.evidence(step.name, evidence, durable=True)
