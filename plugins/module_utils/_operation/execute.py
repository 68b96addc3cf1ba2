# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs a plan, step by step, and undoes it: the only loop that changes the world.

On resume every step is asked again, with evidence or without, because evidence
ages: an engine may have restarted, an admin may have typed something.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import AGAIN, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    DONE,
    PHASES,
    ROLLED_BACK,
    RUNNING,
    SWITCH,
    Step,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation

W = TypeVar("W")
Evidence = Mapping[str, Any]


@dataclass
class Context(Generic[W]):
    """What a handler works with: the world, the journal's evidence so far, and a progress line."""

    world: W
    operation: Operation
    evidence: dict[str, Evidence] = field(default_factory=dict)
    report: Callable[[int, int], None] = lambda done, total: None


class Handler(Protocol[W]):
    """One kind of step.

    ``is_done`` must hold in every later state of the same plan too (a service
    that runs on its new mount has been stopped on the old one), so that a
    resumed run walks the plan from its beginning without going back.
    """

    def is_done(self, step: Step, context: Context[W]) -> Evidence | None:
        """Return evidence if the world is already so, else None. Changes nothing."""

    def apply(self, step: Step, context: Context[W]) -> Evidence:
        """Do it, and return the evidence. May be called again after a kill at any point inside."""

    def verify(self, step: Step, context: Context[W], evidence: Evidence) -> None:
        """Observe that it is so; raises StatefulError."""

    def undo(self, step: Step, context: Context[W]) -> Evidence:
        """Reverse it, also half done, also twice; afterwards the state before ``apply`` holds."""

    def let_go(self, step: Step, context: Context[W]) -> None:
        """The way back is closed: end what keeps the services from working (a held policy, say), and nothing else."""

    @property
    def others_bring_about(self) -> bool:
        """Whether it can come about without us (a command of the admin's, a restart of the engine).

        Such a step is undone even if it never began, once another of its phase has.
        """


@dataclass(frozen=True)
class Outcome:
    """How a run ended; ``phases`` and ``steps`` are seconds by name."""

    state: str
    changed: bool
    phases: Mapping[str, float]
    steps: Mapping[str, float]
    stopped_before: str = ""


class UndoneFailure(StatefulError):
    """The operation failed and was undone: everything is as it was before."""


class ProvedFailure(StatefulError):
    """The goal is reached and proved; something after it failed, and the next run goes on there."""


class UndoFailure(StatefulError):
    """The undo itself failed: nothing more is touched."""


class UndoRefused(StatefulError):
    """Raised by a handler's ``undo`` where going back would lose what was written since: the way is forward."""


class Undecided(StatefulError):
    """Raised by a handler where going on and going back might each lose something: nothing more is touched."""


Handlers = Mapping[str, Handler[W]]

GOES_ON = f"{AGAIN}: it goes on at this step"
ONLY_LOOKING = (
    *("docker info", "docker inspect", "docker logs", "docker ps"),
    *("df ", "dmesg ", "du ", "findmnt ", "journalctl ", "ls "),
)
"""Commands that are good advice in any state."""


