# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a Redis (or Valkey, KeyDB) container is started, read from its arguments and its configuration file.

What a server does after its next start is decided here and not by what it runs
with now: ``CONFIG SET`` is gone with the process.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container

_PROGRAM = re.compile(r"(?:^|/)((redis|valkey|keydb)-server)$")
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?-([^}]*))?\}|(\w+))")

Directives = Mapping[str, tuple[tuple[str, ...], ...]]
"""Per directive the arguments of each time it is given; the order is kept."""


@dataclass(frozen=True)
class Startup:
    """What stands on the command line. ``directives`` may hold the password."""

    program: str = "redis-server"
    config_file: str = ""
    directives: Directives = field(default_factory=dict, repr=False)
    behind_shell: bool = False

    @property
    def family(self) -> str:
        """Return ``redis``, ``valkey`` or ``keydb``: the first half of its programs' names."""
        return self.program.partition("-")[0]

    def last(self, name: str) -> str | None:
        """Return the arguments of the last ``name``, joined as ``CONFIG GET`` does; None where it is not given."""
        given = self.directives.get(name)
        return " ".join(given[-1]) if given else None


def startup_of(container: Container) -> Startup:
    """Read the command line of ``container``, a shell's ``-c`` and variables of its environment resolved."""
    argv = (*container.entrypoint, *container.command)
    words = [_expanded(word, container.env) for word in _flattened(argv)]
    at = next((i for i, word in enumerate(words) if _PROGRAM.search(word)), -1)
    program = _PROGRAM.search(words[at]) if at >= 0 else None
    name = program.group(1) if program else _program_by_image(container.image_ref)
    rest = words[at + 1 :] if at >= 0 else words
    config_file = rest[0] if at >= 0 and rest and not rest[0].startswith("-") else ""
    if at < 0:
        # The image's entrypoint puts the server in front of bare options, or of a .conf.
        config_file = next((word for word in rest if word.endswith(".conf")), "")
    return Startup(
        program=name,
        config_file=config_file,
        directives=_from_options(rest),
        behind_shell="-c" in argv and not any(word == "exec" for word in words[: at + 1]),
    )


def with_config_file(startup: Startup, text: str) -> Startup:
    """Return ``startup`` with the directives of its file below those of the command line, which win."""
    merged: dict[str, tuple[tuple[str, ...], ...]] = {}
    for name, arguments in parse_config_file(text):
        merged[name] = (*merged.get(name, ()), arguments)
    return replace(startup, directives={**merged, **startup.directives})


def parse_config_file(text: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return the directives of a ``redis.conf`` in order; ``include`` is not followed."""
    found = []
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                name, *arguments = shlex.split(line.strip())
            except ValueError:
                continue  # the server would not start on it either
            found.append((name.lower(), tuple(arguments)))
    return found


def _from_options(words: Sequence[str]) -> dict[str, tuple[tuple[str, ...], ...]]:
    found: dict[str, tuple[tuple[str, ...], ...]] = {}
    name = ""
    arguments: list[str] = []
    for word in [*words, "--"]:
        if word.startswith("--"):
            if name:
                found[name] = (*found.get(name, ()), tuple(arguments))
            name, arguments = word[2:].lower(), []
        else:
            arguments.append(word)
    return found


def _flattened(argv: Sequence[str]) -> list[str]:
    words: list[str] = []
    for before, word in zip(("", *argv), argv):
        if before == "-c":
            try:
                words += shlex.split(word)
                continue
            except ValueError:
                pass  # a script that shlex cannot read: taken as one word, which names no server
        words.append(word)
    return words


def _expanded(word: str, env: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda m: env.get(m.group(1) or m.group(3)) or m.group(2) or "", word)


def _program_by_image(reference: str) -> str:
    family = next((name for name in ("valkey", "keydb") if name in reference), "redis")
    return f"{family}-server"
