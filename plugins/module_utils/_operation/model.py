# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an operation is made of: a goal, a plan of steps, and the states in between.

Pure data. A plan is JSON all the way down, so that the process that resumes it
needs nothing from the one that was killed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SCHEMA_VERSION = 1

PREPARE = "prepare"
SWITCH = "switch"
FINISH = "finish"
PHASES = (PREPARE, SWITCH, FINISH)
"""``prepare`` costs no downtime, ``switch`` is the downtime, ``finish`` follows its proof."""

PLANNED = "planned"
RUNNING = "running"
DONE = "done"
COMMITTED = "committed"
ROLLED_BACK = "rolled_back"
OPEN_STATES = frozenset((PLANNED, RUNNING))


@dataclass(frozen=True)
class Goal:
    """What is to be reached. The same goal asked for again finds the same operation.

    ``project`` is the name that operations exclude each other by; ``wants`` is
    the target state and nothing else (no timeouts, no strategies).
    """

    module: str
    project: str
    wants: Mapping[str, Any]

    @property
    def digest(self) -> str:
        canonical = json.dumps([self.module, self.project, self.wants], sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:8]

    def attempt_id(self, attempt: int) -> str:
        """Return the operation's id for the ``attempt``-th try (from 1) at this goal."""
        project = re.sub(r"[^A-Za-z0-9_-]+", "_", self.project) or "project"
        return f"{project}-{self.module}-{self.digest}-{attempt}"

    def as_dict(self) -> dict[str, Any]:
        return {"module": self.module, "project": self.project, "wants": dict(self.wants)}

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Goal:
        return Goal(module=raw["module"], project=raw["project"], wants=raw["wants"])


@dataclass(frozen=True)
class Step:
    """One journaled change. ``kind`` names its handler, ``name`` is unique in the plan.

    ``proves``: once this step has its evidence the goal is reached and proved;
    from then on nothing is undone because something later failed.
    """

    kind: str
    name: str
    phase: str
    args: Mapping[str, Any] = field(default_factory=dict)
    proves: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "phase": self.phase,
            "args": dict(self.args),
            "proves": self.proves,
        }

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Step:
        return Step(
            kind=raw["kind"], name=raw["name"], phase=raw["phase"], args=raw["args"], proves=raw.get("proves", False)
        )


