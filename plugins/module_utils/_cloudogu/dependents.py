# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The dogus that depend on the one that is upgraded: stopped before it, started after it, and watched."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._clock import POLL
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu import survey
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.ces import Host, has_begun
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import logs_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.last_words import last_words
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container, RestartPolicy
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import (
    Context,
    Evidence,
    Undecided,
    as_stateful,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.report import rolling_back

QUIET = "quiet"
STOPPED = "dependents at the switch"
WRITERS = "dependents ran before the proof"
HELD = "dependents held"
GRACE = 30.0
"""Seconds that a dependent gets to stop. What it writes is in the database, which is never killed."""
RESTARTS = 3
STEADY = 3.0
"""Seconds that a dependent has to run without ending, before it is called running."""


class Quiet(NothingToUndo):
    """The dependents that run are stopped, and stay so if the engine restarts. args: ``dependents``, ``sought``."""

    def is_done(self, step: Step, context: Context[Host]) -> Evidence | None:
        return context.evidence.get(step.name, {}) if has_begun(context.operation.directory) else None

    def apply(self, step: Step, context: Context[Host]) -> Evidence:
        began, known = time.time(), dependents_of(context)
        # The backup may have taken hours: who was installed or started since, is of it as well.
        names = {each["name"] for each in known}
        if context.world.serves(context.world.container()):
            now = survey.dependents_now(context.world, step.args["sought"])
            further = [each.as_dict() for each in now if each.running and each.name not in names]
            if further:
                known = [*known, *further]
                context.operation.journal.evidence(STOPPED, {"dependents": known}, durable=True)
        stop_dependents(context.world, known)
        return {"began": began}

    def undo(self, step: Step, context: Context[Host]) -> Evidence:
        start_dependents(context.world, dependents_of(context))
        return {}

    def let_go(self, step: Step, context: Context[Host]) -> None:
        start_dependents(context.world, dependents_of(context))


def dependents_of(context: Context[Host]) -> list[Mapping[str, Any]]:
    """Return the dependents that this operation stops, each as it was before."""
    planned = next(step.args for step in context.operation.plan.steps if step.name == QUIET)
    found: list[Mapping[str, Any]] = context.operation.history().evidence.get(STOPPED, planned)["dependents"]
    return found


def note_writers(context: Context[Host]) -> None:
    """Note for good that dependents ran before the proof, where they did: what is not there, they may have deleted.

    Also those that have ended: ``cesapp`` started them while no run was there to see it, and somebody stopped them.
    """
    evidence = context.operation.history().evidence
    since = evidence[HELD]["at"] if HELD in evidence else evidence.get(QUIET, {}).get("began", 0.0)
    containers = [context.world.engine.container(each["name"]) for each in dependents_of(context)]
    ran = [each.name for each in containers if each is not None and (each.running or each.started > since)]
    if ran:
        context.operation.journal.evidence(WRITERS, {"running": ran}, durable=True)


def hold_dependents(context: Context[Host]) -> None:
    """Stop them, and note when: whichever of them was started later has run in between."""
    stop_dependents(context.world, dependents_of(context))
    context.operation.journal.evidence(HELD, {"at": time.time()})


@contextmanager
def weighed(step: Step, context: Context[Host]) -> Iterator[None]:
    """Whatever fails in here is no reason to undo where dependents ran before the proof. ``step`` is of the upgrade."""
    try:
        yield
    except Exception as error:
        writers, failure = context.operation.history().evidence.get(WRITERS), as_stateful(error)
        if writers is None:
            raise
        raise Undecided(
            f"{failure.msg} An earlier run was broken off, and {', '.join(writers['running'])} ran on the new version"
            " meanwhile: if something is missing, the upgrade may have lost it, or they may have deleted it, and what"
            " they wrote is nowhere else.",
            state=f"the dependents are stopped, what the new version has is in {step.args['volume']}, and the original"
            f" is in {step.args['original']}, whole",
            safe_to_rerun=True,
            next_command=f"{rolling_back(context.operation)}: it goes back to the original, and keeps what the new"
            " version has beside it",
        ) from error


def stop_dependents(host: Host, dependents: list[Mapping[str, Any]]) -> None:
    for each in dependents:
        container = host.engine.container(each["name"])
        if container is None:
            continue
        host.engine.set_restart_policy(container.id, RestartPolicy())
        if container.running:
            # Killed at last: a shell that waits for the database takes no signal, and would undo a good upgrade.
            host.engine.stop(container.id, signal=container.stop_signal or "SIGTERM", timeout=GRACE, kill=True)


def start_dependents(host: Host, dependents: list[Mapping[str, Any]]) -> list[str]:
    """Give all their policies back, then start all; return those that have no container any more.

    Raises afterwards, with every one for which that failed.
    """
    failed: dict[str, str] = {}
    gone: list[str] = []
    there: list[Container] = []
    for each in dependents:
        container = host.engine.container(each["name"])
        if container is None:
            # Uninstalled meanwhile: nothing that would have to be started.
            gone.append(each["name"])
            continue
        try:
            host.engine.set_restart_policy(container.id, RestartPolicy(each["policy"], each["retries"]))
        except StatefulError as error:
            failed[each["name"]] = error.msg
        there.append(container)
    for container in there:
        try:
            if not container.running:
                host.engine.start(container.id)
        except StatefulError as error:
            failed[container.name] = error.msg
    if failed:
        told = "; ".join(f"{name}: {why}" for name, why in failed.items())
        raise StatefulError(
            f"Not every dogu that depends on {host.name} could be started: {told}.",
            state=f"{host.name} and the other dependents were started",
            next_command="docker ps -a",
        )
    return gone


class Dependents(NothingToUndo):
    """The dependents that ran before run again, and go on running. args: ``dependents``.

    They are stopped again by whoever goes back, once nothing is in the way of that.
    """

    def is_done(self, step: Step, context: Context[Host]) -> Evidence | None:
        return None  # a look costs seconds, and they may have ended since

    def apply(self, step: Step, context: Context[Host]) -> Evidence:
        host, dependents = context.world, dependents_of(context)
        gone = start_dependents(host, dependents)
        names = [each["name"] for each in dependents if each["name"] not in gone]
        for name in names:
            self._wait(host, name)
        return {"ended": time.time(), "running": names, "gone": gone}

    @staticmethod
    def _wait(host: Host, name: str) -> None:
        """Return once it has run for a while under one start, and is not unhealthy."""
        ends = time.monotonic() + host.ready_timeout
        starts: dict[str, float] = {}
        while True:
            container, now = host.engine.container(name), time.monotonic()
            if container is None or container.status in ("exited", "dead"):
                break
            since = starts.setdefault(container.started_at, now)
            works = container.status == "running" and container.health not in ("starting", "unhealthy")
            if works and now - since >= STEADY:
                return
            if len(starts) > RESTARTS or now >= ends:
                break
            time.sleep(POLL)
        state = f"{container.status}, {container.health or 'no health check'}" if container else "no container"
        raise StatefulError(
            f"{host.name} is upgraded and proved, and its dependent {name} does not come up ({state}):\n"
            f"{last_words(host.engine, container, tail=20) if container else ''}",
            next_command=logs_of(name),
        )
