# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove copies by reading them again."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.beneath import (
    GONE,
    open_directory,
    open_file,
    open_root,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.blocks import (
    first_difference,
    forget_cached,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.copy import Progress
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.durable import PathLike
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.errors import CopyDamaged
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.parallel import Counter, in_parallel
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.record import Known, Stamp, open_record
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.space import watched
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.unchanged import (
    RACY_MARGIN_NS,
    is_unchanged,
)


@dataclass(frozen=True)
class Proved:
    """What was read again and found equal; ``files_left`` changed at the source and await settling."""

    files: int
    bytes: int
    files_left: int


@dataclass(frozen=True)
class _Checked:
    path: str
    bytes: int
    verdict: str  # equal, left, damaged


def prove_warm(
    source: PathLike,
    target: PathLike,
    *,
    record: PathLike,
    source_id: str | None = None,
    workers: int = 2,
    progress: Progress = lambda done, total: None,
    margin_ns: int = RACY_MARGIN_NS,
) -> Proved:
    """Read the copy again from its disk, while the source is alive, against files that did not change since.

    A file that changed at the source, or cannot be told from one that did, is no damage: it
    is left to ``settle``, which compares all of its blocks. What is proved stays proved until it
    is copied again. Raises ``CopyDamaged`` and forgets the files concerned, so that the next
    pass copies them anew.
    """
    state = f"the original in {os.fspath(source)} is untouched; the partial copy in {os.fspath(target)} is ours"
    files = left = 0
    done = Counter()
    damaged: list[str] = []
    with (
        watched(target, what=f"Proving {os.fspath(target)}", state=state, needed=lambda: 0, record=record),
        open_record(record, source=source if source_id is None else source_id, target=target) as book,
    ):
        with open_root(source) as source_root, open_root(target) as target_root:

            def check(known: Known) -> _Checked:
                return _check_known(source_root, target_root, known, margin_ns)

            for result in in_parallel(check, book.unproved(), workers=workers, tick=lambda: progress(done.value, 0)):
                done.add(result.bytes)
                if result.verdict == "equal":
                    files += 1
                    book.set_proved(result.path)
                elif result.verdict == "damaged":
                    damaged.append(result.path)
                    book.forget(result.path)
                else:
                    left += 1
        book.commit()
    _refuse_damage(target, damaged, state)
    return Proved(files, done.value, left)


def _refuse_damage(target: PathLike, damaged: list[str], state: str) -> None:
    if damaged:
        raise CopyDamaged(
            f"{len(damaged)} files in {os.fspath(target)} differ from their originals, which did not change: "
            f"{', '.join(damaged[:5])}. Memory or disk may be failing; the next run copies these files anew.",
            state=state,
            next_command="dmesg --level=err,warn | tail -n 50",
            damaged=damaged[:100],
        )


def _check_known(source_root: int, target_root: int, known: Known, margin_ns: int) -> _Checked:
    directory, _slash, name = known.path.rpartition("/")
    left = _Checked(known.path, 0, "left")
    try:
        with open_directory(source_root, directory) as where, open_file(where, name) as origin:
            if not is_unchanged(known, Stamp.of(os.fstat(origin)), margin_ns=margin_ns):
                return left
            equal = _equals_copy(origin, target_root, directory, name, 0, known.stamp.size)
            # Only a source that is still the same after the reading makes a difference damage.
            if not equal and not is_unchanged(known, Stamp.of(os.fstat(origin)), margin_ns=margin_ns):
                return left
    except OSError as error:
        if error.errno not in GONE:
            raise
        return left
    return _Checked(known.path, known.stamp.size, "equal" if equal else "damaged")


def _equals_copy(origin: int, target_root: int, directory: str, name: str, offset: int, length: int) -> bool:
    """Tell whether a range of the copy is that of the original, read from the disk."""
    try:
        with open_directory(target_root, directory) as where, open_file(where, name) as copy:
            # Only clean pages leave the cache; whatever calls this has synced before.
            forget_cached(copy, offset, length)
            same_facts = _facts(os.fstat(copy)) == _facts(os.fstat(origin))
            return same_facts and first_difference(origin, copy, offset, length) is None
    except OSError as error:
        if error.errno not in GONE:
            raise
        return False


def _facts(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_size, status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns)


def prove_settled(
    source: PathLike, target: PathLike, *, record: PathLike, source_id: str | None = None, workers: int = 2
) -> Proved:
    """Read again from the disk what settling wrote, and nothing else, against the stopped source."""
    state = f"the original in {os.fspath(source)} is complete; the copy in {os.fspath(target)} is not proved"
    done = 0
    files: set[str] = set()
    damaged: list[str] = []
    with (
        watched(target, what=f"Proving {os.fspath(target)}", state=state, needed=lambda: 0, record=record),
        open_record(record, source=source if source_id is None else source_id, target=target) as book,
    ):
        with open_root(source) as source_root, open_root(target) as target_root:

            def check(written: tuple[str, int, int]) -> _Checked:
                path, offset, length = written
                directory, _slash, name = path.rpartition("/")
                with open_directory(source_root, directory) as where, open_file(where, name) as origin:
                    equal = _equals_copy(origin, target_root, directory, name, offset, length)
                return _Checked(path, length, "equal" if equal else "damaged")

            for result in in_parallel(check, book.rewritten(), workers=workers):
                done += result.bytes
                files.add(result.path)
                if result.verdict == "damaged":
                    damaged.append(result.path)
        for path in damaged:
            book.forget(path)
        book.commit()
    _refuse_damage(target, damaged, state)
    return Proved(len(files), done, 0)
