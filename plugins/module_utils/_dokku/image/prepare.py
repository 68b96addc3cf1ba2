# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is done while everything runs: the new service, a unit of the host's, backups into a bucket."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import backups, services, survey
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.plan_physical import VACATE
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.planner import IMPORT, QUIET
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import (
    World,
    intended,
    now,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import Settings, container_of
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.services import Wanted
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence, Undecided
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo, SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import PREPARE, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import system_identifier

MAKING = "the new service is begun to be made"
FRESH = 3600.0
"""Seconds for which what was taken before the downtime is the last state of things."""
UNIT_LIMIT = 12 * 3600.0


class Make(SelfProving):
    """The new service runs the image and is empty.

    args: ``app``, ``old``, ``new``, ``repository``, ``tag``, ``image_id``, ``settings``, ``custom_env``: the names.
    When this was planned there was no service of that name; one that is there before this has begun to make one is
    somebody else's. The identity of its cluster is noted.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        world, name = context.world, step.args["new"]
        found = world.engine.container(container_of(name))
        if found is None or found.image_id != step.args["image_id"]:
            return None
        if intended(context, VACATE):
            return context.evidence.get(step.name, {})  # it stands still, until the data is there
        if step.name not in context.evidence and not intended(context, IMPORT):
            return None  # whether it was made to its end nobody knows, and it is empty
        if not found.running:
            services.start(world.reached, name, ready_timeout=world.ready_timeout)
        return context.evidence.get(step.name, {})

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        world, name = context.world, step.args["new"]
        if survey.exists(world.dokku, name):
            if not self._is_ours(context):
                raise StatefulError(
                    f"There is a service {name} since this was planned, and this operation did not make it.",
                    next_command=world.dokku.typed("postgres:info", name),
                )
            self._remove(step, context)
        old = world.service(step.args["old"])
        environment = {**old.settings.custom_env, **world.environment}
        lacking = [each for each in step.args["custom_env"] if each not in environment]
        if lacking:
            raise StatefulError(f"The values of {', '.join(lacking)} are not given any more: give custom_env again.")
        kept = {each: environment[each] for each in step.args["custom_env"]}
        settings = replace(Settings(**step.args["settings"]), custom_env=kept)
        given: dict[str, Any] = {each: getattr(settings, each) for each in Settings.__dataclass_fields__}
        wanted = Wanted(name, step.args["repository"], step.args["tag"], given)
        if services.image_for(world.reached, wanted) != step.args["image_id"]:
            raise StatefulError(f"{wanted.reference} means another image than when this was planned.")
        context.operation.journal.evidence(MAKING, {"service": name}, durable=True)
        made = services.make(world.reached, wanted, ready_timeout=world.ready_timeout)
        with world.session(name) as there:
            identity = str(system_identifier(there))
        return {"service": name, "image_id": made.image_id, "system_identifier": identity}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        if self._is_ours(context) and survey.exists(context.world.dokku, step.args["new"]):
            self._remove(step, context)
        return {}

    @staticmethod
    def _is_ours(context: Context[World]) -> bool:
        return MAKING in context.operation.history().evidence

    @staticmethod
    def _remove(step: Step, context: Context[World]) -> None:
        """Destroy the new service, where nobody uses it."""
        world, name = context.world, step.args["new"]
        users = services.users_of(world.reached, world.service(name))
        if users:
            raise Undecided(
                f"The service {name} was made by this operation, and is not removed: {'; '.join(users)}.",
                state=f"{step.args['old']} and {name} are both there, with what each of them has",
                safe_to_rerun=False,
                next_command=world.dokku.typed("postgres:links", name),
            )
        services.remove(world.reached, name)


class Unit(NothingToUndo):
    """A unit of systemd's ran to its end. args: ``unit``."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return context.evidence.get(step.name)

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        unit = step.args["unit"]
        # It waits for a unit of the type oneshot, and of one that stays up until it is up.
        rc, said = _systemctl("start", unit)
        _rc, result = _systemctl("show", "--property=Result", "--value", unit)
        if rc != 0 or result.strip() not in ("success", ""):
            raise StatefulError(
                f"The unit {unit} ended with {result.strip() or rc}: {said.strip()[-300:]}",
                next_command=shell("journalctl", "-u", unit, "-n", "50"),
            )
        return {"unit": unit, "result": result.strip()}


def _systemctl(*words: str) -> tuple[int, str]:
    try:
        # The module's own run_command is out of reach down here, where no module is known.
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            ["systemctl", *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=UNIT_LIMIT, check=False
        )
    except FileNotFoundError:
        return 127, "there is no systemctl on this host"
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")


class BackUp(NothingToUndo):
    """A backup of a service is in a bucket, and can be read. args: ``service``, ``bucket``, ``use_iam``.

    One that was taken long before the downtime, in a run that halted there, is taken again.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        known = context.evidence.get(step.name)
        if known is None or step.phase != PREPARE or intended(context, QUIET):
            return known
        return known if now() - known.get("at", 0.0) < FRESH else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        world, iam = context.world, step.args["use_iam"]
        service = world.service(step.args["service"])
        place = backups.place_of(service, step.args["bucket"], use_iam=iam)
        return {"at": now(), "backup": backups.back_up(world.dokku, service, place, use_iam=iam).as_dict()}
