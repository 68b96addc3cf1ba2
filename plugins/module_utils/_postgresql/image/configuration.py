# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster's configuration files, taken to another major: what that no longer knows is left out, and listed.

The files go as they are, comments included; a line that the new server refuses
becomes a comment that says so. The judge is the new server itself, asked for
one setting: it reads all of the files and names each parameter that it does not
know with file and line.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError

MAIN = "postgresql.conf"
FILES = (MAIN, "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf")
INCLUDES_AT_MOST = 200

_INCLUDE = re.compile(r"^\s*(include|include_if_exists|include_dir)\s*=?\s*'([^']+)'", re.MULTILINE)
_UNKNOWN = re.compile(r'unrecognized configuration parameter "([^"]+)" in file "([^"]+)" line (\d+)')


@dataclass(frozen=True)
class LeftOut:
    """A line that the new major refuses; ``file`` is relative to the data directory."""

    parameter: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.parameter} ({self.file}, line {self.line})"


def configuration_files(directory: str) -> list[str]:
    """Return the configuration files of a data directory, those that they include too, relative to it."""
    found: dict[str, None] = {name: None for name in FILES if os.path.isfile(os.path.join(directory, name))}
    pending = [name for name in found if name.endswith(".conf")]
    while pending and len(found) < INCLUDES_AT_MOST:
        for name in _included(directory, pending.pop()):
            if name not in found and os.path.isfile(os.path.join(directory, name)):
                found[name] = None
                pending.append(name)
    return list(found)


def _included(directory: str, name: str) -> Iterator[str]:
    with open(os.path.join(directory, name), encoding="utf-8", errors="surrogateescape") as file:
        text = file.read()
    for kind, path in _INCLUDE.findall(text):
        inner = os.path.normpath(os.path.join(os.path.dirname(name), path))
        if path.startswith("/") or inner.startswith(".."):
            continue  # outside the data directory: it stays where it is, for both
        place = os.path.join(directory, inner)
        if kind != "include_dir":
            yield inner
        elif os.path.isdir(place):
            yield from (os.path.join(inner, each) for each in sorted(os.listdir(place)) if each.endswith(".conf"))


def copy_configuration(source: str, destination: str) -> list[str]:
    """Copy the configuration files of a data directory to another one; return their names."""
    names = configuration_files(source)
    for name in names:
        target = os.path.join(destination, name)
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        shutil.copyfile(os.path.join(source, name), target)
        os.chmod(target, 0o600)
    return names


def digests_of(directory: str) -> dict[str, str]:
    """Return by name a digest of each configuration file of a data directory."""
    found = {}
    for name in configuration_files(directory):
        with open(os.path.join(directory, name), "rb") as file:
            found[name] = hashlib.sha256(file.read()).hexdigest()
    return found


def leave_out_unknown(directory: str, ask: Callable[[], tuple[int, str]], seen_as: str) -> list[LeftOut]:
    """Make comments of the lines that the new server does not know.

    :param ask: runs the new server on the files in ``directory``; returns its exit code and what it said.
    :param seen_as: ``directory`` as that server names it.
    :raises StatefulError: where it refuses them for another reason.
    """
    left_out: list[LeftOut] = []
    while True:
        code, said = ask()
        if code == 0:
            return left_out
        unknown = [
            LeftOut(parameter, os.path.relpath(path, seen_as), int(line))
            for parameter, path, line in _UNKNOWN.findall(said)
        ]
        unknown = [found for found in unknown if not found.file.startswith("..") and found not in left_out]
        if not unknown:
            raise StatefulError(
                f"The configuration of the cluster is refused by the new server: {said.strip()}",
                next_command="change that setting in the running cluster, and run the same task again",
            )
        for found in unknown:
            _comment(os.path.join(directory, found.file), found.line)
        left_out += unknown


def _comment(path: str, number: int) -> None:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        lines = file.read().splitlines(keepends=True)
    lines[number - 1] = f"# unknown to this major version: {lines[number - 1]}"
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write("".join(lines))


def keep_setting(directory: str, name: str, value: str) -> None:
    """Write a setting at the end of the main file, where another default would change what the cluster does."""
    with open(os.path.join(directory, MAIN), "a", encoding="utf-8") as file:
        quoted = value.replace("'", "''")
        file.write(
            f"\n# as before the change of the major version, whose default is another one\n{name} = '{quoted}'\n"
        )


def write_bare(directory: str, settings: dict[str, str]) -> None:
    """Give a copy that only we start a configuration of its own, which names nothing of its surroundings."""
    lines = [f"{name} = '{value}'" for name, value in settings.items()]
    texts = {
        MAIN: "\n".join(lines) + "\n",
        "postgresql.auto.conf": "",
        "pg_hba.conf": "local all all trust\nlocal replication all trust\n",
        "pg_ident.conf": "",
    }
    for name, text in texts.items():
        path = os.path.join(directory, name)
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
