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

from ansible.module_utils.common.respawn import respawn_module

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError

ENVIRONMENTS = ("/opt/selfhost-stateful/venv", "/var/lib/selfhost-stateful/venv")
MARK = "_SELFHOST_STATEFUL_RESPAWNED"


class LibraryMissing(StatefulError):
    """A library that the module needs is not on the managed host."""

    def __init__(self, missing: list[str]) -> None:
        super().__init__(
            f"The managed host lacks the Python {'libraries' if len(missing) > 1 else 'library'}"
            f" {', '.join(missing)} for {sys.executable}.",
            next_command="run the role selfhost.stateful.host_requirements on this host, then the same task again",
            missing=missing,
        )


def missing(*libraries: str) -> list[str]:
    """Return those of ``libraries`` (import names) that this interpreter does not find."""
    return [name for name in libraries if importlib.util.find_spec(name) is None]


def interpreter_for(*libraries: str) -> str:
    """Return the interpreter of a virtual environment of ours; empty where there is none, or this is it already."""
    if os.environ.get(MARK):
        return ""
    for environment in ENVIRONMENTS:
        python = os.path.join(environment, "bin", "python3")
        if os.path.exists(python) and os.path.realpath(sys.prefix) != os.path.realpath(environment):
            return python
    return ""


def require(*libraries: str) -> None:
    """Make sure that ``libraries`` can be imported, if need be by running the module again elsewhere.

    Called first in ``main()``, before any option is read. Raises :class:`LibraryMissing`.
    """
    lacking = missing(*libraries)
    if not lacking:
        return
    python = interpreter_for(*libraries)
    if not python:
        raise LibraryMissing(lacking)
    respawn(python)


def respawn(python: str) -> None:
    """Run this module again under ``python`` and exit with what it answered."""
    os.environ[MARK] = "1"
    respawn_module(python)
