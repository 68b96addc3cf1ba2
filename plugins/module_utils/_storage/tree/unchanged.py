# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a file may be called unchanged without reading it."""

from __future__ import annotations

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.record import Known, Stamp

#: Git's rule for "racily clean" files: a write that falls into the same tick of the file
#: system's clock as the last one leaves the same times behind. So a file counts as unchanged only
#: if its ctime lies clearly before the moment at which it began to be read. The margin covers
#: the coarsest stamps in use, one second (ext3, small ext4 inodes; two on FAT), and the
#: kernel's own clock for stamps, which lags by up to a tick of 10 ms. It costs the
#: comparison of files written in the two seconds before the copy, which are hot anyway.
RACY_MARGIN_NS = 2_000_000_000


def is_unchanged(known: Known | None, now: Stamp, *, margin_ns: int = RACY_MARGIN_NS) -> bool:
    """Tell whether the copy of a file that was ``known`` when read still holds its content of ``now``."""
    return known is not None and known.stamp == now and known.stamp.ctime_ns < known.read_began_ns - margin_ns
