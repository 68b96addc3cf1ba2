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
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.configuration_files import (
    MAIN,
    PLAIN,
    configuration_files,
    leads_inside,
    read,
    with_relative_paths,
)

_UNKNOWN = re.compile(r'unrecognized configuration parameter "([^"]+)" in file "([^"]+)" line (\d+)')


@dataclass(frozen=True)
class LeftOut:
    """A line that the new major refuses; ``file`` is relative to the data directory."""

    parameter: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.parameter} ({self.file}, line {self.line})"


def copy_configuration(
    source: str, destination: str, data_directory: str = "", named: Mapping[str, str] | None = None
) -> list[str]:
    """Copy the configuration files of a data directory to another one; return their names.

    ``data_directory`` and ``named`` as for :func:`configuration_files`.
    """
    found = configuration_files(source, data_directory, named)
    for name, kind in found.items():
        place, target = os.path.join(source, name), os.path.join(destination, name)
        _copy(source, name, destination)
        text = read(place) if kind != PLAIN and os.path.isfile(place) and not os.path.islink(target) else ""
        relative = with_relative_paths(name, text, kind, data_directory)
        if relative != text:
            _write(target, relative)
    return list(found)


def place(directory: str, destination: str) -> None:
    """Copy everything that :func:`copy_configuration` brought to ``directory``."""
    for parent, directories, files in os.walk(directory):
        for each in (*files, *(one for one in directories if os.path.islink(os.path.join(parent, one)))):
            _copy(directory, os.path.relpath(os.path.join(parent, each), directory), destination)


def _copy(source: str, name: str, destination: str) -> None:
    path, target = os.path.join(source, name), os.path.join(destination, name)
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    if os.path.lexists(target):
        os.remove(target)
    if os.path.islink(path) and not leads_inside(source, path):
        # On the host it leads to something else, or to nothing.
        os.symlink(os.readlink(path), target)
        return
    shutil.copyfile(path, target)
    os.chmod(target, 0o600)


def digests_of(directory: str, data_directory: str = "", named: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return by name a digest of each configuration file of a data directory."""
    found = {}
    for name in configuration_files(directory, data_directory, named):
        path = os.path.join(directory, name)
        if os.path.islink(path) and not leads_inside(directory, path):
            found[name] = os.readlink(path)
            continue
        with open(path, "rb") as file:
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
        # What a link leads to is somebody else's.
        unknown = [found for found in unknown if not os.path.islink(os.path.join(directory, found.file))]
        if not unknown:
            raise StatefulError(
                f"The configuration of the cluster is refused by the new server: {said.strip()}",
                next_command="change that setting in the running cluster, and run the same task again",
            )
        for found in unknown:
            _comment(os.path.join(directory, found.file), found.line)
        left_out += unknown


def _comment(path: str, number: int) -> None:
    lines = read(path).splitlines(keepends=True)
    lines[number - 1] = f"# unknown to this major version: {lines[number - 1]}"
    _write(path, "".join(lines))


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(text)


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
