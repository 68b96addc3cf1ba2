# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An app is stopped and started again, so that a kill at any moment never forgets how many dynos ran.

One operation an app: its plan holds the former formation, and is on the disk before anything is
scaled. Its undo starts the app again. ``done`` means: stopped, and somebody has to start it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku import planner
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.model import (
    formation_as_dict,
    formation_of,
    running,
    told,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.planner import Former
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.steps import (
    HANDLERS,
    World,
    one_off_dynos,
    scale,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    COMMITTED,
    DONE,
    OPEN_STATES,
    ROLLED_BACK,
    Plan,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore

LIVE = OPEN_STATES | {DONE}
NOTE = "note"
"""What was noted of an operation later, beside the evidence of its steps."""


def live_of(operations: OperationStore, app: str) -> list[Operation]:
    """Return the operations that remember what an app ran, oldest first: a newer one has taken the older ones up."""
    return [each for each in operations.of_project(planner.project_of(app)) if each.history().state in LIVE]


def begun_in(operations: list[Operation]) -> set[str]:
    """Return the names of the steps that any of them has begun."""
    histories = [each.history() for each in operations]
    return {name for history in histories for name in (*history.intents, *history.evidence) if name != NOTE}


def former_of(operation: Operation) -> Former:
    raw = operation.plan.summary["former"]
    return Former(formation_of(raw["formation"]), bool(raw["maintenance"]))


@contextmanager
def alone(operations: OperationStore, app: str) -> Iterator[None]:
    """Hold the app against other runs on this controller; wait for the one that holds it."""
    with operations.locked(planner.project_of(app), wait=True):
        yield


def stop(
    world: World,
    operations: OperationStore,
    app: str,
    *,
    maintenance: bool,
    note: Mapping[str, Any],
    check: bool,
    keep: Callable[[], None],
) -> dict[str, Any]:
    """Stop all dynos; ``keep`` raises where the journal would be forgotten. The caller holds the app.

    What was stopped for another change than ``note`` names is left to whoever did that: they may open it at any moment.
    """
    live = settle(world, operations, app, check=check)
    known = live[-1] if live else None
    now = _seen(world, app)
    others = _is_of_another(known, note)
    if known is not None and others and _keeps_closed(live, now):
        raise _of_another(app, known, note)
    former = planner.remembered(former_of(known) if known else None, begun_in(live), now)
    if known is not None and planner.EMPTIED in begun_in(live):
        world.warnings.extend(planner.scaled_since(app, former_of(known).formation, former.formation))
    undoing = known is not None and known.history().undoing
    ended = known is not None and known.history().state == DONE and not undoing
    stopped = known is not None and ended and _holds(world, known)
    plan = planner.closing(app, former, maintenance=maintenance, note=_note(note, None if others else known, stopped))
    if known is not None and stopped and _closes(known.plan) >= maintenance:
        return {**_told(world, app, former, known), "changed": False, "plan_text": known.plan.text}
    keep()
    if check:
        return {**_told(world, app, former, known), "changed": True, "plan_text": plan.text}
    anew = others or undoing
    if known is None or anew or former.as_dict() != former_of(known).as_dict() or _closes(known.plan) < maintenance:
        known = operations.begin(plan)
    _take_up(operations, app, known)
    try:
        execute.run(known, HANDLERS, world)
    except execute.UndoneFailure as failure:
        failure.state = (
            f"{app} runs what it ran before, its maintenance mode is as it was; the database was not touched"
        )
        raise
    return {**_told(world, app, former, known), "changed": True, "plan_text": known.plan.text}


def settle(world: World, operations: OperationStore, app: str, *, check: bool) -> list[Operation]:
    """Return the operations that still say what an app ran, and end those that do not. The caller holds the app.

    Somebody may have opened the app by hand, and changed it on purpose since: what was noted before is not what runs
    then. A start that was broken off while the app is closed is not brought to its end, which would let people in now:
    nobody here knows whether the database serves.
    """
    live = live_of(operations, app)
    if not live:
        return []
    former, undoing = former_of(live[-1]), live[-1].history().undoing
    begun, now = begun_in(live), _seen(world, app)
    opened = planner.is_open_again(former, begun, now)
    if opened:
        world.warnings.append(
            f"The operation {live[-1].id} noted that {app} ran {told(running(former.formation))}, and {app} was opened"
            f" since{', by a start that was broken off or by hand' if undoing else ' by hand'}. The operation is ended,"
            " and what runs now is what is remembered."
        )
    # Killed before anything was scaled, and open: there is nothing to bring back, and who closes it later is another.
    if not opened and (planner.EMPTIED in begun or planner.is_shut(now)):
        return live
    for each in live if not check else ():
        each.journal.state(ROLLED_BACK if each.history().undoing else COMMITTED)
    return []


def restore(
    world: World, operations: OperationStore, app: str, *, check: bool, note: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Bring back what ran before; nothing to do where nothing was stopped by us. The caller holds the app.

    What was stopped for another change than ``note`` names stays so: whoever did that needs it closed.
    """
    live = live_of(operations, app)
    known = live[-1] if live else None
    if known is not None and note and _is_of_another(known, note):
        live = settle(world, operations, app, check=check)
        if live and _keeps_closed(live, _seen(world, app)):
            raise _of_another(app, known, note)
        known = live[-1] if live else None
    if known is None:
        seen = _seen(world, app)
        return {
            "changed": False,
            "operation": "",
            "formation": formation_as_dict(seen.formation),
            "maintenance": seen.maintenance,
            "former": {},
            "note": {},
            "one_off_dynos": one_off_dynos(world, app),
            "plan_text": f"The app {app}: nothing is noted that was stopped.",
            "warnings": [*world.warnings, *_closed_by_others(operations, app, seen)],
        }
    former = former_of(known)
    text = f"The app {app}: back to what ran before {known.id}"
    if not check:
        _take_up(operations, app, known)
        execute.undo(known, HANDLERS, world, reason=f"{app} was to be started again.")
    seen = _seen(world, app)
    if not check and planner.is_shut(seen):
        command = "maintenance:off" if seen.maintenance else "ps:scale web=1"
        world.warnings.append(
            f"{app} is as it was before it was stopped, and that is not open: {_how_shut(seen)}. Once it may be open:"
            f" heroku {command} --app {app}"
        )
    result = _told(world, app, former, known)
    return {**result, "changed": True, "maintenance": seen.maintenance, "plan_text": text}


def note(world: World, operations: OperationStore, app: str, more: Mapping[str, Any], *, check: bool) -> dict[str, Any]:
    """Add to what is noted of the newest operation, whatever became of it. The caller holds the app.

    One that still says what an app ran that is open by now is ended by the way: nobody may ever stop it again.
    """
    was_live = bool(live_of(operations, app))
    ended = was_live and not settle(world, operations, app, check=check)
    newest = next(reversed(operations.of_project(planner.project_of(app))), None)
    noted = dict(newest.history().evidence.get(NOTE, {})) if newest else {}
    changed = newest is not None and {**noted, **more} != noted
    if newest is not None and changed and not check:
        newest.journal.evidence(NOTE, {**noted, **more}, durable=True)
    return {
        "changed": changed or ended,
        "operation": newest.id if newest else "",
        "formation": formation_as_dict(world.heroku.formation(app)),
        "former": former_of(newest).as_dict() if newest else {},
        "note": {**newest.plan.summary["note"], **noted, **more} if newest else {},
        "plan_text": f"The app {app}: {'a note' if newest else 'nothing is noted that was stopped.'}",
        "warnings": list(world.warnings),
    }


def set_exact(world: World, operations: OperationStore, app: str, wanted: Any, *, check: bool) -> dict[str, Any]:
    """Make a formation the wanted one. The caller holds the app."""
    live = live_of(operations, app)
    if begun_in(live):
        raise StatefulError(
            f"{app} was stopped by the operation {live[-1].id}, which remembers what it ran: that has to be brought"
            " back (state: restored) before another formation is set.",
            state=f"{app} is as that operation left it",
            next_command="run selfhost.stateful.heroku_app_formation with state: restored",
            operation=live[-1].id,
        )
    former = _seen(world, app)
    before = former.formation
    unknown = sorted(set(wanted) - set(before))
    if unknown:
        raise StatefulError(f"{app} has no process type {', '.join(unknown)}; it has {', '.join(sorted(before))}.")
    updates = planner.to_exact(wanted, before)
    after = scale(world, app, updates) if updates and not check else before
    return {
        "changed": bool(updates),
        "operation": "",
        "formation": formation_as_dict(after),
        "former": former.as_dict(),
        "plan_text": f"The app {app}: {updates or 'nothing to do'}",
    }


def _seen(world: World, app: str) -> Former:
    return Former(world.heroku.formation(app), world.heroku.in_maintenance(app))


def _closed_by_others(operations: OperationStore, app: str, seen: Former) -> list[str]:
    if not planner.is_shut(seen):
        return []
    return [
        f"{app} is closed ({_how_shut(seen)}), and {operations.directory} holds no journal of what it ran: nothing was"
        " started. It may be in the operations directory of another controller, of another user, or of another"
        " operations_dir."
    ]


def _how_shut(seen: Former) -> str:
    return "maintenance mode is on" if seen.maintenance else "no process type runs dynos"


def _holds(world: World, operation: Operation) -> bool:
    context = execute.Context(world=world, operation=operation, evidence=dict(operation.history().evidence))
    return all(HANDLERS[step.kind].is_done(step, context) is not None for step in operation.plan.steps)


def _closes(plan: Plan) -> bool:
    return any(step.kind == planner.CLOSE for step in plan.steps)


def _keeps_closed(live: list[Operation], now: Former) -> bool:
    """Tell whether an app is closed by what was begun. One that is open by now is settled before."""
    begun = begun_in(live)
    return planner.EMPTIED in begun or (bool(begun) and planner.is_shut(now))


def _is_of_another(known: Operation | None, note: Mapping[str, Any]) -> bool:
    return known is not None and planner.is_of_another(known.plan.summary["note"], note)


def _of_another(app: str, known: Operation, note: Mapping[str, Any]) -> StatefulError:
    theirs = planner.named_in(known.plan.summary["note"])
    return StatefulError(
        f"{app} is closed, and not for {_told_change(planner.named_in(note))}: the operation {known.id} stopped it"
        f" {f'for {_told_change(theirs)}' if theirs else 'on its own, by somebody'}.",
        state=f"{app} is as that operation left it, and may be opened by it at any moment",
        next_command="run what stopped it once more, which ends it, or, once the app may be open again,"
        " selfhost.stateful.heroku_app_formation with state: restored",
        operation=known.id,
        holder=known.id,
    )


def _told_change(named: Mapping[str, str]) -> str:
    return f"{named.get('database', 'a database')} to {named.get('plan', 'a plan')}"


def _note(note: Mapping[str, Any], known: Operation | None, stopped: bool) -> dict[str, Any]:
    """Return what was noted first: of a run that is gone on with, that is from before anything had changed.

    Not of one whose start was broken off: dynos may have run since, and what is noted now is from before they stop.
    """
    noted = dict(known.plan.summary["note"]) if known is not None else {}
    if known is not None and known.history().undoing:
        return dict(note) or noted
    return noted if known is not None and noted and (stopped or known.is_open) else dict(note)


def _take_up(operations: OperationStore, app: str, newest: Operation) -> None:
    """End the older operations of an app, after what they began is begun in the newest too.

    Killed in between, both are there, and both say that the app was stopped.
    """
    older = [each for each in live_of(operations, app) if each.id != newest.id]
    for step in newest.plan.steps:
        if step.name in begun_in(older) - begun_in([newest]):
            newest.journal.intent(step.name)
    for each in older:
        each.journal.state(COMMITTED)


def _told(world: World, app: str, former: Former, operation: Operation | None) -> dict[str, Any]:
    evidence = operation.history().evidence.get(planner.EMPTIED, {}) if operation else {}
    return {
        "operation": operation.id if operation else "",
        "formation": formation_as_dict(world.heroku.formation(app)),
        "former": former.as_dict(),
        "note": dict(operation.plan.summary["note"]) if operation else {},
        "stopped_at": evidence.get("stopped_at", ""),
        "one_off_dynos": one_off_dynos(world, app),
        "warnings": list(world.warnings),
    }
