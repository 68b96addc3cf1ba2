# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A named pipe in a container, by which a program's output comes to this host without passing through the engine.

The engine hands on each byte four times, between three processes, before it is here; a pipe's is read where it was
written. It can be where this process may enter the container's files and the container has memory to share
(``/dev/shm``). The program is begun by the container's shell, and only once the pipe is open: a pipe that nobody has
opened is of a program that never ran. Should this process be killed in between, a shell is left that waits, and ends
with the container.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import select
import stat
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.ending import is_in

PLACE = ("dev", "shm")
PREFIX = ".selfhost-stateful-"
# Not one `exec`: of a program that could not be begun, a shell may go on with its next command.
INTO_PIPE = ("sh", "-c", 'exec >"$0" || exit 126; exec "$@"')
PIECE = 1 << 18
CAPACITY = 1 << 20
"""Bytes that it holds; the system may allow fewer."""
PATIENCE = 100
"""Milliseconds after which it is asked whether anybody is still to write."""
_F_SETPIPE_SZ = 1031


class OutputPipe:
    """The end of it that is read. ``begin`` is what a program is begun by; ``opened``, whether one was."""

    def __init__(self, handle: int, path: str, forget: Callable[[], object]) -> None:
        self._handle, self._forget = handle, forget
        self.begin = (*INTO_PIPE, path)
        self.opened = False

    def drain(self, stdout: Callable[[bytes], object], *, over: Callable[[], bool], ended: Callable[[], bool]) -> None:
        """Hand out what is written until all who write have closed it, or nobody listens any more (``over``).

        ``ended``: whether what was to open it has ended, so that it is waited for no more.
        """
        waiting = select.poll()
        waiting.register(self._handle, select.POLLIN)
        while not over():
            none_to_come = not self.opened and ended()  # asked first: what was opened by then is seen
            # Until it is opened for the first time there is nothing to see; from then on, what comes or the end.
            if not waiting.poll(0 if none_to_come else PATIENCE):
                if none_to_come:
                    return
                continue
            if not self.opened:
                self.opened = True
                self._forget()  # whoever was to open it has done so
            piece = os.read(self._handle, PIECE)
            if not piece:
                return
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
    ) -> None:
        self._pipe, self._stdout, self._stopped, self._failed = pipe, stdout, stopped, failed
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until all is handed out; to be called once the program has ended, or is not listened to any more."""
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        try:
            self._pipe.drain(self._stdout, over=lambda: self._stopped() is not None, ended=self._ended.is_set)
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
    # Whoever the program runs as may write to it, and not read; who does not know its name finds none.
    directory_name, name = PREFIX + secrets.token_hex(8), secrets.token_hex(8)
    os.mkdir(directory_name, 0o700, dir_fd=place)
    names.callback(_remove, os.rmdir, directory_name, place)
    directory = opened(directory_name, os.O_DIRECTORY, below=place)
    os.mkfifo(name, 0o600, dir_fd=directory)
    names.callback(_remove, os.unlink, name, directory)
    handle = opened(name, os.O_RDONLY | os.O_NONBLOCK, below=directory)
    if not stat.S_ISFIFO(os.fstat(handle).st_mode):
        raise FileNotFoundError(name)
    with contextlib.suppress(OSError):
        fcntl.fcntl(handle, _F_SETPIPE_SZ, CAPACITY)
    os.fchmod(handle, 0o622)
    os.fchmod(directory, 0o711)
    return OutputPipe(handle, "/" + "/".join((*PLACE, directory_name, name)), names.close)


def _remove(remove: Callable[..., None], name: str, below: int) -> None:
    with contextlib.suppress(OSError):
        remove(name, dir_fd=below)
