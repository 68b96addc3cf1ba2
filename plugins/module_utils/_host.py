# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Third-party libraries on the managed host, and the virtual environment that provides them.

Where the distribution has no such packages, the role ``host_requirements`` makes
a virtual environment. A module that finds a library missing runs itself again
under that interpreter, once, so that nobody has to set
``ansible_python_interpreter`` for the whole host.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.common.respawn import respawn_module

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError

ENVIRONMENTS = ("/opt/selfhost-stateful/venv", "/var/lib/selfhost-stateful/venv")
MARK = "_SELFHOST_STATEFUL_RESPAWNED"

PACKAGES = {"docker": "docker >= 5.0.3", "psycopg": "psycopg[binary] >= 3.1.7", "yaml": "PyYAML >= 5.4"}
"""What the role installs, by import name, as pip has it."""

OF_STORES = ("docker", "yaml")
"""What a module that talks to stores needs on the managed host, by import name."""

OF_STORES_OPTIONAL = ("psycopg",)
"""What it does without where it has to: psql in the container stands in for the driver."""


class LibraryMissing(StatefulError):
    """A library that the module needs is not on the managed host; ``missing`` names them all by import name."""

    def __init__(self, missing: list[str]) -> None:
        several = len(missing) > 1
        super().__init__(
            f"The managed host lacks the Python {'libraries' if several else 'library'} {', '.join(missing)} for"
            f" {sys.executable}; the role selfhost.stateful.host_requirements installs {'them' if several else 'it'}"
            f" ({', '.join(PACKAGES[name] for name in missing)}), from the distribution or into a virtual environment.",
            next_command="run the role selfhost.stateful.host_requirements on this host, then the same task again",
            missing=missing,
        )
        self.missing = missing


def unplanned(lacking: LibraryMissing, plan: Mapping[str, Any], rest: str) -> dict[str, Any]:
    """Return the result of a check on a host that lacks libraries: nothing could be looked at, ``rest`` in words.

    A dry run on a fresh host comes before the role that provides the libraries could do so.
    """
    return {
        "changed": True,
        "plan": dict(plan),
        "plan_text": f"{lacking.msg}\nNot looked at before that: {rest}.",
        "plan_complete": False,
        "missing": list(lacking.missing),
    }


def missing(*libraries: str) -> list[str]:
    """Return those of ``libraries`` (import names) that this interpreter does not find."""
    return [name for name in libraries if importlib.util.find_spec(name) is None]


def other_interpreter() -> str:
    """Return the interpreter of a virtual environment of ours; empty where there is none, or this is it already."""
    if os.environ.get(MARK):
        return ""
    for environment in ENVIRONMENTS:
        python = os.path.join(environment, "bin", "python3")
        if os.path.exists(python) and os.path.realpath(sys.prefix) != os.path.realpath(environment):
            return python
    return ""


def prefer(*libraries: str) -> None:
    """Go on in our virtual environment, if there is one, where this interpreter lacks one of ``libraries``."""
    python = other_interpreter() if missing(*libraries) else ""
    if python:
        respawn(python)


def prefer_libraries_of_stores() -> None:
    """Go on where the libraries for stores are, if that is elsewhere.

    Modules ask this before their imports: those take a second, and would be made twice.
    """
    prefer(*OF_STORES, *OF_STORES_OPTIONAL)


def require(*libraries: str, optional: Sequence[str] = ()) -> None:
    """Make sure that ``libraries`` can be imported, if need be by running the module again elsewhere.

    ``optional`` are those that the module can do without: they are worth another interpreter, and no refusal.
    Called first in ``main()``, before any option is read. Raises :class:`LibraryMissing`.
    """
    prefer(*libraries, *optional)
    lacking = missing(*libraries, *optional)
    if set(libraries).intersection(lacking):
        raise LibraryMissing(lacking)


def require_libraries_of_stores() -> None:
    """Make sure of the libraries for stores, as :func:`require` does."""
    require(*OF_STORES, optional=OF_STORES_OPTIONAL)


def respawn(python: str) -> None:
    """Run this module again under ``python`` and exit with what it answered."""
    os.environ[MARK] = "1"
    respawn_module(python)
