# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy the files of a cluster that nobody runs on: a backup into a scratch directory, or to where it is to serve."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Collection

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.blocks import copy_data
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.clone import FICLONE


def copy_files(
    source: str,
    target: str,
    owner: tuple[int, int],
    *,
    leave: Collection[str] = (),
    report: Callable[[int], None] = lambda size: None,
) -> None:
    """Copy all below ``source`` into the directory ``target``, which exists, and give it to ``owner``.

    Extents are shared where the file system can. Modes are kept, symbolic links are
    copied as links. ``leave`` names what is left out, relative to ``source``.
    """
    for parent, directories, files in os.walk(source):
        below = os.path.relpath(parent, source)
        here = target if below == "." else os.path.join(target, below)
        links = [name for name in directories if os.path.islink(os.path.join(parent, name))]
        for name in (*links, *files):
            if os.path.normpath(os.path.join(below, name)) not in leave:
                _copy_entry(os.path.join(parent, name), os.path.join(here, name), owner, report)
        for name in directories:
            if name not in links:
                made = os.path.join(here, name)
                os.mkdir(made, 0o700)
                os.chown(made, *owner)
                os.chmod(made, stat.S_IMODE(os.lstat(os.path.join(parent, name)).st_mode))


def _copy_entry(source: str, target: str, owner: tuple[int, int], report: Callable[[int], None]) -> None:
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
        os.chown(target, *owner, follow_symlinks=False)
        return
    with open(source, "rb") as origin, open(target, "xb") as copy:
        status = os.fstat(origin.fileno())
        os.chmod(copy.fileno(), stat.S_IMODE(status.st_mode))
        os.chown(copy.fileno(), *owner)
        try:
            fcntl.ioctl(copy.fileno(), FICLONE, origin.fileno())
        except OSError:  # no shared extents here: copied then
            copy_data(origin.fileno(), copy.fileno(), status.st_size, report)
