# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one exception that every layer raises and only ``main()`` turns into a module result."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

AGAIN = "run the same task again"
"""The next command where nothing has to be put right first."""


def shell(*words: str | os.PathLike[str]) -> str:
    """Return a command as one line that can be pasted into a shell."""
    return shlex.join(os.fspath(word) for word in words)


class StatefulError(Exception):
    """Something that an admin has to read, with the four things needed at night.

    Every failure result of every module carries the same keys, so the exception
    does too: ``msg`` (what happened), ``state`` (where the data is now, in words),
    ``copies`` (each copy of the data: ``role``, ``path``, ``moment``, ...),
    ``safe_to_rerun`` and ``next_command``.

    ``state`` defaults to the most common case: the error was found before
    anything was touched. ``next_command`` is one line that can be pasted into a
    shell of the managed host, or says in words what else is to be done; left
    empty where the message says all that can be said, it becomes the general
    one, which names the task to run again.
    """

    NOTHING_CHANGED = "nothing was changed"

    def __init__(
        self,
        msg: str,
        *,
        state: str = NOTHING_CHANGED,
        copies: Sequence[dict[str, Any]] = (),
        safe_to_rerun: bool = True,
        next_command: str = "",
        **facts: Any,
    ) -> None:
        super().__init__(msg)
        self.msg = msg
        self.state = state
        self.copies = list(copies)
        self.safe_to_rerun = safe_to_rerun
        self.next_command = next_command
        self.facts = facts

    def as_result(self) -> dict[str, Any]:
        """Return the keyword arguments for ``AnsibleModule.fail_json``."""
        return {
            **self.facts,
            "msg": self.msg,
            "state": self.state,
            "copies": self.copies,
            "safe_to_rerun": self.safe_to_rerun,
            "next_command": self.next_command,
        }


class InvalidInput(StatefulError):
    """The request itself cannot be carried out as written; nothing was changed."""


@dataclass(frozen=True)
class Blocker:
    """What forbids a change: a sentence with a way out, and the command that goes that way, or begins it by looking.

    ``command`` is one line for a shell of the managed host, its words quoted. It
    is empty where the way out is a choice, such as another option of the task.
    """

    text: str
    command: str = ""


def refusal(blockers: Iterable[Blocker], **facts: Any) -> InvalidInput:
    """Return the error that says everything in the way at once; of several commands the first comes next."""
    found = tuple(blockers)
    return InvalidInput(
        " ".join(blocker.text for blocker in found),
        next_command=next((blocker.command for blocker in found if blocker.command), ""),
        blockers=[blocker.text for blocker in found],
        **facts,
    )
