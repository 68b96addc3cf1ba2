# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole way of ``cloudogu_dogu``: look, plan, and say what was reached."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu import (
    dependents,
    planner,
    proof,
    steps,
    survey,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.ces import Host
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.model import (
    DOWN,
    EQUAL,
    Seen,
    Version,
    way,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.upgrade import Upgrade
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.drive import (
    Drive,
    Planned,
    blocked,
    refuse_other_goal,
    to_its_end,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Handlers
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Goal, History, Plan
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import remove_leftover_helpers
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.mounts import nearest_existing

MODULE = "cloudogu_dogu"

HANDLERS: Handlers[Host] = {
    planner.KEEP: steps.KeepImage(),
    planner.BACKUP: steps.BackUp(),
    planner.WARM: steps.WarmCopy(),
    planner.QUIET: dependents.Quiet(),
    planner.ORIGINAL: steps.Original(),
    planner.UPGRADE: Upgrade(),
    planner.PROVE: proof.Prove(),
    planner.DEPENDENTS: dependents.Dependents(),
}


@dataclass(frozen=True)
class Request:
    """What is wanted. ``connect`` opens fresh connections, because sockets do not survive a fork.

    ``version`` None is the newest that the host offers.
    """

    name: str
    version: Version | None
    connect: Callable[[], Host] = field(repr=False)
    subject: Mapping[str, Any] = field(default_factory=dict)
    dependents: Sequence[str] = (survey.AUTO,)
    backup: str = "auto"
    backup_dir: str = ""
    stop_before: str = ""


@dataclass(frozen=True)
class Look:
    """What was looked at; ``seen`` is None where an operation is open, whose journal knows everything."""

    host: Host
    seen: Seen | None
    unfinished: str = ""


def goal_of(name: str, version: Version) -> Goal:
    return Goal(MODULE, name, {"version": str(version)})


def look(request: Request, operations: OperationStore) -> Look:
    """Look at the dogu, or find what is open on it; changes nothing."""
    refuse_other_goal(operations, request.name, _is_mine(request), str(request.version or "the newest version"))
    host, open_one = request.connect(), operations.open_for(request.name)
    if open_one is not None:
        # It may be half-way between two versions: what it was is in its journal.
        return Look(host, None, open_one.id)
    return Look(host, survey.see(host, request.dependents))


def _is_mine(request: Request) -> Callable[[Goal], bool]:
    # Without a version whatever is open is gone on with: what was the newest then may be another now.
    return lambda goal: (
        goal.module == MODULE and (request.version is None or goal == goal_of(request.name, request.version))
    )


def plan(request: Request, looked: Look, operations: OperationStore) -> Planned:
    """Plan what is left to do; changes nothing."""
    host, seen = looked.host, looked.seen
    if seen is None:
        return Planned(None)
    if request.version is None and not seen.listed:
        raise StatefulError(
            f"The newest version of {seen.name} is wanted, and {host.typed('list-upgrades')} failed, so that it is not"
            " known.",
            next_command=host.typed("list-upgrades"),
        )
    wanted = request.version or seen.available or seen.version
    how = way(seen.version, wanted)
    if how == DOWN:
        raise InvalidInput(
            f"{seen.version} runs in {seen.name}, and {wanted} is older: there is no way down but a roll back."
        )
    if how == EQUAL:
        # Where nothing is to be done, what an earlier upgrade left is in the way all the same.
        left = planner.blockers_of(seen, wanted, backups=os.sep, free_for_backups=1 << 62, same_disk=False)
        if left and (seen.stuck or seen.at_work):
            raise blocked(Plan(goal_of(seen.name, wanted), ()), left)
        return Planned(None)
    goal = goal_of(seen.name, wanted)
    operation = operations.next_id(goal)
    backup_path = os.path.join(request.backup_dir, operation)
    original = f"{backup_path}-original"
    existing = nearest_existing(request.backup_dir)
    blockers = planner.blockers_of(
        seen,
        wanted,
        backups=os.path.realpath(request.backup_dir),
        free_for_backups=shutil.disk_usage(existing).free,
        same_disk=os.stat(existing).st_dev == os.stat(seen.volume).st_dev,
    )
    made = planner.steps_of(
        seen, wanted, backup=request.backup, backup_path=backup_path, original=original, sought=request.dependents
    )
    summary = {
        "name": seen.name,
        "from": str(seen.version),
        "to": str(wanted),
        "kind": how,
        "volume": seen.volume,
        "data_directory": seen.data,
        "dependents": [each.name for each in seen.dependents if each.running],
        "steps": [step.name for step in made],
    }
    text = planner.text_of(seen, wanted, backup_path=backup_path, original=original, blockers=blockers)
    facts = {"subject": dict(request.subject), "original": original}
    return Planned(Plan(goal, made, facts=facts, summary=summary, text=text), tuple(blockers))


def carry_out(request: Request, operations: OperationStore, *, check_mode: bool) -> dict[str, Any]:
    """Return the module's result; raises StatefulError."""

    def run(operation: Operation) -> execute.Outcome:
        host = request.connect()
        remove_leftover_helpers(host.engine, operation.id)
        history = operation.history()
        if history.proved and not history.undoing and str(host.version()) == operation.plan.summary["to"]:
            # The proof is looked at again, which a dogu that was stopped since, or that still starts, cannot answer.
            # On its way back it may have no data any more, and is not waited for.
            steps.start(host)
        return execute.run(operation, HANDLERS, host, stop_before=request.stop_before)

    return to_its_end(
        Drive(
            operations=operations,
            look=lambda: (request.name, look(request, operations)),
            plan=lambda looked: plan(request, looked, operations),
            run=run,
            unchanged=_unchanged,
            result=_result,
            warnings=_warnings,
            check_mode=check_mode,
        )
    )


def _unchanged(looked: Look) -> dict[str, Any]:
    version = str(looked.seen.version) if looked.seen else ""
    name = looked.host.name
    return {
        "version": version,
        "plan": {"name": name, "from": version, "to": version, "kind": EQUAL, "steps": []},
        "plan_text": f"Dogu {name}: nothing to do, {version} runs.",
    }


def _warnings(history: History) -> list[str]:
    proved, started = history.evidence.get("prove", {}), history.evidence.get("start the dependents", {})
    found = [
        f"The migration {name} of the dogu has set no mark that it was done: it may have found nothing to do. Its own"
        " words are in the log of the container; the same can be done by the migrations that"
        " selfhost.stateful.postgresql_image brings (postgresql_image_fixups)."
        for name in proved.get("unmarked", ())
    ]
    if proved.get("new_defaults"):
        found.append(
            "The schema public is as 15 and later make it, which a dump of an older server does not change: only the"
            f" owner of a database may create in it now ({'; '.join(proved['new_defaults'])}). Grant CREATE on it to"
            " other roles that need it."
        )
    return found + [
        f"The dogu {name} has no container any more, and was not started." for name in started.get("gone", ())
    ]


def _result(operation: Operation, steps: Mapping[str, float]) -> dict[str, Any]:
    history = operation.history()
    evidence = history.evidence
    began, ended = evidence.get("quiet", {}).get("began"), evidence.get("start the dependents", {}).get("ended")
    upgraded, proved = evidence.get("upgrade", {}), evidence.get("prove", {})
    return {
        "version": operation.plan.summary["to" if proved else "from"],
        "resolved": list(upgraded.get("resolved", ())),
        "verification": {
            key: proved[key] for key in ("databases", "tables", "rows", "roles", "markers") if key in proved
        },
        "downtime_seconds": round(ended - began, 2) if began and ended else 0.0,
        "phases": dict(steps),
        "copies": [copy.as_dict() for copy in history.copies()],
    }
