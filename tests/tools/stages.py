# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stages of ``make test``, as data."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.tools import pythons, tree

PYTHON = sys.executable
PYTEST = (PYTHON, "-m", "pytest")
# Two at a time on any machine: they wait for containers more than they compute.
PARALLEL = ("-n", "2", "--dist", "loadgroup")
OWN = "{}.{}".format(*sys.version_info)
CI = tree.BUILD / "ci"
# The oldest Python that a module may meet, and the one of the tool chain; test-matrix has the others.
SANITY_PYTHONS = tuple(
    word
    for version in (*(each for each in pythons.SUPPORTED[:1] if pythons.find(each)), OWN)
    for word in ("--target-python", version)
)
SLOW_SANITY = ("--skip-test", "pylint", "--skip-test", "import")
PLUGINS = ("plugins/action/", "plugins/modules/")
# Whatever Python runs them, they tell the same, at length.
ONCE = (
    "tests/unit/compose/test_edit_files.py",
    "tests/unit/compose/test_reverse.py",
    "tests/unit/concurrent/test_checkout.py",
    "tests/unit/concurrent/test_release.py",
    "tests/unit/concurrent/test_target.py",
    "tests/unit/heroku/test_addresses.py",
    "tests/unit/heroku/test_stopping_killed.py",
    "tests/unit/storage/test_discarding.py",
    "tests/unit/storage/test_dying.py",
    "tests/unit/storage/test_planner.py",
    "tests/unit/test_architecture.py",
    "tests/unit/test_role_arguments.py",
)
# At work on disks for longer than ansible-test need watch.
ON_DISKS = ("tests/unit/storage/test_backup.py", "tests/unit/storage_tree/", "tests/unit/test_examples.py")


