# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare two stopped trees in full: every name, all metadata, every byte."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.beneath import (
    GONE,
    join,
    lstat,
    open_directory,
    open_file,
    open_root,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.blocks import first_difference
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.durable import PathLike
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.metadata import read_xattrs
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.scan import Entry, Listing, entry_of, walk
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.space import watched

SHOWN = 5
"""How many differences a refusal names."""


@dataclass(frozen=True)
class Difference:
    """One thing in which two trees differ; ``one`` and ``other`` in words ("" is the root itself)."""

    path: str
    what: str
    one: str
    other: str


def compare_trees(
    one: PathLike, other: PathLike, *, content: bool = True, limit: int = 100, exclude: Collection[str] = ()
) -> list[Difference]:
    """Return up to ``limit`` differences between two trees that nobody writes to.

    Compared are names, kinds, sizes, owners, modes, modification times, extended attributes, targets
    of symbolic links, device numbers, which names are hard links of each other, and, with ``content``,
    every byte of regular files.
    """
    state = "nothing was changed by the comparison"
    with watched(other, what=f"Comparing {os.fspath(one)} with {os.fspath(other)}", state=state, needed=lambda: 0):
        return list(islice(_differences(one, other, content, frozenset(exclude)), limit))


def refuse_differences(source: PathLike, made: PathLike) -> None:
    """Raise :class:`StatefulError` where a copy is not what it was made of."""
    differences = compare_trees(source, made)
    if differences:
        shown = "; ".join(f"{each.path} ({each.what})" for each in differences[:SHOWN])
        raise StatefulError(
            f"The copy of {os.fspath(source)} in {os.fspath(made)} differs from it: {shown}.",
            state=f"{os.fspath(source)} is whole",
        )


def _differences(one: PathLike, other: PathLike, content: bool, excluded: frozenset[str]) -> Iterator[Difference]:
    groups = _Groups()
    with open_root(one) as one_root, open_root(other) as other_root:
        yield from _entry_differences(one_root, other_root, _root_entry(one_root), _root_entry(other_root))
        for listing in walk(one, live=False, exclude=excluded):
            with contextlib.ExitStack() as stack:
                try:
                    there = stack.enter_context(open_directory(other_root, listing.path))
                except OSError as error:
                    if error.errno not in GONE:
                        raise
                    # Said already, at its parent.
                    continue
                yield from _surplus(listing, there, excluded)
                for entry in listing.entries:
                    yield from _pair_differences(listing.descriptor, there, entry, content, groups)


def _pair_differences(here: int, there: int, entry: Entry, content: bool, groups: _Groups) -> Iterator[Difference]:
    status = lstat(there, entry.name)
    if status is None:
        yield Difference(entry.path, "missing", entry.kind, "")
        return
    twin = entry_of(entry.path, status)
    yield from _entry_differences(here, there, entry, twin)
    if entry.kind == twin.kind == "file" and not entry.is_mount:
        if not groups.agree(entry, twin):
            yield Difference(entry.path, "hard links", f"inode {entry.inode}", f"inode {twin.inode}")
        if content and entry.size == twin.size:
            yield from _content(here, there, entry)


class _Groups:
    """Which names are one file: the same ones must be on both sides."""

    def __init__(self) -> None:
        self._twins: dict[int, int] = {}
        self._originals: dict[int, int] = {}

    def agree(self, entry: Entry, twin: Entry) -> bool:
        if entry.nlink == twin.nlink == 1:
            return True
        return (
            self._twins.setdefault(entry.inode, twin.inode) == twin.inode
            and self._originals.setdefault(twin.inode, entry.inode) == entry.inode
        )


def _root_entry(descriptor: int) -> Entry:
    return entry_of("", os.fstat(descriptor))


def _surplus(listing: Listing, there: int, excluded: frozenset[str]) -> Iterator[Difference]:
    names = set(listing.names)
    for name in sorted(os.listdir(there)):
        path = join(listing.path, name)
        if name not in names and path not in excluded:
            yield Difference(path, "surplus", "", "present")


def _entry_differences(here: int, there: int, entry: Entry, twin: Entry) -> Iterator[Difference]:
    if entry.is_mount:
        yield Difference(entry.path, "mount point", "not compared", "")
        return
    if entry.kind != twin.kind:
        yield Difference(entry.path, "kind", entry.kind, twin.kind)
        return
    facts = [("mode", f"{entry.mode:o}", f"{twin.mode:o}"), ("mtime", str(entry.mtime_ns), str(twin.mtime_ns))]
    facts.append(("owner", f"{entry.uid}:{entry.gid}", f"{twin.uid}:{twin.gid}"))
    if entry.kind == "file":
        facts.append(("size", str(entry.size), str(twin.size)))
    if entry.kind.endswith("device"):
        facts.append(("device", str(entry.rdev), str(twin.rdev)))
    if entry.kind == "symlink":
        texts = [os.readlink(entry.name, dir_fd=where) for where in (here, there)]
        facts.append(("symlink", texts[0], texts[1]))
    name = entry.name or "."
    attributes = [str(sorted(read_xattrs(f"/proc/self/fd/{where}/{name}").items())) for where in (here, there)]
    facts.append(("attributes", attributes[0], attributes[1]))
    for what, mine, theirs in facts:
        if mine != theirs:
            yield Difference(entry.path, what, mine, theirs)


def _content(here: int, there: int, entry: Entry) -> Iterator[Difference]:
    with open_file(here, entry.name) as mine, open_file(there, entry.name) as theirs:
        offset = first_difference(mine, theirs, 0, entry.size)
        if offset is not None:
            yield Difference(entry.path, "content", f"block at {offset}", f"block at {offset}")
