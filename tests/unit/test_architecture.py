# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The shape of the code, read from its syntax trees: who may import whom, and what no file may do."""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "ansible_collections.selfhost.stateful."
UTILS = PREFIX + "plugins.module_utils."

# A new package below module_utils gets a line here: which room is it, and whom does it know?
FOUNDATION = {"_operation", "_compose", "_engine", "_errors", "_durable", "_clock"}
DOMAINS = {"_storage", "_postgresql", "_redis", "_concurrent", "_dokku", "_heroku", "_cloudogu"}
KNOWS = {
    "_errors": set(),
    "_durable": set(),
    "_clock": set(),
    # For the modules alone: it runs a module again under another interpreter.
    "_host": {"_errors"},
    "_module": {"_errors"},
    "_earlier": {"_errors"},
    "_operation": {"_durable", "_errors"},
    "_engine": {"_errors"},
    "_compose": {"_clock", "_durable", "_engine", "_errors"},
    # Programs in containers, between files of the host.
    "_stream": {"_durable", "_engine", "_errors"},
    **dict.fromkeys(DOMAINS, FOUNDATION | DOMAINS),
    # They also hand whole dumps to a program in a container, and back.
    "_concurrent": FOUNDATION | DOMAINS | {"_stream"},
    "_dokku": FOUNDATION | DOMAINS | {"_stream"},
    # The ground that the other domains stand on: it asks stores by their protocol and knows none of them.
    "_storage": FOUNDATION,
    # For the modules alone: the one place that knows every kind of store.
    "_stores": FOUNDATION | DOMAINS,
    # For the module ``operation`` alone: the one place that knows every kind of operation.
    "_endings": FOUNDATION | DOMAINS | {"_stores"},
}

# What planning code may use: nothing here asks the machine, the clock or chance.
PURE = {
    "__future__", "abc", "base64", "bisect", "collections", "collections.abc", "copy", "dataclasses", "datetime",
    "decimal", "difflib", "enum", "fractions", "functools", "hashlib", "heapq", "ipaddress", "itertools", "json",
    "math", "numbers", "operator", "os", "os.path", "pathlib", "posixpath", "re", "shlex", "string", "struct",
    "textwrap", "types", "typing", "urllib.parse", "yaml",
}  # fmt: skip
# Of a module that does both, the part that only computes.
PURE_PATH = {"basename", "commonpath", "dirname", "isabs", "join", "normpath", "sep", "split", "splitext"}
PURE_NAMES = {
    "os": {"PathLike", "fsdecode", "fsencode", "fspath", "path", "sep"},
    "path": PURE_PATH,
    "posixpath": PURE_PATH,
    "pathlib": {"PurePath", "PurePosixPath"},
}
IMPURE_CALLS = {"open", "input", "print", "now", "utcnow", "today", "read_text", "write_text"}

MODULE_LINES, UTILITY_LINES = 160, 330

FILES = sorted((ROOT / "plugins").rglob("*.py"))
MODULES = sorted(path for path in (ROOT / "plugins/modules").glob("*.py") if path.name != "__init__.py")
PURE_STEMS = (
    "compatibility", "contents", "costs", "model", "needs", "places", "plan", "planner", "preflight", "rollback_plan",
    "starting", "strategy", "transfer",
)  # fmt: skip
PLANNING = [path for path in FILES if path.stem in PURE_STEMS or path.stem.startswith("plan_")]


def shown(paths: list[Path]) -> Any:
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(ROOT / "plugins")))


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return PREFIX + ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def located(name: str) -> Path | None:
    """Return the file of one of our own modules."""
    base = ROOT.joinpath(*name[len(PREFIX) :].split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.exists()), None)


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted name of everything imported at run time; of a name in a package, both readings."""
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_files(tree: ast.AST) -> set[Path]:
    return {path for name in imports(tree) if name.startswith(PREFIX) and (path := located(name))}


def room(path: Path) -> str:
    """Return the part of the picture that a file belongs to."""
    parts = path.relative_to(ROOT / "plugins").with_suffix("").parts
    return parts[1] if parts[0] == "module_utils" and len(parts) > 1 else parts[0]


def touches_world(tree: ast.AST) -> list[str]:
    """Return what in a planning file is more than computing."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name not in PURE]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if not module.startswith(PREFIX) and module not in PURE:
                found.append(module)
            allowed = PURE_NAMES.get(module.rsplit(".", 1)[-1])
            found += [f"{module}.{alias.name}" for alias in node.names if allowed and alias.name not in allowed]
        elif isinstance(node, ast.Attribute):
            owner = name(node.value)
            allowed = PURE_NAMES.get(owner) if owner != "path" or is_os(node.value) else None
            if allowed and node.attr not in allowed:
                found.append(f"{owner}.{node.attr}")
        elif isinstance(node, ast.Call) and called(node) in IMPURE_CALLS:
            found.append(f"{called(node)}()")
    return found


