# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The upgrade itself: ``cesapp`` watched, and what it leaves hanging resolved."""

from __future__ import annotations

import os
import time

from ansible_collections.selfhost.stateful.plugins.module_utils._clock import POLL, until
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu import ces, survey, way_back
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.ces import Host, has_begun
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.dependents import (
    RESTARTS,
    hold_dependents,
    note_writers,
    weighed,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.model import (
    DUMP_IN_DATA,
    DUMP_KEY,
    LOCAL_STATE,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import logs_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.last_words import last_words, without_statements
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import (
    Context,
    Evidence,
    UndoRefused,
    as_stateful,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.report import rolling_back

POST_UPGRADE = "/post-upgrade.sh"
TIMED_OUT = frozenset({124, 137, 143})
"""What timeout(1) ends with where it had to end a program: coreutils' own code, and those of the two signals."""


class Upgrade(NothingToUndo):
    """The dogu runs the wanted version, and serves.

    args: ``from``, ``to``, ``keys`` of the registry, ``container``, its ``policy`` and ``retries`` as they were,
    ``volume``, ``original``, ``system_identifier``. Nothing of the dogu's ever runs on ``original``, which is outside
    of its volume.
    """

    def is_done(self, step: Step, context: Context[Host]) -> Evidence | None:
        host = context.world
        if str(host.version()) != step.args["to"] or not host.serves(host.container()):
            return None
        # Also one that serves already: its cesapp may still start the dependents.
        if host.at_work() or host.keys().get(LOCAL_STATE):
            return None
        return context.evidence.get(step.name, {})

    def apply(self, step: Step, context: Context[Host]) -> Evidence:
        host, args, directory = context.world, step.args, context.operation.directory
        began, broken_off = time.monotonic(), has_begun(directory)
        if not broken_off:
            process = host.begin(("upgrade", "dogu", host.name, args["to"]), directory)
            in_time = until(lambda: process.poll() is not None, host.upgrade_timeout)
            result = f"ended with {process.returncode}" if in_time else "did not end"
        else:
            # Of a run that was killed: cesapp went on without it.
            in_time = until(lambda: not host.at_work(), host.upgrade_timeout)
            result = "has ended without this run" if in_time else "did not end"
        if not in_time:
            note = ces.noted(directory)
            if note is not None:
                ces.end(note)
            result += f" within {host.upgrade_timeout:.0f} s and was ended"
        if str(host.version()) != args["to"]:
            raise StatefulError(
                f"{host.typed('upgrade', 'dogu', host.name, args['to'])} {result}, and {host.name} is at"
                f" {host.version() or 'no version: its container is gone'}.\n{ces.said(directory)}"
            )
        # cesapp started them again: what they write before the proof is neither proved nor in the original.
        if broken_off:
            note_writers(context)
        with weighed(step, context):
            hold_dependents(context)
            container = host.container()
            # The host was restarted since, or somebody stopped it.
            if broken_off and not container.running:
                host.engine.start(container.id)
            resolved = self._bring_up(host, step)
            hold_dependents(context)
        return {"seconds": round(time.monotonic() - began, 2), "cesapp": result, "resolved": resolved}

    def _bring_up(self, host: Host, step: Step) -> list[str]:
        """Wait until the new version serves; what a dead post-upgrade left waiting is resolved, once."""
        resolved: list[str] = []
        starts = set[str]()
        began = time.monotonic()
        ask_at, ends, last = began, began + host.ready_timeout, began + host.upgrade_timeout
        while True:
            container = host.container()
            starts.add(container.started_at)
            if container.pid and host.waits():
                if not host.post_upgrade_runs(container):
                    if resolved:
                        raise StatefulError(
                            f"post-upgrade of {host.name} leaves {LOCAL_STATE} behind each time that it is run.",
                            next_command=logs_of(host.name),
                        )
                    resolved.append(self._finish(host, container, step))
                    ends = time.monotonic() + host.ready_timeout
            elif host.serves(container):
                return resolved
            if container.status in ("exited", "dead") or len(starts) > RESTARTS:
                raise self._failed(host, container, f"ended with code {container.exit_code}, {len(starts)} times")
            now = time.monotonic()
            if now >= ask_at:
                ask_at = now + host.ready_timeout / 4
                if container.pid and host.restores(container):
                    # It takes as long as the dump did, which is what the longer limit is for; a start comes after it.
                    ends = max(ends, min(now + host.ready_timeout, last))
            if now >= ends:
                raise self._failed(host, container, f"does not serve after {now - began:.0f} s")
            time.sleep(POLL)

    @staticmethod
    def _finish(host: Host, container: Container, step: Step) -> str:
        data = survey.data_on_host(container)
        in_data = os.path.lexists(os.path.join(step.args["volume"], DUMP_IN_DATA))
        if not os.path.exists(os.path.join(data, "PG_VERSION")) and not in_data and not host.keys().get(DUMP_KEY):
            raise StatefulError(
                f"post-upgrade of {host.name} died after it had removed the data, and there is no dump any more that it"
                " could restore.",
                next_command=logs_of(host.name),
            )
        # Some of them wait without a limit for a server that cannot start.
        seconds = f"{host.upgrade_timeout:.0f}"
        words = (POST_UPGRADE, step.args["from"], step.args["to"])
        answer = host.engine.execute(container.id, ("timeout", "-k", "10", seconds, *words))
        if answer.rc != 0:
            ended = f"after {seconds} s" if answer.rc in TIMED_OUT else f"exit code {answer.rc}"
            raise StatefulError(
                f"post-upgrade of {host.name} died, and does so again ({ended}):"
                f" {without_statements(answer.error_text())}",
                next_command=logs_of(host.name),
            )
        return f"post-upgrade had died and left {LOCAL_STATE} behind; it was run again"

    @staticmethod
    def _failed(host: Host, container: Container, what: str) -> StatefulError:
        return StatefulError(
            f"The new version of {host.name} {what}.\n{last_words(host.engine, container, tail=20)}",
            next_command=logs_of(host.name),
        )

    def undo(self, step: Step, context: Context[Host]) -> Evidence:
        try:
            return way_back.go_back(step, context)
        except Exception as error:
            history, failure = context.operation.history(), as_stateful(error)
            if not history.proved or way_back.KEPT_ASIDE in history.evidence:
                raise
            # A version that was proved is as good as before, and users write to it again: where the way back stayed
            # open, the next run would go on with it and not ask whether they did.
            raise UndoRefused(
                f"{failure.msg} {context.world.name} stays at {step.args['to']}.",
                state="the new version was started again; nothing was given up",
                next_command=rolling_back(context.operation),
            ) from error

    def let_go(self, step: Step, context: Context[Host]) -> None:
        way_back.give_policy_back(step, context.world)
