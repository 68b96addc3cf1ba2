# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A migration as an operation of its own: journaled, found again after a kill, taken back where that is possible."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import (
    Context,
    Evidence,
    Handlers,
    UndoRefused,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    DONE,
    FINISH,
    PREPARE,
    SWITCH,
    Goal,
    Plan,
    Step,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup.taken import backed_up
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations import files, ledger, perform
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.model import (
    RECOGNISED,
    UNDOING,
    Migration,
    Row,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.server import Server, is_marked

MODULE = "postgresql_migrations"
BACKUP, MIGRATE, MARK = "cluster_backup", "migrate", "mark"


def goal_of(migration: Migration, *, project: str, series: str, database: str) -> Goal:
    return Goal(MODULE, project, {"migration": migration.name, "series": series, "database": database})


def plan_one(migration: Migration, guards: Mapping[str, Any], goal: Goal, facts: Mapping[str, Any]) -> Plan:
    """Return the plan of one migration. ``guards`` are those that were given beside the file.

    ``facts`` hold ``subject`` (how the server is found again), where a backup is taken first
    ``backup``: format and directory, and ``copies``, those that earlier ones of the same run took.
    ``environment`` names the variables of scripts and commands, whose values are not journaled.
    """
    steps = []
    if facts.get("backup"):
        steps.append(Step(BACKUP, "back the cluster up", PREPARE, dict(facts["backup"])))
    args = {
        "series": goal.wants["series"],
        "name": migration.name,
        "content": migration.content,
        "undo": migration.undo,
        "guards": dict(guards),
    }
    steps.append(Step(MIGRATE, f"run {migration.name}", SWITCH, args, proves=True))
    if migration.guards.marker is not None:
        # After the proof: a mark that cannot be set undoes nothing, and the next run sets it.
        steps.append(Step(MARK, f"mark {migration.name}", FINISH, args))
    return Plan(
        goal,
        tuple(steps),
        facts=dict(facts),
        summary={**goal.wants, "sha256": migration.sha256},
        text=f"Run {migration.name} ({migration.sha256[:12]}) in the database {goal.wants['database']}",
    )


def is_recognised(operation: Operation) -> bool:
    """Tell whether the migration was done by other means, and was only noted."""
    step = next(step for step in operation.plan.steps if step.proves)
    return bool(operation.history().evidence.get(step.name, {}).get("row", {}).get("state") == RECOGNISED)


def migration_of(step: Step) -> Migration:
    """Return the migration that a step was planned for, as it was then."""
    name, args = step.args["name"], step.args
    contents = {name: args["content"]}
    if args["undo"]:
        contents[files.undo_name(name)] = args["undo"]
    (found,) = files.parse(contents, {name: args["guards"]})
    return found


class ClusterBackup:
    """``args``: ``path`` and ``format``."""

    others_bring_about = False

    def is_done(self, step: Step, context: Context[Server]) -> Evidence | None:
        found = context.evidence.get(step.name)
        return found if found is not None and os.path.isdir(step.args["path"]) else None

    def apply(self, step: Step, context: Context[Server]) -> Evidence:
        server = context.world
        with server.connect() as session:
            copy = backed_up(server.engine, session, server.name, step.args["path"], step.args["format"])
        return {"copies": [copy.as_dict()]}

    def verify(self, step: Step, context: Context[Server], evidence: Evidence) -> None:
        """It was proved when it was taken."""

    def undo(self, step: Step, context: Context[Server]) -> Evidence:
        """A backup outlives the operation that it was taken for."""
        return {}

    def let_go(self, step: Step, context: Context[Server]) -> None:
        """It holds nothing."""


class Migrate:
    """``args``: ``series``, ``name``, ``content``, ``undo`` and ``guards`` of the migration."""

    others_bring_about = False

    def is_done(self, step: Step, context: Context[Server]) -> Evidence | None:
        row = _row(step, context)
        if row is None or not row.complete:
            return None
        if row.sha256 != migration_of(step).sha256:
            raise StatefulError(
                f"Another text of {step.args['name']} ran meanwhile, by {row.who} on {row.host} ({row.at}).",
                state=f"the other one is done in {context.world.name}",
            )
        return {**context.evidence.get(step.name, {}), "row": row.as_dict()}

    def apply(self, step: Step, context: Context[Server]) -> Evidence:
        migration, series = migration_of(step), step.args["series"]
        with context.world.at_work(series) as session:
            # Whoever had the lock before may have done it.
            if self.is_done(step, context) is None:
                ran = perform.run(context.world, session, series, migration, context.operation.id)
                output = ran.output
            else:
                output = ""
        row = _row(step, context)
        return {"output": output, "row": row.as_dict() if row else {}}

    def verify(self, step: Step, context: Context[Server], evidence: Evidence) -> None:
        if not evidence["row"]:
            raise StatefulError(
                f"{step.args['name']} ran, and the ledger in {context.world.name} has no row of it.",
                state=f"{step.args['name']} is done in {context.world.name}",
                safe_to_rerun=False,
            )

    def undo(self, step: Step, context: Context[Server]) -> Evidence:
        row = _row(step, context)
        if row is not None and row.complete and row.operation != context.operation.id:
            if context.operation.history().state == DONE:
                raise UndoRefused(
                    f"{step.args['name']} was done by another operation ({row.operation}, {row.who} on {row.host}).",
                    state=f"{step.args['name']} is done, and its row is in the ledger",
                    next_command="roll that operation back, on the host that has its journal",
                )
            return {}
        broken_off = row is not None and row.state == UNDOING and row.operation == context.operation.id
        if row is not None and not (row.complete or broken_off) and context.operation.history().state == DONE:
            raise UndoRefused(
                f"{step.args['name']} was run again since, by {row.operation}, and that was broken off ({row.state}).",
                state=f"a part of {step.args['name']} may be done in {context.world.name}",
                next_command=f"run it to its end, with retry: [{row.number}]; then roll that operation back",
            )
        if row is None or not (row.complete or broken_off):
            return {}  # nothing of a transaction is left, and of what runs in none the ledger says what is known
        migration, series = migration_of(step), step.args["series"]
        if row.state == RECOGNISED:
            with context.world.at_work(series) as session:
                ledger.remove(session, series, migration.number)
            return {"recognised": True}
        before = copies_of_run(context)
        if not migration.undo:
            the_backup = "the backup that is named in copies" if before else "a backup of before"
            raise UndoRefused(
                f"{migration.name} is done in {context.world.name}, and there is no undo file for it.",
                state=f"{migration.name} is done, and its row is in the ledger",
                copies=before,
                next_command=(
                    f"write {files.undo_name(migration.name)}, or restore {the_backup} into an empty cluster"
                    " (selfhost.stateful.postgresql_restore)"
                ),
            )
        try:
            with context.world.at_work(series) as session:
                return {"rows": perform.take_back(context.world, session, series, migration)}
        except StatefulError as error:
            done = f"{migration.name} is done, and its row is in the ledger"
            if broken_off:
                done = f"{migration.name} may be taken back in part, and the ledger says {UNDOING}"
            raise UndoRefused(
                f"{migration.name} could not be taken back: {error.msg}",
                state=done if error.state == StatefulError.NOTHING_CHANGED else error.state,
                copies=before,
                next_command=error.next_command or "put right what msg names, and roll it back again",
            ) from error

    def let_go(self, step: Step, context: Context[Server]) -> None:
        """It holds nothing: the lock ends with its session."""


@dataclass(frozen=True)
class Mark:
    """The mark that a command keeps. ``args`` as of :class:`Migrate`.

    ``given``: the migration as the task has it now, whose marker may have been put right since it was planned. With it
    the mark is set, read and, from then on, removed.
    """

    given: Migration | None = None
    others_bring_about = False

    def is_done(self, step: Step, context: Context[Server]) -> Evidence | None:
        marker = self._migration(step, context).guards.marker
        return self._evidence() if marker is None or is_marked(context.world, marker) else None

    def apply(self, step: Step, context: Context[Server]) -> Evidence:
        perform.mark(context.world, self._migration(step, context))
        return self._evidence()

    def verify(self, step: Step, context: Context[Server], evidence: Evidence) -> None:
        """It was read back."""

    def undo(self, step: Step, context: Context[Server]) -> Evidence:
        """Before the migration is taken back: a mark of what is not there would keep it from ever running again."""
        # One that was found set is true of what was done by other means, and keeps that from running a second time.
        if is_recognised(context.operation) and step.name not in context.operation.history().intents:
            return {}
        migration, unsure = self._migration(step, context), step.name not in context.evidence
        try:
            perform.unmark(context.world, migration, unsure=unsure)
        except StatefulError as error:
            # Going on would leave a mark of what is not there any more.
            raise UndoRefused(
                f"{migration.name} is not taken back: {error.msg}",
                state=f"{migration.name} is done in {context.world.name}, and its row is in the ledger",
                next_command="put marker right in the task and run that again, which ends the operation; then roll it"
                " back"
                if unsure
                else "remove the mark by hand, or put right what msg names, and roll it back again",
            ) from error
        return {}

    def let_go(self, step: Step, context: Context[Server]) -> None:
        """The migration stays done, and so does its mark. What is half taken back must not be marked as done."""
        row = _row(step, context)
        if row is not None and row.complete:
            perform.mark(context.world, self._migration(step, context))

    def _migration(self, step: Step, context: Context[Server]) -> Migration:
        planned, evidence = migration_of(step), context.evidence.get(step.name, {})
        if self.given is not None:
            marker = self.given.guards.marker
        elif "marker" in evidence:
            kept = evidence["marker"]
            marker = files.guards_from(planned.name, {"marker": kept}).marker
        else:
            return planned
        return replace(planned, guards=replace(planned.guards, marker=marker))

    def _evidence(self) -> Evidence:
        if self.given is None:
            return {}
        marker = self.given.guards.marker
        if marker is None:
            return {"marker": {}}
        commands = {name: list(getattr(marker, name)) for name in ("read", "set", "remove")}
        return {"marker": {**commands, "expected": marker.expected}}


def copies_of_run(context: Context[Server]) -> list[dict[str, Any]]:
    """Return the backups that are there of before a migration: its own, or that of the first one that ran with it."""
    own = [copy.as_dict() for copy in context.operation.history().copies()]
    found = own or context.operation.plan.facts.get("copies", ())
    return [dict(copy) for copy in found if os.path.lexists(copy["path"])]


def _row(step: Step, context: Context[Server]) -> Row | None:
    number = migration_of(step).number
    with context.world.connect() as session:
        return next((row for row in ledger.read(session, step.args["series"]) if row.number == number), None)


HANDLERS: Handlers[Server] = {BACKUP: ClusterBackup(), MIGRATE: Migrate(), MARK: Mark()}
