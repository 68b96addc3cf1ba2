# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The warm pass: copy a tree while it is in use. What comes out is torn until it is settled."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.beneath import (
    GONE,
    lstat,
    open_directory,
    open_file,
    open_root,
    remove,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.blocks import (
    copy_data,
    rewrite_differences,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.durable import (
    PathLike,
    fsync_parent,
    sync_file_system,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.entries import (
    Batch,
    batches,
    prepare_root,
    put_directory,
    put_link,
    put_other,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.mapped import writably_mapped_inodes
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.metadata import copy_metadata
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.parallel import Counter, in_parallel
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.record import (
    Known,
    Record,
    Stamp,
    open_record,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.scan import (
    Entry,
    Listing,
    carried,
    in_chunks,
    tree_size,
    walk,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.space import require_space, watched
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.unchanged import is_unchanged

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class WarmCopied:
    """What a warm pass did: files copied, still good from an earlier pass, gone before they were read."""

    files_copied: int
    files_kept: int
    files_vanished: int
    bytes_written: int
    bytes_total: int
    copy_seconds: float
    sync_seconds: float


@dataclass(frozen=True)
class _Copied:
    entry: Entry
    stamp: Stamp | None
    written: int


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        return stream.read().strip()


def warm_copy(
    source: PathLike,
    target: PathLike,
    *,
    record: PathLike,
    source_id: str | None = None,
    workers: int = 2,
    progress: Progress = lambda done, total: None,
    exclude: Collection[str] = (),
    keep_free: int = 0,
    clock: Callable[[], int] = time.time_ns,
) -> WarmCopied:
    """Copy the live tree ``source`` into the staging directory ``target``; what was copied goes to ``record``.

    Run again it goes on: files that did not change since are kept, others are brought up to
    date block by block. So a second pass shortly before the stop shortens what is left to
    settle. Directories get their owner, mode and times only when settling. ``exclude`` holds
    relative paths; ``keep_free`` bytes of the target's file system are left to others. Raises
    ``NoSpace``, ``NestedMount``, ``NotOurs``, ``TreeError``.

    ``source_id`` names the source in the record where its path will be another after the stop,
    as that of a container's own layer is.
    """
    counter = Counter()
    total = 0
    state = (
        f"the original in {os.fspath(source)} is untouched; the partial copy in {os.fspath(target)} "
        "is ours and is continued by the next run"
    )
    with (
        watched(
            target,
            what=f"Copying {os.fspath(source)}",
            state=state,
            needed=lambda: total - counter.value,
            record=record,
        ),
        open_record(record, source=source if source_id is None else source_id, target=target) as book,
    ):
        prepare_root(target, resumable=book.header("began") is not None)
        # Everything that changes from here on is compared when settling, be it read before
        # the change or after: see writably_mapped_inodes().
        began = clock()
        mapped = writably_mapped_inodes()
        _forget_what_may_be_lost(book)
        book.set_header("began", str(began))
        book.set_header("durable", f"no {boot_id()}")
        book.set_header("settling", "no")
        size = tree_size(source, exclude=exclude)
        total = size.bytes_apparent
        if not book.totals():
            require_space(target, needed=size.bytes_allocated, keep_free=keep_free, state=state)
        started = time.monotonic()
        with open_root(source) as source_root, open_root(target) as target_root:
            done = _Pass(book, source, source_root, target_root, counter, began, mapped)

            def tick() -> None:
                if keep_free:
                    require_space(target, needed=0, keep_free=keep_free, state=state)
                progress(min(counter.value, total), total)

            written = done.run(exclude, workers, tick)
        copied = time.monotonic()
        book.commit()
        # Until this the record must not be trusted over a power cut.
        sync_file_system(target)
        fsync_parent(target)
        book.set_header("durable", "yes")
        progress(total, total)
        return WarmCopied(
            done.copied, done.kept, done.vanished, written, total, copied - started, time.monotonic() - copied
        )


def _forget_what_may_be_lost(book: Record) -> None:
    """Drop what an unfinished pass recorded before the host went down: its data may never have hit the disk."""
    if book.header("durable") not in (None, "yes", f"no {boot_id()}"):
        book.forget_all()


class _Pass:
    """One pass over the source; lives as long as the descriptors of both roots."""

    def __init__(
        self,
        book: Record,
        source: PathLike,
        source_root: int,
        target_root: int,
        counter: Counter,
        began: int,
        mapped: Collection[int],
    ) -> None:
        self._book = book
        self._source = source
        self._source_root = source_root
        self._target_root = target_root
        self._counter = counter
        self._began = began
        self._mapped = mapped
        self.copied = self.kept = self.vanished = 0

    def run(self, exclude: Collection[str], workers: int, tick: Callable[[], None]) -> int:
        """Copy everything; return how many bytes were written."""
        written = 0
        for results in in_parallel(self._copy_batch, self._jobs(exclude), workers=workers, tick=tick):
            self._book.add(self._known(result.entry, result.stamp) for result in results if result.stamp is not None)
            self.copied += sum(result.stamp is not None for result in results)
            self.vanished += sum(result.stamp is None for result in results)
            written += sum(result.written for result in results)
        for path, first in self._book.links():
            self._link(path, first)
        return written

    def _known(self, entry: Entry, stamp: Stamp) -> Known:
        # A mapped file is never called unchanged by its times.
        return Known(entry.path, stamp, 0 if stamp.inode in self._mapped else self._began)

    def _jobs(self, exclude: Collection[str]) -> Iterator[Batch]:
        for listing in walk(self._source, live=True, exclude=exclude):
            with open_directory(self._target_root, listing.path) as target:
                yield from batches(listing.path, self._files_to_copy(listing, target))

    def _files_to_copy(self, listing: Listing, target: int) -> Iterator[Entry]:
        for chunk in in_chunks(carried(self._source, listing)):
            known = self._book.known_among(listing.path, chunk[0].name, chunk[-1].name)
            for entry in chunk:
                if entry.kind == "directory":
                    put_directory(target, entry.name)
                elif entry.kind != "file":
                    with contextlib.suppress(FileNotFoundError):
                        put_other(listing.descriptor, target, entry)
                elif entry.nlink > 1 and (first := self._book.first_of_link(entry.inode, entry.path)) is not None:
                    self._book.add_link(entry.path, first)
                elif self._is_kept(known.get(entry.name), entry, target):
                    self._counter.add(entry.size)
                    self.kept += 1
                else:
                    yield entry

    def _is_kept(self, known: Known | None, entry: Entry, target: int) -> bool:
        now = Stamp(entry.size, entry.mtime_ns, entry.ctime_ns, entry.inode)
        return is_unchanged(known, now) and matches(lstat(target, entry.name), now)

    def _copy_batch(self, batch: Batch) -> list[_Copied]:
        try:
            with (
                open_directory(self._source_root, batch.directory) as source,
                open_directory(self._target_root, batch.directory) as target,
            ):
                return [self._copy_file(source, target, entry) for entry in batch.entries]
        except OSError as error:
            if error.errno not in GONE:
                raise
            return [_Copied(entry, None, 0) for entry in batch.entries]

    def _copy_file(self, source: int, target: int, entry: Entry) -> _Copied:
        with contextlib.ExitStack() as stack:
            try:
                origin = stack.enter_context(open_file(source, entry.name))
            except OSError as error:
                if error.errno not in GONE:
                    raise
                self._counter.add(entry.size)
                return _Copied(entry, None, 0)
            status = os.fstat(origin)
            if not stat.S_ISREG(status.st_mode):
                return _Copied(entry, None, 0)
            copy = stack.enter_context(open_copy(target, entry.name))
            if os.fstat(copy).st_size:
                written = sum(length for _offset, length in rewrite_differences(origin, copy, status.st_size))
                self._counter.add(entry.size)
            else:
                written = copy_data(origin, copy, status.st_size, self._counter.add)
            copy_metadata(origin, copy, status)
            return _Copied(entry, Stamp.of(status), written)

    def _link(self, path: str, first: str) -> None:
        try:
            put_link(self._target_root, first, path)
        except FileNotFoundError:
            # The first name vanished before it was read; settling finds out what became of the others.
            self.vanished += 1


def matches(copy: os.stat_result | None, stamp: Stamp) -> bool:
    """Tell whether a copied file is still as the pass left it; its mtime was set last, after all data."""
    return (
        copy is not None
        and stat.S_ISREG(copy.st_mode)
        and copy.st_size == stamp.size
        and copy.st_mtime_ns == stamp.mtime_ns
    )


@contextlib.contextmanager
def open_copy(target: int, name: str, *, shared: bool = False) -> Iterator[int]:
    """Open the target of a file for reading and writing, or make it.

    One that has further names is replaced, unless ``shared`` says that they belong to the same file.
    """
    status = lstat(target, name)
    if status is not None and not (stat.S_ISREG(status.st_mode) and (shared or status.st_nlink == 1)):
        remove(target, name)
        status = None
    flags = os.O_RDWR if status is not None else os.O_RDWR | os.O_CREAT | os.O_EXCL
    with open_file(target, name, flags) as descriptor:
        yield descriptor
