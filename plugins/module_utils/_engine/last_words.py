# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The end of a container's log, fit for a message: journals and results keep it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.secrets import mask, secrets_in

_STATEMENT = re.compile(r"\b(?:STATEMENT|QUERY|CONTEXT):  |^(?:\S+: )?LINE \d+: ")
_DETAIL = re.compile(r"\bDETAIL:  ")
_OF_THE_SERVER = re.compile(r"\b(?:FATAL|PANIC):  ")
_CONTINUED = re.compile(r"\t| *\^$")


def last_words(engine: Engine, container: Container, *, tail: int) -> str:
    """Return the last lines that ``container`` logged, without what clients sent and without its own secrets."""
    said = engine.logs(container.id, tail=tail)
    return fit_for_a_message(said, container.env, (*container.entrypoint, *container.command))


def fit_for_a_message(said: str, environment: Mapping[str, str], argv: Iterable[str], *, cut: bool = False) -> str:
    """Return what a program said without what clients sent, and without what is secret in how it was started.

    ``cut``: its beginning is missing, so that nobody knows what the first line is the rest of.
    """
    if cut:
        _first, *lines = said.splitlines() or [""]
        said = "\n".join(itertools.dropwhile(_CONTINUED.match, lines))
    return mask(without_statements(said), secrets_in(environment.items(), [" ".join(argv)])).strip()


def without_statements(log: str) -> str:
    """Leave out the lines in which Postgres and psql repeat a statement, or the row that it failed for.

    A password that is set or used stands there in plain text. What is said of the server itself stays.
    """
    kept: list[str] = []
    dropping = of_the_server = False
    for line in log.splitlines():
        if dropping and _CONTINUED.match(line):
            continue
        dropping = bool(_STATEMENT.search(line)) or (bool(_DETAIL.search(line)) and not of_the_server)
        of_the_server = bool(_OF_THE_SERVER.search(line))
        if not dropping:
            kept.append(line)
    return "\n".join(kept) + ("\n" if kept else "")
