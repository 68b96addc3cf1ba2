# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a program in a container, between files of this host, in constant memory at any size."""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container, ExecResult
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._stream.files import Destination, destination, pieces_of
from ansible_collections.selfhost.stateful.plugins.module_utils._stream.json_text import JsonText, NoJson

ANYTHING, NOT_EMPTY, JSON = "anything", "not_empty", "json"
KEPT = 1 << 16
"""Of an output that goes to no file, so much is returned."""


@dataclass(frozen=True)
class Request:
    """What is run, from which file and to which. Empty paths stand for none; ``expect`` is one of the words above.

    ``timeout``: seconds that it may take in all; 0: as many as it likes.
    """

    argv: tuple[str, ...]
    stdin_path: str = ""
    stdout_path: str = ""
    stdin_compressed: bool = False
    stdout_compressed: bool = False
    expect: str = ANYTHING
    user: str = ""
    timeout: float = 0
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Streamed:
    """What became of it; sizes in bytes and ``sha256`` are those of the output, uncompressed."""

    stderr: str
    stdout: str
    bytes_read: int
    bytes_written: int
    sha256: str
    seconds: float


def carry_out(engine: Engine, container: Container, request: Request) -> Streamed:
    """Run it; raises :class:`StatefulError` where it fails or says something else than is expected."""
    began = time.monotonic()
    read, kept = _Counted(), _Kept()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_told(request, container))
        target: Destination | _Kept = kept
        if request.stdout_path:
            target = stack.enter_context(destination(request.stdout_path, compressed=request.stdout_compressed))
        judge = _Judge(request.expect)
        given = pieces_of(request.stdin_path, compressed=request.stdin_compressed) if request.stdin_path else None

        def take(piece: bytes) -> None:
            judge.feed(piece)
            target.write(piece)

        try:
            answer = engine.stream(
                container.id,
                request.argv,
                stdout=take,
                stdin=read.counted(given) if given is not None else None,
                environment=request.environment,
                user=request.user,
                timeout=request.timeout,
                much=bool(request.stdout_path),
            )
        except StatefulError as error:
            if error.state == StatefulError.NOTHING_CHANGED:
                raise  # it was not begun
            raise _given_up(error, request) from error
        except (OSError, EOFError, zlib.error) as error:
            raise _broken_off(error, request, container) from error
        _refuse_failure(answer, request, container)
        judge.close(answer, request, container, target.bytes)
    return Streamed(
        stderr=answer.stderr.decode("utf-8", "replace"),
        stdout=kept.text(),
        bytes_read=read.bytes,
        bytes_written=target.bytes,
        sha256=target.sha256 if isinstance(target, Destination) else "",
        seconds=round(time.monotonic() - began, 3),
    )


@contextlib.contextmanager
def _told(request: Request, container: Container) -> Iterator[None]:
    """Tell of a file that cannot be made, or whose end does not come to the disk."""
    try:
        yield
    except PermissionError:
        raise  # told for every module: become
    except OSError as error:
        raise _broken_off(error, request, container) from error


def _refuse_failure(answer: ExecResult, request: Request, container: Container) -> None:
    if answer.rc != 0:
        raise _failure(f"{request.argv[0]} in {container.name} ended with {answer.rc}", answer, request, container)


def _given_up(error: StatefulError, request: Request) -> StatefulError:
    """Return what is said where the program was not waited for, or not followed to its end, and may go on."""
    return type(error)(
        error.msg,
        state=f"{_where(request)}; {error.state}",
        safe_to_rerun=error.safe_to_rerun and not request.stdin_path,
        next_command=error.next_command,
    )


def _broken_off(error: BaseException, request: Request, container: Container) -> StatefulError:
    """Return what is said where an end of the stream on this host has failed; the program has ended, or was ended."""
    given = request.stdin_path
    taken = f", and may have taken a part of {given}" if given else ""
    place = given or request.stdout_path
    return StatefulError(
        f"The stream from or to a file of this host broke off: {error!r}.",
        state=f"{_where(request)}; {request.argv[0]} in {container.name} does not run any more{taken}",
        safe_to_rerun=not given,
        next_command=shell("df", "-h", os.path.dirname(place)) if place else "",
    )


def _where(request: Request) -> str:
    return f"{request.stdout_path} is as it was before" if request.stdout_path else "nothing was written on this host"


def _failure(what: str, answer: ExecResult, request: Request, container: Container) -> StatefulError:
    said = answer.error_text().strip().splitlines()[-8:]
    taken = f"; {container.name} may have taken a part of {request.stdin_path}" if request.stdin_path else ""
    return StatefulError(
        "\n".join([f"{what}{':' if said else '.'}", *said]),
        state=f"{_where(request)}{taken}",
        safe_to_rerun=not request.stdin_path,
        next_command=shell("docker", "logs", "--tail", "50", container.name),
    )


class _Judge:
    """Looks at what passes, as far as something is expected of it."""

    def __init__(self, expect: str) -> None:
        self._expect = expect
        self._json = JsonText() if expect == JSON else None
        self._wrong = ""

    def feed(self, piece: bytes) -> None:
        if self._json is None or self._wrong:
            return
        try:
            self._json.feed(piece)
        except NoJson as error:
            self._wrong = str(error)

    def close(self, answer: ExecResult, request: Request, container: Container, size: int) -> None:
        """Raise :class:`StatefulError` where it is not what was expected."""
        if self._expect == ANYTHING:
            return
        if not size:
            what = f"{request.argv[0]} in {container.name} ended with 0 and wrote nothing"
            raise _failure(what, answer, request, container)
        if self._json is not None and not self._wrong:
            try:
                self._json.close()
            except NoJson as error:
                self._wrong = str(error)
        if self._wrong:
            what = f"{request.argv[0]} in {container.name} ended with 0, and what it wrote is no JSON: {self._wrong}"
            raise _failure(what, answer, request, container)


class _Counted:
    """Counts what passes."""

    def __init__(self) -> None:
        self.bytes = 0

    def counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.bytes += len(piece)
            yield piece


class _Kept:
    """Keeps the beginning of an output."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self.bytes = 0

    def write(self, piece: bytes) -> None:
        self._kept += piece[: KEPT - len(self._kept)]
        self.bytes += len(piece)

    def text(self) -> str:
        return self._kept.decode("utf-8", "replace")


def as_dict(streamed: Streamed) -> dict[str, Any]:
    return dict(vars(streamed))