def run(
    operation: Operation, handlers: Handlers[W], world: W, *, stop_before: str = "", never_before_proof: bool = False
) -> Outcome:
    """Run or resume ``operation`` to its end, or to the phase ``stop_before``.

    ``never_before_proof``: where a proof holds no more, the step that gave it is done again, and none before it.
    Raises :class:`UndoneFailure`, :class:`ProvedFailure`, :class:`UndoRefused`
    or :class:`UndoFailure`.
    """
    history = operation.history()
    context = Context(world=world, operation=operation, evidence=dict(history.evidence))
    journal = operation.journal
    if history.undoing:
        undo(operation, handlers, world, reason=history.failure)
        return Outcome(state=ROLLED_BACK, changed=True, phases={}, steps={})
    if history.state != RUNNING:
        journal.state(RUNNING)
    # A proof that still holds covers every step before it: asking those again
    # would stop what was started since.
    first = _after_proof(operation, handlers, context, never_before=never_before_proof) if history.proved else 0
    # Killed beyond it, the services may be down: halting before it would leave them so.
    reached = PHASES.index(operation.plan.phase_reached(history))
    if stop_before and reached >= PHASES.index(stop_before):
        stop_before = ""
    proved, changed = history.proved, False
    seconds: dict[str, float] = {}
    for step in operation.plan.steps[first:]:
        if stop_before and PHASES.index(step.phase) >= PHASES.index(stop_before):
            return Outcome(RUNNING, changed, _phases(operation, seconds), seconds, stopped_before=stop_before)
        started = time.monotonic()
        try:
            changed = _run_step(step, handlers[step.kind], context) or changed
        except Undecided as error:
            journal.failure(step.name, error.msg)
            error.facts["operation"] = operation.id
            raise
        except Exception as error:
            failure = as_stateful(error)
            journal.failure(step.name, failure.msg)
            if proved:
                raise _proved(operation, step, failure) from error
            undo(operation, handlers, world, reason=failure.msg)
            raise _undone(operation, step, failure) from error
        seconds[step.name] = time.monotonic() - started
        proved = proved or step.proves
    journal.state(DONE)
    return Outcome(DONE, changed, _phases(operation, seconds), seconds)


def _after_proof(
    operation: Operation, handlers: Handlers[W], context: Context[W], *, never_before: bool = False
) -> int:
    steps = operation.plan.steps
    for index in range(len(steps) - 1, -1, -1):
        if not steps[index].proves:
            continue
        if handlers[steps[index].kind].is_done(steps[index], context) is not None:
            return index + 1
        if never_before:
            return index
    return 0


def _run_step(step: Step, handler: Handler[W], context: Context[W]) -> bool:
    journal = context.operation.journal
    context.report = lambda done, total: journal.progress(step.phase, step.name, done, total)
    already = handler.is_done(step, context)
    if already is not None:
        context.evidence[step.name] = {**context.evidence.get(step.name, {}), **already}
        journal.evidence(step.name, context.evidence[step.name])
        return False
    journal.intent(step.name)
    evidence = dict(handler.apply(step, context))
    handler.verify(step, context, evidence)
    context.evidence[step.name] = evidence
    journal.evidence(step.name, evidence, durable=step.proves)
    return True


def undo(operation: Operation, handlers: Handlers[W], world: W, *, reason: str) -> None:
    """Undo every step that began, newest first; ends in ``rolled_back``.

    Also those that were found done: a service that somebody else started has to be
    stopped before its data goes back.
    """
    history = operation.history()
    journal = operation.journal
    context = Context(world=world, operation=operation, evidence=dict(history.evidence))
    journal.let_space_go()
    if not history.undoing:
        journal.undoing(reason)
    begun = {*history.intents, *history.evidence}
    reached = operation.plan.phase_reached(history)
    for step in reversed(operation.plan.steps):
        theirs = handlers[step.kind].others_bring_about and step.phase == reached
        if step.name not in begun and not theirs:
            continue
        try:
            journal.undone(step.name, handlers[step.kind].undo(step, context))
        except UndoRefused as refusal:
            journal.undo_refused(refusal.msg)
            hampered = _let_go([s for s in operation.plan.steps if s.name in begun], handlers, context)
            raise UndoRefused(
                " ".join([reason, refusal.msg, *hampered]),
                state=refusal.state,
                copies=[copy.as_dict() for copy in history.copies()] or refusal.copies,
                next_command=refusal.next_command,
                operation=operation.id,
            ) from refusal
        except Exception as error:
            failure = as_stateful(error)
            journal.failure(step.name, failure.msg)
            raise UndoFailure(
                f"{reason} Undoing the step '{step.name}' then failed too: {failure.msg}",
                state=(
                    f"{failure.state}; nothing more was touched after that, and what was done so far is in "
                    f"{journal.path}"
                ),
                copies=[copy.as_dict() for copy in history.copies()] or failure.copies,
                safe_to_rerun=failure.safe_to_rerun,
                next_command="remove the cause and run the same task again: it goes on undoing where it stopped"
                if failure.safe_to_rerun
                else failure.next_command,
                operation=operation.id,
            ) from error
    journal.state(ROLLED_BACK)


