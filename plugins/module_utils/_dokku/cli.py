# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one seam to the ``dokku`` command of the host.

Its exit codes prove nothing: a clone that lost everything ended with 0, and ``maintenance:enable`` with 1 after it had
done its work. So :meth:`Dokku.tried` returns whatever happened, for who observes afterwards anyway; only questions and
what has no other witness raise for an exit code.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.secrets import MASK, mask
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell

QUESTION_LIMIT = 120.0
WORK_LIMIT = 3600.0
"""Seconds after which a call counts as hung: a question, and what makes containers or copies data."""
DATA_LIMIT = 12 * 3600.0
NO_PROGRAM, TIMED_OUT = 127, 124
_USERINFO = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")
_SAID_LAST = 8


@dataclass(frozen=True)
class Call:
    """One call: ``argv`` and ``environment`` may hold secrets. Empty paths stand for nothing in and all kept."""

    argv: tuple[str, ...] = field(repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    stdin_path: str = ""
    stdout_path: str = ""
    limit: float = QUESTION_LIMIT
    held: int = -1
    """A descriptor that the program gets too, and holds for as long as it or a child of its lives; -1 for none."""


@dataclass(frozen=True)
class Answer:
    """What a call came to."""

    rc: int
    stdout: str = field(repr=False)
    stderr: str = field(repr=False)

    @property
    def said(self) -> str:
        """The last lines of what it complained about, passwords of addresses masked."""
        lines = [line.strip() for line in (self.stderr.strip() or self.stdout.strip()).splitlines() if line.strip()]
        return without_passwords(" ".join(lines[-_SAID_LAST:]))


Runner = Callable[[Call], Answer]


class DokkuFailed(StatefulError):
    """The command ended with an error; ``rc`` is its exit code."""

    def __init__(self, msg: str, *, rc: int, **rest: Any) -> None:
        super().__init__(msg, **rest)
        self.rc = rc


class DokkuMissing(StatefulError):
    """There is no ``dokku`` on this host."""


def without_passwords(text: str) -> str:
    """Return a text in which no address has its password."""
    return _USERINFO.sub(rf"\g<1>{MASK}@", text)


def run_process(call: Call) -> Answer:
    """Run a call; a program that is not there answers 127, as a shell would."""
    try:
        with _opened(call.stdin_path, "rb") as given, _opened(call.stdout_path, "wb") as kept:
            # The module's own run_command is out of reach down here, where no module is known.
            done = subprocess.run(  # pylint: disable=ansible-bad-function
                list(call.argv),
                env={**os.environ, **call.environment},
                stdin=given,
                stdout=kept if call.stdout_path else subprocess.PIPE,
                stderr=subprocess.PIPE,
                timeout=call.limit,
                check=False,
                pass_fds=(call.held,) if call.held >= 0 else (),
            )
            if call.stdout_path:
                os.fsync(kept.fileno())
    except FileNotFoundError as error:
        if error.filename != call.argv[0]:
            raise
        return Answer(NO_PROGRAM, "", str(error))
    except subprocess.TimeoutExpired:
        return Answer(TIMED_OUT, "", f"no answer within {call.limit:.0f} s")
    return Answer(done.returncode, (done.stdout or b"").decode("utf-8", "replace"), _text(done.stderr))


def _opened(path: str, mode: str) -> Any:
    # What is exported is all of somebody's data.
    return open(path or os.devnull, mode, opener=lambda name, flags: os.open(name, flags, 0o600))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


@dataclass(frozen=True)
class Dokku:
    """The command, as ``program`` (one word or several). Questions change nothing; verbs are proved by the caller."""

    program: tuple[str, ...] = ("dokku",)
    runner: Runner = field(default=run_process, repr=False)
    held: int = -1

    def tried(
        self,
        *words: str,
        environment: Mapping[str, str] | None = None,
        limit: float = WORK_LIMIT,
    ) -> Answer:
        """Call a subcommand and return what came of it, whatever that is."""
        answer = self.runner(Call((*self.program, *words), environment or {}, limit=limit, held=self.held))
        if answer.rc == NO_PROGRAM:
            raise DokkuMissing(
                f"There is no {self.program[0]} on this host ({answer.said}).",
                next_command="name the command with dokku_program, or leave this host out of the play",
            )
        return answer

    def asked(self, *words: str) -> str:
        """Return what a question answers; raises :class:`DokkuFailed`."""
        answer = self.tried(*words, limit=QUESTION_LIMIT)
        if answer.rc != 0:
            raise self.failed(words, answer)
        return answer.stdout

    def says_yes(self, *words: str) -> bool:
        """Tell whether a question that is answered by its exit code is answered with yes."""
        return self.tried(*words, limit=QUESTION_LIMIT).rc == 0

    def exported(self, path: str, *words: str) -> Answer:
        """Call a subcommand whose output becomes a file, which is on disk afterwards."""
        return self.runner(Call((*self.program, *words), stdout_path=path, limit=DATA_LIMIT, held=self.held))

    def imported(self, path: str, *words: str) -> Answer:
        """Call a subcommand that reads a file."""
        return self.runner(Call((*self.program, *words), stdin_path=path, limit=DATA_LIMIT, held=self.held))

    def typed(self, *words: str) -> str:
        """Return a call as an admin would type it."""
        return shell(*self.program, *words)

    def failed(self, words: Sequence[str], answer: Answer, *, secrets: Sequence[str] = (), **rest: Any) -> DokkuFailed:
        """Return the error for a call that failed, without its secrets."""
        shown = without_passwords(mask(self.typed(*words), [each for each in secrets if each]))
        said = mask(answer.said, [each for each in secrets if each])
        return DokkuFailed(f"{shown} ended with {answer.rc}: {said or 'it said nothing'}", rc=answer.rc, **rest)

    def holding(self, descriptor: int) -> Dokku:
        """Return the same command, whose calls hold a descriptor: so a later run knows whether they have ended."""
        return replace(self, held=descriptor)