@dataclass(frozen=True)
class Stage:
    """Commands that run one after the other; the stage fails with the first that does."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    after: tuple[str, ...] = ()
    # Waits for these where they run too, and does without them where they do not.
    follows: tuple[str, ...] = ()
    # Named here only, not part of the default run.
    on_request: bool = False
    env: dict[str, str] = field(default_factory=dict)
    # Why it cannot run on this machine.
    missing: str = ""
    # Seconds; a stage that hangs must not take the whole run with it.
    limit: float = 1800

    # Where a command counts its tests without being told: a pattern below the checkout.
    counts: str = ""
    # Of a stage whose answer follows from files alone, as git's pathspecs: what it looks at, and what tells it how.
    # Unchanged since it passed they are not read again; see tests.tools.unchanged.
    reads: tuple[str, ...] = ()

    def reports(self) -> list[Path]:
        """Return the JUnit files that there are of this stage; none where the stage itself is the one check."""
        prefix = "--junitxml="
        options = (word for command in self.commands for word in command)
        told = [Path(word[len(prefix) :]) for word in options if word.startswith(prefix)]
        return [*(path for path in told if path.exists()), *(tree.ROOT.glob(self.counts) if self.counts else ())]


def _junit(name: str) -> str:
    return f"--junitxml={CI / name}.xml"


def _pytest(name: str, *arguments: str) -> tuple[str, ...]:
    return (*PYTEST, *arguments, _junit(name))


def _ansible_test(top: Path, *arguments: str) -> tuple[str, ...]:
    return (PYTHON, "-m", "tests.tools.ansible_test", str(top), *arguments)


def _each(option: str, paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for path in paths for word in (option, path))


def python_stage(version: str, without: tuple[str, ...] = ()) -> Stage:
    """Return the unit tests on another Python, in an environment of their own; some may be left out."""
    name, interpreter = f"unit-{version}", pythons.find(version)
    if not interpreter:
        return Stage(name, (), missing=f"no Python {version} on this machine")
    venv = tree.BUILD / "matrix" / name
    return Stage(
        name,
        (
            ("bash", "tests/tools/make_venv.sh", str(venv), "requirements/units.txt"),
            (str(venv / "bin/python"), "-m", "pytest", "tests/unit", *_each("--ignore", without), _junit(name)),
        ),
        env={"PYTHON": str(interpreter)},
        follows=("sandbox",),
    )


def _molecule(
    name: str, scenario: str, *, on_request: bool = False, after: tuple[str, ...] = ("images", "build")
) -> Stage:
    return Stage(
        name,
        ((PYTHON, "-m", "molecule", "test", "--scenario-name", scenario),),
        after=after,
        env={"ANSIBLE_COLLECTIONS_PATH": str(tree.BUILD / "installed")},
        # Hundreds of tasks over ssh: on a machine that is busy otherwise it takes a quarter of an hour.
        limit=1800,
        on_request=on_request,
    )


# In the order of their worth: where two could start, the upper one does.
STAGES = (
    Stage("ruff", ((PYTHON, "-m", "ruff", "check", "."), (PYTHON, "-m", "ruff", "format", "--check", "."))),
    Stage("sandbox", ((PYTHON, "-m", "tests.sandbox", "up"), (PYTHON, "-m", "tests.sandbox", "programs"))),
    Stage("images", ((PYTHON, "-m", "tests.sandbox", "prepare"),), after=("sandbox",)),
    # The sandbox brings programs that some of them are skipped without.
    Stage("unit", (_pytest("unit", "tests/unit"),), follows=("sandbox",), on_request=True),
    # With those of ``units`` they are all: none runs twice on one Python.
    Stage("unit-long", (_pytest("unit-long", *ONCE, *ON_DISKS),), follows=("sandbox",)),
    Stage("mypy", ((PYTHON, "-m", "mypy"),), reads=("*.py", "pyproject.toml")),
    Stage(
        "build",
        ((PYTHON, "-m", "tests.tools.collection", str(tree.BUILD)),),
    ),
    Stage(
        "integration",
        (_pytest("integration", "tests/integration", "-m", "not faults and not matrix", "--timeout=1500", *PARALLEL),),
        after=("images",),
        limit=3000,
    ),
    # One task after the other over ssh: what comes below it uses every processor.
    _molecule("molecule", "default"),
    Stage(
        "sanity",
        (
            _ansible_test(tree.BUILD / "sanity", "sanity", *SANITY_PYTHONS, *SLOW_SANITY),
            # They import all that there is, as a unit test proves; each file by itself takes as long as all the rest.
            _ansible_test(tree.BUILD / "sanity", "sanity", "--test", "import", *SANITY_PYTHONS[:2], *PLUGINS),
        ),
        reads=(".",),
    ),
    Stage(
        "pylint",
        # Of what is shipped: the tests are ruff's and mypy's to judge, and twice as much.
        (_ansible_test(tree.BUILD / "pylint", "sanity", "--test", "pylint", "--python", OWN, "plugins/"),),
        reads=("plugins", "galaxy.yml", "meta", "tests/config.yml", "tests/tools"),
    ),
    Stage(
        "ansible-lint",
        ((PYTHON, "-m", "ansiblelint", "--profile", "production", "--offline", "--nocolor"),),
        env={"ANSIBLE_COLLECTIONS_PATH": str(tree.BUILD / "tree")},
        reads=("*.yml", "*.yaml", "*.j2", "*.md", "plugins", "roles", "playbooks", ".ansible-lint", ".yamllint"),
    ),
    Stage(
        "docs",
        (("antsibull-docs", "lint-collection-docs", "--plugin-docs", str(tree.ROOT)),),
        env={"ANSIBLE_COLLECTIONS_PATH": str(tree.BUILD / "tree")},
        reads=("plugins", "roles", "docs", "meta", "galaxy.yml", "changelogs"),
    ),
    Stage("changelog", (("antsibull-changelog", "lint"),)),
    Stage(
        "units",
        (
            _ansible_test(
                tree.BUILD / "units", "units", "--local", "--python", OWN, *_each("--exclude", (*ONCE, *ON_DISKS))
            ),
        ),
        follows=("sandbox",),
        counts=f"build/units/{tree.PACKAGE}/tests/output/junit/*.xml",
    ),
    python_stage(pythons.SUPPORTED[0], ONCE),
    _molecule("molecule-postgresql-image", "postgresql_image", on_request=True),
    _molecule("molecule-concurrent", "concurrent", on_request=True),
    _molecule("molecule-cloudogu", "cloudogu", on_request=True),
    _molecule("molecule-dokku", "dokku", on_request=True),
    _molecule("molecule-heroku", "heroku", on_request=True, after=("build",)),
    Stage("heroku-cli", (_pytest("heroku-cli", "tests/integration/heroku/cli.py", "--timeout=900"),), on_request=True),
    Stage(
        "faults",
        (_pytest("faults", "tests/integration", "-m", "faults or matrix", "--timeout=1800", *PARALLEL),),
        after=("images",),
        on_request=True,
        limit=6 * 3600,
    ),
)


def base_env() -> dict[str, str]:
    """Return the environment of every stage: the tools of the virtual environment come first."""
    return {
        **os.environ,
        "PATH": os.pathsep.join([os.path.dirname(PYTHON), os.environ.get("PATH", os.defpath)]),
        "VIRTUAL_ENV": sys.prefix,
        "PYTHONUNBUFFERED": "1",
        # Hundreds of processes import the same files, wherever the caller keeps what is compiled.
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(tree.BUILD / "pycache"),
    }
