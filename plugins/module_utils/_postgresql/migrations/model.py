# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a numbered migration is, what guards it, and what is known of it already. Pure data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Union

SQL, SHELL = "sql", "sh"
RUNNING, FAILED, DONE, RECOGNISED, UNDOING = "running", "failed", "done", "recognised", "undoing"
"""States of a row in the ledger. ``recognised``: it was done by other means, and was not run.

``undoing``: a script that takes it back has begun, and not ended.
"""
COMPLETE = (DONE, RECOGNISED)


@dataclass(frozen=True)
class Range:
    """How many rows a migration may change; both ends count, and ``most`` None is any number."""

    least: int
    most: int | None

    def holds(self, rows: int) -> bool:
        return self.least <= rows and (self.most is None or rows <= self.most)

    def __str__(self) -> str:
        if self.most is None:
            return f"at least {self.least}"
        return str(self.least) if self.least == self.most else f"{self.least} to {self.most}"


@dataclass(frozen=True)
class Query:
    """A query that answers how many rows are still to do: all of them before, none afterwards."""

    text: str

    def __str__(self) -> str:
        return f"as many as `{self.text}` answers"


Expectation = Union[Range, Query, None]


@dataclass(frozen=True)
class Marker:
    """Commands that keep the mark of completion elsewhere; ``expected`` is what ``read`` prints once it is done.

    Empty ``expected`` stands for any output. Each command is run in the container.
    """

    read: tuple[str, ...]
    set: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    expected: str = ""


@dataclass(frozen=True)
class Guards:
    """What has to hold. Times are in seconds, 0 for no limit."""

    transaction: bool = True
    repeatable: bool = False
    expect_rows: Expectation = None
    done_when: str = ""
    statement_timeout: float = 0.0
    lock_timeout: float = 0.0
    marker: Marker | None = None


@dataclass(frozen=True)
class Migration:
    """One file, or what was given in its place."""

    number: int
    name: str
    kind: str
    content: str = field(repr=False)
    guards: Guards = Guards()
    undo: str = field(default="", repr=False)
    """What takes it back: the content of the file beside it, ``NN-description.undo.sql`` or ``.undo.sh``."""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content.encode()).hexdigest()

    @property
    def in_transaction(self) -> bool:
        """Whether it happens as a whole or not at all."""
        return self.kind == SQL and self.guards.transaction


@dataclass(frozen=True)
class Row:
    """A row of the ledger. ``rows`` is None where none were counted; ``at`` is UTC in ISO 8601."""

    number: int
    name: str
    sha256: str
    state: str
    who: str
    host: str
    at: str
    seconds: float | None = None
    rows: int | None = None
    operation: str = ""

    @property
    def complete(self) -> bool:
        return self.state in COMPLETE

    def as_dict(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in self.__dataclass_fields__}

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Row:
        return Row(**{key: raw[key] for key in Row.__dataclass_fields__ if key in raw})
