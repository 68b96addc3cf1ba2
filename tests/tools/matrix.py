# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run on every supported ansible-core and Python: ``python -m tests.tools.matrix [NAME ...]``.

Names are those of the rows, e.g. core-2.19 or unit-3.10; without, all of them run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tests.tools import ci, pythons, stages, tree
from tests.tools.stages import Stage

# ansible-core → the Pythons that its controller side runs on, the one to take first.
CORES = {
    "2.18": ("3.12", "3.11", "3.13"),
    "2.19": ("3.12", "3.11", "3.13"),
    "2.20": ("3.12", "3.13", "3.14"),
    "2.21": ("3.12", "3.13", "3.14"),
}
TOP = tree.BUILD / "matrix"
# The stages that bring what a row with a real run needs.
ENGINE = ("sandbox", "images")


def core_stage(core: str) -> Stage:
    """Return what is checked with one ansible-core: its opinion of the modules, the unit tests, a real run."""
    name = f"core-{core}"
    found = pythons.available()
    interpreter = next((found[version] for version in CORES[core] if version in found), None)
    if not interpreter:
        return Stage(name, (), missing=f"none of Python {', '.join(CORES[core])} on this machine")
    top = TOP / name
    requirements = TOP / f"{name}.txt"
    python = str(top / "venv/bin/python")
    requirements.parent.mkdir(parents=True, exist_ok=True)
    requirements.write_text(f"-r {tree.ROOT / 'requirements/units.txt'}\nansible-core ~= {core}.0\n")
    return Stage(
        name,
        (
            ("bash", "tests/tools/make_venv.sh", str(top / "venv"), str(requirements)),
            (
                *(python, "-m", "tests.tools.ansible_test", str(top / "sanity")),
                *("sanity", "--local", "--test", "import", "--test", "validate-modules"),
            ),
            (python, "-m", "tests.tools.collection", str(top)),
            # Data moves: looked at, rehearsed, moved and committed by the playbooks.
            (python, "-m", "pytest", "tests/integration/playbooks", "-k", "any_project"),
            (python, "-m", "pytest", "tests/unit", f"--junitxml={stages.CI / name}.xml"),
        ),
        after=ENGINE[-1:],
        env={"PYTHON": str(interpreter)},
    )


def main(names: Sequence[str]) -> int:
    """Run the rows that are named, or all."""
    tree.link()
    rows = [*map(core_stage, CORES), *map(stages.python_stage, pythons.SUPPORTED)]
    unknown = set(names) - {row.name for row in rows}
    if unknown:
        raise SystemExit(f"no such row: {', '.join(sorted(unknown))}; there are: {', '.join(row.name for row in rows)}")
    chosen = [row for row in rows if not names or row.name in names]
    needed = ENGINE if any(row.after for row in chosen) else ()
    return ci.run_and_report([*(stage for stage in stages.STAGES if stage.name in needed), *chosen])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