def name(node: ast.AST) -> str:
    """Return the last word of a name, with or without dots; of anything else nothing."""
    return str(getattr(node, "id", getattr(node, "attr", "")))


def called(node: ast.Call) -> str:
    return name(node.func)


def is_os(node: ast.expr) -> bool:
    """Tell os.path from an attribute or a variable that is called path."""
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"


def lazy_imports(tree: ast.AST) -> list[str]:
    """Return our own modules that are imported inside a function, where the module's zip may be gone."""
    return [
        name
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for name in imports(function)
        if name.startswith("ansible")
    ]


def swallowed(tree: ast.AST) -> list[int]:
    """Return the lines where any error at all is dropped."""
    everything = {"Exception", "BaseException"}
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            caught = {name(each) for each in ast.walk(node.type)} if node.type else everything
            silent = all(
                isinstance(each, (ast.Pass, ast.Continue, ast.Break)) or is_constant(each) for each in node.body
            )
            if caught & everything and silent:
                lines.append(node.lineno)
        elif (
            isinstance(node, ast.Call)
            and called(node) == "suppress"
            and everything & {name(each) for each in node.args}
        ):
            lines.append(node.lineno)
    return lines


def is_constant(node: ast.stmt) -> bool:
    return isinstance(node, (ast.Expr, ast.Return)) and (node.value is None or isinstance(node.value, ast.Constant))


def shells(tree: ast.AST) -> list[int]:
    """Return the lines that hand a string to a shell of the host."""
    ways = {("os", "system"), ("os", "popen"), ("subprocess", "getoutput"), ("subprocess", "getstatusoutput")}
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (
            any(each.arg in ("shell", "use_unsafe_shell") and not is_false(each.value) for each in node.keywords)
            or (getattr(getattr(node.func, "value", None), "id", ""), getattr(node.func, "attr", "")) in ways
        )
    ]


def is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def code_lines(path: Path) -> int:
    """Count the lines that are code: no blank lines, no comments, no documentation."""
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING}
    text = path.read_text(encoding="utf-8")
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in silent and token.type != tokenize.ENDMARKER
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(parse(path)):
        value = node.value if isinstance(node, (ast.Expr, ast.Assign)) else None
        names = (
            {getattr(target, "id", "") for target in node.targets}
            if isinstance(node, ast.Assign)
            else {"DOCUMENTATION"}
        )
        if (
            isinstance(value, ast.Constant)
            and isinstance(value.value, str)
            and names & {"DOCUMENTATION", "EXAMPLES", "RETURN"}
        ):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def documentation(path: Path) -> dict[str, Any]:
    for node in parse(path).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "DOCUMENTATION":
            loaded: dict[str, Any] = yaml.safe_load(ast.literal_eval(node.value))
            return loaded
    raise AssertionError(f"{path.name} has no DOCUMENTATION")


@shown(FILES)
def test_imports_run_one_way(path: Path) -> None:
    mine = room(path)
    known = KNOWS.keys()
    if path.is_relative_to(ROOT / "plugins/module_utils") and mine != "__init__":
        assert mine in KNOWS, f"{mine} has no place in KNOWS yet"
        known = KNOWS[mine]
    unknown = {room(other) for other in own_files(parse(path))} - {mine} - known
    assert not unknown, f"{mine} must not know {', '.join(sorted(unknown))}"


def test_no_file_imports_itself_on_a_detour() -> None:
    graph = {path: own_files(parse(path)) - {path} for path in FILES}
    while leaves := [path for path, needs in graph.items() if not needs & graph.keys()]:
        for path in leaves:
            del graph[path]
    assert sorted(dotted(path) for path in graph) == []


def test_every_file_is_of_use_to_a_plugin() -> None:
    """Whoever imports all plugins has imported all files: the sanity test of imports looks at the plugins alone."""
    useful: set[Path] = set()
    todo = [path for path in FILES if not path.is_relative_to(ROOT / "plugins/module_utils")]
    while todo:
        current = todo.pop()
        useful.add(current)
        todo += own_files(parse(current)) - useful
    assert sorted(dotted(path) for path in FILES if path not in useful and path.name != "__init__.py") == []


