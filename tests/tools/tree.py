# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the checkout is, and how tools get to see it as ``ansible_collections/selfhost/stateful``."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
COLLECTION = "selfhost.stateful"
PACKAGE = Path("ansible_collections", *COLLECTION.split("."))


def link() -> Path:
    """Return a directory below which the checkout itself is importable, by a symbolic link."""
    top = BUILD / "tree"
    place = top / PACKAGE
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.is_symlink() or place.resolve() != ROOT:
        # Made beside and renamed: several tools may come here at the same time.
        fresh = place.with_name(f".{place.name}.{os.getpid()}")
        fresh.symlink_to(ROOT)
        fresh.replace(place)
    return top


def copy(top: Path) -> Path:
    """Copy what git would have below ``top``; return the collection's directory there.

    ``ansible-test`` refuses a symbolic link, and a tarball must not depend on what
    else lies about in the checkout.
    """
    place = top / PACKAGE
    shutil.rmtree(place, ignore_errors=True)
    for name in files():
        source, target = ROOT / name, place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copy2(source, target, follow_symlinks=False)
        except FileNotFoundError:
            continue  # removed from the checkout, not yet from git
    return place


def files(*places: str) -> list[str]:
    """Return what git has or would take, below these pathspecs where any are given; it may be removed already."""
    argv = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *places)
    listing = subprocess.run(argv, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    return sorted({os.fsdecode(entry) for entry in listing.split(b"\0") if entry})


def has(pattern: str) -> bool:
    """Say whether the checkout has a file that matches."""
    return next(ROOT.glob(pattern), None) is not None
