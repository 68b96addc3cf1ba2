# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The programs of one image, made to run in containers of another.

pg_upgrade needs the servers of both majors in one place. The file system of the
old image is copied out of the running service, and beside each old program a
two-line script takes its name, which starts it by the old image's own loader
with the old image's own libraries. Postgres finds its share and library
directories relative to where its program lies, so nothing else has to be told.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import paths
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import quick_pg_ctl
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    BY_DUMP,
    CandidateImage,
)

TARGET = "/selfhost-stateful/old"
"""Where the copied file system is mounted in a helper."""

LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
# Of no use to a server that dumps a schema, and half of what lies there.
LEFT_OUT = frozenset(("python3", "python3.9", "python3.11", "python3.13", "perl", "systemd", "udev", "gcc", "llvm"))
LOADERS = ("ld-linux-", "ld-musl-")
RUN_BY_PG_UPGRADE = ("postgres", "pg_ctl", "pg_controldata", "pg_resetwal", "pg_resetxlog", "initdb", "pg_config")


@dataclass(frozen=True)
class Programs:
    """A copied file system; ``bin_directory`` is the one for ``pg_upgrade -b``, as a helper sees it."""

    root: str
    bin_directory: str


def copy_programs(container: Container, image: CandidateImage, destination: str) -> Programs:
    """Copy what the server of a running container consists of to ``destination``, which is absent and ours."""
    root = paths.root_of(container)
    os.makedirs(destination, mode=0o755)
    wanted = (*LIBRARIES, image.bin_directory, image.library_directory, image.share_directory)
    for directory in dict.fromkeys(paths.named_inside(root, path) for path in wanted):
        if directory and os.path.isdir(root + directory):
            _copy_tree(root, directory, destination)
    loader = _loader(destination)
    libraries = ":".join(TARGET + path for path in _library_path(destination))
    bin_directory = paths.named_inside(root, image.bin_directory)
    for name in RUN_BY_PG_UPGRADE:
        _wrap(os.path.join(destination + bin_directory, name), TARGET + bin_directory, loader, libraries)
    pg_ctl = os.path.join(destination + bin_directory, quick_pg_ctl.NAME)
    if os.path.isfile(pg_ctl):  # without one, pg_upgrade says what it lacks
        os.rename(pg_ctl, os.path.join(destination + bin_directory, quick_pg_ctl.PATIENT))
        quick_pg_ctl.put(pg_ctl)
    return Programs(destination, TARGET + bin_directory)


def _copy_tree(root: str, directory: str, destination: str) -> None:
    for parent, names, files in os.walk(root + directory):
        inside = parent[len(root) :]
        target = destination + inside
        os.makedirs(target, mode=0o755, exist_ok=True)
        links = [name for name in names if os.path.islink(os.path.join(parent, name))]
        names[:] = [name for name in names if name not in links and name not in LEFT_OUT]
        for name in (*files, *links):
            if not name.startswith("libLLVM"):  # a hundred megabytes for a compiler that is switched off
                _copy_entry(root, inside, name, os.path.join(target, name))


def _copy_entry(root: str, inside: str, name: str, target: str) -> None:
    source = os.path.join(root + inside, name)
    if os.path.lexists(target):
        return
    if not os.path.islink(source):
        if stat.S_ISREG(os.lstat(source).st_mode):
            shutil.copyfile(source, target)
            shutil.copymode(source, target)
        return
    link = os.readlink(source)
    if not link.startswith("/"):
        os.symlink(link, target)
        return
    # An absolute one would lead into the helper's own file system.
    found = paths.resolve_inside(root, os.path.join(inside, name))
    if os.path.isfile(found):
        shutil.copyfile(found, target)
        shutil.copymode(found, target)


def _loader(root: str) -> str:
    for directory in LIBRARIES:
        place = root + directory
        for name in sorted(os.listdir(place)) if os.path.isdir(place) else ():
            if name.startswith(LOADERS) and ".so" in name:
                return TARGET + directory + "/" + name
    found = next((path for path in _files(root) if os.path.basename(path).startswith(LOADERS)), "")
    if not found:
        raise StatefulError(
            "No dynamic loader was found in the image that runs, so its programs cannot be run in another container.",
            next_command=BY_DUMP,
        )
    return TARGET + found[len(root) :]


def _files(root: str) -> Iterator[str]:
    for parent, _names, files in os.walk(root):
        for name in files:
            yield os.path.join(parent, name)


def _library_path(root: str) -> list[str]:
    """Return the directories that hold shared libraries, outer ones first."""
    found = []
    for top in LIBRARIES:
        for parent, names, files in os.walk(root + top):
            depth = parent[len(root + top) :].count("/")
            if depth >= 1:
                names[:] = []
            if any(".so" in name for name in files):
                found.append(parent[len(root) :])
    return found


def _wrap(program: str, seen_in: str, loader: str, libraries: str) -> None:
    """Put a script in the place of a program that runs it by the loader of its own image."""
    if not os.path.isfile(program):
        return
    name = os.path.basename(program)
    os.rename(program, f"{program}.bin")
    with open(program, "w", encoding="ascii") as script:
        script.write(f'#!/bin/sh\nexec {loader} --library-path {libraries} {seen_in}/{name}.bin "$@"\n')
    os.chmod(program, 0o755)
