# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a stage that only reads files has read when it passed, so that it need not read the same again.

Of use to whoever runs ``make test`` after every change; a fresh clone knows nothing and runs everything.
Only a stage whose answer follows from files alone names what it ``reads``: no stage with tests does.
"""

from __future__ import annotations

import hashlib
import os
import sys
from importlib import metadata
from pathlib import Path

from tests.tools import tree
from tests.tools.stages import CI, Stage


def passed_before(stage: Stage, digest: str) -> bool:
    """Tell whether the stage has passed on what :func:`digest_of` returns now."""
    mark = _mark(stage)
    return mark.exists() and mark.read_text() == digest


def remember(stage: Stage, digest: str) -> None:
    """Note that the stage has passed on what :func:`digest_of` returned before it began."""
    _mark(stage).write_text(digest)


def digest_of(stage: Stage) -> str:
    """Return the SHA-256 of all that decides how the stage ends: its commands, the tools, the files."""
    found = hashlib.sha256()
    installed = sorted(f"{each.metadata['Name']} {each.version}" for each in metadata.distributions())
    for said in (sys.version, *stage.commands, *installed):
        found.update(f"{said}\0".encode())
    for path in (tree.ROOT / name for name in tree.files(*stage.reads)):
        if not os.path.lexists(path):
            continue
        found.update(f"{path.relative_to(tree.ROOT)}\0{path.lstat().st_mode:o}\0".encode())
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        found.update(hashlib.sha256(content).digest())
    return found.hexdigest()


def _mark(stage: Stage) -> Path:
    return CI / f"{stage.name}.passed"
