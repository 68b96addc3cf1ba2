# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How dokku speaks: arrows on stdout, warnings and failures on stderr."""

from __future__ import annotations

import os
import sys


class Fail(Exception):
    """The subcommand ends here, with these words on stderr and this exit code."""

    def __init__(self, words: str, code: int = 1, *, marked: bool = True) -> None:
        super().__init__(words)
        self.words, self.code, self.marked = words, code, marked


def unknown(name: str) -> Fail:
    """Return how a subcommand that there is not ends."""
    return Fail(f"`{name}` is not a dokku command.\nSee `dokku help` for a list of available commands.")


def info1(words: str) -> None:
    """Say what is done."""
    print(f"-----> {words}", flush=True)


def info2(words: str) -> None:
    """Say what begins."""
    if not quiet():
        print(f"=====> {words}", flush=True)


def verbose(words: str) -> None:
    """Say more about it."""
    if not quiet():
        print(f"       {words}", flush=True)


def plain(words: str) -> None:
    """Print what was asked for."""
    print(words, flush=True)


def warn(words: str) -> None:
    """Warn on stderr."""
    for line in words.splitlines() or [""]:
        print(f" !     {line}", file=sys.stderr, flush=True)


def raw_error(words: str) -> None:
    """Pass on what another program said on its stderr."""
    if words.strip():
        print(words.rstrip("\n"), file=sys.stderr, flush=True)


def quiet() -> bool:
    """Tell whether ``dokku --quiet`` was asked for."""
    return bool(os.environ.get("DOKKU_QUIET_OUTPUT"))
