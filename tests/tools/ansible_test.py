# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run ``ansible-test`` on a copy of the tree: ``python -m tests.tools.ansible_test sanity [ARGUMENT ...]``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.tools import pythons, tree

# One per command: sanity and units run at the same time.
TOPS = tree.BUILD / "ansible-test"


def prepare_home(home: Path, ansible_test: Path) -> None:
    """Give ``ansible-test`` a home of its own, with the get-pip that it would else download."""
    cache = home / ".ansible/test/cache"
    cache.mkdir(parents=True, exist_ok=True)
    source = (ansible_test / "_internal/python_requirements.py").read_text()
    for version in re.findall(r"pip='([0-9.]+)'", source):
        shutil.copy2(tree.ROOT / "tests/tools/get_pip_shim.py", cache / f"get_pip_{version.replace('.', '_')}.py")


def environment(home: Path, python: Path) -> dict[str, str]:
    """Return the variables under which ``ansible-test`` finds real interpreters and its own home."""
    real_home = Path.home()
    links = pythons.links(home / "pythons", python)
    return {
        **os.environ,
        "HOME": str(home),
        # pip's configuration stays that of the user.
        "XDG_CONFIG_HOME": os.environ.get("XDG_CONFIG_HOME", str(real_home / ".config")),
        "PATH": os.pathsep.join([str(links), str(python.parent), os.environ["PATH"]]),
    }


def run(arguments: Sequence[str], *, top: Path, python: Path | None = None) -> int:
    """Copy the tree below ``top``, run there the ``ansible-test`` that belongs to ``python``, return its code."""
    python = python or Path(sys.executable)
    place = tree.copy(top)
    # Else it takes the checkout around the copy for the repository, in which build/ is ignored.
    subprocess.run(["git", "init", "--quiet", str(place)], check=True)
    found = subprocess.run(
        [str(python), "-c", "import ansible_test; print(ansible_test.__path__[0])"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    home = top / "home"
    prepare_home(home, Path(found.stdout.strip()))
    argv = [str(python), str(python.parent / "ansible-test"), *arguments]
    return subprocess.run(argv, cwd=place, env=environment(home, python), check=False).returncode


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], top=TOPS / sys.argv[1]))
