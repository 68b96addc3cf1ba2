# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of an installation: its places, its settings, and the executable that knows both."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .ground import ROOT_VARIABLE, SETTINGS

CHECKOUT = Path(__file__).parents[3]
PLACES = ("bin", "etc/cron.d", "faults", "home/dokku", "var/lib/dokku/services/postgres")
# The modules that the program does without.
TESTS_ONLY = ("endpoint.py", "front.py", "installation.py", "layout.py")


def lay_out(directory: Path, settings: Mapping[str, Any]) -> None:
    """Make the places and write the settings down."""
    for folder in PLACES:
        (directory / folder).mkdir(parents=True, exist_ok=True)
    (directory / SETTINGS).write_text(json.dumps(settings, indent=1))


def write_program(
    directory: Path, *, python: str = sys.executable, path: Path = CHECKOUT, package: str = "tests.sandbox.dokku"
) -> None:
    """Write ``bin/dokku``, which finds the package below ``path``."""
    program = directory / "bin/dokku"
    variables = {"PYTHONPATH": str(path), ROOT_VARIABLE: str(directory), "PYTHONDONTWRITEBYTECODE": "1"}
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    # Where nothing is written elsewhere, the library's own compiled files are the fast ones.
    program.write_text(f'#!/bin/sh\n{exports}unset PYTHONPYCACHEPREFIX\nexec {shlex.quote(python)} -m {package} "$@"\n')
    program.chmod(0o755)


def export(directory: Path, settings: Mapping[str, Any], python: str) -> None:
    """Write the executable together with all that it needs, for another host."""
    package = directory / "lib/dokku_standin"
    package.mkdir(parents=True)
    for module in Path(__file__).parent.glob("*.py"):
        if module.name not in TESTS_ONLY:
            shutil.copy(module, package)
    lay_out(directory, {**settings, "program": str(directory / "bin/dokku")})
    write_program(directory, python=python, path=directory / "lib", package=package.name)
