# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Trees to carry, hands that disturb them, and processes that die at a chosen point."""

from __future__ import annotations

import functools
import itertools
import os
import random
import shutil
import signal
import subprocess
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import libc

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and mounts need root")

# Every call through which the code under test changes a tree.
_CHANGING = (
    *("open", "mkdir", "unlink", "rmdir", "link", "symlink", "mknod", "ftruncate", "pwrite", "copy_file_range"),
    *("fchmod", "fchown", "utime", "fsync", "setxattr", "removexattr", "rename", "lseek"),
)


def much_later() -> int:
    """A clock by which every file was written long before it is read."""
    return time.time_ns() + 3600 * 10**9


def make_tree(root: Path) -> Path:
    """Make a tree with one of everything that a copy can get wrong."""
    root.mkdir(parents=True)
    (root / "base").mkdir(mode=0o750)
    (root / "base" / "16384").write_bytes(os.urandom(3 * (1 << 20) + 17))
    (root / "empty directory").mkdir(mode=0o711)
    (root / "empty").write_bytes(b"")
    (root / "with space and ü.txt").write_text("text")
    Path(os.fsdecode(os.fsencode(root) + b"/no\xfftext")).write_bytes(b"bytes in the name")
    os.link(root / "base" / "16384", root / "linked")
    os.link(root / "base" / "16384", root / "base" / "linked too")
    (root / "dangling").symlink_to("nowhere/at all")
    (root / "out").symlink_to("/etc")
    with (root / "sparse").open("wb") as stream:
        stream.seek(40 << 20)
        stream.write(b"end")
        stream.truncate(64 << 20)
    (root / "setuid").write_bytes(b"#!")
    if os.geteuid() == 0:
        os.chown(root / "base", 999, 999)
        os.chown(root / "setuid", 70, 71)
        os.chown(root / "dangling", 12, 13, follow_symlinks=False)
    (root / "setuid").chmod(0o4755)
    os.mkfifo(root / "fifo", 0o640)
    os.utime(root / "empty", ns=(10**18 + 5, 10**18 + 7))
    os.utime(root / "base", ns=(10**18 + 5, 10**18 + 9))
    return root


def tree_of_many(root: Path, *, files: int = 60, seed: int = 1) -> Path:
    chance = random.Random(seed)
    for number in range(files):
        place = root / f"d{number % 7}" / f"e{number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"f{number}").write_bytes(chance.randbytes(chance.choice([0, 10, 5000, 1 << 20])))
    return root


def flip_byte(path: Path, offset: int) -> None:
    """Flip one byte and leave the times as they were, as a failing disk would."""
    status = path.stat()
    with path.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


class Mutator(threading.Thread):
    """Changes a tree at random until it is stopped, as a service would."""

    def __init__(self, root: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self._root = root
        self._chance = random.Random(seed)
        self._stopped = threading.Event()
        self.changes = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._stopped.is_set():
                self.step()
        except BaseException as error:  # noqa: BLE001 - raised where it is joined
            self.error = error

    def step(self) -> None:
        chance = self._chance
        directories = [self._root, *(path for path in self._root.rglob("*") if path.is_dir() and not path.is_symlink())]
        files = [path for path in self._root.rglob("*") if path.is_file() and not path.is_symlink()]
        place = chance.choice(directories)
        fresh = place / f"n{chance.randrange(40)}"
        action = chance.randrange(10)
        if action < 4 and files:
            victim = chance.choice(files)
            with victim.open("r+b") as stream:
                stream.seek(chance.randrange(max(victim.stat().st_size, 1)))
                stream.write(chance.randbytes(chance.randrange(1, 4000)))
        elif action == 4 and not fresh.exists() and not fresh.is_symlink():
            fresh.write_bytes(chance.randbytes(chance.randrange(100_000)))
        elif action == 5 and files:
            chance.choice(files).unlink()
        elif action == 6 and files:
            victim = chance.choice(files)
            os.truncate(victim, chance.randrange(victim.stat().st_size + 5000))
        elif action == 7 and not fresh.exists() and not fresh.is_symlink():
            if chance.random() < 0.5:
                fresh.mkdir()
            else:
                fresh.symlink_to(f"x{chance.random()}")
        elif action == 8 and files and not fresh.exists() and not fresh.is_symlink():
            origin = chance.choice(files)
            (os.link if chance.random() < 0.5 else os.rename)(origin, fresh)
        elif action == 9 and len(directories) > 3 and chance.random() < 0.2:
            shutil.rmtree(chance.choice(directories[1:]))
        elif files:
            chance.choice(files).chmod(chance.choice([0o600, 0o640, 0o4755]))
        self.changes += 1

    def stop(self) -> None:
        self._stopped.set()
        self.join()
        if self.error is not None:
            raise self.error


def changing_calls(function: Callable[[], Any]) -> int:
    """Return how many calls that change a tree ``function`` makes; run in a child process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        counted = _count_calls(None)
        code = 1
        try:
            function()
            os.write(writing, str(next(counted) - 1).encode())
            code = 0
        except BaseException:  # noqa: BLE001 - a child must not return
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as answer:
        number = answer.read()
    assert os.waitpid(child, 0)[1] == 0
    return int(number)


def killed_at(number: int, function: Callable[[], Any]) -> bool:
    """Run ``function`` in a child that dies by SIGKILL at its n-th changing call; tell whether it did."""
    child = os.fork()
    if child == 0:
        _count_calls(number)
        code = 1
        try:
            function()
            code = 0
        except BaseException:  # noqa: BLE001 - a child must not return
            traceback.print_exc()
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _count_calls(last: int | None) -> itertools.count[int]:
    counter = itertools.count(1)

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            if next(counter) == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return call

    for name in _CHANGING:
        setattr(os, name, counted(getattr(os, name)))
    return counter


def isolated(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in a child with mounts of its own: however it ends, none is left behind."""

    @functools.wraps(test)
    def wrapper(*arguments: Any, **named: Any) -> None:
        if os.geteuid() != 0:
            pytest.skip("mounting needs root")
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            said = "ok"
            try:
                libc.unshare(libc.CLONE_NEWNS)
                libc.mount("none", "/", None, libc.MS_REC | libc.MS_PRIVATE)
                test(*arguments, **named)
            except pytest.skip.Exception as skipped:
                said = f"skip {skipped}"
            except BaseException:  # noqa: BLE001 - a child must not return
                said = traceback.format_exc()
            finally:
                os.write(writing, said.encode())
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            said = answer.read()
        os.waitpid(child, 0)
        if said.startswith("skip "):
            pytest.skip(said[5:])
        if said != "ok":
            pytest.fail(said or "the child died", pytrace=False)

    return wrapper


def mount_image(directory: Path, fs_type: str, megabytes: int) -> Path:
    """Mount a fresh file system from a file; only in an ``isolated`` test, which also ends the loop device."""
    program = shutil.which(f"mkfs.{fs_type}", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        pytest.skip(f"mkfs.{fs_type} is not installed")
    image = directory / f"{fs_type}.image"
    with image.open("wb") as stream:
        stream.truncate(megabytes << 20)
    subprocess.run([program, "-q", str(image)], check=True, capture_output=True)
    place = directory / f"{fs_type} mount"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-o", "loop", str(image), str(place)], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no loop mount of {fs_type} here: {mounted.stderr.strip()}")
    return place


def mount_tmpfs(place: Path, megabytes: int) -> Path:
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)], check=True)
    return place


def bind_mount(origin: Path, place: Path) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "--bind", str(origin), str(place)], check=True)
    return place
