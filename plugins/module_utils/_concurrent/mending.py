# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a checkout has left that was broken off, by a kill or a power cut, and how it is put right."""

from __future__ import annotations

import os
import time

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.checkout import Checkout

LOCK_LASTS, LOCK_POLL = 10.0, 0.2
SECTOR = 512
"""The least of which a disk writes all or nothing."""


def mend(checkout: Checkout, head: str, release: str, *, broken: bool = False, since: float = 0.0) -> bool:
    """Make the tree that of ``head`` again where a checkout of ``release`` was broken off half-way.

    Returns whether git was ended in the middle, which ``broken`` says where that was found before.
    ``since``: when it began, in seconds since the epoch.

    Of the files in which the two differ none had changes of the admin's: that was seen before it began. All others
    are left alone, and what was written since, as far as it can be told from what git left.
    """
    lock = os.path.join(checkout.git("rev-parse", "--absolute-git-dir"), "index.lock")
    ends = time.monotonic() + LOCK_LASTS
    while os.path.exists(lock) and time.monotonic() < ends:
        time.sleep(LOCK_POLL)
    if os.path.exists(lock):
        # Git takes it before it touches anything: beside an older one, of a commit whose message is still being
        # written, say, none of ours has begun.
        if os.stat(lock).st_mtime < since:
            return broken
        broken = True
        os.unlink(lock)
    if checkout.head != head or checkout.asks("rev-parse", "-q", "--verify", "MERGE_HEAD"):
        return broken
    for name, is_here in _to_mend(checkout, head, release, broken):
        if is_here:
            checkout.git("checkout", "-q", "--force", head, "--", name)
        else:
            checkout.asks("rm", "-q", "--cached", "--ignore-unmatch", "--", name)
            os.unlink(os.path.join(checkout.root, name))
    return broken


def is_whole(checkout: Checkout, other: str) -> bool:
    """Tell whether what is checked out, from ``other``, is on disk: a power cut leaves files empty or gone."""
    return not _to_mend(checkout, checkout.head, other, False)


def _to_mend(checkout: Checkout, head: str, release: str, broken: bool) -> list[tuple[str, bool]]:
    """Return the files that are not as ``head`` has them by what a checkout left; with whether it has them."""
    found = []
    for name in checkout.names(head, release):
        is_here = checkout.asks("cat-file", "-e", f"{head}:{name}")
        if is_here and (broken or _is_of(checkout, release, name, head)):
            found.append((name, True))
        elif not is_here and _is_written(checkout, release, name, head):
            found.append((name, False))
    return found


def _is_of(checkout: Checkout, release: str, name: str, head: str) -> bool:
    """Tell whether a checkout or a merge of ``release``, or a power cut, made a file what it is, or removed it."""
    if not checkout.git("status", "--porcelain", "--", name):
        return False
    path = os.path.join(checkout.root, name)
    # The engine makes an empty directory of a file that is missing and is to be mounted.
    gone = not os.path.lexists(path) or (os.path.isdir(path) and not os.listdir(path))
    return gone or _is_torn(checkout, head, name) or _is_written(checkout, release, name, head)


def _is_written(checkout: Checkout, release: str, name: str, head: str) -> bool:
    """Tell whether a file is, or begins, as a checkout of ``release`` writes it, or a merge that was not noted yet."""
    if not os.path.isfile(os.path.join(checkout.root, name)):
        return False
    if _has(checkout, release, name) or _is_torn(checkout, release, name):
        return True
    both = checkout.merge_of(head, release)
    return bool(both) and (_has(checkout, both, name) or _is_torn(checkout, both, name))


def _is_torn(checkout: Checkout, reference: str, name: str) -> bool:
    """Tell whether a file is the beginning of what a commit has, and no more: the rest was never on disk.

    One that ends with a whole line somewhere inside a sector was cut there by somebody, with an editor.
    """
    path = os.path.join(checkout.root, name)
    text = checkout.file_at(reference, name)
    if text is None or not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        found = file.read()
    whole, here = text.encode(), found.rstrip(b"\0")
    cut = found.endswith(b"\n") and len(found) % SECTOR != 0
    return not cut and len(here) < len(whole) and whole.startswith(here)


def _has(checkout: Checkout, release: str, name: str) -> bool:
    """Tell whether a file that is here is that of ``release``."""
    path = os.path.join(checkout.root, name)
    if not os.path.isfile(path) or not checkout.asks("cat-file", "-e", f"{release}:{name}"):
        return False
    here = checkout.git("hash-object", "--", path)
    return here == checkout.git("rev-parse", f"{release}:{name}")