def _let_go(steps: Sequence[Step], handlers: Handlers[W], context: Context[W]) -> list[str]:
    """Let the services work, all that can; return in words what could not be let go."""
    failed = []
    for step in reversed(steps):
        try:
            handlers[step.kind].let_go(step, context)
        except Exception as error:  # noqa: BLE001 - told with the others; the next one may still be let go
            failed.append(f"And of '{step.name}': {as_stateful(error).msg}")
    return failed


def as_stateful(error: Exception) -> StatefulError:
    """Return ``error`` if it is one of ours, else one that says that it was not foreseen."""
    if isinstance(error, StatefulError):
        return error
    return StatefulError(f"Unexpected {type(error).__name__}: {error}", state="unknown to this step")


def _stays(operation: Operation) -> str:
    """Return what the undo of a step said that it leaves in the data, in its evidence as ``stays``."""
    left = _said_by_undo(operation, "stays")
    return f"; what these changed stays in the data, as far as they ran: {', '.join(left)}" if left else ""


def told_by_undo(operation: Operation) -> list[str]:
    """Return what the undo of a step said that has to be known of it, in its evidence as ``told``: half a sentence."""
    return _said_by_undo(operation, "told")


def _said_by_undo(operation: Operation, name: str) -> list[str]:
    undone = [record.data for record in operation.journal.records() if record.what == "undone"]
    return list(dict.fromkeys(each for data in reversed(undone) for each in data.get(name, ())))


def _undone(operation: Operation, step: Step, failure: StatefulError) -> UndoneFailure:
    history = operation.history()
    stopped = PHASES.index(operation.plan.phase_reached(history)) >= PHASES.index(SWITCH)
    services = "the services run on the old state again" if stopped else "the services were not stopped"
    # What the failure advised was meant for the state before the undo, unless it only looks.
    looking = f"{failure.next_command}; then " if failure.next_command.startswith(ONLY_LOOKING) else ""
    told = "".join(f"; {each}" for each in told_by_undo(operation))
    return UndoneFailure(
        f"{failure.msg} (step '{step.name}')",
        state=f"everything was undone: {services}, and the data is where it was{_stays(operation)}{told}",
        copies=[copy.as_dict() for copy in history.copies()],
        safe_to_rerun=True,
        next_command=f"{looking}remove the cause that is named here, and run the same task again",
        **{**failure.facts, "operation": operation.id, "failed_step": step.name},
    )


def _proved(operation: Operation, step: Step, failure: StatefulError) -> ProvedFailure:
    return ProvedFailure(
        f"{failure.msg} (step '{step.name}', after the change was made and proved)",
        state="the change is made and proved, and the stores run on it; only what follows is unfinished",
        copies=[copy.as_dict() for copy in operation.history().copies()],
        safe_to_rerun=True,
        next_command=_before_again(failure.next_command),
        **{**failure.facts, "operation": operation.id, "failed_step": step.name},
    )


def _before_again(advice: str) -> str:
    """Return the next command where going on may need what a failed step advises first."""
    if not advice or AGAIN in advice:
        return GOES_ON
    return f"{advice}; then {GOES_ON}"


def _phases(operation: Operation, seconds: Mapping[str, float]) -> dict[str, float]:
    totals: dict[str, float] = {}
    for step in operation.plan.steps:
        if step.name in seconds:
            totals[step.phase] = totals.get(step.phase, 0.0) + seconds[step.name]
    return totals
