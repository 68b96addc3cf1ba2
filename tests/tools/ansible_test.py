# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run ``ansible-test`` on a copy of the tree: ``python -m tests.tools.ansible_test DIRECTORY COMMAND [ARGUMENT ...]``.

The copy and ansible-test's own environments are made below DIRECTORY; two runs at the same time need two.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.tools import pythons, tree


def prepare_home(home: Path) -> None:
    """Give ``ansible-test`` a home of its own, with the get-pip that it would else download."""
    cache = home / ".ansible/test/cache"
    cache.mkdir(parents=True, exist_ok=True)
    (package,) = importlib.import_module("ansible_test").__path__
    source = Path(package, "_internal/python_requirements.py").read_text()
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


def run(top: Path, arguments: Sequence[str]) -> int:
    """Run the ``ansible-test`` beside this Python on a copy of the tree below ``top``; return its exit code."""
    python = Path(sys.executable)
    place = tree.copy(top)
    # Else it takes the checkout around the copy for the repository, in which build/ is ignored.
    subprocess.run(["git", "init", "--quiet", str(place)], check=True)
    home = top / "home"
    prepare_home(home)
    argv = [str(python), str(python.parent / "ansible-test"), *arguments]
    return subprocess.run(argv, cwd=place, env=environment(home, python), check=False).returncode


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]).resolve(), sys.argv[2:]))
