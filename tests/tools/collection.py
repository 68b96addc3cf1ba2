# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Build the collection's tarball, install it and use it from there: ``python -m tests.tools.collection DIRECTORY``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

from tests.tools import tree

FOREIGN = (".git", ".venv", "build", "collections", "tests/output")


def build(top: Path) -> Path:
    """Build the tarball from a copy of what git would have; return its path."""
    source = tree.copy(top / "source")
    dist = top / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    _run("ansible-galaxy", "collection", "build", "--output-path", str(dist), cwd=source)
    (tarball,) = dist.glob("*.tar.gz")
    with tarfile.open(tarball) as archive:
        names = archive.getnames()
    for name in names:
        if any(name == each or name.startswith(f"{each}/") for each in FOREIGN):
            raise SystemExit(f"{tarball.name} carries {name}, which is not part of the collection")
    return tarball


def install(tarball: Path, into: Path) -> None:
    """Install the tarball as a user would, with nothing else in the way."""
    shutil.rmtree(into, ignore_errors=True)
    _run(
        "ansible-galaxy",
        "collection",
        "install",
        "--offline",
        "--no-deps",
        "-p",
        str(into),
        str(tarball),
        cwd=into.parent,
    )


def use(installed: Path, scratch: Path) -> None:
    """Ask the installed collection for all its documentation, parse its playbooks, run its smoke playbook."""
    home = installed / tree.PACKAGE
    env = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(installed)}
    modules = _names(home / "plugins/modules", "*.py")
    roles = _names(home / "roles", "*/meta/argument_specs.yml", depth=2)
    for kind, names in (("module", modules), ("role", roles)):
        if names:
            _documented(kind, names, env, cwd=scratch)
    for playbook in _names(home / "playbooks", "*.yml"):
        _run("ansible-playbook", "--syntax-check", "-i", "localhost,", playbook, env=env, cwd=scratch)
    if modules:
        smoke = str(tree.ROOT / "tests/tools/smoke.yml")
        facts = json.dumps({"smoke_dir": str(scratch / "project")})
        _run("ansible-playbook", "-i", "localhost,", smoke, "-e", facts, env=env, cwd=scratch)
    print(f"{len(modules)} modules, {len(roles)} roles documented and run from {installed}")


def _names(directory: Path, pattern: str, depth: int = 0) -> list[str]:
    found = (path.parents[depth - 1].name if depth else path.stem for path in directory.glob(pattern))
    return sorted(f"{tree.COLLECTION}.{name}" for name in found if not name.startswith("_"))


def _documented(kind: str, names: list[str], env: Mapping[str, str], cwd: Path) -> None:
    argv = [_beside("ansible-doc"), "--json", "-t", kind, *names]
    done = subprocess.run(argv, env=env, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True)
    # ansible-doc answers 0 for a name that it does not find.
    missing = set(names) - set(json.loads(done.stdout))
    if missing:
        raise SystemExit(f"ansible-doc shows nothing for {', '.join(sorted(missing))}")


def _run(tool: str, *argv: str, cwd: Path, env: Mapping[str, str] | None = None) -> None:
    subprocess.run([_beside(tool), *argv], cwd=cwd, env=env, check=True)


def _beside(tool: str) -> str:
    """Return the tool of the environment that this Python belongs to, whatever PATH says."""
    return str(Path(sys.executable).with_name(tool))


def main(top: Path) -> int:
    """Build, install below ``top``, use."""
    scratch = top / "smoke"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    tarball = build(top)
    install(tarball, top / "installed")
    use(top / "installed", scratch)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