@dataclass(frozen=True)
class Plan:
    """The steps in order, and what the admin is told about them.

    ``facts`` is what the domain wants to find again when it resumes or rolls
    back; ``summary`` is what ``plan`` shows in a result. Neither holds secrets.
    """

    goal: Goal
    steps: tuple[Step, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    reverts: str | None = None

    def __post_init__(self) -> None:
        names = [step.name for step in self.steps]
        if len(set(names)) != len(names):
            raise ValueError(f"step names repeat: {names}")
        order = [PHASES.index(step.phase) for step in self.steps]
        if order != sorted(order):
            raise ValueError("the phases of a plan follow each other: prepare, switch, finish")

    def phase_reached(self, history: History) -> str:
        """Return the phase of the last step that has begun or was found done; the first phase where there is none."""
        begun = [s.phase for s in self.steps if s.name in history.intents or s.name in history.evidence]
        return begun[-1] if begun else PHASES[0]

    def as_dict(self) -> dict[str, Any]:
        return {
            "goal": self.goal.as_dict(),
            "steps": [step.as_dict() for step in self.steps],
            "facts": dict(self.facts),
            "summary": dict(self.summary),
            "text": self.text,
            "reverts": self.reverts,
        }

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Plan:
        return Plan(
            goal=Goal.from_dict(raw["goal"]),
            steps=tuple(Step.from_dict(step) for step in raw["steps"]),
            facts=raw["facts"],
            summary=raw["summary"],
            text=raw["text"],
            reverts=raw.get("reverts"),
        )


@dataclass(frozen=True)
class Copy:
    """A copy of the data: which one it is, where it lies, and which moment it holds.

    ``role``: ``backup``, ``original`` (retained after a move) or ``live``.
    ``moment`` is UTC in ISO 8601. ``protected`` says what keeps a prune from it.
    ``device`` and ``inode`` are what an explicit removal compares before it
    deletes anything.
    """

    role: str
    service: str
    path: str
    moment: str
    size_bytes: int = 0
    protected: str = ""
    proof: str = ""
    device: int = 0
    inode: int = 0

    def as_dict(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in self.__dataclass_fields__}

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Copy:
        return Copy(**{key: raw[key] for key in Copy.__dataclass_fields__ if key in raw})


@dataclass(frozen=True)
class Record:
    """One line of a journal. ``what`` is one of the names in :mod:`journal`."""

    what: str
    at: float
    step: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    phase: str
    step: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class History:
    """What a journal says, folded: the state, and per step the intents, evidence and undoings."""

    state: str = PLANNED
    undoing: bool = False
    proved: bool = False
    intents: tuple[str, ...] = ()
    evidence: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    undone: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    """Of what is undone, the steps whose copies stay all the same, because they are what the data came from."""
    removed: tuple[str, ...] = ()
    progress: Progress | None = None
    failure: str = ""
    started_at: float = 0.0
    changed_at: float = 0.0

    @property
    def current_step(self) -> str:
        """Return the step whose intent has no evidence yet, or the last one that has."""
        waiting = [name for name in self.intents if name not in self.evidence]
        if waiting:
            return waiting[-1]
        return list(self.evidence)[-1] if self.evidence else ""

    def copies(self) -> list[Copy]:
        """Return the copies that the evidence names, less those removed or undone since."""
        found: dict[tuple[str, str], Copy] = {}
        for name, evidence in self.evidence.items():
            for raw in evidence.get("copies", ()):
                copy = Copy.from_dict(raw)
                # A backup outlives the undo of the operation that took it.
                gone = name in self.undone and name not in self.kept and copy.role != "backup"
                if not gone and copy.path not in self.removed:
                    found[(copy.role, copy.path)] = copy
        return list(found.values())


def fold(records: Sequence[Record], proving: frozenset[str] = frozenset()) -> History:
    """Fold the records of one journal; ``proving`` names the steps whose evidence is the proof."""
    state, undoing, proved, failure = PLANNED, False, False, ""
    intents: list[str] = []
    evidence: dict[str, Mapping[str, Any]] = {}
    undone: list[str] = []
    kept: list[str] = []
    removed: list[str] = []
    progress: Progress | None = None
    for record in records:
        if record.what == "state":
            state = record.data["state"]
            if state in (ROLLED_BACK, DONE, COMMITTED):
                undoing = False
        elif record.what == "intent":
            if record.step not in intents:
                intents.append(record.step)
        elif record.what == "evidence":
            evidence.pop(record.step, None)
            evidence[record.step] = record.data
            undone = [name for name in undone if name != record.step]
            proved = proved or record.step in proving
        elif record.what == "undoing":
            undoing = True
            failure = record.data.get("reason", failure)
        elif record.what == "undo-refused":
            undoing = False
            failure = record.data.get("reason", failure)
        elif record.what == "undone":
            undone.append(record.step)
            if record.data.get("kept"):
                kept.append(record.step)
        elif record.what == "failure":
            failure = record.data.get("reason", "")
        elif record.what == "removed":
            removed.append(record.data["path"])
        elif record.what == "progress":
            progress = Progress(
                record.data["phase"], record.step, record.data["done_bytes"], record.data["total_bytes"]
            )
    return History(
        state=state,
        undoing=undoing,
        proved=proved,
        intents=tuple(intents),
        evidence=evidence,
        undone=tuple(undone),
        kept=tuple(kept),
        removed=tuple(removed),
        progress=progress,
        failure=failure,
        started_at=records[0].at if records else 0.0,
        changed_at=records[-1].at if records else 0.0,
    )
