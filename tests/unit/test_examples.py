# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The examples of every module fit its options, and those that need files alone are run one after the other."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from tests.tools import tree

NAMESPACE = "selfhost.stateful"
MODULES = sorted(path for path in (tree.ROOT / "plugins/modules").glob("*.py") if path.name != "__init__.py")
PLACE = "/home/mastodon/live"
COMPOSE = """\
services:
  db:
    image: postgres:alpine
#    volumes:
#      - ./postgres:/var/lib/postgresql/data
  redis:
    image: redis:alpine
"""


def constants(path: Path) -> dict[str, str]:
    """Return the texts that a file assigns to names, also inside of its classes."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found.update({target.id: node.value.value for target in node.targets if isinstance(target, ast.Name)})
    return found


def options_of(path: Path) -> dict[str, Any]:
    """Return a module's documented options, those of its fragments among them; who comes first has the last word.

    That these are its argument specification is what ansible-test asks.
    """
    documentation = yaml.safe_load(constants(path)["DOCUMENTATION"])
    options = dict(documentation.get("options") or {})
    named = documentation.get("extends_documentation_fragment") or ()
    for name in (name for name in named if name.startswith(NAMESPACE)):
        file, _dot, part = name.removeprefix(f"{NAMESPACE}.").partition(".")
        texts = constants(tree.ROOT / "plugins/doc_fragments" / f"{file}.py")
        options = {**yaml.safe_load(texts[(part or "DOCUMENTATION").upper()])["options"], **options}
    return options


def specification(options: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("type", "required", "default", "choices", "elements", "aliases")
    return {
        name: {
            **{key: value for key, value in option.items() if key in kept},
            **({"options": specification(option["suboptions"])} if "suboptions" in option else {}),
        }
        for name, option in options.items()
    }


def tasks_of(path: Path) -> list[dict[str, Any]]:
    """Return the arguments of the module in each of its own examples."""
    action = f"{NAMESPACE}.{path.stem}"
    return [task[action] or {} for task in yaml.safe_load(constants(path)["EXAMPLES"]) if action in task]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_examples_fit_the_options(path: Path) -> None:
    tasks = tasks_of(path)
    assert tasks
    for arguments in tasks:
        result = ArgumentSpecValidator(specification(options_of(path))).validate(arguments)
        assert result.error_messages == []
        assert result.unsupported_parameters == set()


def test_an_example_that_does_not_fit_would_be_found() -> None:
    path = next(path for path in MODULES if path.stem == "compose_file_mount")
    validator = ArgumentSpecValidator(specification(options_of(path)))
    assert validator.validate({**tasks_of(path)[0], "rewrite": "sideways"}).error_messages
    assert validator.validate({**tasks_of(path)[0], "sauce": "./x"}).unsupported_parameters


@pytest.mark.parametrize(
    "name, expected",
    [
        ("compose_file_mount", ["uncommented", "wrote override file", "already there"]),
        ("compose_file_image", ["replaced", "wrote override file"]),
    ],
)
def test_examples_of_the_file_modules_run(tmp_path: Path, name: str, expected: list[str]) -> None:
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / "docker-compose.yml").write_text(COMPOSE)
    path = tree.ROOT / "plugins/modules" / f"{name}.py"
    told = []
    for arguments in tasks_of(path):
        assert arguments["project_src"] == PLACE
        given = {**arguments, "project_src": str(tmp_path / "live"), "operations_dir": str(tmp_path / "operations")}
        done = subprocess.run(
            [sys.executable, "-m", f"ansible_collections.{NAMESPACE}.plugins.modules.{name}"],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": given}),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        told.append(json.loads(done.stdout)["how"])
    assert told == expected