@shown(FILES)
def test_imports_of_ours_are_absolute_and_on_top(path: Path) -> None:
    relative = [node.lineno for node in ast.walk(parse(path)) if isinstance(node, ast.ImportFrom) and node.level]
    assert relative == []
    assert lazy_imports(parse(path)) == []


@shown(PLANNING)
def test_planning_touches_nothing(path: Path) -> None:
    seen: set[Path] = set()
    todo = [path]
    while todo:
        current = todo.pop()
        seen.add(current)
        found = touches_world(parse(current))
        assert found == [], f"{dotted(current)}, used by {dotted(path)}, reaches into the world"
        todo += own_files(parse(current)) - seen


@shown(FILES)
def test_no_error_is_swallowed_and_no_shell_is_called(path: Path) -> None:
    assert swallowed(parse(path)) == [], "an unknown state means: stop, keep everything"
    assert shells(parse(path)) == [], "argv lists, never a shell"


@shown(FILES)
def test_every_file_states_its_licence(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if text:
        assert "SPDX-License-Identifier: GPL-3.0-or-later" in "".join(text.splitlines(keepends=True)[:5])


@shown(MODULES)
def test_a_module_says_what_check_mode_and_diff_do(path: Path) -> None:
    attributes = documentation(path).get("attributes", {})
    wanted = {"check_mode"} if path.stem.endswith("_info") else {"check_mode", "diff_mode"}
    assert wanted <= attributes.keys()
    for each in wanted:
        assert attributes[each].get("support") in ("full", "partial", "none", "N/A")
    claimed = attributes["check_mode"]["support"] in ("full", "partial")
    assert ("supports_check_mode=True" in path.read_text(encoding="utf-8")) == claimed


@shown(FILES)
def test_no_option_that_may_hold_secrets_is_logged(path: Path) -> None:
    """Ansible writes the options of every call to the host's log, but for those that say otherwise."""
    logged = []
    for node in ast.walk(parse(path)):
        for key, value in zip(node.keys, node.values) if isinstance(node, ast.Dict) else ():
            option = key.value if isinstance(key, ast.Constant) else None
            if isinstance(value, ast.Dict) and str(option).endswith(("environment", "custom_env", "password")):
                said = {each.value for each in value.keys if isinstance(each, ast.Constant)}
                logged += [option] if "type" in said and "no_log" not in said else []
    assert logged == []


def test_sizes_are_those_of_one_idea() -> None:
    limits = {path: MODULE_LINES if path in MODULES else UTILITY_LINES for path in FILES}
    large = [
        f"{dotted(path)}: {lines} > {limits[path]}" for path in FILES if (lines := code_lines(path)) > limits[path]
    ]
    if large:
        warnings.warn("look for the second idea in " + "; ".join(large), stacklevel=1)
    assert all(code_lines(path) < 2 * limit for path, limit in limits.items())


@pytest.mark.parametrize(
    "code",
    ["import subprocess", "from pathlib import Path", "from os import stat", "import os\nos.stat('x')", "open('x')",
     "import os\nos.path.exists('x')", "import posixpath\nposixpath.islink('x')", "datetime.now()", "import docker"],
)  # fmt: skip
def test_reaching_into_the_world_is_seen(code: str) -> None:
    assert touches_world(ast.parse(code)) != []


@pytest.mark.parametrize(
    "code",
    ["from pathlib import PurePosixPath", "import os\nos.path.join('a', 'b')", "mount.path.exists", "import json"],
)
def test_computing_is_let_through(code: str) -> None:
    assert touches_world(ast.parse(code)) == []


@pytest.mark.parametrize(
    "code",
    [
        "try:\n  f()\nexcept Exception:\n  pass",
        "try:\n  f()\nexcept:\n  return None",
        "for x in y:\n  try:\n    f()\n  except (OSError, Exception):\n    continue",
        "with suppress(Exception):\n  f()",
    ],
)
def test_a_swallowed_error_is_seen(code: str) -> None:
    assert swallowed(ast.parse(code)) != []


@pytest.mark.parametrize("code", ["run('x', shell=True)", "run_command('x', use_unsafe_shell=yes)", "os.system('x')"])
def test_a_shell_is_seen(code: str) -> None:
    assert shells(ast.parse(code)) != []


def test_a_lazy_import_is_seen() -> None:
    assert lazy_imports(ast.parse(f"def f():\n  from {UTILS}_errors import StatefulError")) != []
