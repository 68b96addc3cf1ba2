# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Die, or fail, before the n-th effect on the world: every rename, removal, write and verb counts."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator

from ansible_collections.selfhost.stateful.plugins.module_utils._operation.journal import Journal
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import libc

EFFECTS = frozenset(
    ["os.rename", "os.link", "os.mkdir", "os.rmdir", "os.remove", "os.truncate", "os.symlink", "os.chmod", "os.chown"]
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Died(BaseException):
    """Stands for SIGKILL: nothing in the product catches it."""


class Fuse:
    """Burns at the effect whose number is ``at``, or at the first of that name; 0 never burns. It raises ``raises``."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._asleep = 0
        self.reset()

    def reset(self, at: int | str = 0, raises: Callable[[], BaseException] = Died) -> None:
        self.at, self.count, self.raises = at, 0, raises
        self.burnt = ""
        self.trace: list[str] = []
        self.dead = False

    @contextlib.contextmanager
    def asleep(self) -> Iterator[None]:
        """Count nothing meanwhile: it is done by somebody else, who does not die with us."""
        self._asleep += 1
        try:
            yield
        finally:
            self._asleep -= 1

    def touch(self, what: str) -> None:
        """Count one effect, and raise where it is the one."""
        with self._lock:
            if self._asleep:
                return
            if self.dead:
                raise Died(what)  # threads and ``finally`` blocks of the dead do nothing either
            self.count += 1
            self.trace.append(what)
            if self.at in (self.count, what):
                self.burnt = what
                error = self.raises()
                self.dead = isinstance(error, Died)
                raise error


_current: Fuse | None = None
_within = ""


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    fuse = _current
    if fuse is None:
        return
    if event == "open":
        path, _mode, flags = arguments
        if not (isinstance(path, (str, bytes)) and isinstance(flags, int) and flags & WRITING):
            return
        name = os.fsdecode(path)
        if name.startswith(("/dev/", "/proc/")) or name.endswith("journal.jsonl"):
            return  # the journal burns by itself, after its line is written
        if os.path.isabs(name) and not name.startswith(_within):
            return
        fuse.touch(f"open {os.path.basename(name)}")
    elif event in EFFECTS:
        path = arguments[0]
        if isinstance(path, (str, bytes)) and os.path.isabs(path) and not os.fsdecode(path).startswith(_within):
            return
        fuse.touch(f"{event} {os.path.basename(os.fsdecode(path)) if isinstance(path, (str, bytes)) else ''}")


sys.addaudithook(_audit)


@contextlib.contextmanager
def laid(fuse: Fuse, within: str) -> Iterator[None]:
    """Have ``fuse`` count what happens below the directory ``within``, and each journal line after it is written."""
    global _current, _within  # noqa: PLW0603 - an audit hook cannot be taken off, only told nothing
    append, rename = Journal._append, libc.rename_no_replace

    def burning_append(self: Journal, what: str, *arguments: object, **more: object) -> None:
        append(self, what, *arguments, **more)  # type: ignore[arg-type]
        if what != "progress":
            fuse.touch(f"journal {what} {arguments[0] if arguments else ''}")

    def burning_rename(source: str, target: str) -> None:
        fuse.touch(f"rename {os.path.basename(source)}")
        rename(source, target)
        fuse.touch(f"renamed {os.path.basename(source)}")

    Journal._append = burning_append  # type: ignore[method-assign]
    libc.rename_no_replace = burning_rename
    _current, _within = fuse, within
    try:
        yield
    finally:
        _current = None
        Journal._append = append  # type: ignore[method-assign]
        libc.rename_no_replace = rename
