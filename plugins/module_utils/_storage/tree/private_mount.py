# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bind mount that nobody else sees and that ends with the process that made it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import libc


def rename_through(mount_point: str, source: str, target: str) -> None:
    """Rename ``source`` to ``target``, both relative to ``mount_point``, through one fresh bind mount of it."""
    act_through(mount_point, lambda place: libc.rename_to_new(f"{place}/{source}", f"{place}/{target}"))


def act_through(mount_point: str, act: Callable[[str], None]) -> None:
    """Call ``act`` with the place of one fresh bind mount of ``mount_point``, in a child process.

    The bind is not recursive, so whatever else is mounted below does not cover the way. The
    child has a mount namespace of its own: killed at any moment, no mount is left behind, only
    an empty directory. Raises OSError. ``act`` raises nothing else; it runs after a fork, so
    where other threads of ours may hold locks it has to be plain system calls.
    """
    place = tempfile.mkdtemp(prefix="selfhost-stateful-bind-")
    try:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            _child(mount_point, place, act, reading, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as answer:
            said = answer.read().decode()
        _pid, status = os.waitpid(child, 0)
    finally:
        os.rmdir(place)
    if said != "0":
        number = int(said) if said.isdigit() else 0
        words = os.strerror(number) if number else f"the child process ended with status {status}"
        raise OSError(number, f"{words} (through a bind mount of {mount_point})")


def _child(mount_point: str, place: str, act: Callable[[str], None], reading: int, writing: int) -> None:
    # Nothing here may return into the parent's code.
    code = 255
    try:
        os.close(reading)
        libc.unshare(libc.CLONE_NEWNS)
        # Else the bind would show up in the host's namespace, where "/" is shared.
        libc.mount("none", "/", None, libc.MS_REC | libc.MS_PRIVATE)
        libc.mount(mount_point, place, None, libc.MS_BIND)
        act(place)
        code = 0
    except OSError as error:
        code = error.errno or 255
    finally:
        os.write(writing, str(code).encode())
        os._exit(0 if code == 0 else 1)
