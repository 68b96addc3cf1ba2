# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""After the stop: make a warm copy equal to its source by writing only what differs."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.beneath import (
    join,
    lstat,
    open_directory,
    open_file,
    open_root,
    remove,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.blocks import (
    Range,
    copy_data,
    rewrite_differences,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.copy import (
    Progress,
    boot_id,
    matches,
    open_copy,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.durable import (
    PathLike,
    fsync_parent,
    sync_file_system,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.entries import (
    Batch,
    batches,
    finish_directory,
    prepare_root,
    put_directory,
    put_link,
    put_other,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.errors import SourceChanging
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
    walk,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.space import watched
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.unchanged import (
    RACY_MARGIN_NS,
    is_unchanged,
)

_PATHS_NAMED = 100


@dataclass(frozen=True)
class Settled:
    """Evidence that the copy holds what the stopped source holds, on stable storage.

    ``files_unproved`` counts those taken over unread that no ``prove_warm`` has read either.
    ``rewritten_paths`` names the first hundred; the record has every range.
    """

    files_total: int
    bytes_total: int
    files_compared: int
    files_unproved: int
    files_rewritten: int
    bytes_written: int
    entries_deleted: int
    rewritten_paths: tuple[str, ...]


@dataclass(frozen=True)
class _Compared:
    path: str
    size: int
    ranges: tuple[Range, ...]


def settle(
    source: PathLike,
    target: PathLike,
    *,
    record: PathLike,
    source_id: str | None = None,
    workers: int = 2,
    progress: Progress = lambda done, total: None,
    exclude: Collection[str] = (),
    margin_ns: int = RACY_MARGIN_NS,
) -> Settled:
    """Bring the copy in ``target`` to the state of ``source``, which nobody writes to any more.

    Files that ``is_unchanged`` are left alone, all others are compared block by block, also those
    with no record, so it works without a warm pass, too. Killed anywhere, running it again
    reaches the same end. ``progress`` counts compared bytes, with 0 as the unknown total.
    Raises ``SourceChanging`` where the source is still written to, ``NoSpace``, ``NestedMount``,
    ``TreeError``.
    """
    state = (
        f"the original in {os.fspath(source)} is complete and untouched; the copy in {os.fspath(target)} "
        "is not settled yet and is continued by the next run"
    )
    missing = [0]
    with (
        watched(target, what=f"Settling {os.fspath(target)}", state=state, needed=lambda: missing[0], record=record),
        open_record(record, source=source if source_id is None else source_id, target=target) as book,
    ):
        prepare_root(target, resumable=book.header("began") is not None)
        resumed = _begin(book)
        with open_root(source) as source_root, open_root(target) as target_root:
            run = _Settling(book, source, source_root, target_root, margin_ns, resumed, missing)
            run.files(exclude, workers, progress)
            run.links()
            run.directories()
        if resumed:
            # What the earlier run wrote and never synced looks equal now; a range of it may be anywhere.
            sync_file_system(target)
        fsync_parent(target)
        fsync_parent(source)
        # The order is the point: nothing is called settled before it is on stable storage.
        book.set_header("durable", "yes")
        book.set_header("settling", "no")
        return run.evidence()


def _begin(book: Record) -> bool:
    """Note that settling goes on; tell whether an earlier run was cut off, or a copy never made durable."""
    lost = book.header("durable") not in (None, "yes", f"no {boot_id()}")
    if lost:
        book.forget_all()
    resumed = lost or book.header("durable") != "yes" or book.header("settling") == "yes"
    book.clear_rewritten()
    if book.header("began") is None:
        book.set_header("began", "0")
    book.set_header("settling", "yes")
    return resumed


class _Settling:
    """One run of ``settle``; lives as long as the descriptors of both roots."""

    def __init__(
        self,
        book: Record,
        source: PathLike,
        source_root: int,
        target_root: int,
        margin_ns: int,
        resumed: bool,
        missing: list[int],
    ) -> None:
        self._book = book
        self._source = source
        self._source_root = source_root
        self._target_root = target_root
        self._margin_ns = margin_ns
        self._resumed = resumed
        self._missing = missing
        self._files = self._bytes = self._compared = self._rewritten = self._written = self._deleted = (
            self._unproved
        ) = 0
        self._named: list[str] = []

    def evidence(self) -> Settled:
        return Settled(
            files_total=self._files,
            bytes_total=self._bytes,
            files_compared=self._compared,
            files_unproved=self._unproved,
            files_rewritten=self._rewritten,
            bytes_written=self._written,
            entries_deleted=self._deleted,
            rewritten_paths=tuple(self._named),
        )

    def files(self, exclude: Collection[str], workers: int, progress: Progress) -> None:
        compared = Counter()
        for results in in_parallel(
            self._settle_batch,
            self._jobs(frozenset(exclude)),
            workers=workers,
            tick=lambda: progress(compared.value, 0),
        ):
            for result in results:
                compared.add(result.size)
                self._compared += 1
                self._missing[0] = max(self._missing[0] - result.size, 0)
                self._note(result)

    def _note(self, result: _Compared) -> None:
        if result.ranges:
            self._rewritten += 1
            self._written += sum(length for _offset, length in result.ranges)
            if len(self._named) < _PATHS_NAMED:
                self._named.append(result.path)
        # Of a run that was cut off nobody knows which ranges it wrote, so all of each file it
        # may have written to is proved.
        ranges = ((0, result.size),) if self._resumed else result.ranges
        self._book.add_rewritten(result.path, ranges)

    def _jobs(self, excluded: frozenset[str]) -> Iterator[Batch]:
        for listing in walk(self._source, live=False, exclude=excluded):
            self._book.add_directory(listing.path)
            with open_directory(self._target_root, listing.path) as target:
                self._delete_surplus(listing, target, excluded)
                yield from batches(listing.path, self._files_to_compare(listing, target))

    def _delete_surplus(self, listing: Listing, target: int, excluded: frozenset[str]) -> None:
        wanted = set(listing.names)
        for name in os.listdir(target):
            if name not in wanted and join(listing.path, name) not in excluded:
                self._deleted += remove(target, name)
                self._book.add_directory(listing.path, changed=True)

    def _files_to_compare(self, listing: Listing, target: int) -> Iterator[Entry]:
        for chunk in in_chunks(carried(self._source, listing)):
            known = self._book.known_among(listing.path, chunk[0].name, chunk[-1].name)
            for entry in chunk:
                if entry.kind == "directory":
                    changed = put_directory(target, entry.name)
                elif entry.kind != "file":
                    changed = put_other(listing.descriptor, target, entry)
                else:
                    self._files += 1
                    if entry.nlink > 1 and (first := self._book.first_of_link(entry.inode, entry.path)) is not None:
                        self._book.add_link(entry.path, first)
                        continue
                    self._bytes += entry.size
                    present = self._present(entry, target)
                    if self._is_settled(known.get(entry.name), entry, present):
                        continue
                    changed = present is None
                    if changed:
                        self._missing[0] += entry.blocks * 512
                    yield entry
                if changed:
                    self._book.add_directory(listing.path, changed=True)

    def _is_settled(self, known: Known | None, entry: Entry, present: os.stat_result | None) -> bool:
        now = Stamp(entry.size, entry.mtime_ns, entry.ctime_ns, entry.inode)
        if known is None or not is_unchanged(known, now, margin_ns=self._margin_ns):
            return False
        if not matches(present, now):
            # What is written now was not there when the copy was proved.
            self._book.forget(known.path)
            return False
        self._unproved += not known.proved
        return True

    def _present(self, entry: Entry, target: int) -> os.stat_result | None:
        """Return the status of the file to write to; a name that shares its inode wrongly is removed."""
        present = lstat(target, entry.name)
        if present is None:
            return None
        shared = present.st_nlink > 1
        fits = not shared or (entry.nlink > 1 and self._book.claim(entry.inode, present.st_ino))
        if stat.S_ISREG(present.st_mode) and fits:
            return present
        remove(target, entry.name)
        return None

    def _settle_batch(self, batch: Batch) -> list[_Compared]:
        with (
            open_directory(self._source_root, batch.directory) as source,
            open_directory(self._target_root, batch.directory) as target,
        ):
            return [self._settle_file(source, target, entry) for entry in batch.entries]

    def _settle_file(self, source: int, target: int, entry: Entry) -> _Compared:
        with open_file(source, entry.name) as origin, open_copy(target, entry.name, shared=entry.nlink > 1) as copy:
            before = os.fstat(origin)
            if os.fstat(copy).st_size:
                ranges = tuple(rewrite_differences(origin, copy, before.st_size))
            else:
                copy_data(origin, copy, before.st_size, lambda amount: None)
                ranges = ((0, before.st_size),) if before.st_size else ()
            if copy_metadata(origin, copy, before) or ranges:
                os.fsync(copy)
            if Stamp.of(os.fstat(origin)) != Stamp.of(before):
                raise SourceChanging(
                    f"{os.path.join(os.fspath(self._source), entry.path)} is still being written to.",
                    state="the original is complete; the copy is not settled",
                    next_command="stop whatever writes there, and run the same task again",
                )
            return _Compared(entry.path, before.st_size, ranges)

    def links(self) -> None:
        for path, first in self._book.links():
            if put_link(self._target_root, first, path):
                self._book.add_directory(path.rpartition("/")[0], changed=True)

    def directories(self) -> None:
        """Set the directories' metadata, deepest first: making entries in one changes its times."""
        for path, changed in self._book.directories_deepest_first():
            finish_directory(self._source_root, self._target_root, path, durable=changed)
