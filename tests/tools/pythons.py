# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the interpreters of this machine that really run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

SUPPORTED = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")


def _runs(candidate: Path, version: str) -> bool:
    # A pyenv shim stands on PATH for every version and answers for the active one only.
    code = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([str(candidate), "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return done.returncode == 0 and done.stdout.strip() == version


def find(version: str) -> Path | None:
    """Return an interpreter of this version that has venv, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [path / "bin/python" for path in sorted(pyenv.glob(f"{version}.*"), reverse=True)]
    found = shutil.which(f"python{version}")
    if found:
        candidates.append(Path(found))
    candidates.append(Path(f"/usr/bin/python{version}"))
    return next((each for each in candidates if _runs(each, version)), None)


def available() -> dict[str, Path]:
    """Return version → interpreter, of the versions that the collection supports."""
    return {version: path for version in SUPPORTED if (path := find(version))}


def links(directory: Path, own: Path) -> Path:
    """Fill ``directory`` with a link ``pythonX.Y`` for each interpreter, ``own`` under its own version."""
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    for version, path in available().items():
        if not (own.parent / f"python{version}").exists():
            (directory / f"python{version}").symlink_to(path)
    return directory
