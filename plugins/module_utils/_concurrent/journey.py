# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole way of ``concurrent_version``: look, plan, and say what was reached. Meets ``run.Journey``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.config import ComposeConfig
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Project, observe_project
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import planner
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.host import Host
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.left import (
    Left,
    left_behind,
    orphans_of,
    refuse_unaccepted,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.migrations import forbidden, migrations_of
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.model import (
    QUERY,
    RELOAD,
    Rung,
    Target,
    Version,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.survey import (
    FOLDERS,
    Seen,
    find_folder,
    see,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.target import blockers_of, target_of
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.drive import (
    Planned,
    refuse_other_goal,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Goal, Plan, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations import ledger
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World

MODULE = "concurrent_version"


@dataclass(frozen=True)
class Observed:
    """The host; ``seen`` is None where a run is open on it, whose journal knows everything."""

    project: Project
    seen: Seen | None
    unfinished: str = ""


@dataclass(frozen=True)
class ConcurrentJourney:
    """A host runs ``version``, reached by one ``rung``."""

    version: Version
    rung: Rung
    backup: str
    backup_dir: str
    accept_left: tuple[str, ...] = ()

    def observe(self, world: World, operations: OperationStore) -> Observed:
        open_one = open_in(world.compose.options.project_src, operations)
        if open_one is not None:
            # Its files may be on their way from one release to the other: nobody asks compose about them now.
            name = open_one.plan.goal.project
            nothing = ComposeConfig(name, {}, {})
            source = open_one.plan.facts["compose"]["project_src"]
            compose = world.compose.with_options(project_src=source)
            project = Project(name, source, (), nothing, compose, {})
            refuse_other_goal(operations, name, lambda goal: goal == self.goal(name), str(self.version))
            return Observed(project, None, open_one.id)
        project = observe_project(world.engine, world.compose)
        refuse_other_goal(operations, project.name, lambda goal: goal == self.goal(project.name), str(self.version))
        return Observed(project, see(world.of(project), project))

    def goal(self, project: str) -> Goal:
        return Goal(MODULE, project, {"version": str(self.version)})

    def plan(self, world: World, observed: Observed, operations: OperationStore) -> Planned:
        seen = observed.seen
        if seen is None:
            return Planned(None)  # a run is open, and is gone on with
        if seen.version == self.version:
            return Planned(None)
        if seen.version is not None and seen.version > self.version:
            raise InvalidInput(
                f"{seen.version} runs here, and {self.version} is older: there is no way down but a roll back."
            )
        goal = self.goal(observed.project.name)
        operation = operations.next_id(goal)
        target = target_of(world, seen, self.version)
        left = self._left(world, seen)
        blockers = blockers_of(
            seen, target, self.rung, self.version, self.backup_dir, backed_up=self.backup != planner.NONE
        )
        blockers += refuse_unaccepted(left, self.rung, self.accept_left)
        blockers += self._forbidden_by_ledger(world, seen)
        backup_path = os.path.join(self.backup_dir, operation)
        dump = os.path.join(self.backup_dir, f"{operation}-dump")
        steps: tuple[Step, ...] = ()
        aside: dict[str, str] = {}
        if not blockers:
            steps, aside = planner.steps_of(
                seen.site,
                target,
                self.rung,
                self.version,
                backup=self.backup,
                backup_path=backup_path,
                dump=dump,
                operation=operation,
            )
        summary = {
            "from": str(seen.version),
            "to": str(self.version),
            "kind": self.rung.kind,
            "notes": self.rung.notes,
            "rung": dict(self.rung.raw),
            "images": dict(target.effective),
            "folder": target.folder,
            "steps": [step.name for step in steps],
            "left": [each.name for each in left],
        }
        made = Plan(
            goal,
            steps,
            facts={
                "compose": world.maker.facts(),
                "place": _place(seen.folder),
                "aside": aside,
                "diff": [],
                "left": [str(each) for each in left],
                "moves": [list(move) for move in target.moves],
                "ailing": list(seen.ailing),
                "names": dict(seen.names),
            },
            summary=summary,
            text=self._text(seen, target, left, blockers, backup_path),
        )
        warnings = () if self.backup != planner.NONE else ("No backup is taken: the way back is the undo alone.",)
        return Planned(made, tuple(blockers), warnings)

    def _left(self, world: World, seen: Seen) -> tuple[Left, ...]:
        """Return what a reload would leave in the old cluster; all other rungs keep all of it."""
        if self.rung.kind != RELOAD:
            return ()
        host = Host(world, seen.folder)
        with host.postgresql() as there:
            found = left_behind(there, self.rung.kinds)
        return (*found, *orphans_of(host, self.rung.kinds))

    def _forbidden_by_ledger(self, world: World, seen: Seen) -> list[Blocker]:
        """Return what forbids the rung's migrations, before anything stops for them."""
        if self.rung.kind != QUERY:
            return []
        migrations, series = migrations_of(self.rung.migrations), self.rung.ledger_series
        with Host(world, seen.folder).postgresql() as there:
            return forbidden(migrations, ledger.read(there, series), series)

    def _text(self, seen: Seen, target: Target, left: Sequence[Left], blockers: Sequence[Any], backup_path: str) -> str:
        how = {
            "reload": "all is dumped, the old data set aside, all is loaded into empty stores",
            "query": "the api adds its columns, a migration fills them",
            "columns": "the api adds its columns by itself",
        }[self.rung.kind]
        lines = [
            f"Concurrent in {seen.folder}: {seen.version} → {self.version}",
            f"  how        {how} ({self.rung.notes})",
            f"  data       {seen.data} (Postgres {seen.postgresql}), {seen.redis}",
            f"  backup     {backup_path if self.backup != planner.NONE else 'none'}",
        ]
        if seen.checkout is not None:
            words = f"merged into {seen.branch}" if target.merge else "checked out"
            lines.append(f"  checkout   {seen.checkout.root}: {self.version} is {words}")
        lines += [f"  image      {name}: {image} (in the override file)" for name, image in target.images.items()]
        lines += [f"  moves      {old} → {new}" for old, new in target.moves]
        lines += [f"  LEFT       {each}: in the old data alone, which a commit removes" for each in left]
        lines += [f"  BLOCKER: {blocker.text}" for blocker in blockers]
        return "\n".join(lines)

    def unchanged(self, observed: Observed) -> dict[str, Any]:
        return {
            "plan": {"from": str(self.version), "to": str(self.version), "kind": "", "steps": []},
            "plan_text": f"Concurrent in {observed.project.working_dir}: nothing to do, {self.version} runs.",
            "version": str(self.version),
            "mounts": {},
        }

    def outcome(self, operation: Operation, steps: Mapping[str, float]) -> dict[str, Any]:
        history = operation.history()
        evidence = history.evidence
        ended, began = evidence.get("start everything", {}).get("ended"), evidence.get("quiet", {}).get("began")
        return {
            "version": str(self.version),
            "copies": [copy.as_dict() for copy in history.copies()],
            "left": list(operation.plan.facts.get("left", ())),
            "downtime_seconds": round(ended - began, 2) if ended and began else 0.0,
            "phases": dict(steps),
            "verification": {
                "before": {key: evidence.get("quiet", {}).get(key) for key in ("rows", "stream_items")},
                "dumped": evidence.get("dump", {}).get("counts", {}),
                "loaded": evidence.get("load", {}).get("counts", {}),
                "migrations": evidence.get("migrate", {}).get("migrations", []),
            },
        }


def _place(folder: str) -> str:
    """Return what tells one host from another, also where the folder's name changes between releases."""
    real = os.path.realpath(folder)
    return os.path.dirname(real) if os.path.basename(real) in FOLDERS else real


def open_in(folder: str, operations: OperationStore) -> Operation | None:
    """Return the operation that is unfinished on the host whose compose file is in ``folder``."""
    for operation in operations.all():
        mine = operation.plan.goal.module == MODULE and operation.plan.facts.get("place") == _place(folder)
        if mine and operation.is_open:
            return operation
    return None


def folder_of(given: str, operations: OperationStore) -> str:
    """Return the directory of the compose file as :func:`survey.find_folder` does, or of the run that is open there.

    Between the two folders git has no compose file anywhere for a moment, and may have been killed in it.
    """
    try:
        return find_folder(given)
    except InvalidInput:
        unfinished = open_in(given, operations)
        if unfinished is None:
            raise
        return str(unfinished.plan.facts["compose"]["project_src"])
