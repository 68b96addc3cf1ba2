# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A named pipe in a container, by which a program's output comes to this host without passing through the engine.

The engine hands on each byte four times, between three processes, before it is here; a pipe's is read where it was
written. It can be where this process may enter the container's files and the container has memory to share
(``/dev/shm``). A shell of the container opens the pipe, says so by its first byte, and becomes the program: without
that byte, no program was begun. The name of the pipe goes with it. Should this process be killed before that, the
empty pipe stays in the memory of the container, with a shell that waits for a reader, until it is restarted.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import select
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.ending import is_in
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.frames import BrokenOff

PLACE = ("dev", "shm")
PREFIX = ".selfhost-stateful-"
# By the environment, which no other user of the container can read: whoever knows the name may write.
VARIABLE = "SELFHOST_STATEFUL_PIPE"
# Two `exec`: of a pipe that could not be opened, a shell may go on with its next command. Where somebody took the pipe
# away, no file is made in its place.
BEGIN = (
    "sh",
    "-c",
    f'[ -p "${VARIABLE}" ] && exec >"${VARIABLE}" || exit 126; unset {VARIABLE}; echo; exec "$@"',
    "sh",
)
# What every shell hands on unchanged. Some drop names that are none to them, and set some of their own.
_PLAIN = re.compile(r"(?!BASH)[A-Za-z_][A-Za-z0-9_]*")
_OF_SHELLS = frozenset(
    ("IFS", "LINENO", "OLDPWD", "OPTERR", "OPTIND", "POSIXLY_CORRECT", "PPID", "PS1", "PS2", "PS4", "PWD")
    + ("RANDOM", "SECONDS", "SHELLOPTS")
)
PIECE = 1 << 18
CAPACITY = 1 << 20
"""Bytes that it holds; the system may allow fewer."""
PATIENCE = 0.1
"""Seconds after which it is asked whether anybody is still to write."""
SILENCE = 10.0
"""Seconds that whoever holds the output of a program that has ended may be silent."""
_F_SETPIPE_SZ = 1031


def hands_on(names: Iterable[str]) -> bool:
    """Tell whether a shell hands on an environment of these names as it is."""
    return all(_PLAIN.fullmatch(name) and name not in _OF_SHELLS for name in names)


class OutputPipe:
    """The end of it that is read. ``path`` is that for :data:`VARIABLE`; ``opened``: whether a program was begun."""

    def __init__(self, handle: int, path: str, forget: Callable[[], object]) -> None:
        self._handle, self._forget = handle, forget
        self.path = path
        self.opened = False

    def drain(
        self,
        stdout: Callable[[bytes], object],
        *,
        over: Callable[[], bool],
        ended: Callable[[], bool],
        runs: Callable[[], bool],
    ) -> None:
        """Hand out what is written until all who write have closed it, or nobody listens any more (``over``).

        ``ended``: whether all else that the program says has ended; ``runs``: whether the program itself goes on, as
        one does that has closed its errors (``2>/dev/null``). Raises :class:`BrokenOff` where it does not, and others
        hold its output and are silent for too long to know whether it is whole.
        """
        waiting = select.poll()
        waiting.register(self._handle, select.POLLIN)
        silent = 0.0  # counted and not read from a clock: this process may have been stopped meanwhile
        while not over():
            had_ended = ended()  # asked first: what was written by then is seen
            # Before the first who opens it there is nothing to see; from then on, what comes or the end.
            if not waiting.poll(1000 * PATIENCE):
                if had_ended and not self.opened:
                    return
                silent = silent + PATIENCE if had_ended else 0.0
                if silent >= SILENCE:
                    if not runs():
                        raise BrokenOff(f"others still hold its output, and have said nothing for {SILENCE:g} s")
                    silent = 0.0
                continue
            silent = 0.0
            piece = os.read(self._handle, PIECE)
            if not piece:
                return
            if not self.opened:
                self.opened = True
                self._forget()
                piece = piece[1:]  # the shell's own byte
            if piece:
                stdout(piece)


class Draining:
    """Drains a pipe in a thread of its own; what ``stdout`` raises is told to ``failed``."""

    def __init__(
        self,
        pipe: OutputPipe,
        stdout: Callable[[bytes], object],
        *,
        stopped: Callable[[], Any],
        failed: Callable[[BaseException], object],
        runs: Callable[[], bool],
    ) -> None:
        self._pipe, self._stdout, self._stopped, self._failed, self._runs = pipe, stdout, stopped, failed, runs
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until all is handed out; to be called once the program has ended, or is not listened to any more."""
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        try:
            self._pipe.drain(
                self._stdout,
                over=lambda: self._stopped() is not None,
                ended=self._ended.is_set,
                runs=self._runs,
            )
        except BaseException as error:  # noqa: BLE001 - raised where somebody waits for it
            self._failed(error)


@contextlib.contextmanager
def made(pid: int, container_id: str) -> Iterator[OutputPipe | None]:
    """Make a pipe in the container that the process ``pid`` belongs to; None where it cannot be made.

    Nothing of it is left in the container at the end of the block.
    """
    with contextlib.ExitStack() as stack:
        try:
            pipe = _made(pid, container_id, stack)
        except OSError:  # another host's container, none of ours to enter, or one without such a place
            pipe = None
        yield pipe


def _made(pid: int, container_id: str, stack: contextlib.ExitStack) -> OutputPipe | None:
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, root)
    # Asked while its files are held: the number may by now be of another process.
    return made_in(root, stack) if is_in(pid, container_id) else None


def made_in(root: int, stack: contextlib.ExitStack) -> OutputPipe:
    """Make one in the files below the open directory ``root``, until ``stack`` is closed."""
    handles = stack.enter_context(contextlib.ExitStack())
    names = stack.enter_context(contextlib.ExitStack())  # taken away before the handles that they are below

    def opened(name: str, flags: int, *, below: int) -> int:
        handle = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=below)
        handles.callback(os.close, handle)
        return handle

    place = root
    for part in PLACE:  # no link is followed: it would lead into the files of this host
        place = opened(part, os.O_DIRECTORY, below=place)
    # Whoever the program runs as may write to it and not read; for others it has a name that cannot be listed.
    directory_name, name = PREFIX + secrets.token_hex(8), secrets.token_hex(8)
    os.mkdir(directory_name, 0o700, dir_fd=place)
    names.callback(_remove, os.rmdir, directory_name, place)
    directory = opened(directory_name, os.O_DIRECTORY, below=place)
    os.mkfifo(name, 0o600, dir_fd=directory)
    names.callback(_remove, os.unlink, name, directory)
    found = opened(name, os.O_PATH, below=directory)
    # Before it is opened: whoever rules the container may have put a device there.
    if not stat.S_ISFIFO(os.fstat(found).st_mode):
        raise FileNotFoundError(name)
    handle = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    handles.callback(os.close, handle)
    with contextlib.suppress(OSError):
        fcntl.fcntl(handle, _F_SETPIPE_SZ, CAPACITY)
    os.fchmod(handle, 0o622)
    os.fchmod(directory, 0o711)
    return OutputPipe(handle, "/" + "/".join((*PLACE, directory_name, name)), names.close)


def _remove(remove: Callable[..., None], name: str, below: int) -> None:
    with contextlib.suppress(OSError):
        remove(name, dir_fd=below)
